/* SPDX-License-Identifier: Apache-2.0 */
/* An answer that is sent from where its bytes lie in the cache.
 *
 * From LENT_LEAST bytes on; below it a copy that stays in a core's cache costs
 * no more than the kernel's reading of memory that does not
 * (tests/bench/NOTES.md).  Up to LOAN_MOST: a longer one is pulled piece by
 * piece (body.c), and holds no block while its client is slow.  That limit is
 * as low as it is for QEMU 7.2, whose HTTP client asks for 512 KiB at a time,
 * many at once, and stalls for good when they come without a pause. */
#include "request.h"

enum { LENT_LEAST = 128 * 1024 };

bool lent_take(struct request *r, struct plt_io *io, uint64_t off, uint64_t len)
{
    /* A digest is made of bytes in one piece. */
    if (len < LENT_LEAST || len > LOAN_MOST || r->want_content_digest)
        return false;
    return image_lend(r->image, io, off, (size_t)len, &r->loan) == PLT_OK;
}

static void give_back(void *cookie)
{
    loan_free((struct loan *)cookie);
}

struct MHD_Response *lent_response(struct request *r)
{
    struct MHD_IoVec iov[LOAN_PIECES];
    size_t n;
    uint64_t len = 0;
    const struct loan_piece *const pieces = loan_pieces(r->loan, &n);

    for (size_t i = 0; i < n; i++) {
        iov[i] = (struct MHD_IoVec){pieces[i].data, pieces[i].len};
        len += pieces[i].len;
    }
    struct MHD_Response *const response =
        MHD_create_response_from_iovec(iov, (unsigned)n, give_back, r->loan);
    if (response) {
        r->loan = NULL;
        atomic_store(&r->sent, len);
    }
    return response;
}
