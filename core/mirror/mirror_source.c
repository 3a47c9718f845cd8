/* SPDX-License-Identifier: Apache-2.0 */
/* Where a source is: a gateway's /disk/REF, which has a manifest beside it, or
 * a reference of this gateway. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mirror/mirror_inside.h"
#include "util/auto.h"

enum plt_status source_parse(struct source *out, const char *text,
                             struct plt_error *err)
{
    static const char disk[] = "/disk/";

    *out = (struct source){.is_url = strncmp(text, "http://", 7) == 0 ||
                                     strncmp(text, "https://", 8) == 0};
    if (!out->is_url) {
        struct reference r;
        const enum plt_status st = reference_parse(&r, text, NULL, NULL, err);
        if (st == PLT_OK)
            reference_release(&r);
        return st;
    }
    const char *const host = strstr(text, "//") + 2;
    const char *const path = strchr(host, '/');
    const char *const at = path ? strstr(path, disk) : NULL;
    if (!at || !at[sizeof(disk) - 1] || strpbrk(text, "?#") ||
        memchr(host, '@', (size_t)(path - host)))
        return plt_fail(err, PLT_INVALID,
                        "\"source\" is not the URL of a /disk/... (selectors "
                        "go into its path, as ;name=value)");
    for (const char *p = text; *p; p++) {
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
            return plt_fail(err, PLT_INVALID, "\"source\" is not an URL");
    }
    out->base = strndup(text, (size_t)(at - text) + 1);
    out->path = strdup(at + sizeof(disk) - 1);
    if (out->base && out->path)
        return PLT_OK;
    source_release(out);
    return plt_fail(err, PLT_NOMEM, "a source");
}

void source_release(struct source *s)
{
    free(s->base);
    free(s->path);
    s->base = s->path = NULL;
}

char *source_url(const struct source *s, const char *kind, const char *tail)
{
    const size_t len = strlen(s->base) + 3 + strlen(kind) + 1 +
                       strlen(s->path) + strlen(tail) + 1;
    char *const url = malloc(len);

    if (url)
        (void)snprintf(url, len, "%sv1/%s/%s%s", s->base, kind, s->path, tail);
    return url;
}

/* The entry's text does not change while the mirror lives. */
enum plt_status source_disk(struct mirror *m, struct plt_io *io,
                            struct image **out, struct plt_error *err)
{
    const char *const text = m->entry.source;
    struct source source;
    struct reference r;

    enum plt_status st = source_parse(&source, text, err);
    if (st != PLT_OK)
        return st;
    const bool is_url = source.is_url;
    source_release(&source);
    if (is_url)
        return images_open_url(m->mirrors->images, text, io, out, err);
    st = reference_parse(&r, text, NULL, NULL, err);
    if (st == PLT_OK) {
        st = images_open(m->mirrors->images, &r, io, out, NULL, err);
        reference_release(&r);
    }
    return st;
}

enum plt_status source_beside(struct mirror *m, struct plt_io *io,
                              struct image **out, struct plt_error *err)
{
    struct source source;

    enum plt_status st = source_parse(&source, m->entry.source, err);
    if (st != PLT_OK)
        return st;
    AUTO_FREE char *url = source_url(&source, "manifest", "/groups");
    source_release(&source);
    if (!url)
        return plt_fail(err, PLT_NOMEM, "an URL");
    return images_open_url(m->mirrors->images, url, io, out, err);
}

void source_forget(struct mirror *m)
{
    static const char *const parts[] = {"/groups", "/leaves", "/prefixes"};
    struct plt_error ignored;
    struct source source;

    if (source_parse(&source, m->entry.source, &ignored) != PLT_OK)
        return;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && source.is_url;
         i++) {
        AUTO_FREE char *url = source_url(&source, "manifest", parts[i]);
        if (url)
            images_forget(m->mirrors->images, url);
    }
    if (source.is_url)
        images_forget(m->mirrors->images, m->entry.source);
    source_release(&source);
}

enum plt_status source_part(struct mirror *m, const char *part,
                            struct plt_io *io, const struct plt_seg *segs,
                            size_t n, struct plt_error *err)
{
    struct source source;
    struct image *image;

    enum plt_status st = source_parse(&source, m->entry.source, err);
    if (st != PLT_OK)
        return st;
    AUTO_FREE char *url = source_url(&source, "manifest", part);
    source_release(&source);
    if (!url)
        return plt_fail(err, PLT_NOMEM, "an URL");
    st = images_open_url(m->mirrors->images, url, io, &image, err);
    if (st != PLT_OK)
        return st;
    const struct plt_seg *const last = &segs[n - 1];
    if (last->off + last->len > image_size(image))
        st = plt_fail(err, PLT_CORRUPT,
                      "the source's %s has fewer digests than its disk",
                      part + 1);
    else
        st = image_read(image, io, segs, n, err);
    image_unref(image);
    return st;
}
