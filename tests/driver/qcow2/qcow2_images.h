/* SPDX-License-Identifier: Apache-2.0 */
/* Images that QEMU's tools write, opened by our driver, and QEMU's own reading
 * of them as the truth.  Every test works in a temporary folder of its own. */
#ifndef TESTS_QCOW2_IMAGES_H
#define TESTS_QCOW2_IMAGES_H

#include <criterion/criterion.h>

#include "memhost.h"

extern const struct plt_driver platter_driver;

struct bytes {
    uint8_t *p;
    size_t n;
};

/* An image in memory, open. */
struct opened {
    struct memhost *host;
    struct memchild child;
    struct bytes file;
    void *image;
    uint64_t size;
};

/* Run a command by the shell; the test fails when it does. */
__attribute__((format(printf, 1, 2))) void sh(const char *fmt, ...);

/* A temporary folder becomes the current one; leave_folder removes it. */
void enter_folder(void);
void leave_folder(void);

struct bytes slurp(const char *path);

/* `disk.raw` of about 5 MiB, no multiple of large clusters: text, noise, holes;
 * always the same. */
void make_disk(void);

void open_image(struct opened *o, const char *path, uint64_t budget);
/* The same over bytes in memory, which stay the caller's. */
enum plt_status open_bytes(struct opened *o, struct bytes file,
                           bool is_size_hidden, uint64_t budget,
                           struct plt_error *err);
void close_image(struct opened *o);

/* All of the image, in one read and in random pieces with several segments,
 * equals truth. */
void expect_equal(struct opened *o, struct bytes truth, unsigned n_spans);

#endif
