/* SPDX-License-Identifier: Apache-2.0 */
#include "tar_header.h"

#include <stdio.h>
#include <string.h>

#include <platter/ckd.h>

/* An octal field, or GNU's base-256 form (first byte 0x80, or 0xff for a
 * negative number).  False: malformed, negative where not allowed, too large.
 */
static bool number(const uint8_t *p, size_t n, bool is_signed, int64_t *out)
{
    uint64_t v = 0;

    if (p[0] & 0x80) {
        const bool is_negative = p[0] == 0xff;
        if ((p[0] != 0x80 && !is_negative) || (is_negative && !is_signed))
            return false;
        for (size_t i = 1; i < n; i++) {
            /* All bytes above the low eight are sign. */
            if (n - i > 8) {
                if (p[i] != (is_negative ? 0xff : 0))
                    return false;
                continue;
            }
            v = v << 8 | p[i];
        }
        if (is_negative ? v <= (uint64_t)INT64_MAX : v > (uint64_t)INT64_MAX)
            return false;
        *out = (int64_t)v;
        return true;
    }
    size_t i = 0;
    while (i < n && p[i] == ' ')
        i++;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++) {
        if (v >> 60)
            return false;
        v = v << 3 | (uint64_t)(p[i] - '0');
    }
    for (; i < n; i++) {
        if (p[i] != ' ' && p[i] != '\0')
            return false;
    }
    *out = (int64_t)v;
    return true;
}

static bool size_field(const uint8_t *p, uint64_t *out)
{
    int64_t v = 0;
    const bool is_good = number(p, 12, false, &v);
    *out = (uint64_t)v;
    return is_good;
}

/* Both sums that tars of old have: of unsigned and of signed bytes. */
static bool checksum_ok(const uint8_t b[TAR_BLOCK])
{
    uint32_t sum = 0;
    int32_t signed_sum = 0;
    int64_t want;

    for (size_t i = 0; i < TAR_BLOCK; i++) {
        const uint8_t c = i >= 148 && i < 156 ? (uint8_t)' ' : b[i];
        sum += c;
        signed_sum += (int8_t)c;
    }
    return number(b + 148, 8, false, &want) &&
           (want == (int64_t)sum || want == signed_sum);
}

static bool piece_at(const uint8_t *p, struct tar_piece *out)
{
    return size_field(p, &out->off) && size_field(p + 12, &out->len);
}

enum tar_kind tar_block_parse(const uint8_t b[TAR_BLOCK], struct tar_block *out,
                              const char **why)
{
    static const uint8_t zeros[TAR_BLOCK];

    *out = (struct tar_block){.type = '\0'};
    if (memcmp(b, zeros, TAR_BLOCK) == 0)
        return TAR_END;
    if (!checksum_ok(b)) {
        *why = "header checksum is wrong";
        return TAR_BAD;
    }
    out->type = (char)b[156];
    out->is_gnu = memcmp(b + 257, "ustar  ", 8) == 0;
    out->is_ustar = memcmp(b + 257, "ustar", 6) == 0;
    const bool has_prefix = out->is_ustar && b[345];
    (void)snprintf(out->name, sizeof(out->name), "%.155s%s%.100s",
                   has_prefix ? (const char *)b + 345 : "",
                   has_prefix ? "/" : "", (const char *)b);
    (void)snprintf(out->link, sizeof(out->link), "%.100s",
                   (const char *)b + 157);
    if (!size_field(b + 124, &out->size)) {
        *why = "size is malformed or too large";
        return TAR_BAD;
    }
    if (!number(b + 136, 12, true, &out->mtime))
        out->mtime = 0; /* no reason to refuse the file */
    if (out->type == 'S') {
        if (!size_field(b + 483, &out->real_size)) {
            *why = "real size of a sparse file is malformed";
            return TAR_BAD;
        }
        for (unsigned i = 0; i < 4 && b[386 + i * 24]; i++) {
            if (!piece_at(b + 386 + (size_t)i * 24, &out->pieces[i])) {
                *why = "sparse map is malformed";
                return TAR_BAD;
            }
            out->n_pieces = i + 1;
        }
        out->is_extended = b[482] != 0;
    }
    return TAR_HEADER;
}

bool tar_extension_parse(const uint8_t b[TAR_BLOCK],
                         struct tar_piece pieces[21], unsigned *n,
                         bool *is_extended)
{
    *n = 0;
    for (unsigned i = 0; i < 21 && b[i * 24]; i++) {
        if (!piece_at(b + (size_t)i * 24, &pieces[i]))
            return false;
        *n = i + 1;
    }
    *is_extended = b[504] != 0;
    return true;
}

bool tar_decimal(const char *text, size_t len, uint64_t *out)
{
    uint64_t v = 0;

    if (!len)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || ckd_mul(&v, v, (uint64_t)10) ||
            ckd_add(&v, v, (uint64_t)(text[i] - '0')))
            return false;
    }
    *out = v;
    return true;
}

/* "LENGTH KEY=VALUE\n", LENGTH counting all of it. */
bool tar_record_next(const uint8_t *bytes, size_t len, size_t *at,
                     struct tar_record *out, bool *is_bad)
{
    const char *const text = (const char *)bytes + *at;
    const size_t left = len - *at;
    uint64_t n;

    *is_bad = false;
    if (!left || !text[0])
        return false; /* the end, or the zeros behind it */
    *is_bad = true;
    const char *const space = memchr(text, ' ', left < 21 ? left : 21);
    if (!space || !tar_decimal(text, (size_t)(space - text), &n) || n > left ||
        n < (size_t)(space - text) + 3 || text[n - 1] != '\n')
        return false;
    const char *const key = space + 1;
    const char *const eq = memchr(key, '=', (size_t)(text + n - 1 - key));
    if (!eq || eq == key)
        return false;
    *out = (struct tar_record){.key = key,
                               .key_len = (size_t)(eq - key),
                               .value = eq + 1,
                               .value_len = (size_t)(text + n - 1 - eq - 1)};
    *at += (size_t)n;
    *is_bad = false;
    return true;
}
