/* SPDX-License-Identifier: Apache-2.0 */
/* An input as changes to a file that was made by the program itself: 8 bytes
 * each, what is done, a length, three bytes of where and three of from where or
 * what.  So the fuzzer need not learn what a file looks like. */
#ifndef TESTS_FUZZ_CHANGES_H
#define TESTS_FUZZ_CHANGES_H

#include <string.h>

#include <platter/bytes.h>

#include "fuzz_must.h"

enum { CHANGE = 8, CHANGES = 64 };

/* One of them, p, to a file of cap bytes; *len: what is left of it.  The lowest
 * bit of p[0] is the caller's. */
static void change(uint8_t *file, size_t cap, size_t *len, const uint8_t *p)
{
    const size_t n = (size_t)p[1] + 1;
    const size_t at = (plt_le16(p + 2) | (size_t)p[4] << 16) % cap;
    const size_t from = (plt_le16(p + 5) | (size_t)p[7] << 16) % cap;
    const size_t fits = cap - (at > from ? at : from);

    switch (p[0] / 2 % 5) {
    case 0: /* a byte */
        file[at] ^= p[5];
        break;
    case 1: /* bytes from elsewhere */
        memmove(file + at, file + from, n < fits ? n : fits);
        break;
    case 2: /* whole records or slots from elsewhere */
        memmove(file + at / 64 * 64, file + from / 64 * 64,
                n * 8 < fits ? n * 8 : fits);
        break;
    case 3: /* a number */
        plt_put_le64(file + at / 8 * 8 % (cap - 7),
                     plt_le64(file + from / 8 * 8 % (cap - 7)) + n - 128);
        break;
    default: /* cut off */
        *len = at;
        break;
    }
}

#endif
