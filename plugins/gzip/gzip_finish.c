/* SPDX-License-Identifier: Apache-2.0 */
/* The front's second half: what has been decoded is checked, given to the
 * readers, and made into restart points.
 *
 * A point found by the decoder is not believed: the 32 KiB that follow it are
 * decoded three times from there, with dictionaries that say of each output
 * byte whether it came out of the window and from where (i & 255, i >> 8, and
 * the complement of the first).  If what comes out is what the stream gave, the
 * point is right, and the window's bytes that nobody asked for become zeros. */
#include <stdlib.h>
#include <string.h>

#include <libdeflate.h>
#include <zlib.h>

#include "gzip_front.h"

enum {
    LEAD = 64 << 20 /* twice the distance at which the decoder waits for its
                       readers, so that no block of theirs is left out */
};

void gzip_finish_start(struct front *f, const struct gzip_point *p)
{
    struct finish *const n = &f->finish;

    n->member_crc = p->member_crc;
    n->member_len = p->member_len;
    n->block_crc = p->block_crc;
    n->runs_written = p->out / GZIP_BLOCK * GZIP_BLOCK;
    n->sums_written = (size_t)(p->out / GZIP_BLOCK);
    pthread_mutex_lock(&f->lock);
    f->has_failed = false;
    memset(f->is_slot_taken, 0, sizeof(f->is_slot_taken));
    for (size_t i = 0; i < FRONT_TRIALS; i++)
        f->trials[i].is_taken = false;
    pthread_mutex_unlock(&f->lock);
}

/* ---- Points ---- */

/* Zero runs that the file does not have yet, up to `end`. */
static void write_runs(struct front *f, uint64_t end)
{
    struct gzip_image *const gz = f->gz;
    struct finish *const n = &f->finish;

    while (gz->is_kept && n->runs_written < end) {
        uint64_t next = 0;
        pthread_mutex_lock(&gz->lock);
        const uint64_t off = n->runs_written;
        const uint64_t len = gzip_runs_at(gz, off, &next);
        pthread_mutex_unlock(&gz->lock);
        if (len) {
            gz->is_kept = gzip_file_run(gz->state_fd, off, len);
            n->runs_written = off + len;
        } else if (next < end) {
            n->runs_written = next;
        } else {
            break;
        }
    }
}

static void write_sums(struct front *f, size_t end)
{
    struct gzip_image *const gz = f->gz;
    struct finish *const n = &f->finish;

    /* The finisher alone adds to them. */
    if (gz->is_kept && n->sums_written < end)
        gz->is_kept = gzip_file_crcs(gz->state_fd, gz->crcs + n->sums_written,
                                     end - n->sums_written);
    n->sums_written = end;
}

void gzip_finish_keep(struct front *f, struct gzip_point *p)
{
    struct gzip_image *const gz = f->gz;

    pthread_mutex_lock(&gz->lock);
    const bool is_added = gzip_points_add(gz, p);
    if (is_added)
        gz->members_at = gz->members;
    pthread_mutex_unlock(&gz->lock);
    if (!is_added) {
        free(p->window); /* no room: the span before just grows */
        return;
    }
    write_runs(f, p->out / GZIP_BLOCK * GZIP_BLOCK);
    write_sums(f, (size_t)(p->out / GZIP_BLOCK));
    if (gz->is_kept)
        gz->is_kept = gzip_file_point(gz->state_fd, p);
}

/* Decode what follows the candidate from it, with one dictionary. */
static bool try_restart(struct finish *n, const struct trial *t, unsigned which)
{
    struct inflate_state *const s = &n->state;
    const unsigned skip = (unsigned)(t->point.in_bits % 8);

    for (unsigned i = 0; i < GZIP_WINDOW; i++)
        n->dict[i] = which == 0   ? (uint8_t)(i & 255)
                     : which == 1 ? (uint8_t)(i >> 8)
                                  : (uint8_t) ~(i & 255);
    isal_inflate_init(s);
    if (isal_inflate_set_dict(s, n->dict, GZIP_WINDOW) != ISAL_DECOMP_OK ||
        !t->in_len)
        return false;
    union {
        const uint8_t *in;
        uint8_t *isal; /* its pointer is not const; it does not write */
    } u = {.in = t->in};
    s->read_in = (uint64_t)t->in[0] >> skip;
    s->read_in_length = (int32_t)(8 - skip);
    s->next_in = u.isal + 1;
    s->avail_in = (uint32_t)t->in_len - 1;
    s->next_out = n->trial_out[which];
    s->avail_out = (uint32_t)t->out_len;
    return isal_inflate(s) >= ISAL_DECOMP_OK && s->avail_out == 0;
}

