/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of encrypted images, by name: from the configuration or the command
 * line, never from a client; wiped when freed.  Threads: any; added before
 * others ask, or into secrets of one's own that then replace those in use. */
#ifndef STACK_SECRETS_H
#define STACK_SECRETS_H

#include <stddef.h>
#include <stdint.h>

#include <platter/error.h>

struct secrets;

struct secrets *secrets_new(void); /* new, or NULL */
void secrets_free(struct secrets *secrets);

/* The content of a file as it is, a newline at its end included (as QEMU's
 * secret object); 1 to PLT_MAX_SECRET bytes. */
PLT_MUST_USE enum plt_status secrets_add_file(struct secrets *secrets,
                                              const char *name,
                                              const char *path,
                                              struct plt_error *err);

/* Change all with `other`, at once for every asker. */
void secrets_replace(struct secrets *secrets, struct secrets *other);

/* The i-th of the names with commas in `names` (NULL: none), copied to buf.
 * PLT_NOT_FOUND: there are no more.  PLT_DENIED: no secret has that name. */
PLT_MUST_USE enum plt_status secrets_get(const struct secrets *secrets,
                                         const char *names, unsigned i,
                                         uint8_t *buf, size_t cap, size_t *len,
                                         struct plt_error *err);

#endif
