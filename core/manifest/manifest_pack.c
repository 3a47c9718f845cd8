/* SPDX-License-Identifier: Apache-2.0 */
#include "manifest/manifest_pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

enum { LEVEL = 3, DIGITS = 16 };

/* A number without leading zeros at *p, which moves behind it. */
static bool take_number(const char **p, const char *end, uint64_t *out)
{
    const char *q = *p;
    uint64_t n = 0;

    while (q < end && *q >= '0' && *q <= '9' && q - *p < DIGITS)
        n = n * 10 + (uint64_t)(*q++ - '0');
    if (q == *p || (**p == '0' && q - *p > 1))
        return false;
    *p = q;
    *out = n;
    return true;
}

bool manifest_pick_parse(struct manifest_pick *out, const char *text,
                         size_t len)
{
    const char *p = text, *const end = text + len;
    uint64_t first, last, least = 0;

    out->n_runs = out->n_leaves = 0;
    if (!len || len >= MANIFEST_PICK_TEXT)
        return false;
    for (;;) {
        if (!take_number(&p, end, &first))
            return false;
        last = first;
        if (p < end && *p == '-') {
            p++;
            if (!take_number(&p, end, &last) || last <= first)
                return false;
        }
        if (first < least || out->n_runs == MANIFEST_PICK_RUNS ||
            last - first >= MANIFEST_PICK_LEAVES - out->n_leaves)
            return false;
        out->run[out->n_runs].first = first;
        out->run[out->n_runs++].n = (size_t)(last - first) + 1;
        out->n_leaves += (size_t)(last - first) + 1;
        least = last + 2; /* a neighbour would be of the same run */
        if (p == end)
            return true;
        if (*p++ != ',')
            return false;
    }
}

static size_t digits(uint64_t n)
{
    size_t k = 1;
    for (; n > 9; n /= 10)
        k++;
    return k;
}

bool manifest_pick_add(struct manifest_pick *list, uint64_t leaf)
{
    const size_t i = list->n_runs;

    if (list->n_leaves == MANIFEST_PICK_LEAVES)
        return false;
    if (i && list->run[i - 1].first + list->run[i - 1].n == leaf) {
        list->run[i - 1].n++;
        list->n_leaves++;
        return true;
    }
    /* "FIRST-LAST," of each, as long as any of them can be. */
    if (i == MANIFEST_PICK_RUNS ||
        (i + 1) * (2 * digits(leaf + MANIFEST_PICK_LEAVES) + 2) >=
            MANIFEST_PICK_TEXT)
        return false;
    list->run[i].first = leaf;
    list->run[i].n = 1;
    list->n_runs++;
    list->n_leaves++;
    return true;
}

void manifest_pick_text(const struct manifest_pick *list,
                        char out[MANIFEST_PICK_TEXT])
{
    size_t at = 0;

    out[0] = '\0';
    for (size_t i = 0; i < list->n_runs; i++) {
        const unsigned long long first = list->run[i].first;
        const int n =
            list->run[i].n == 1
                ? snprintf(out + at, MANIFEST_PICK_TEXT - at, "%s%llu",
                           i ? "," : "", first)
                : snprintf(out + at, MANIFEST_PICK_TEXT - at, "%s%llu-%llu",
                           i ? "," : "", first, first + list->run[i].n - 1);
        if (n < 0 || (size_t)n >= MANIFEST_PICK_TEXT - at)
            return; /* manifest_pick_add has seen to it */
        at += (size_t)n;
    }
}

bool manifest_pick_bytes(const struct manifest_pick *list, uint64_t size,
                         size_t *out)
{
    *out = 0;
    if (!list->n_runs)
        return false;
    const uint64_t end =
        list->run[list->n_runs - 1].first + list->run[list->n_runs - 1].n;
    if (end > manifest_leaves(size))
        return false;
    *out = list->n_leaves * MANIFEST_LEAF;
    if (end == manifest_leaves(size) && size % MANIFEST_LEAF)
        *out -= MANIFEST_LEAF - (size_t)(size % MANIFEST_LEAF);
    return true;
}

size_t manifest_pack_bound(size_t len)
{
    return ZSTD_compressBound(len);
}

unsigned manifest_pack_version(void)
{
    return ZSTD_versionNumber();
}

enum plt_status manifest_pack(const uint8_t *data, size_t len, uint8_t **out,
                              size_t *out_len, struct plt_error *err)
{
    const size_t cap = manifest_pack_bound(len);
    uint8_t *const frame = malloc(cap);
    const size_t n = frame ? ZSTD_compress(frame, cap, data, len, LEVEL) : 0;

    if (!frame || ZSTD_isError(n)) {
        free(frame);
        return plt_fail(err, PLT_NOMEM, "a frame of leaves");
    }
    uint8_t *const fit = realloc(frame, n);
    *out = fit ? fit : frame;
    *out_len = n;
    return PLT_OK;
}

enum plt_status manifest_unpack(const uint8_t *frame, size_t frame_len,
                                uint8_t *out, size_t len, struct plt_error *err)
{
    const size_t n = ZSTD_decompress(out, len, frame, frame_len);

    if (ZSTD_isError(n))
        return plt_fail(err, PLT_CORRUPT, "a frame of leaves: %s",
                        ZSTD_getErrorName(n));
    return n == len
               ? PLT_OK
               : plt_fail(err, PLT_CORRUPT,
                          "a frame of leaves has %zu bytes, not %zu", n, len);
}
