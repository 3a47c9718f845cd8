/* SPDX-License-Identifier: Apache-2.0 */
/* What may be opened: configured origins, and siblings of an image in its own
 * origin's folder.  Nothing else, whoever asks: client, image or redirect.
 *
 * A location is a place that policy has allowed; only this module makes one.
 * A local file is opened with openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS),
 * so that neither ".." nor a symbolic link leaves the origin's folder, and only
 * a regular file.  A command on its user's own authority (is_local) may also
 * name any path and URL itself; what images name stays confined even there.
 * Threads: any; origins are added before others ask, or into a policy of one's
 * own that then replaces the one in use. */
#ifndef STACK_POLICY_H
#define STACK_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include <platter/driver.h>
#include <platter/error.h>

enum { POLICY_MAX_ORIGINS = 256 };

struct policy;

struct location {
    char *url;      /* http(s), or NULL for a local file; new, as all here */
    char *folder;   /* local: what the path must stay beneath */
    char *path;     /* local: below folder; remote: below base */
    char *base;     /* remote: the origin's prefix, with its last slash */
    char *provided; /* the name of a disk of this process (provided.h), which
                       has nothing of the above; or NULL */
    char *label;    /* as the asker wrote it, for people and for logs */
    bool is_own;    /* named by the user of a command: any file may be meant */
};

struct policy *policy_new(bool is_local);
void policy_free(struct policy *policy);

/* BASE: an http(s) URL prefix without user, query or fragment, or an absolute
 * folder.  NAME: [A-Za-z0-9][A-Za-z0-9._-]{0,62}. */
PLT_MUST_USE enum plt_status policy_add_origin(struct policy *policy,
                                               const char *name,
                                               const char *base,
                                               struct plt_error *err);
bool policy_name_ok(const char *name);
bool policy_has_origin(const struct policy *policy, const char *name);
/* The same of "ORIGIN/PATH". */
bool policy_has_origin_of(const struct policy *policy, const char *target);
/* Change origins with `other`, at once for every asker; what is open stays
 * open. */
void policy_replace(struct policy *policy, struct policy *other);

/* "ORIGIN/PATH", decoded and normalised (reference.h). */
PLT_MUST_USE enum plt_status policy_locate(const struct policy *policy,
                                           const char *target,
                                           struct location *out,
                                           struct plt_error *err);
/* A path or URL that a command's user wrote; PLT_DENIED unless is_local. */
PLT_MUST_USE enum plt_status policy_locate_own(const struct policy *policy,
                                               const char *text,
                                               struct location *out,
                                               struct plt_error *err);
/* A URL that the gateway itself chose, never a client: of an origin, as a
 * redirect may lead to (policy_allow_url).  Its text is kept as it is; in
 * labels its query is left out. */
PLT_MUST_USE enum plt_status policy_locate_url(const struct policy *policy,
                                               const char *url,
                                               struct location *out,
                                               struct plt_error *err);
/* A name that an image at `from` holds: untrusted bytes. */
PLT_MUST_USE enum plt_status policy_locate_sibling(const struct location *from,
                                                   const char *name,
                                                   struct location *out,
                                                   struct plt_error *err);
/* Why an image may not name this as a neighbour, as the end of a sentence that
 * begins "the image names a file that"; NULL: it may. */
const char *policy_complaint(const char *name);
void location_release(struct location *location);

/* A local location's file: new descriptor in *fd. */
PLT_MUST_USE enum plt_status policy_open_file(const struct location *location,
                                              int *fd, struct plt_error *err);
/* Open a path beneath a folder's descriptor and nowhere else, links followed as
 * far as they stay there; flags: open(2)'s.  new; -1 with errno: EXDEV, ELOOP
 * for what leads out. */
int policy_open_beneath(int folder, const char *path, int flags);
/* Addresses that the origin of that name may be at, though they are not the
 * public's (address.h): blocks, separated by commas.  Its own URL names one,
 * too, when its host is an address or localhost. */
PLT_MUST_USE enum plt_status policy_allow_addresses(struct policy *policy,
                                                    const char *name,
                                                    const char *blocks,
                                                    struct plt_error *err);
/* May a connection for this URL lead to this address (4 or 16 bytes)?  Asked of
 * the address that is connected to, whatever a name said before. */
PLT_MUST_USE enum plt_status
policy_allow_address(const struct policy *policy, const char *url,
                     const uint8_t *address, size_t len, struct plt_error *err);
/* What is shown at the origin of that name (driver.h): a file, which is there
 * to be read.  Header fields are read now; of CA and CLIENT the name is kept.
 * INVALID: it cannot be read, holds something else, or is an origin's that is a
 * folder. */
PLT_MUST_USE enum plt_status policy_set_credential(struct policy *policy,
                                                   const char *name,
                                                   enum plt_credential kind,
                                                   const char *file,
                                                   struct plt_error *err);
/* That of the origin which this URL lies in, of several the one with the
 * longest URL; as plt_host.credential. */
PLT_MUST_USE enum plt_status policy_credential(const struct policy *policy,
                                               const char *url,
                                               enum plt_credential kind,
                                               char *buf, size_t cap,
                                               struct plt_error *err);
/* May a redirect lead here? */
PLT_MUST_USE enum plt_status policy_allow_url(const struct policy *policy,
                                              const char *url,
                                              struct plt_error *err);

json_t *policy_origins_json(const struct policy *policy);

#endif
