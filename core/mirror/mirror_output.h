/* SPDX-License-Identifier: Apache-2.0 */
/* A raw file or block device that holds a mirror's disk, for a host that boots
 * from it.
 *
 * A file is written beside (NAME.part), sparse, and takes its name when it is
 * whole, so that who has the old one open keeps it; a device is written in
 * place.  What lies there already is compared, leaf by leaf, and only what
 * differs is written.  Which leaves are right is not written down: after a start
 * they are hashed again.
 * Threads: any. */
#ifndef MIRROR_MIRROR_OUTPUT_H
#define MIRROR_MIRROR_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include <platter/error.h>

#include "manifest/manifest_file.h"
#include "util/check.h"

struct out_file;

/* For a disk of `size` bytes; file: the digests that are wanted, as far as they
 * are known, borrowed and outlives it.  PLT_INVALID: neither a regular file nor a
 * block device, or too small.  new in *out. */
PLT_MUST_USE MAY_WAIT enum plt_status
out_open(const char *path, uint64_t size, struct manifest_file *file,
         struct out_file **out, struct plt_error *err);
void out_close(struct out_file *out); /* NULL is fine */
/* Readers of the version before read from it too: a device. */
bool out_is_in_place(const struct out_file *out);

/* Is this the digest of what lies at leaf n?  Reads it. */
MAY_WAIT bool out_has(struct out_file *out, uint64_t n,
                      const manifest_digest digest);
/* The digest of what lies there; false: it cannot be read. */
MAY_WAIT bool out_look(struct out_file *out, uint64_t n, manifest_digest digest);
/* Leaf n into buf, when it is this one. */
MAY_WAIT bool out_get(struct out_file *out, uint64_t n,
                      const manifest_digest digest,
                      uint8_t buf[MANIFEST_LEAF]);
PLT_MUST_USE MAY_WAIT enum plt_status out_put(struct out_file *out, uint64_t n,
                                              const uint8_t data[MANIFEST_LEAF],
                                              struct plt_error *err);
/* Leaf n is zeros: what lies there is made so, if it is not. */
PLT_MUST_USE MAY_WAIT enum plt_status out_zero(struct out_file *out, uint64_t n,
                                               struct plt_error *err);
PLT_MUST_USE MAY_WAIT enum plt_status out_sync(struct out_file *out,
                                               struct plt_error *err);
/* All is there: read once more and compared with the digests, synced, named.
 * PLT_NOT_FOUND: something is not what it should be (it is to be looked at
 * again). */
PLT_MUST_USE MAY_WAIT enum plt_status out_finish(struct out_file *out,
                                                 struct plt_error *err);

#endif
