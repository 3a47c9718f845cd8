/* SPDX-License-Identifier: Apache-2.0 */
/* Restart points, after Mark Adler's zran: where a deflate block begins, and
 * the 32 KiB before it.  Only the bytes of the window that the following data
 * refers to matter; the front has set the others to zero, so that a window of
 * which a kilobyte is used packs to about that. */
#include <stdlib.h>
#include <string.h>

#include <libdeflate.h>

#include "gzip_bgzf.h"
#include "gzip_image.h"

bool gzip_grow(struct gzip_image *gz, void **array, size_t *cap, size_t n,
               size_t item)
{
    struct plt_error ignored;

    if (n < *cap)
        return true;
    const size_t more = *cap ? *cap : 64;
    if (gz->host->mem_take(gz->host, more * item, &ignored) != PLT_OK)
        return false;
    void *const p = realloc(*array, (*cap + more) * item);
    if (!p) {
        gz->host->mem_give(gz->host, more * item);
        return false;
    }
    *array = p;
    *cap += more;
    gz->mem += more * item;
    return true;
}

bool gzip_points_add(struct gzip_image *gz, const struct gzip_point *point)
{
    struct plt_error ignored;
    void *array = gz->points;

    const bool is_grown = gzip_grow(gz, &array, &gz->cap_points, gz->n_points,
                                    sizeof(*gz->points));
    gz->points = array;
    if (!is_grown)
        return false;
    if (point->window_len) {
        if (gz->host->mem_take(gz->host, point->window_len, &ignored) != PLT_OK)
            return false;
        gz->mem += point->window_len;
    }
    gz->points[gz->n_points++] = *point;
    return true;
}

size_t gzip_points_find(const struct gzip_image *gz, uint64_t out)
{
    size_t low = 0, high = gz->n_points;

    while (high - low > 1) {
        const size_t mid = low + (high - low) / 2;
        if (gz->points[mid].out <= out)
            low = mid;
        else
            high = mid;
    }
    return low;
}

bool gzip_runs_add(struct gzip_image *gz, uint64_t off, uint64_t len)
{
    struct gzip_zero_run *const last =
        gz->n_runs ? &gz->runs[gz->n_runs - 1] : NULL;
    void *array = gz->runs;

    if (last && off <= last->off + last->len) {
        if (off + len > last->off + last->len)
            last->len = off + len - last->off;
        return true;
    }
    const bool is_grown =
        gzip_grow(gz, &array, &gz->cap_runs, gz->n_runs, sizeof(*gz->runs));
    gz->runs = array;
    if (is_grown)
        gz->runs[gz->n_runs++] = (struct gzip_zero_run){off, len};
    return is_grown;
}

bool gzip_crcs_add(struct gzip_image *gz, uint32_t crc)
{
    void *array = gz->crcs;
    const bool is_grown =
        gzip_grow(gz, &array, &gz->cap_crcs, gz->n_crcs, sizeof(*gz->crcs));

    gz->crcs = array;
    if (is_grown)
        gz->crcs[gz->n_crcs++] = crc;
    return is_grown;
}

/* Zero runs and CRCs behind the last point are found again by the front. */
void gzip_points_trim(struct gzip_image *gz)
{
    const uint64_t last = gz->n_points ? gz->points[gz->n_points - 1].out : 0;
    const uint64_t end = last / GZIP_BLOCK * GZIP_BLOCK;

    while (gz->n_runs && gz->runs[gz->n_runs - 1].off >= end)
        gz->n_runs--;
    if (gz->n_runs) {
        struct gzip_zero_run *const r = &gz->runs[gz->n_runs - 1];
        if (r->off + r->len > end)
            r->len = end - r->off;
    }
    if (gz->n_crcs > end / GZIP_BLOCK)
        gz->n_crcs = (size_t)(end / GZIP_BLOCK);
    gz->out = end;
}

uint64_t gzip_runs_at(const struct gzip_image *gz, uint64_t off, uint64_t *next)
{
    size_t low = 0, high = gz->n_runs; /* first run that ends after off */

    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (gz->runs[mid].off + gz->runs[mid].len <= off)
            low = mid + 1;
        else
            high = mid;
    }
    *next = UINT64_MAX;
    if (low == gz->n_runs)
        return 0;
    const struct gzip_zero_run *const r = &gz->runs[low];
    if (r->off > off) {
        *next = r->off;
        return 0;
    }
    return r->off + r->len - off;
}

void gzip_points_release(struct gzip_image *gz)
{
    for (size_t i = 0; i < gz->n_points; i++)
        free(gz->points[i].window);
    free(gz->points);
    free(gz->runs);
    free(gz->crcs);
    gzip_bgzf_release(gz);
    if (gz->mem)
        gz->host->mem_give(gz->host, gz->mem);
    gz->points = NULL;
    gz->runs = NULL;
    gz->crcs = NULL;
    gz->mem = 0;
    gz->n_points = gz->n_runs = gz->cap_points = gz->cap_runs = 0;
    gz->n_crcs = gz->cap_crcs = 0;
}

uint8_t *gzip_window_pack(const uint8_t window[GZIP_WINDOW], uint32_t *len)
{
    struct libdeflate_compressor *const c = libdeflate_alloc_compressor(6);
    uint8_t *packed = NULL;

    if (c) {
        const size_t bound = libdeflate_deflate_compress_bound(c, GZIP_WINDOW);
        uint8_t *const room = malloc(bound);
        const size_t n = room ? libdeflate_deflate_compress(
                                    c, window, GZIP_WINDOW, room, bound)
                              : 0;
        if (n) {
            *len = (uint32_t)n;
            packed = realloc(room, n);
        }
        if (!packed)
            free(room);
        libdeflate_free_compressor(c);
    }
    return packed;
}

bool gzip_window_unpack(const struct gzip_point *point,
                        uint8_t window[GZIP_WINDOW])
{
    struct libdeflate_decompressor *const d = libdeflate_alloc_decompressor();
    bool is_good = false;

    if (d) {
        is_good = libdeflate_deflate_decompress(
                      d, point->window, point->window_len, window, GZIP_WINDOW,
                      NULL) == LIBDEFLATE_SUCCESS;
        libdeflate_free_decompressor(d);
    }
    return is_good;
}
