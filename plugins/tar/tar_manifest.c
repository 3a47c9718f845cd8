/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest of an OVA (DSP0243 7.1): lines `SHA256(NAME)= HEX`, one for each
 * of its files.  A check reads them all and compares. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "tar_image.h"

enum { STEP = 1 << 20, MAX_MANIFEST = 4 << 20, MAX_DIGEST = 64 };

struct manifest_line {
    char name[1024];
    const EVP_MD *md;
    uint8_t digest[MAX_DIGEST];
};

static const EVP_MD *digest_of(const char *word, size_t n)
{
    static const char *const names[] = {"SHA1", "SHA256", "SHA384", "SHA512"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strlen(names[i]) == n && memcmp(names[i], word, n) == 0)
            return EVP_get_digestbyname(names[i]);
    return NULL;
}

static bool take_hex(const char *text, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned byte = 0;
        if (!isxdigit((unsigned char)text[2 * i]) ||
            !isxdigit((unsigned char)text[2 * i + 1]) ||
            sscanf(text + 2 * i, "%2x", &byte) != 1)
            return false;
        out[i] = (uint8_t)byte;
    }
    return !isxdigit((unsigned char)text[2 * n]);
}

static bool take_line(const char *line, struct manifest_line *out)
{
    const char *const open = strchr(line, '(');
    const char *const close = open ? strrchr(line, ')') : NULL;
    const char *hex = close ? strchr(close, '=') : NULL;

    if (!hex || close < open || (size_t)(close - open - 1) >= sizeof(out->name))
        return false;
    out->md = digest_of(line, (size_t)(open - line));
    (void)snprintf(out->name, sizeof(out->name), "%.*s",
                   (int)(close - open - 1), open + 1);
    hex += 1 + strspn(hex + 1, " \t");
    return out->md &&
           take_hex(hex, out->digest, (size_t)EVP_MD_get_size(out->md));
}

static void corrupt(struct plt_check *check, uint64_t at, const char *name,
                    const char *what)
{
    char text[160];

    check->corruptions++;
    (void)snprintf(text, sizeof(text), "%.100s %s", name, what);
    if (check->finding)
        check->finding(check->cookie, PLT_FINDING_CORRUPTION, at, text);
}

/* The digest of a member as it lies in the archive. */
static enum plt_status digest_member(struct tar *t, struct plt_io *io,
                                     const struct tar_member *m,
                                     const EVP_MD *md, uint8_t *out,
                                     struct plt_error *err)
{
    EVP_MD_CTX *const ctx = EVP_MD_CTX_new();
    uint8_t *const buf = malloc(STEP);
    enum plt_status st = PLT_OK;

    if (!ctx || !buf || EVP_DigestInit_ex(ctx, md, NULL) != 1)
        st = plt_fail(err, PLT_NOMEM, "a digest");
    for (uint64_t at = 0; at < m->stored && st == PLT_OK;) {
        const uint64_t left = m->stored - at;
        const size_t n = left < STEP ? (size_t)left : STEP;
        const struct plt_seg seg = {m->data + at, n, buf};
        st = plt_io_ask(io, err);
        if (st == PLT_OK)
            st = t->child->read(t->child, io, &seg, 1, err);
        if (st == PLT_OK && EVP_DigestUpdate(ctx, buf, n) != 1)
            st = plt_fail(err, PLT_NOMEM, "a digest");
        at += n;
    }
    if (st == PLT_OK && EVP_DigestFinal_ex(ctx, out, NULL) != 1)
        st = plt_fail(err, PLT_NOMEM, "a digest");
    EVP_MD_CTX_free(ctx);
    free(buf);
    return st;
}

static enum plt_status check_line(struct tar *t, struct plt_io *io,
                                  const struct manifest_line *line,
                                  struct plt_check *check,
                                  struct plt_error *err)
{
    const struct tar_member *m = NULL;
    uint8_t found[EVP_MAX_MD_SIZE];

    for (size_t i = 0; i < t->n_members && !m; i++)
        if (strcmp(t->members[i].name, line->name) == 0 &&
            t->members[i].form == TAR_DENSE)
            m = &t->members[i];
    if (!m) {
        corrupt(check, PLT_AT_NONE, line->name,
                "is in the manifest and not in the archive");
        return PLT_OK;
    }
    const enum plt_status st = digest_member(t, io, m, line->md, found, err);
    if (st == PLT_OK &&
        memcmp(found, line->digest, (size_t)EVP_MD_get_size(line->md)) != 0)
        corrupt(check, m->data, line->name, "is not what the manifest says");
    return st;
}

static enum plt_status check_manifest(struct tar *t, struct plt_io *io,
                                      const struct tar_member *m,
                                      struct plt_check *check,
                                      struct plt_error *err)
{
    char *const text =
        m->stored <= MAX_MANIFEST ? malloc((size_t)m->stored + 1) : NULL;
    enum plt_status st = PLT_OK;

    if (!text)
        return plt_fail(err, PLT_CORRUPT, "a manifest of %llu bytes",
                        (unsigned long long)m->stored);
    const struct plt_seg seg = {m->data, (size_t)m->stored, text};
    if (m->stored)
        st = t->child->read(t->child, io, &seg, 1, err);
    text[m->stored] = '\0';
    for (char *line = text, *next; st == PLT_OK && line && *line; line = next) {
        struct manifest_line parsed;
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        if (line[strspn(line, " \t\r")] == '\0')
            continue;
        if (take_line(line, &parsed))
            st = check_line(t, io, &parsed, check, err);
        else
            corrupt(check, m->data, m->name, "has a line that is no digest");
    }
    free(text);
    return st;
}

enum plt_status tar_check(void *image, struct plt_io *io,
                          struct plt_check *check, struct plt_error *err)
{
    struct tar *const t = (struct tar *)image;
    struct tar *const list = t->beside ? t->beside : t;

    (void)pthread_mutex_lock(&list->lock);
    enum plt_status st = tar_walk_all(list, io, err);
    (void)pthread_mutex_unlock(&list->lock);
    size_t n_manifests = 0;
    /* The walk is at its end: the list does not move any more. */
    for (size_t i = 0; i < list->n_members && st == PLT_OK; i++) {
        const struct tar_member *const m = &list->members[i];
        const size_t n = strlen(m->name);
        if (n > 3 && strcmp(m->name + n - 3, ".mf") == 0 &&
            m->form == TAR_DENSE) {
            n_manifests++;
            st = check_manifest(list, io, m, check, err);
        }
    }
    if (st == PLT_OK && !n_manifests)
        st = plt_fail(err, PLT_UNSUPPORTED,
                      "no manifest to compare the files with");
    return st;
}
