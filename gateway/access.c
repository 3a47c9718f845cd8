/* SPDX-License-Identifier: Apache-2.0 */
#include "access.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *name;
    unsigned scope;
} scope_names[] = {{"read", ACCESS_READ},
                   {"metadata", ACCESS_METADATA},
                   {"mirror", ACCESS_MIRROR},
                   {"admin", ACCESS_ADMIN}};
enum { SCOPES = sizeof(scope_names) / sizeof(scope_names[0]) };

unsigned access_scopes(const char *text)
{
    unsigned all = 0;

    for (bool is_more = true; is_more;) {
        const size_t n = strcspn(text, ",");
        unsigned one = 0;
        for (size_t i = 0; i < SCOPES; i++) {
            if (strlen(scope_names[i].name) == n &&
                memcmp(scope_names[i].name, text, n) == 0)
                one = scope_names[i].scope;
        }
        if (!one)
            return 0;
        all |= one;
        is_more = text[n] == ',';
        text += n + is_more;
    }
    return all;
}

bool access_digest(const char *hex, uint8_t out[ACCESS_DIGEST])
{
    static const char digits[] = "0123456789abcdef";

    if (strlen(hex) != 2 * ACCESS_DIGEST ||
        strspn(hex, digits) != 2 * ACCESS_DIGEST)
        return false;
    for (size_t i = 0; i < ACCESS_DIGEST; i++) {
        const size_t high = (size_t)(strchr(digits, hex[2 * i]) - digits);
        const size_t low = (size_t)(strchr(digits, hex[2 * i + 1]) - digits);
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static void names_release(struct access_names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->v[i]);
    free(names->v);
}

void access_row_release(struct access_row *row)
{
    free(row->name);
    free(row->certificate);
    free(row->key_file);
    if (row->key)
        OPENSSL_cleanse(row->key, row->key_len);
    free(row->key);
    names_release(&row->images);
    names_release(&row->secrets);
    *row = (struct access_row){.name = NULL};
}

bool access_has(const struct access_list *list, enum access_kind kind)
{
    for (size_t i = 0; i < list->n; i++) {
        if (list->v[i].kind == kind)
            return true;
    }
    return false;
}

const char *access_verdict_name(enum access_verdict verdict)
{
    static const char *const names[ACCESS_VERDICTS] = {
        [ACCESS_OK] = "ok",
        [ACCESS_NEEDED] = "nothing_shown",
        [ACCESS_UNKNOWN] = "unknown_token",
        [ACCESS_EXPIRED] = "expired_token",
        [ACCESS_FORGED] = "bad_signature",
        [ACCESS_LATE] = "expired_signature",
        [ACCESS_UNTRUSTED] = "untrusted_certificate",
        [ACCESS_NOT_SCOPE] = "scope",
        [ACCESS_NOT_IMAGE] = "image",
        [ACCESS_NOT_SECRET] = "secret"};
    return names[verdict];
}

/* ---- Whose row is it? ---- */

static bool is_token(const struct access_row *row,
                     const uint8_t digest[ACCESS_DIGEST])
{
    return CRYPTO_memcmp(row->digest, digest, ACCESS_DIGEST) == 0;
}

/* RFC 6125 6.4.3: a star stands for one whole label, the first.  Only names of
 * hosts have labels, and do not mind the case: "a@b.example" is not
 * "*.example", and of two paths in a URI each may be somebody else. */
static bool name_matches(const char *pattern, const char *name)
{
    static const char host[] = "abcdefghijklmnopqrstuvwxyz"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

    if (name[strspn(name, host)])
        return strcmp(pattern, name) == 0;
    if (strncmp(pattern, "*.", 2) == 0) {
        const char *const dot = strchr(name, '.');
        return dot && dot != name && strcasecmp(pattern + 1, dot) == 0;
    }
    return strcasecmp(pattern, name) == 0;
}

static bool is_certificate(const struct access_row *row, const char *names)
{
    for (; names && *names; names += strlen(names) + 1) {
        if (name_matches(row->certificate, names))
            return true;
    }
    return false;
}

static bool is_signed(const struct access_row *row,
                      const struct access_ask *ask)
{
    uint8_t mac[SIGNATURE_MAC];

    return strcmp(row->name, ask->signature->key) == 0 && ask->reference &&
           signature_make(row->key, row->key_len, ask->route, ask->reference,
                          row->name, ask->signature->expires, mac) &&
           CRYPTO_memcmp(mac, ask->signature->mac, SIGNATURE_MAC) == 0;
}

/* ---- What does it allow? ---- */

static bool target_matches(const struct access_names *images,
                           const char *target)
{
    for (size_t i = 0; i < images->n; i++) {
        const char *const p = images->v[i];
        const size_t n = strlen(p);
        if (n && p[n - 1] == '*' ? strncmp(p, target, n - 1) == 0
                                 : strcmp(p, target) == 0)
            return true;
    }
    return false;
}

/* May one of these images lie beneath target, with or without its last slash?
 */
static bool folder_matches(const struct access_names *images,
                           const char *target)
{
    const size_t given = strlen(target);
    const size_t len = given - (given && target[given - 1] == '/');

    for (size_t i = 0; i < images->n; i++) {
        const char *const p = images->v[i];
        const size_t n = strlen(p);
        const bool is_star = n && p[n - 1] == '*';
        if (is_star && n - 1 <= len && strncmp(p, target, n - 1) == 0)
            return true; /* it begins above, and all beneath is meant */
        if (n > len + 1 && strncmp(p, target, len) == 0 && p[len] == '/')
            return true;
    }
    return false;
}

bool access_own_has(const struct access_own *own, const char *target,
                    bool is_folder)
{
    for (size_t i = 0; i < own->n; i++) {
        const struct access_names *const images = &own->v[i]->images;
        if (!images->is_given || (is_folder ? folder_matches(images, target)
                                            : target_matches(images, target)))
            return true;
    }
    return false;
}

/* Every name in "a,b". */
static bool secrets_match(const struct access_names *secrets, const char *list)
{
    for (; *list; list += *list == ',') {
        const size_t n = strcspn(list, ",");
        bool is_there = !n;
        for (size_t i = 0; i < secrets->n; i++)
            is_there = is_there || (strlen(secrets->v[i]) == n &&
                                    memcmp(secrets->v[i], list, n) == 0);
        if (!is_there)
            return false;
        list += n;
    }
    return true;
}

static enum access_verdict allows(const struct access_row *row,
                                  const struct access_ask *ask)
{
    const struct reference *const r = ask->reference;

    if (!(row->scopes & ask->scope))
        return ACCESS_NOT_SCOPE;
    if (row->images.is_given && ask->folder &&
        !folder_matches(&row->images, ask->folder))
        return ACCESS_NOT_IMAGE;
    if (row->images.is_given &&
        (r ? !target_matches(&row->images, r->target) : ask->is_for_all))
        return ACCESS_NOT_IMAGE;
    if (row->secrets.is_given && ask->names_secrets)
        return ACCESS_NOT_SECRET;
    if (row->secrets.is_given && r && r->secret &&
        !secrets_match(&row->secrets, r->secret))
        return ACCESS_NOT_SECRET;
    return ACCESS_OK;
}

/* ---- All of it ---- */

/* What the rows so far have come to. */
struct sum {
    enum access_verdict verdict;
    const char *who;
    bool has_shown; /* something that is good */
};

/* The most that any of them allows; of refusals, the one that came furthest. */
static void add(struct sum *sum, const struct access_row *row,
                const struct access_ask *ask)
{
    const enum access_verdict v = allows(row, ask);

    if (v == ACCESS_OK && ask->own && ask->own->n < ask->own->cap)
        ask->own->v[ask->own->n++] = row;
    if (sum->verdict == ACCESS_OK)
        return;
    if (v == ACCESS_OK || v > sum->verdict) {
        sum->verdict = v;
        sum->who = row->name;
    }
}

static void add_tokens(struct sum *sum, const struct access_list *list,
                       const struct access_ask *ask)
{
    uint8_t digest[ACCESS_DIGEST] = {0};
    const struct access_row *found = NULL;
    unsigned n = 0;

    /* Nobody's token is nothing, even where the SHA-256 of nothing has got into
     * a configuration: what cannot be read as a token is "" here. */
    const bool has_digest =
        *ask->token && EVP_Digest(ask->token, strlen(ask->token), digest, &n,
                                  EVP_sha256(), NULL) == 1;
    for (size_t i = 0; i < list->n; i++) {
        const struct access_row *const row = &list->v[i];
        if (row->kind == ACCESS_TOKEN && is_token(row, digest))
            found = row;
    }
    if (!found || !has_digest) {
        *sum = (struct sum){.verdict = ACCESS_UNKNOWN, .has_shown = false};
        return;
    }
    if (ask->now >= found->expires) {
        *sum = (struct sum){.verdict = ACCESS_EXPIRED, .who = found->name};
        return;
    }
    sum->has_shown = true;
    add(sum, found, ask);
}

/* Before the image is known, a signature is neither good nor bad. */
static void add_signature(struct sum *sum, const struct access_list *list,
                          const struct access_ask *ask)
{
    const struct access_row *found = NULL;

    if (ask->signature->state == SIGNATURE_MALFORMED) {
        *sum = (struct sum){.verdict = ACCESS_FORGED};
        return;
    }
    for (size_t i = 0; i < list->n; i++) {
        const struct access_row *const row = &list->v[i];
        if (row->kind == ACCESS_SIGNING_KEY && is_signed(row, ask))
            found = row;
    }
    if (!found) {
        *sum = (struct sum){.verdict = ACCESS_FORGED};
        return;
    }
    if (ask->now >= ask->signature->expires || ask->now >= found->expires) {
        *sum = (struct sum){.verdict = ACCESS_LATE, .who = found->name};
        return;
    }
    sum->has_shown = true;
    add(sum, found, ask);
}

/* The rows for whom nothing has to be shown, as the configuration has them or
 * as they are without it.  One that has expired is there, and gives nothing. */
static void add_standing(struct sum *sum, const struct access_list *list,
                         const struct access_ask *ask)
{
    static char local[] = "local", anonymous[] = "anonymous";
    static const struct access_row all = {.name = local,
                                          .kind = ACCESS_LOCAL,
                                          .scopes = ACCESS_ALL,
                                          .expires = INT64_MAX};
    static const struct access_row some = {.name = anonymous,
                                           .kind = ACCESS_ANONYMOUS,
                                           .scopes =
                                               ACCESS_READ | ACCESS_METADATA,
                                           .expires = INT64_MAX};
    bool has_local = false, has_anonymous = false, has_others = false;

    for (size_t i = 0; i < list->n; i++) {
        const struct access_row *const row = &list->v[i];
        has_local = has_local || row->kind == ACCESS_LOCAL;
        has_anonymous = has_anonymous || row->kind == ACCESS_ANONYMOUS;
        has_others = has_others || row->kind > ACCESS_LOCAL;
        if (ask->now < row->expires &&
            (row->kind == ACCESS_ANONYMOUS ||
             (row->kind == ACCESS_LOCAL && ask->is_local)))
            add(sum, row, ask);
    }
    if (!has_anonymous && !has_others)
        add(sum, &some, ask);
    if (!has_local && ask->is_local)
        add(sum, &all, ask);
}

static bool is_refusal(enum access_verdict v)
{
    return v == ACCESS_UNKNOWN || v == ACCESS_EXPIRED || v == ACCESS_FORGED ||
           v == ACCESS_LATE || v == ACCESS_UNTRUSTED;
}

enum access_verdict access_decide(const struct access_list *list,
                                  const struct access_ask *ask,
                                  const char **who)
{
    struct sum sum = {.verdict =
                          ask->is_untrusted ? ACCESS_UNTRUSTED : ACCESS_NEEDED};

    if (ask->token && !ask->is_untrusted)
        add_tokens(&sum, list, ask);
    if (!is_refusal(sum.verdict) && ask->signature->state != SIGNATURE_NONE)
        add_signature(&sum, list, ask);
    for (size_t i = 0; i < list->n && !is_refusal(sum.verdict); i++) {
        const struct access_row *const row = &list->v[i];
        if (row->kind == ACCESS_CERTIFICATE && ask->now < row->expires &&
            is_certificate(row, ask->certificate)) {
            sum.has_shown = true;
            add(&sum, row, ask);
        }
    }
    if (!is_refusal(sum.verdict))
        add_standing(&sum, list, ask);
    /* Who has shown nothing is asked for it, whatever the standing rows say. */
    if (sum.verdict > ACCESS_UNTRUSTED && !sum.has_shown &&
        (access_has(list, ACCESS_TOKEN) ||
         access_has(list, ACCESS_SIGNING_KEY) ||
         access_has(list, ACCESS_CERTIFICATE)))
        sum = (struct sum){.verdict = ACCESS_NEEDED};
    *who = sum.who;
    return sum.verdict;
}
