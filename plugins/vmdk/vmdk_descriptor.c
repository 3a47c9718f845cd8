/* SPDX-License-Identifier: Apache-2.0 */
#include "vmdk_descriptor.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { SECTOR = 512, MAX_LINE = 4096 };

/* A word or a quoted text of a line; *at moves behind it.  False: none there,
 * too long, or a quote that does not end. */
static bool take_word(const char **at, char *out, size_t cap)
{
    const char *p = *at + strspn(*at, " \t");
    const bool is_quoted = *p == '"';
    const size_t n = is_quoted ? strcspn(p + 1, "\"") : strcspn(p, " \t");

    p += is_quoted;
    if ((!n && !is_quoted) || n >= cap || (is_quoted && p[n] != '"'))
        return false;
    memcpy(out, p, n);
    out[n] = '\0';
    *at = p + n + is_quoted;
    return true;
}

static bool take_number(const char **at, unsigned base, uint64_t *out)
{
    char text[24], *end;

    if (!take_word(at, text, sizeof(text)) ||
        !(base == 16 ? isxdigit((unsigned char)text[0])
                     : isdigit((unsigned char)text[0])))
        return false;
    *out = strtoull(text, &end, (int)base);
    return *end == '\0' && *out <= PLT_SIZE_MAX / SECTOR;
}

static bool is_word(const char *word, const char *const *list, size_t n,
                    size_t *which)
{
    for (size_t i = 0; i < n; i++) {
        if (strcasecmp(word, list[i]) == 0) {
            *which = i;
            return true;
        }
    }
    return false;
}

static const char *const accesses[] = {"RW", "RDONLY", "NOACCESS"};

/* "Extent description": access, sectors, type, file, offset. */
static enum plt_status take_extent(struct vmdk_descriptor *d, const char *line,
                                   struct plt_error *err)
{
    static const struct {
        const char *word;
        enum vmdk_type type;
    } types[] = {{"FLAT", VMDK_FLAT},
                 {"VMFS", VMDK_FLAT},
                 {"ZERO", VMDK_ZERO},
                 {"SPARSE", VMDK_SPARSE},
                 {"VMFSSPARSE", VMDK_VMFSSPARSE},
                 {"SESPARSE", VMDK_SESPARSE}};
    char word[32], name[VMDK_MAX_NAME + 1];
    const char *at = line;
    uint64_t sectors = 0, off = 0;
    size_t access = 0, i = 0;
    const size_t n_types = sizeof(types) / sizeof(types[0]);

    if (d->n_lines == VMDK_MAX_EXTENTS)
        return plt_fail(err, PLT_UNSUPPORTED, "more than %d extents",
                        VMDK_MAX_EXTENTS);
    if (!take_word(&at, word, sizeof(word)) ||
        !is_word(word, accesses, 3, &access) ||
        !take_number(&at, 10, &sectors) || !take_word(&at, word, sizeof(word)))
        return plt_fail(err, PLT_CORRUPT, "extent line %.60s", line);
    while (i < n_types && strcasecmp(word, types[i].word) != 0)
        i++;
    if (i == n_types)
        return plt_fail(err, PLT_UNSUPPORTED, "extent type %.31s", word);
    const bool has_name = take_word(&at, name, sizeof(name));
    const bool is_zero = types[i].type == VMDK_ZERO;
    if (has_name && strspn(at, " \t") != strlen(at) &&
        !take_number(&at, 10, &off))
        return plt_fail(err, PLT_CORRUPT, "extent line %.60s", line);
    if (!sectors || (!has_name && !is_zero && access != VMDK_NOACCESS))
        return plt_fail(err, PLT_CORRUPT, "extent line %.60s", line);
    struct vmdk_line *const grown =
        realloc(d->lines, (d->n_lines + 1) * sizeof(*grown));
    if (!grown)
        return plt_fail(err, PLT_NOMEM, "extents");
    d->lines = grown;
    struct vmdk_line *const x = &d->lines[d->n_lines++];
    *x = (struct vmdk_line){.access = (enum vmdk_access)access,
                            .type = types[i].type,
                            .word = types[i].word,
                            .len = sectors * SECTOR,
                            .off = off * SECTOR,
                            .name = has_name && !is_zero ? strdup(name) : NULL};
    return has_name && !is_zero && !x->name
               ? plt_fail(err, PLT_NOMEM, "an extent's name")
               : PLT_OK;
}

