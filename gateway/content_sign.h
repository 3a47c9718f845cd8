/* SPDX-License-Identifier: Apache-2.0 */
/* What edges are told about a disk besides its manifest: a signature of the
 * head, and who else has some of it.  Threads: a request's own. */
#ifndef GATEWAY_CONTENT_SIGN_H
#define GATEWAY_CONTENT_SIGN_H

#include "content.h"
#include "manifest/manifest.h"

/* The signature (minisign.h) of the head's bytes, with the trusted comment
 * "image=REF root=HEX", REF as the client wrote it; without "image=REF" where
 * that is too long.  PLT_NOT_FOUND: the configuration has no key.  new in *out.
 */
PLT_MUST_USE enum plt_status content_of_signature(struct request *request,
                                                  const char *head, size_t len,
                                                  const manifest_digest root,
                                                  struct content **out);

/* {"sources": [URL, ...]}: edges.h; notes the asker, when it tells of itself.
 * new in *out. */
PLT_MUST_USE enum plt_status content_of_sources(struct request *request,
                                                const manifest_digest root,
                                                struct content **out);

#endif