bool gzip_finish_settle(struct front *f, struct trial *t)
{
    struct finish *const n = &f->finish;
    uint8_t used[GZIP_WINDOW] = {0};
    bool is_any = false;

    if (!t->out_len || !try_restart(n, t, 0) || !try_restart(n, t, 1) ||
        !try_restart(n, t, 2))
        return false;
    for (size_t i = 0; i < t->out_len; i++) {
        const uint8_t low = n->trial_out[0][i];
        if (low == n->trial_out[2][i]) {
            if (low != t->out[i])
                return false;
            continue;
        }
        const size_t at = (size_t)low | (size_t)n->trial_out[1][i] << 8;
        if (at >= GZIP_WINDOW || t->window[at] != t->out[i])
            return false;
        used[at] = 1;
        is_any = true;
    }
    if (is_any) {
        for (size_t i = 0; i < GZIP_WINDOW; i++) {
            if (!used[i])
                t->window[i] = 0;
        }
        t->point.window = gzip_window_pack(t->window, &t->point.window_len);
        if (!t->point.window)
            return false;
    }
    gzip_finish_keep(f, &t->point);
    return true;
}

/* ---- Marks ---- */

static void begin_member(struct front *f, const struct mark *m, uint64_t out)
{
    struct gzip_image *const gz = f->gz;
    struct finish *const n = &f->finish;

    n->member_crc = n->member_len = 0;
    pthread_mutex_lock(&gz->lock);
    const bool is_new = !gz->n_points || gz->points[gz->n_points - 1].out < out;
    pthread_mutex_unlock(&gz->lock);
    if (m->is_point && is_new) {
        struct gzip_point p = {.out = out,
                               .in_bits = m->src * 8,
                               .flags = GZIP_AT_MEMBER,
                               .block_crc = n->block_crc};
        gzip_finish_keep(f, &p);
    }
    pthread_mutex_lock(&gz->lock);
    gz->members++;
    pthread_mutex_unlock(&gz->lock);
}

static bool end_member(struct front *f, const struct mark *m)
{
    struct finish *const n = &f->finish;

    if (m->crc != n->member_crc || m->len != n->member_len)
        return plt_fail_at(&f->finish_err, PLT_CORRUPT, m->src,
                           "a member's %s is wrong",
                           m->crc != n->member_crc ? "CRC-32" : "length") ==
               PLT_OK;
    n->member_crc = n->member_len = 0;
    return true;
}

static bool take_mark(struct front *f, const struct mark *m, uint64_t out)
{
    struct finish *const n = &f->finish;
    struct trial *const t = m->trial;

    switch (m->kind) {
    case MARK_MEMBER:
        begin_member(f, m, out);
        return true;
    case MARK_TRAILER:
        return end_member(f, m);
    case MARK_POINT:
        t->point.member_crc = n->member_crc;
        t->point.member_len = n->member_len;
        t->point.block_crc = n->block_crc;
        return true;
    case MARK_TRIAL:
    default:
        (void)gzip_finish_settle(f, t); /* or it is forgotten */
        pthread_mutex_lock(&f->lock);
        t->is_taken = false;
        pthread_mutex_unlock(&f->lock);
        return true;
    }
}

/* ---- Blocks ---- */

