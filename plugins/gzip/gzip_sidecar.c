/* SPDX-License-Identifier: Apache-2.0 */
#include "gzip_sidecar.h"

#include <stdlib.h>
#include <string.h>

#include "gzip_bgzf.h"
#include "gzip_prove.h"

enum {
    FAR = 8 << 20,          /* less than that is decoded meanwhile */
    LONG = 16 << 20,        /* a source of which the end is worth asking for */
    MAX_SIDECAR = 512 << 20 /* an index is a hundredth of its stream */
};

void gzip_sidecar_want(struct gzip_image *gz, uint64_t end)
{
    if (end == PLT_SIZE_UNKNOWN ? gz->child->size > LONG
                                : end > gz->out && end - gz->out > FAR)
        gz->wants_sidecar = true;
}

struct file {
    struct gzip_image *gz;
    uint8_t *p;
    size_t len, cap;
};

static bool take_piece(void *cookie, const void *data, size_t len)
{
    struct file *const f = (struct file *)cookie;
    struct plt_error ignored;

    if (!len)
        return true; /* there may be no memory yet */
    if (len > f->cap - f->len) {
        const size_t more = f->cap + len;
        if (f->gz->host->mem_take(f->gz->host, more, &ignored) != PLT_OK)
            return false;
        uint8_t *const grown = realloc(f->p, f->cap + more);
        if (!grown) {
            f->gz->host->mem_give(f->gz->host, more);
            return false;
        }
        f->p = grown;
        f->cap += more;
    }
    memcpy(f->p + f->len, data, len);
    f->len += len;
    return true;
}

/* One name.  True: there is an index that can be used. */
static bool look(struct gzip_image *gz, struct plt_io *io, const char *suffix,
                 bool is_own)
{
    struct gzip_image *theirs = NULL;
    struct gzip_claims *claims = NULL;
    struct file f = {.gz = gz};
    struct plt_error ignored;
    bool is_whole = false;
    enum plt_status st = gz->host->sidecar(gz->host, io, suffix, MAX_SIDECAR,
                                           take_piece, &f, &ignored);

    if (st == PLT_OK && !f.len)
        st = PLT_NOT_FOUND; /* an empty file is none */
    if (st == PLT_OK && is_own)
        st = gzip_exchange_load(gz, io, f.p, f.len, &theirs, &is_whole,
                                &ignored);
    else if (st == PLT_OK)
        st = gzip_claims_new(gz, f.p, f.len, &claims, &ignored);
    free(f.p);
    gz->host->mem_give(gz->host, f.cap);
    if (st != PLT_OK)
        return false;
    pthread_mutex_lock(&gz->lock);
    gz->theirs = theirs;
    gz->is_theirs_whole = is_whole;
    gz->claims = claims;
    gz->sidecar = suffix;
    pthread_mutex_unlock(&gz->lock);
    return true;
}

bool gzip_sidecar_found(struct gzip_image *gz, struct plt_io *io)
{
    pthread_mutex_lock(&gz->lock);
    const bool is_due = gz->wants_sidecar && !gz->has_looked;
    gz->has_looked = gz->has_looked || is_due;
    pthread_mutex_unlock(&gz->lock);
    if (!is_due || !PLT_HAS(gz->host, sidecar) ||
        gz->child->size == PLT_SIZE_UNKNOWN)
        return false;
    return look(gz, io, ".pltidx", true) ||
           (!gz->is_bgzf &&
            (look(gz, io, ".gzidx", false) || look(gz, io, ".gzi", false)));
}

void gzip_sidecar_release(struct gzip_image *gz)
{
    if (gz->theirs)
        gzip_points_release(gz->theirs);
    free(gz->theirs);
    gz->theirs = NULL;
}

/* What theirs knows beyond ours; ours stays where it is, readers are at it. */
static bool merge_locked(struct gzip_image *gz, struct gzip_image *theirs)
{
    const uint64_t from = gz->n_points ? gz->points[gz->n_points - 1].out : 0;
    bool is_good = true;

    for (size_t i = 0; i < gz->n_crcs && i < theirs->n_crcs; i++) {
        if (gz->crcs[i] != theirs->crcs[i])
            return false; /* of other bytes */
    }
    for (size_t i = gz->n_crcs; i < theirs->n_crcs && is_good; i++)
        is_good = gzip_crcs_add(gz, theirs->crcs[i]);
    for (size_t i = 0; i < theirs->n_points && is_good; i++) {
        struct gzip_point *const p = &theirs->points[i];
        if (gz->n_points && p->out <= from)
            continue;
        is_good = gzip_points_add(gz, p);
        if (is_good)
            p->window = NULL;
    }
    for (size_t i = 0; i < theirs->n_runs && is_good; i++) {
        const struct gzip_zero_run *const r = &theirs->runs[i];
        if (r->off + r->len > gz->out)
            (void)gzip_runs_add(gz, r->off, r->len);
    }
    for (size_t i = 0; i < theirs->n_rows && is_good; i++) {
        for (size_t k = 0; k < gzip_bgzf_in_row(theirs, i) && is_good; k++) {
            const struct gzip_unit u = gzip_bgzf_nth(theirs, i, k);
            if (u.out >= gzip_bgzf_out(gz))
                is_good = gzip_bgzf_add(gz, u.in, u.in_len, u.out_len);
        }
    }
    if (!is_good && gz->is_bgzf)
        gz->out = gzip_bgzf_out(gz);
    else if (!is_good)
        gzip_points_trim(gz);
    return is_good;
}

bool gzip_sidecar_take(struct gzip_image *gz)
{
    struct gzip_image *const theirs = gz->theirs;

    if (!theirs)
        return false;
    pthread_mutex_lock(&gz->lock);
    bool is_whole = false;
    if (theirs->out > gz->out && theirs->is_bgzf == gz->is_bgzf &&
        merge_locked(gz, theirs)) {
        is_whole = gz->is_theirs_whole;
        gz->in = is_whole      ? gz->child->size
                 : gz->is_bgzf ? gzip_bgzf_in(gz)
                               : gz->points[gz->n_points - 1].in_bits / 8;
        gz->out = theirs->out;
        gz->members = is_whole ? theirs->members : gz->members;
        gz->has_garbage = theirs->has_garbage;
        gz->has_eof_block = theirs->has_eof_block;
        if (is_whole)
            gz->state = FRONT_DONE;
        gzip_exchange_keep(gz);
    }
    pthread_cond_broadcast(&gz->moved);
    pthread_mutex_unlock(&gz->lock);
    gzip_sidecar_release(gz);
    return is_whole;
}
