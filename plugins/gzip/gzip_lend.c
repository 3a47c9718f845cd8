/* SPDX-License-Identifier: Apache-2.0 */
/* Lending decoded blocks that are in memory: of a plain stream the front's
 * blocks, of dictzip and BGZF the units; zero runs as zeros. */
#include "gzip_units.h"

/* A stretch of the stream in one block, or of zeros. */
struct stretch {
    uint64_t key, start; /* of its block */
    size_t len;          /* of its block */
    uint64_t n;          /* bytes of the stretch */
    bool is_zero;
};

/* What begins at off, below end; false: it is no whole block yet. */
static bool at_locked(const struct gzip_image *gz, uint64_t off, uint64_t end,
                      struct stretch *s)
{
    uint64_t next, zeros = gzip_runs_at(gz, off, &next);

    *s = (struct stretch){.is_zero = zeros > 0};
    if (!zeros && (gz->dict_version || gz->is_bgzf)) {
        const struct gzip_unit u = gz->dict_version ? gzip_dict_unit(gz, off)
                                                    : gzip_bgzf_unit(gz, off);
        s->key = gzip_unit_key(&u);
        s->start = u.out;
        s->len = u.out_len;
    } else if (!zeros) {
        s->key = off / GZIP_BLOCK;
        s->start = s->key * GZIP_BLOCK;
        s->len = gz->out - s->start < GZIP_BLOCK ? (size_t)(gz->out - s->start)
                                                 : GZIP_BLOCK;
        if (s->len < GZIP_BLOCK && gz->state != FRONT_DONE)
            return false;
    }
    s->n = zeros ? zeros : s->start + s->len - off;
    if (s->n > end - off)
        s->n = end - off;
    return true;
}

enum plt_status gzip_lend(void *image, struct plt_io *io, uint64_t off,
                          uint64_t len, plt_lend_fn *emit, void *cookie)
{
    struct gzip_image *const gz = (struct gzip_image *)image;
    const uint64_t from = off, end = off + len;
    bool is_good = true;

    (void)io;
    while (off < end && is_good) {
        struct plt_block *block;
        struct stretch s;
        pthread_mutex_lock(&gz->lock);
        is_good = end <= (gz->dict_version ? gz->dict_size : gz->out) &&
                  at_locked(gz, off, end, &s);
        pthread_mutex_unlock(&gz->lock);
        if (!is_good)
            break;
        if (s.is_zero)
            is_good = emit(cookie, NULL, (size_t)s.n, NULL);
        else if (gz->host->block_claim(gz->host, s.key, s.len, true, &block) ==
                 PLT_CLAIM_HIT)
            is_good =
                emit(cookie, block->data + (off - s.start), (size_t)s.n, block);
        else
            is_good = false;
        off += s.n;
    }
    if (!is_good)
        return PLT_AGAIN;
    pthread_mutex_lock(&gz->lock);
    gzip_was_asked_locked(gz, from, end);
    gz->next_off = end;
    pthread_mutex_unlock(&gz->lock);
    return PLT_OK;
}
