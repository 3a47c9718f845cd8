/* SPDX-License-Identifier: Apache-2.0 */
/* GET and HEAD of /v1/files: what a folder of a local origin has, as far as its
 * asker may see images there. */
#include <stdlib.h>
#include <string.h>

#include "query.h"
#include "route.h"
#include "stack/json_memory.h"

enum { MAX_PREFIX = 255 }; /* the most of a file name (NAME_MAX) */

/* With its last slash, and without one. */
static enum plt_status take_folder(struct request *r, char *path)
{
    const size_t len = strlen(path);
    struct reference asked;
    const bool has_slash = len && path[len - 1] == '/';

    if (has_slash)
        path[len - 1] = '\0';
    enum plt_status st = reference_parse(&asked, path, NULL, NULL, &r->err);
    if (has_slash)
        path[len - 1] = '/';
    if (st != PLT_OK)
        return st;
    const size_t n = strlen(asked.target);
    r->folder = malloc(n + 2);
    if (asked.member || asked.snapshot || asked.partition || asked.secret ||
        asked.layers)
        st = plt_fail(&r->err, PLT_INVALID, "a folder has no selectors");
    else if (!r->folder)
        st = plt_fail(&r->err, PLT_NOMEM, "a folder's name");
    else
        (void)snprintf(r->folder, n + 2, "%s/", asked.target);
    reference_release(&asked);
    return st;
}

enum plt_status files_take(struct request *r)
{
    enum plt_status st = take_folder(r, r->path + strlen(r->route->path));

    if (st == PLT_OK)
        st = take_page(r, &r->page, &r->err);
    if (st == PLT_OK)
        st = take_text(r, "prefix", MAX_PREFIX, &r->prefix, &r->err);
    if (st != PLT_OK)
        return st;
    r->own.cap = r->server->config->access.n + 2;
    r->own.v = calloc(r->own.cap, sizeof(*r->own.v));
    return r->own.v ? PLT_OK : plt_fail(&r->err, PLT_NOMEM, "rights");
}

static bool may_tell(const void *cookie, const char *target, bool is_folder)
{
    return access_own_has((const struct access_own *)cookie, target, is_folder);
}

static void files_job(void *cookie)
{
    struct request *const r = (struct request *)cookie;
    const uint64_t lost = json_memory_lost();
    char *const slash = r->folder + strlen(r->folder) - 1;
    const struct folder_query query = {
        .target = r->folder,
        .prefix = r->prefix,
        /* no rows: nobody had to be looked at (admit.c) */
        .may_tell = r->own.n ? may_tell : NULL,
        .cookie = &r->own,
        .first = r->page.first,
        .most = r->page.most};
    struct folder_list list;

    *slash = '\0';
    budgets_json_begin();
    enum plt_status st =
        images_files(r->server->images, &query, &list, &r->err);
    if (st == PLT_OK) {
        r->json = list.rows;
        r->is_short = list.is_short;
        st = page_tell(r, &r->page, list.total);
        r->text = json_dumps(r->json, JSON_INDENT(2));
    }
    if (!budgets_json_end()) {
        r->over = BUDGET_CLIENT_MEMORY;
        st = plt_fail(&r->err, PLT_NOMEM, "for a long answer");
    } else if (st == PLT_OK && json_memory_lost() != lost) {
        st = plt_fail(&r->err, PLT_NOMEM, "a list");
    }
    r->err.status = st;
    json_decref(r->json);
    r->json = NULL;
    request_resume(r);
}

enum MHD_Result handle_files(struct request *r)
{
    if (!r->is_ready) {
        request_submit(r, files_job);
        return MHD_YES;
    }
    if (r->err.status != PLT_OK)
        return answer_error(r, &r->err);
    char *const text = r->text;
    r->text = NULL;
    return answer_json_text(r, MHD_HTTP_OK, text, "application/json");
}
