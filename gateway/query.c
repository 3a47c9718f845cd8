/* SPDX-License-Identifier: Apache-2.0 */
#include "query.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "route.h"

enum { PAGE = 10000 }; /* rows, when the client names no limit */

enum plt_status take_number(const struct request *r, const char *name,
                            uint64_t otherwise, uint64_t *out,
                            struct plt_error *err)
{
    enum plt_status st;
    char *const text = reference_query(r->query, name, &st);

    *out = otherwise;
    if (text && !plt_parse_bytes(text, out))
        st = PLT_INVALID;
    free(text);
    return st == PLT_OK ? st : plt_fail(err, st, "%s is not a number", name);
}

enum plt_status take_word(const struct request *r, const char *name,
                          const char *const *words, unsigned *at,
                          struct plt_error *err)
{
    enum plt_status st;
    char *const text = reference_query(r->query, name, &st);

    if (st != PLT_OK)
        st = plt_fail(err, st, "malformed %s", name);
    *at = 0;
    while (text && words[*at] && strcmp(words[*at], text) != 0)
        (*at)++;
    if (text && !words[*at])
        st = plt_fail(err, PLT_INVALID, "%s is not known: %.40s", name, text);
    free(text);
    return st;
}

enum plt_status take_text(const struct request *r, const char *name,
                          size_t most, char **out, struct plt_error *err)
{
    enum plt_status st;

    *out = reference_query(r->query, name, &st);
    if (st != PLT_OK)
        return plt_fail(err, st, "malformed %s", name);
    if (!*out || strlen(*out) <= most)
        return PLT_OK;
    free(*out);
    *out = NULL;
    return plt_fail(err, PLT_INVALID, "%s has more than %zu bytes", name, most);
}

/* ---- Pages ---- */

enum plt_status take_page(const struct request *r, struct list_page *page,
                          struct plt_error *err)
{
    uint64_t offset, limit;
    enum plt_status st = take_number(r, "offset", 0, &offset, err);

    if (st == PLT_OK)
        st = take_number(r, "limit", PAGE, &limit, err);
    if (st != PLT_OK)
        return st;
    if (!limit || limit > PAGE_MOST)
        return plt_fail(err, PLT_INVALID, "limit is 1 to %d", PAGE_MOST);
    *page = (struct list_page){.first = offset < SIZE_MAX ? (size_t)offset
                                                          : SIZE_MAX,
                               .most = (size_t)limit};
    return PLT_OK;
}

/* The next page's address: the one of this request with another offset. */
static char *next_page(const struct request *r, size_t limit, size_t offset)
{
    const size_t cap = strlen(r->path) + (r->query ? strlen(r->query) : 0) + 96;
    char *const link = malloc(cap);
    size_t n = link ? (size_t)snprintf(link, cap, "<%s?", r->path) : 0;

    for (const char *q = r->query; link && q && *q;) {
        const size_t len = strcspn(q, "&");
        if (len && strncmp(q, "offset=", 7) != 0 &&
            strncmp(q, "limit=", 6) != 0)
            n += (size_t)snprintf(link + n, cap - n, "%.*s&", (int)len, q);
        q += len + (q[len] == '&');
    }
    if (link)
        (void)snprintf(link + n, cap - n, "limit=%zu&offset=%zu>; rel=\"next\"",
                       limit, offset);
    return link;
}

/* What the header of a page says (RFC 8288 for the next one). */
enum plt_status page_tell(struct request *r, const struct list_page *page,
                          size_t total)
{
    const size_t first = page->first < total ? page->first : total;

    r->has_total = true;
    r->total = total;
    if (total - first <= page->most)
        return PLT_OK;
    r->link = next_page(r, page->most, first + page->most);
    return r->link ? PLT_OK : plt_fail(&r->err, PLT_NOMEM, "a link");
}

enum plt_status page_cut(struct request *r)
{
    const size_t n = json_array_size(r->json);
    struct list_page page;
    const enum plt_status st = take_page(r, &page, &r->err);

    if (st != PLT_OK)
        return st;
    if (page.first > 0 || n > page.most) {
        json_t *const rows = json_array();
        for (size_t i = page.first; i < n && i - page.first < page.most; i++)
            (void)json_array_append(rows, json_array_get(r->json, i));
        json_decref(r->json);
        r->json = rows;
        if (!rows)
            return plt_fail(&r->err, PLT_NOMEM, "a page");
    }
    return page_tell(r, &page, n);
}

/* r->json, or what r->err says. */
static enum MHD_Result answer_rows(struct request *r)
{
    json_t *const rows = r->json;

    if (r->err.status != PLT_OK)
        return answer_error(r, &r->err);
    r->json = NULL;
    return answer_json(r, MHD_HTTP_OK, rows, "application/json");
}

enum MHD_Result answer_page(struct request *r, json_t *list,
                            const struct list_page *page, size_t total)
{
    r->json = list;
    r->err.status = list ? page_tell(r, page, total)
                         : plt_fail(&r->err, PLT_NOMEM, "a list");
    return answer_rows(r);
}

enum MHD_Result answer_list(struct request *r, json_t *list)
{
    r->json = list;
    r->err.status = list ? page_cut(r) : plt_fail(&r->err, PLT_NOMEM, "a list");
    return answer_rows(r);
}
