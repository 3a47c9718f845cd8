/* SPDX-License-Identifier: Apache-2.0 */
/* A disk for other tools: what they need beside the digests of a manifest, made
 * in one more pass over the data, each piece compared with the manifest.
 *
 *     bmap    the XML of bmap-tools 2.0, as it is sent
 *     zsync   40 hexadecimal digits (SHA-1 of the disk), then for each 4096
 *             bytes 4 of rolling sum and 16 of MD4
 *     caibx   casync's index of chunks of 64 KiB, as it is sent
 */
#ifndef MANIFEST_MANIFEST_EXPORT_H
#define MANIFEST_MANIFEST_EXPORT_H

#include "manifest/manifest_file.h"
#include "stack/image.h"

enum manifest_export {
    MANIFEST_EXPORT_BMAP,
    MANIFEST_EXPORT_ZSYNC,
    MANIFEST_EXPORT_CAIBX,
    MANIFEST_EXPORTS
};

enum {
    MANIFEST_ZSYNC_HEX = 40, /* before the sums */
    MANIFEST_CHUNK = 65536,  /* of caibx */
    /* a chunk as casync keeps it: a frame of zstd that is not compressed */
    MANIFEST_CHUNK_FRAME = MANIFEST_CHUNK + 12
};

const char *manifest_export_name(enum manifest_export kind); /* "bmap" */
/* Can a disk of this size be told so: PLT_UNSUPPORTED, and why not. */
PLT_MUST_USE enum plt_status manifest_export_can(enum manifest_export kind,
                                                 uint64_t size,
                                                 struct plt_error *err);
/* Write it to fd, from 0 on, `most` bytes at most (else PLT_UNSUPPORTED).
 * PLT_CHANGED: the disk is not what the manifest says.  progress: on the
 * caller's thread, or NULL. */
PLT_MUST_USE MAY_WAIT enum plt_status manifest_export_make(
    enum manifest_export kind, struct image *image, struct manifest_file *file,
    struct plt_io *io, uint64_t wait_ms, uint64_t most,
    image_progress_fn *progress, void *cookie, int fd, struct plt_error *err);

/* Where the chunk with this id (SHA-512/256) lies, by a caibx in fd:
 * [*off, *off+*len) of the disk.  PLT_NOT_FOUND. */
PLT_MUST_USE MAY_WAIT enum plt_status
manifest_chunk_find(int fd, const uint8_t id[32], uint64_t *off, size_t *len,
                    struct plt_error *err);
/* Is this what has the id? */
bool manifest_chunk_is(const uint8_t *data, size_t len, const uint8_t id[32]);
/* len: 1 to MANIFEST_CHUNK.  How many bytes of out are the frame. */
size_t manifest_chunk_frame(const uint8_t *data, size_t len,
                            uint8_t out[MANIFEST_CHUNK_FRAME]);

#endif