static bool all_zero(const uint8_t *p, size_t n)
{
    return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

static void cache_block(struct front *f, struct plt_io *io, uint64_t off,
                        const uint8_t *data, size_t len)
{
    struct plt_host *const host = f->gz->host;
    struct plt_block *block;
    struct plt_error ignored;
    const enum plt_claim claim =
        host->block_claim(host, off / GZIP_BLOCK, len, false, &block);

    if (claim == PLT_CLAIM_FILL) {
        memcpy(block->data, data, len);
        host->block_commit(host, block);
    }
    if (claim == PLT_CLAIM_FILL || claim == PLT_CLAIM_HIT ||
        (claim == PLT_CLAIM_PENDING &&
         host->block_wait(host, block, io, &ignored) == PLT_OK))
        host->block_release(host, block);
}

/* In one step with the length, so that nobody sees a last block of unknown
 * size. */
static void end_locked(struct gzip_image *gz, const struct part *p)
{
    gz->has_garbage = gz->has_garbage || p->has_garbage;
    gz->state = FRONT_DONE;
}

/* Its block is whole, or the stream has ended: give it to the readers. */
static bool publish(struct front *f, const struct part *p, size_t at,
                    size_t len, bool is_last, struct plt_io *io)
{
    struct gzip_image *const gz = f->gz;
    const uint8_t *const data = f->slots[p->slot] + at;
    const uint64_t off = p->slot_off + at;
    const bool is_headless = at < p->head;
    const bool is_zero =
        !is_headless && len == GZIP_BLOCK && all_zero(data, len);
    bool is_good = true;

    pthread_mutex_lock(&gz->lock);
    const bool is_wanted = off < gz->want + LEAD;
    const bool is_new = off + len > gz->out;
    pthread_mutex_unlock(&gz->lock);
    if (!is_zero && !is_headless && is_wanted && is_new)
        cache_block(f, io, off, data, len);
    pthread_mutex_lock(&gz->lock);
    if (is_new && is_zero) /* a run that finds no room is just data */
        (void)gzip_runs_add(gz, off, len);
    if (is_new && gz->n_crcs == off / GZIP_BLOCK)
        is_good = gzip_crcs_add(gz, f->finish.block_crc);
    if (is_new && is_good)
        gz->out = off + len;
    f->finish.block_crc = 0;
    if (is_last && is_good)
        end_locked(gz, p);
    pthread_cond_broadcast(&gz->moved);
    pthread_mutex_unlock(&gz->lock);
    return is_good ||
           plt_fail(&f->finish_err, PLT_NOMEM, "checksums") == PLT_OK;
}

/* [at, to) of the slot.  The bytes are read once: two sums are made of one. */
static bool account(struct front *f, const struct part *p, size_t at, size_t to,
                    struct plt_io *io)
{
    struct finish *const n = &f->finish;
    bool is_good = true;

    while (at < to && is_good) {
        const size_t block = at - at % GZIP_BLOCK;
        const size_t end = block + GZIP_BLOCK < to ? block + GZIP_BLOCK : to;
        const size_t len = end - at;
        const uint32_t crc = libdeflate_crc32(0, f->slots[p->slot] + at, len);
        n->member_crc =
            (uint32_t)crc32_combine(n->member_crc, crc, (z_off_t)len);
        n->block_crc = at == block ? crc
                                   : (uint32_t)crc32_combine(n->block_crc, crc,
                                                             (z_off_t)len);
        n->member_len += (uint32_t)len;
        at = end;
        if (end == block + GZIP_BLOCK)
            is_good = publish(f, p, block, GZIP_BLOCK, false, io);
    }
    return is_good;
}

/* Behind everything. */
static bool finish_stream(struct front *f, const struct part *p,
                          struct plt_io *io)
{
    struct gzip_image *const gz = f->gz;
    const size_t rest = p->to % GZIP_BLOCK;

    if (rest && !publish(f, p, p->to - rest, rest, true, io))
        return false;
    pthread_mutex_lock(&gz->lock);
    end_locked(gz, p); /* it may have ended with a whole block, or none */
    pthread_cond_broadcast(&gz->moved);
    pthread_mutex_unlock(&gz->lock);
    if (gz->is_kept) {
        write_runs(f, gz->out);
        write_sums(f, gz->n_crcs);
        gz->is_kept =
            gz->is_kept && gzip_file_end(gz->state_fd, gz->out, gz->members,
                                         gz->has_garbage, false);
    }
    return true;
}

/* False: finish_err says what is wrong with the stream. */
static bool finish_part(struct front *f, const struct part *p,
                        struct plt_io *io)
{
    size_t at = p->from;

    for (size_t i = 0; i < p->n_marks; i++) {
        const struct mark *const m = &p->marks[i];
        if (!account(f, p, at, m->at, io))
            return false;
        at = m->at;
        if (!take_mark(f, m, p->slot_off + at))
            return false;
    }
    return account(f, p, at, p->to, io) &&
           (!p->is_end || finish_stream(f, p, io));
}

void gzip_finish_run(void *cookie, struct plt_io *io)
{
    struct front *const f = (struct front *)cookie;

    pthread_mutex_lock(&f->lock);
    while (!f->is_over) {
        if (f->n_done == f->n_put) {
            (void)pthread_cond_wait(&f->moved, &f->lock);
            continue;
        }
        const struct part *const p = &f->parts[f->n_done % FRONT_PARTS];
        const bool has_failed = f->has_failed;
        pthread_mutex_unlock(&f->lock);
        const bool is_good = has_failed || finish_part(f, p, io);
        pthread_mutex_lock(&f->lock);
        f->has_failed = f->has_failed || !is_good;
        if (p->is_full)
            f->is_slot_taken[p->slot] = false;
        f->n_done++;
        pthread_cond_broadcast(&f->moved);
    }
    pthread_mutex_unlock(&f->lock);
}
