/* SPDX-License-Identifier: Apache-2.0 */
/* What is served by ranges and is not a disk: the lists of a manifest, its
 * exports, a block.  handle_disk.c decides on preconditions and ranges and
 * sends it, as it does for disks. Threads: read() is called from any, one at a
 * time or several. */
#ifndef GATEWAY_CONTENT_H
#define GATEWAY_CONTENT_H

#include <stdbool.h>
#include <stdint.h>

#include <platter/driver.h>

#include "util/check.h"

struct manifest_file;
struct request;

enum { CONTENT_ETAG = 128 };

struct content {
    uint64_t size;
    char etag[CONTENT_ETAG]; /* strong, with its quotes */
    const char *type, *cache_control;
    bool is_digested; /* Content-Digest is sent unasked */
    /* Fill [off, off+len), which lies inside.  With PLT_IO_NOWAIT it may answer
     * PLT_AGAIN. */
    enum plt_status (*read)(struct content *content, struct plt_io *io,
                            uint64_t off, size_t len, uint8_t *buf,
                            struct plt_error *err);
    void (*release)(struct content *content); /* frees it */
};

/* Of the request: its content, or the disk of its image. */
PLT_MUST_USE enum plt_status request_read(struct request *request,
                                          struct plt_io *io,
                                          const struct plt_seg *segs, size_t n,
                                          struct plt_error *err);

/* content_manifest.c: what `part` of the image's manifest is asked for, as
 * request->content.  The image is open.  With PLT_IO_NOWAIT it does not wait:
 * PLT_AGAIN. */
PLT_MUST_USE enum plt_status content_of_manifest(struct request *request,
                                                 struct plt_io *io);
/* content_export.c: the same in the form of another tool. */
PLT_MUST_USE MAY_WAIT enum plt_status
content_of_export(struct request *request, struct plt_io *io,
                  struct manifest_file *file, struct content **out);
/* content_block.c: the block that is asked for, read and verified; opens the
 * image. */
PLT_MUST_USE MAY_WAIT enum plt_status content_of_block(struct request *request,
                                                       struct plt_io *io);
/* PLT_NOT_FOUND, in the same words for what is not there and what its asker may
 * not read. */
PLT_MUST_USE enum plt_status content_fail_block(struct plt_error *err);
/* Bytes at hand, stolen (free); new, NULL without memory. */
struct content *content_of_bytes(uint8_t *data, size_t len);

#endif
