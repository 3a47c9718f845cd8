/* SPDX-License-Identifier: Apache-2.0 */
/* A raw file or block device that holds a mirror's disk, for a host that boots
 * from it.
 *
 * A file is written beside (NAME.part), sparse, and takes its name when it is
 * whole, so that who has the old one open keeps it; a device is written in
 * place.  What lies there already is compared, leaf by leaf, and only what
 * differs is written.  Which leaves are right is not written down: after a
 * start they are hashed again. Threads: any. */
#ifndef MIRROR_MIRROR_OUTPUT_H
#define MIRROR_MIRROR_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include <platter/error.h>

#include "manifest/manifest_file.h"
#include "util/check.h"

struct out_file;

/* For a disk of `size` bytes.  is_complete: it was whole, and the file has its
 * name; when it has not, it is begun anew.  PLT_INVALID: neither a regular file
 * nor a block device, or too small.  new in *out. */
PLT_MUST_USE MAY_WAIT enum plt_status out_open(const char *path, uint64_t size,
                                               bool is_complete,
                                               struct out_file **out,
                                               struct plt_error *err);
void out_close(struct out_file *out); /* NULL is fine */
/* Readers of the version before read from it too: a device. */
bool out_is_in_place(const struct out_file *out);

/* Nothing is written any more, nor named: another one has the place now (all
 * that writes is then PLT_CANCELLED).  What is being written is waited for.
 * false: it goes on. */
MAY_WAIT void out_retire(struct out_file *out, bool on);

/* Leaf n, from where it should be or from the file that has the name now, when
 * its digest begins so; it is then where it should be. */
MAY_WAIT bool out_take(struct out_file *out, uint64_t n,
                       const uint8_t prefix[MANIFEST_PREFIX],
                       manifest_digest digest);
/* Leaf n into buf (NULL: only look), when it is this one. */
MAY_WAIT bool out_get(struct out_file *out, uint64_t n,
                      const manifest_digest digest, uint8_t *buf);
PLT_MUST_USE MAY_WAIT enum plt_status out_put(struct out_file *out, uint64_t n,
                                              const uint8_t data[MANIFEST_LEAF],
                                              struct plt_error *err);
/* Leaf n is zeros: what lies there is made so, if it is not. */
PLT_MUST_USE MAY_WAIT enum plt_status out_zero(struct out_file *out, uint64_t n,
                                               struct plt_error *err);
PLT_MUST_USE MAY_WAIT enum plt_status out_sync(struct out_file *out,
                                               struct plt_error *err);
/* All is there: read once more and compared with the digests, synced, named.
 * PLT_NOT_FOUND: something is not what it should be (to be looked at again). */
PLT_MUST_USE MAY_WAIT enum plt_status out_finish(struct out_file *out,
                                                 struct manifest_file *file,
                                                 struct plt_error *err);

#endif
