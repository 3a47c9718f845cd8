/* SPDX-License-Identifier: Apache-2.0 */
#include "stack/signature.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* base64url, RFC 4648 5. */
static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                             "abcdefghijklmnopqrstuvwxyz0123456789-_";

void signature_format(const uint8_t mac[SIGNATURE_MAC],
                      char out[SIGNATURE_TEXT])
{
    uint32_t bits = 0;
    unsigned have = 0;
    char *p = out;

    for (size_t i = 0; i < SIGNATURE_MAC; i++) {
        bits = bits << 8 | mac[i];
        for (have += 8; have >= 6; have -= 6)
            *p++ = digits[bits >> (have - 6) & 63];
    }
    *p++ = digits[bits << (6 - have) & 63];
    *p = '\0';
}

/* One spelling alone: the last character's spare bits are zero. */
static bool parse_mac(const char *s, size_t len, uint8_t mac[SIGNATURE_MAC])
{
    uint32_t bits = 0;
    unsigned have = 0;
    size_t n = 0;

    if (len != SIGNATURE_TEXT - 1)
        return false;
    for (size_t i = 0; i < len; i++) {
        const char *const at = s[i] ? strchr(digits, s[i]) : NULL;
        if (!at)
            return false;
        bits = bits << 6 | (uint32_t)(at - digits);
        have += 6;
        if (have >= 8) {
            have -= 8;
            mac[n++] = (uint8_t)(bits >> have);
        }
    }
    return n == SIGNATURE_MAC && !(bits & ((1U << have) - 1));
}

static bool parse_expires(const char *s, size_t len, int64_t *out)
{
    int64_t v = 0;

    /* one spelling: no zero in front */
    if (len < 1 || len > 15 || (*s == '0' && len > 1))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        v = v * 10 + (s[i] - '0');
    }
    *out = v;
    return true;
}

static bool parse_key(const char *s, size_t len, char out[SIGNATURE_KEY_NAME])
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "abcdefghijklmnopqrstuvwxyz0123456789-_.";

    (void)snprintf(out, SIGNATURE_KEY_NAME, "%.*s", (int)len, s);
    return len && len < SIGNATURE_KEY_NAME && strspn(out, plain) == len;
}

enum { EXPIRES = 1, KEY = 2, MAC = 4, ALL = 7, BAD = 8 };

/* One "name=value".  0: it is none of ours; else its bit, BAD besides when it
 * is no such thing. */
static unsigned take_one(const char *s, size_t len, struct signature *out)
{
    static const char *const names[] = {"expires=", "key=", "signature="};

    for (unsigned i = 0; i < 3; i++) {
        const size_t n = strlen(names[i]);
        if (len < n || memcmp(s, names[i], n) != 0)
            continue;
        const bool is_good = i == 0
                                 ? parse_expires(s + n, len - n, &out->expires)
                             : i == 1 ? parse_key(s + n, len - n, out->key)
                                      : parse_mac(s + n, len - n, out->mac);
        return 1U << i | (is_good ? 0 : BAD);
    }
    return 0;
}

/* Of a list with dividers, ours are taken out, and all else is left as it is;
 * which they were.  *is_all: there was nothing else. */
static unsigned take_list(char *list, char divider, struct signature *out,
                          bool *is_all)
{
    const char stop[] = {divider, '\0'};
    char *to = list;
    bool is_first = true, is_more = true;
    unsigned seen = 0;

    for (const char *from = list; is_more;) {
        const size_t len = strcspn(from, stop);
        const unsigned one = take_one(from, len, out);
        seen |= seen & one & ALL ? BAD : one;
        if (!one) {
            if (!is_first)
                *to++ = divider;
            memmove(to, from, len);
            to += len;
            is_first = false;
        }
        is_more = from[len] != '\0';
        from += len + is_more;
    }
    *to = '\0';
    *is_all = is_first;
    return seen;
}

void signature_take(char *path, char *query, struct signature *out)
{
    char *const last = path ? strrchr(path, '/') : NULL;
    char *const params = last ? strchr(last, ';') : NULL;
    unsigned seen = 0;
    bool is_all = false;

    *out = (struct signature){.state = SIGNATURE_NONE};
    if (params) {
        seen = take_list(params + 1, ';', out, &is_all);
        if (is_all)
            *params = '\0';
    }
    if (query) {
        const unsigned more = take_list(query, '&', out, &is_all);
        seen = seen | more | (seen & more ? BAD : 0);
    }
    if (seen)
        out->state = seen == ALL ? SIGNATURE_GIVEN : SIGNATURE_MALFORMED;
}

bool signature_make(const void *key, size_t key_len, const char *route,
                    const struct reference *r, const char *key_name,
                    int64_t expires, uint8_t mac[SIGNATURE_MAC])
{
    const struct {
        const char *name, *value;
    } rows[] = {{"member", r->member},
                {"snapshot", r->snapshot},
                {"partition", r->partition},
                {"secret", r->secret},
                {"layers", r->layers}};
    char *text = NULL;
    size_t len = 0;
    unsigned n = 0;
    FILE *const f = open_memstream(&text, &len);

    if (!f)
        return false;
    (void)fprintf(f, "platter-signed-url-1\n%s\n%s\n", route, r->target);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].value)
            (void)fprintf(f, "%s=%s\n", rows[i].name, rows[i].value);
    }
    (void)fprintf(f, "expires=%" PRId64 "\nkey=%s\n", expires, key_name);
    const bool is_good = fclose(f) == 0 && key_len <= INT32_MAX &&
                         HMAC(EVP_sha256(), key, (int)key_len,
                              (const unsigned char *)text, len, mac, &n);
    free(text);
    return is_good && n == SIGNATURE_MAC;
}
