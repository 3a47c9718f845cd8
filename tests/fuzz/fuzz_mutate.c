/* SPDX-License-Identifier: Apache-2.0 */
/* The mutator of targets that take images: what libFuzzer does to bytes,
 * besides numbers where formats have them, what is inside a gzip member, one
 * image wrapped into another, and fuzz_stack's trailer; and then checksums are
 * made right, most times. */
#include <stdbool.h>
#include <string.h>

#include <platter/bytes.h>

#include "fuzz_must.h"
#include "fuzz_seal.h"

enum { MOST = 256 << 10, TRAILER = 16, DEEPEST = 2 };

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed);

/* Defined by the target that takes a trailer. */
extern const bool fuzz_takes_trailer __attribute__((weak));

static uint32_t state;

static uint32_t next(uint32_t below)
{
    state = state * 1664525U + 1013904223U;
    return (state >> 8) % below;
}

/* A number of 1 to 8 bytes at a place where formats have them, as formats write
 * them: about the file's size, an offset in it, a power of two, a little more
 * or less than what was there. */
static void change_number(uint8_t *data, size_t size)
{
    const size_t width = (size_t)1 << next(4);
    if (size < 8)
        return;
    const size_t reach = next(2) && size > 512 ? 512 : size;
    const size_t at = next((uint32_t)(reach - 7)) / width * width;
    const bool is_big = next(2);
    uint64_t v = is_big ? plt_be64(data + at) : plt_le64(data + at);

    if (width < 8)
        v = is_big ? v >> (64 - 8 * width)
                   : v & ((UINT64_C(1) << 8 * width) - 1);
    switch (next(6)) {
    case 0:
        v = size / ((size_t)1 << next(17));
        break;
    case 1:
        v = next((uint32_t)size) & ~((UINT64_C(1) << next(17)) - 1);
        break;
    case 2:
        v = (UINT64_C(1) << next(64)) - next(2);
        break;
    case 3:
        v += next(5) - UINT64_C(2);
        break;
    case 4:
        v = next(20);
        break;
    default: /* what another place says */
        v = plt_be64(data + next((uint32_t)(size - 7)) / 8 * 8);
        break;
    }
    for (size_t i = 0; i < width; i++)
        data[at + (is_big ? width - 1 - i : i)] = (uint8_t)(v >> 8 * i);
}

static size_t mutate(uint8_t *data, size_t size, size_t max, unsigned depth);

/* The inside of a gzip member, packed again. */
static size_t mutate_inside(uint8_t *data, size_t size, size_t max,
                            unsigned depth)
{
    size_t used = 0, n_out = 0;
    uint8_t *const plain = malloc(MOST), *const packed = malloc(max);

    MUST(plain && packed);
    size_t n = seal_unzip(data, size, plain, MOST, &used);
    if (n) {
        n = mutate(plain, n, MOST, depth + 1);
        n_out = seal_zip(plain, n, packed, max, (int)next(10));
    }
    if (n_out && n_out + (size - used) <= max) {
        memmove(data + n_out, data + used, size - used);
        memcpy(data, packed, n_out);
        size = n_out + (size - used);
    } else {
        size = LLVMFuzzerMutate(data, size, max);
    }
    free(plain);
    free(packed);
    return size;
}

static size_t wrap(uint8_t *data, size_t size, size_t max)
{
    static const char *const names[] = {"disk.raw", "box.img", "a.vmdk", "x"};
    uint8_t *const out = malloc(max);

    MUST(out);
    const size_t n = next(2) ? seal_zip(data, size, out, max, (int)next(10))
                             : seal_tar(names[next(4)], data, size, out, max);
    if (n)
        memcpy(data, out, n);
    free(out);
    return n ? n : size;
}

static size_t mutate(uint8_t *data, size_t size, size_t max, unsigned depth)
{
    const bool is_gzip = size > 20 && data[0] == 0x1f && data[1] == 0x8b;

    if (is_gzip && depth < DEEPEST && next(2))
        size = mutate_inside(data, size, max, depth);
    else if (next(3) == 0)
        change_number(data, size);
    else if (next(40) == 0)
        size = wrap(data, size, max);
    else
        size = LLVMFuzzerMutate(data, size, max);
    if (next(8))
        seal(data, size);
    return size;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed)
{
    uint8_t trailer[TRAILER] = "PLTF";
    bool has_trailer =
        size >= TRAILER && memcmp(data + size - TRAILER, "PLTF", 4) == 0;

    state = seed;
    if (max_size < 2 * TRAILER)
        return LLVMFuzzerMutate(data, size, max_size);
    if (has_trailer) {
        size -= TRAILER;
        memcpy(trailer, data + size, TRAILER);
    }
    if (&fuzz_takes_trailer && next(8) == 0) {
        trailer[4] = (uint8_t)(next(2) ? 0 : next(256));
        trailer[5] = (uint8_t)next(256);
        plt_put_le32(trailer + 8, next(UINT32_MAX));
        if (!has_trailer || next(4) == 0) /* most have no neighbour */
            plt_put_le32(trailer + 12,
                         next(8) ? UINT32_MAX : next((uint32_t)size + 1));
        has_trailer = true;
    }
    if (size > max_size - TRAILER)
        size = max_size - TRAILER;
    size = mutate(data, size, max_size - TRAILER, 0);
    if (has_trailer) {
        memcpy(data + size, trailer, TRAILER);
        size += TRAILER;
    }
    return size;
}
