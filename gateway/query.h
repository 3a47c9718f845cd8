/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters of a request's query, and answers in pages.
 * Threads: whoever has the request. */
#ifndef GATEWAY_QUERY_H
#define GATEWAY_QUERY_H

#include "request.h"

enum { PAGE_MOST = 100000 }; /* rows */

/* A number of bytes or rows, with or without a suffix; not given: otherwise.
 * PLT_INVALID: it is none. */
PLT_MUST_USE enum plt_status take_number(const struct request *request,
                                         const char *name, uint64_t otherwise,
                                         uint64_t *out, struct plt_error *err);
/* One of several words, of which NULL is the end; *at: which.  Not given: 0.
 * PLT_INVALID: another one. */
PLT_MUST_USE enum plt_status take_word(const struct request *request,
                                       const char *name,
                                       const char *const *words, unsigned *at,
                                       struct plt_error *err);
/* Any text of at most `most` bytes, new in *out; not given: NULL. */
PLT_MUST_USE enum plt_status take_text(const struct request *request,
                                       const char *name, size_t most,
                                       char **out, struct plt_error *err);

/* offset= and limit= */
PLT_MUST_USE enum plt_status take_page(const struct request *request,
                                       struct list_page *page,
                                       struct plt_error *err);
/* The rows before and behind the page are left out of request->json, a list:
 * the answer says how many there are, and where the next page is. */
PLT_MUST_USE enum plt_status page_cut(struct request *request);
/* That alone, of a list that is a page already, one of `total` rows. */
PLT_MUST_USE enum plt_status
page_tell(struct request *request, const struct list_page *page, size_t total);
/* Answer with such a list; stolen. */
enum MHD_Result answer_page(struct request *request, json_t *list,
                            const struct list_page *page, size_t total);
/* A list that is at hand, in pages; stolen. */
enum MHD_Result answer_list(struct request *request, json_t *list);

#endif