/* NAME=VALUE; names that are not ours are passed over. */
static enum plt_status take_setting(struct vmdk_descriptor *d, const char *line,
                                    const char *eq, struct plt_error *err)
{
    const char *value = eq + 1;
    size_t n = (size_t)(eq - line);
    char text[VMDK_MAX_NAME + 1];
    uint64_t number;

    while (n && isspace((unsigned char)line[n - 1]))
        n--;
    const bool is_cid = n == 3 && strncasecmp(line, "CID", n) == 0;
    const bool is_parent = n == 9 && strncasecmp(line, "parentCID", n) == 0;
    if (is_cid || is_parent) {
        if (!take_number(&value, 16, &number) || number > UINT32_MAX)
            return plt_fail(err, PLT_CORRUPT, "%.60s", line);
        *(is_cid ? &d->cid : &d->parent_cid) = (uint32_t)number;
    } else if (n == 10 && strncasecmp(line, "createType", n) == 0) {
        if (!take_word(&value, d->create_type, sizeof(d->create_type)))
            return plt_fail(err, PLT_CORRUPT, "%.60s", line);
    } else if (n == 18 && strncasecmp(line, "parentFileNameHint", n) == 0) {
        if (!take_word(&value, text, sizeof(text)) || !text[0])
            return plt_fail(err, PLT_CORRUPT, "%.60s", line);
        free(d->parent);
        d->parent = strdup(text);
        if (!d->parent)
            return plt_fail(err, PLT_NOMEM, "a parent's name");
    }
    return PLT_OK;
}

static bool is_extent(const char *line)
{
    char word[16];
    size_t unused;

    return take_word(&line, word, sizeof(word)) &&
           is_word(word, accesses, 3, &unused);
}

static enum plt_status take_line(struct vmdk_descriptor *d, const char *line,
                                 struct plt_error *err)
{
    const char *const eq = strchr(line, '=');

    line += strspn(line, " \t");
    if (!*line || *line == '#')
        return PLT_OK;
    if (is_extent(line))
        return take_extent(d, line, err);
    return eq ? take_setting(d, line, eq, err) : PLT_OK;
}

bool vmdk_is_descriptor(const uint8_t *buf, size_t n)
{
    static const char first[] = "# Disk DescriptorFile";

    while (n && isspace(*buf)) {
        buf++;
        n--;
    }
    return n >= sizeof(first) - 1 &&
           strncasecmp((const char *)buf, first, sizeof(first) - 1) == 0;
}

enum plt_status vmdk_descriptor_parse(struct vmdk_descriptor *d,
                                      const uint8_t *buf, size_t n,
                                      struct plt_error *err)
{
    enum plt_status st = PLT_OK;
    char line[MAX_LINE];

    *d = (struct vmdk_descriptor){.parent_cid = VMDK_NO_PARENT};
    /* An embedded one is filled up with NULs. */
    const uint8_t *const nul = memchr(buf, 0, n);
    if (nul)
        n = (size_t)(nul - buf);
    if (!vmdk_is_descriptor(buf, n))
        return plt_fail(err, PLT_CORRUPT, "no descriptor");
    for (size_t at = 0; at < n && st == PLT_OK;) {
        const uint8_t *const lf = memchr(buf + at, '\n', n - at);
        const size_t len = lf ? (size_t)(lf - (buf + at)) : n - at;
        if (len >= sizeof(line)) {
            st = plt_fail(err, PLT_CORRUPT, "a line of %zu bytes", len);
            break;
        }
        memcpy(line, buf + at, len);
        size_t end = len;
        while (end && isspace((unsigned char)line[end - 1]))
            end--;
        line[end] = '\0';
        st = take_line(d, line, err);
        at += len + 1;
    }
    if (st != PLT_OK)
        vmdk_descriptor_release(d);
    return st == PLT_OK ? st : plt_prefix(err, "descriptor: ");
}

void vmdk_descriptor_release(struct vmdk_descriptor *d)
{
    for (size_t i = 0; i < d->n_lines; i++)
        free(d->lines[i].name);
    free(d->lines);
    free(d->parent);
    *d = (struct vmdk_descriptor){.lines = NULL};
}
