/* SPDX-License-Identifier: Apache-2.0 */
/* A child and a host for driving one driver through its ABI, without the core.
 *
 * memhost gives the services of struct plt_host with plain means: a block table
 * under one lock, tasks as pthreads, state files in a private folder.  memchild
 * is a buffer as the layer below, which counts calls and can fail the n-th.
 * Threads: any, as the ABI asks; create and free on one thread. */
#ifndef TESTS_MEMHOST_H
#define TESTS_MEMHOST_H

#include <platter/driver.h>

struct memchild {
    struct plt_child child; /* first: hand &m->child to the driver */
    const uint8_t *data;    /* borrowed */
    uint64_t size;
    bool lends;        /* bytes of any span; otherwise none */
    bool hide_size;    /* child.size is PLT_SIZE_UNKNOWN until resolved */
    uint64_t fail_at;  /* fail the n-th read (vectored call or stream read) */
    bool fail_forever; /* ... and all after it */
    enum plt_status fail_with;
    /* counters; atomic access through the functions below */
    uint64_t n_reads, n_segs, n_bytes, n_stream_opens;
    unsigned delay_us; /* sleep before each read */
};

void memchild_init(struct memchild *m, const void *data, uint64_t size);
uint64_t memchild_reads(struct memchild *m);
uint64_t memchild_bytes(struct memchild *m);

/* budget: bytes of block cache kept after release; 0 keeps none.
 * state_dir: folder for state_open, or NULL for none. */
struct memhost;
struct memhost *memhost_new(uint64_t budget, const char *state_dir);
void memhost_free(struct memhost *h); /* asserts that nothing is still held */
struct plt_host *memhost_host(struct memhost *h);
void memhost_drop_cache(struct memhost *h);
/* Block claims that ended as HIT, and as FILL. */
uint64_t memhost_hits(struct memhost *h);
uint64_t memhost_fills(struct memhost *h);
/* What open_named answers: a child by name, or PLT_DENIED when none. */
void memhost_add_named(struct memhost *h, const char *name,
                       struct plt_child *child);

/* A file beside the source is a named one, by its suffix.  How often any was
 * asked for. */
unsigned memhost_sidecars(struct memhost *h);

/* What the host's secret() hands out, in this order; borrowed. */
void memhost_set_secrets(struct memhost *h, const char *const *secrets,
                         unsigned n);

/* An io without deadline, and one with. */
struct plt_io *memhost_io(void); /* static, NULL-free */
void memhost_io_init(struct plt_io *io, uint32_t flags, uint64_t timeout_ms);

/* Open `driver` over `child` with settings "name=value" (NULL ends). */
enum plt_status memhost_open(struct memhost *h, const struct plt_driver *driver,
                             struct plt_child *child, uint32_t flags,
                             void **image, struct plt_opened *opened,
                             struct plt_error *err, ...);

/* Read [off, off+len) through the driver's own read, one segment. */
enum plt_status memhost_read(const struct plt_driver *driver, void *image,
                             void *buf, uint64_t off, size_t len,
                             struct plt_error *err);

/* The span as it is lent, copied; PLT_AGAIN: it is not.  Asserts the contract
 * of plt_lend_fn. */
enum plt_status memhost_lend(const struct plt_driver *driver, void *image,
                             void *buf, uint64_t off, size_t len);

/* info as compact JSON text; new. */
char *memhost_info(const struct plt_driver *driver, void *image);

#endif
