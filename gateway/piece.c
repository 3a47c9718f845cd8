/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for answers that are sent in one piece.
 *
 * From 256 KiB on glibc maps memory and gives it back (main.c says why), and a
 * page fault for each 4 KiB of an answer costs twice as much as its bytes
 * (tests/bench/NOTES.md).  So each event thread keeps one large piece for its
 * next answer: no lock, and 256 KiB of memory. */
#include <pthread.h>
#include <stdlib.h>

#include "request.h"
#include "util/check.h"

enum { PIECE_LARGE = 64 * 1024 };

static pthread_key_t spare;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_key(void)
{
    ASSERT(pthread_key_create(&spare, free) == 0);
}

uint8_t *piece_new(size_t len)
{
    if (len <= PIECE_LARGE || len > FIRST_PIECE)
        return malloc(len);
    ASSERT(pthread_once(&once, make_key) == 0);
    uint8_t *const kept = pthread_getspecific(spare);
    if (!kept)
        return malloc(FIRST_PIECE);
    ASSERT(pthread_setspecific(spare, NULL) == 0);
    return kept;
}

/* Of a large piece, on the thread that has sent it. */
static void keep(void *piece)
{
    if (pthread_getspecific(spare) || pthread_setspecific(spare, piece) != 0)
        free(piece);
}

struct MHD_Response *piece_response(uint8_t *piece, size_t len)
{
    if (len <= PIECE_LARGE || len > FIRST_PIECE)
        return MHD_create_response_from_buffer(len, piece,
                                               MHD_RESPMEM_MUST_FREE);
    return MHD_create_response_from_buffer_with_free_callback_cls(len, piece,
                                                                  keep, piece);
}
