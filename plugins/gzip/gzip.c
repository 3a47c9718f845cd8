/* SPDX-License-Identifier: Apache-2.0 */
/* The gzip driver: RFC 1952 streams, any range of what they decode to.
 *
 * Random access after zran (Mark Adler): see gzip_image.h for the picture.  A
 * plain stream's length is known at its end; until then the size is unknown,
 * and what the front has passed can be read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "gzip_bgzf.h"
#include "gzip_crowd.h"
#include "gzip_header.h"
#include "gzip_image.h"
#include "gzip_prove.h"
#include "gzip_sidecar.h"
#include "gzip_units.h"

enum {
    RETRY_MS = 1000,
    AHEAD = 2 << 20 /* windows of one sequential reader come out of order */
};

uint64_t gzip_now_ns(void)
{
    struct timespec ts = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

void gzip_wait_locked(struct gzip_image *gz, uint64_t until_ns)
{
    const struct timespec ts = {
        .tv_sec = (time_t)(until_ns / UINT64_C(1000000000)),
        .tv_nsec = (long)(until_ns % UINT64_C(1000000000))};
    (void)pthread_cond_timedwait(&gz->moved, &gz->lock, &ts);
}

static int gzip_probe(const struct plt_probe *probe)
{
    struct gzip_header h;

    if (probe->head_len < 10)
        return 0;
    switch (gzip_header_parse(probe->head, probe->head_len, &h)) {
    case GZIP_PARSED:
        return 90;
    case GZIP_MORE: /* a header longer than the head */
        return 60;
    case GZIP_BAD:
    default:
        return 0;
    }
}

static void gzip_close(void *image)
{
    struct gzip_image *const gz = (struct gzip_image *)image;

    pthread_mutex_lock(&gz->lock);
    gz->is_stopping = true;
    pthread_cond_broadcast(&gz->moved);
    pthread_mutex_unlock(&gz->lock);
    gz->host->task_stop(gz->host, gz->front);
    gzip_points_release(gz);
    gzip_claims_free(gz, gz->claims);
    gzip_sidecar_release(gz);
    if (gz->state_fd >= 0)
        (void)close(gz->state_fd);
    free(gz->chunk_off);
    (void)pthread_mutex_destroy(&gz->lock);
    (void)pthread_cond_destroy(&gz->moved);
    free(gz);
}

/* The child's first *len bytes, or all of it where it is shorter: *len.  Its
 * length may be unknown. */
static enum plt_status read_front(struct gzip_image *gz, struct plt_io *io,
                                  uint8_t *buf, size_t *len, bool *is_all,
                                  struct plt_error *err)
{
    struct plt_seg seg = {0, *len, buf};
    uint64_t size = gz->child->size;

    if (size == PLT_SIZE_UNKNOWN) {
        enum plt_status st = gz->child->read(gz->child, io, &seg, 1, err);
        if (st != PLT_CORRUPT)
            return st;
        /* Shorter than that, or broken: the end tells. */
        st = gz->child->resolve_size(gz->child, io, &size, err);
        if (st != PLT_OK)
            return st;
    }
    *is_all = *len >= size;
    if (*is_all)
        *len = seg.len = (size_t)size;
    return *len ? gz->child->read(gz->child, io, &seg, 1, err) : PLT_OK;
}

/* Read the first member's header, as much as it takes. */
static enum plt_status read_header(struct gzip_image *gz, struct plt_io *io,
                                   uint8_t **buf, struct gzip_header *h,
                                   struct plt_error *err)
{
    size_t len = 4096;

    for (;; len = len < 32768 ? 65536 * 2 : GZIP_MAX_HEADER) {
        bool is_all = false;
        uint8_t *const grown = realloc(*buf, len + 1);
        if (!grown)
            return plt_fail(err, PLT_NOMEM, "a header");
        *buf = grown;
        const enum plt_status st = read_front(gz, io, *buf, &len, &is_all, err);
        if (st != PLT_OK)
            return st;
        const enum gzip_parse r = gzip_header_parse(*buf, len, h);
        if (r == GZIP_PARSED)
            return PLT_OK;
        if (r == GZIP_BAD)
            return plt_fail(err, PLT_CORRUPT, "%s", h->why);
        if (is_all || len >= GZIP_MAX_HEADER)
            return plt_fail(err, PLT_CORRUPT, "the header is cut off");
    }
}

static enum plt_status start_plain(struct gzip_image *gz, struct plt_error *err)
{
    bool is_whole = false;

    gz->state_fd = gz->host->state_open(gz->host, "points", PLT_STATE_WRITE);
    if (gz->state_fd >= 0) {
        pthread_mutex_lock(&gz->lock);
        gz->is_kept =
            gzip_file_load(gz, gz->state_fd, gz->child->size, &is_whole);
        if (!gz->is_kept && !is_whole)
            gzip_points_release(gz);
        if (is_whole && gz->child->size == PLT_SIZE_UNKNOWN) {
            /* Where the last span ends in the source is not known: the front
             * goes over it once more. */
            is_whole = false;
            if (!gz->is_bgzf)
                gzip_points_trim(gz);
        }
        if (is_whole)
            gz->in = gz->child->size;
        else if (gz->is_bgzf)
            gz->in = gzip_bgzf_in(gz);
        else if (gz->n_points)
            gz->in = gz->points[gz->n_points - 1].in_bits / 8;
        if (is_whole)
            gz->state = FRONT_DONE;
        pthread_mutex_unlock(&gz->lock);
    }
    if (is_whole)
        return PLT_OK;
    return gz->host->task_start(gz->host, gzip_front_run, gz, &gz->front, err);
}

static enum plt_status gzip_open(const struct plt_open_args *args, void **image,
                                 struct plt_opened *out, struct plt_error *err)
{
    struct gzip_image *const gz = calloc(1, sizeof(*gz));
    pthread_condattr_t attr;
    struct gzip_header h;
    uint8_t *buf = NULL;
    size_t len;

    if (!gz)
        return plt_fail(err, PLT_NOMEM, "an image");
    gz->host = args->host;
    gz->child = args->child;
    gz->state_fd = -1;
    gz->crowd = (struct gzip_crowd *)gz->host->shared(gz->host, gzip_crowd_make,
                                                      gzip_crowd_destroy);
    memcpy(gz->child_id, args->child_id, sizeof(gz->child_id));
    (void)pthread_mutex_init(&gz->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&gz->moved, &attr);
    (void)pthread_condattr_destroy(&attr);
    enum plt_status st = read_header(gz, args->io, &buf, &h, err);
    if (st == PLT_OK && h.name)
        (void)snprintf(gz->name, sizeof(gz->name), "%s", h.name);
    if (st == PLT_OK)
        st = gzip_dict_open(gz, args->io, &h, err);
    gz->is_bgzf = st == PLT_OK && !gz->dict_version && gzip_bgzf_is(&h, &len);
    free(buf);
    if (st == PLT_OK && !gz->dict_version)
        st = start_plain(gz, err);
    if (st != PLT_OK) {
        gzip_close(gz);
        return st;
    }
    if (gz->dict_version) {
        out->size = gz->dict_size;
    } else {
        pthread_mutex_lock(&gz->lock);
        out->size = gz->state == FRONT_DONE ? gz->out : PLT_SIZE_UNKNOWN;
        pthread_mutex_unlock(&gz->lock);
        out->flags |= PLT_OPENED_FORWARD;
    }
    *image = gz;
    return PLT_OK;
}

/* ---- Reading ---- */

/* Wait until the front has passed `end`, or to its end where `end` is
 * PLT_SIZE_UNKNOWN.  Called and returns with the lock held. */
static enum plt_status await_front_locked(struct gzip_image *gz,
                                          struct plt_io *io, uint64_t end,
                                          struct plt_error *err)
{
    enum plt_status st = PLT_OK;
    const uint64_t in = gz->in, requests = gz->requests;

    if (end <= gz->out || gz->state == FRONT_DONE)
        return PLT_OK;
    gzip_sidecar_want(gz, end);
    if (gz->state == FRONT_FAILED) {
        const enum plt_status why = gz->err.status;
        /* Memory may be there again at once, and asks nothing of anybody. */
        const bool is_old =
            why == PLT_NOMEM ||
            gzip_now_ns() - gz->failed_ns > RETRY_MS * UINT64_C(1000000);
        if (!is_old || why == PLT_CORRUPT || why == PLT_CHANGED ||
            why == PLT_UNSUPPORTED || why == PLT_BUG || why == PLT_CANCELLED) {
            *err = gz->err;
            return why;
        }
        gz->state = FRONT_RUNNING; /* it waits for this, and goes on */
        pthread_cond_broadcast(&gz->moved);
    }
    gz->n_waiting++;
    pthread_cond_broadcast(&gz->moved);
    while (end > gz->out && gz->state == FRONT_RUNNING && st == PLT_OK) {
        const uint64_t now = gzip_now_ns();
        const uint64_t slice = now + 100 * UINT64_C(1000000);
        if (io->cancelled(io))
            st = plt_fail(err, PLT_CANCELLED, "request withdrawn");
        else if (now >= io->deadline_ns)
            st = plt_fail(err, PLT_TIMEOUT,
                          "decoded up to %llu, not yet to the range",
                          (unsigned long long)gz->out);
        else
            gzip_wait_locked(gz,
                             slice < io->deadline_ns ? slice : io->deadline_ns);
    }
    gz->n_waiting--;
    if (st == PLT_OK && end > gz->out && gz->state == FRONT_FAILED) {
        *err = gz->err;
        st = err->status;
    }
    const uint64_t d_in = gz->in >= in ? gz->in - in : 0;
    const uint64_t d_req = gz->requests - requests;
    pthread_mutex_unlock(&gz->lock);
    io->charge(io, d_in, (uint32_t)d_req);
    pthread_mutex_lock(&gz->lock);
    return st;
}

/* One piece: a block's, or what one decoding brings.  *did is how much. */
static enum plt_status read_piece(struct gzip_image *gz, struct plt_io *io,
                                  uint8_t *buf, uint64_t off, size_t len,
                                  bool is_forward, size_t *did,
                                  struct plt_error *err)
{
    const bool is_nowait = (io->flags & PLT_IO_NOWAIT) != 0;
    const uint64_t a = off / GZIP_BLOCK * GZIP_BLOCK;
    uint64_t next, b = a + GZIP_BLOCK;
    struct plt_block *block;

    pthread_mutex_lock(&gz->lock);
    const uint64_t zeros = gzip_runs_at(gz, off, &next);
    const uint64_t known = gz->out;
    const bool is_done = gz->state == FRONT_DONE;
    pthread_mutex_unlock(&gz->lock);
    if (zeros) {
        *did = zeros < len ? (size_t)zeros : len;
        memset(buf, 0, *did);
        return PLT_OK;
    }
    const bool is_whole = b <= known || is_done;
    if (b > known)
        b = known;
    *did = len < b - off ? len : (size_t)(b - off);
    if (is_whole &&
        gz->host->block_claim(gz->host, a / GZIP_BLOCK, (size_t)(b - a), true,
                              &block) == PLT_CLAIM_HIT) {
        memcpy(buf, block->data + (off - a), *did);
        gz->host->block_release(gz->host, block);
        return PLT_OK;
    }
    if (is_nowait)
        return PLT_AGAIN;
    return gzip_span_read(gz, io, buf, off, len, is_forward, did, err);
}

void gzip_was_asked_locked(struct gzip_image *gz, uint64_t from, uint64_t end)
{
    if (end > gz->want)
        gz->want = end;
    gz->want_from = from;
    gz->want_ns = gzip_now_ns();
}

static enum plt_status gzip_read(void *image, struct plt_io *io,
                                 const struct plt_seg *segs, size_t n,
                                 struct plt_error *err)
{
    struct gzip_image *const gz = (struct gzip_image *)image;
    uint64_t end = 0, from = UINT64_MAX;
    enum plt_status st = PLT_OK;

    if (gz->dict_version)
        return gzip_units_read(gz, io, segs, n, err);
    for (size_t i = 0; i < n; i++) {
        if (segs[i].off + segs[i].len > end)
            end = segs[i].off + segs[i].len;
        if (segs[i].off < from)
            from = segs[i].off;
    }
    pthread_mutex_lock(&gz->lock);
    gzip_was_asked_locked(gz, from, end);
    /* Several readers may mix: what a wrong guess costs is decoding. */
    const bool is_forward = n && segs[0].off <= gz->next_off + AHEAD &&
                            segs[0].off + AHEAD >= gz->next_off;
    gz->next_off = end;
    if (end > gz->out) {
        if (gz->state == FRONT_RUNNING && (io->flags & PLT_IO_NOWAIT))
            st = PLT_AGAIN;
        else
            st = await_front_locked(gz, io, end, err);
        if (st == PLT_OK && end > gz->out)
            st = plt_fail_at(err, PLT_CORRUPT, gz->out,
                             "the stream ends here, before what is asked");
    }
    const bool is_bgzf = gz->is_bgzf;
    pthread_mutex_unlock(&gz->lock);
    if (st == PLT_OK && is_bgzf)
        return gzip_units_read(gz, io, segs, n, err);
    for (size_t i = 0; st == PLT_OK && i < n; i++) {
        size_t at = 0, did = 0;
        while (at < segs[i].len && st == PLT_OK) {
            st = read_piece(gz, io, (uint8_t *)segs[i].buf + at,
                            segs[i].off + at, segs[i].len - at, is_forward,
                            &did, err);
            at += did;
        }
    }
    return st;
}

enum plt_status gzip_await_end(struct gzip_image *gz, struct plt_io *io,
                               struct plt_error *err)
{
    pthread_mutex_lock(&gz->lock);
    const enum plt_status st =
        await_front_locked(gz, io, PLT_SIZE_UNKNOWN, err);
    pthread_mutex_unlock(&gz->lock);
    return st;
}

static enum plt_status gzip_resolve_size(void *image, struct plt_io *io,
                                         uint64_t *size, struct plt_error *err)
{
    struct gzip_image *const gz = (struct gzip_image *)image;

    pthread_mutex_lock(&gz->lock);
    const enum plt_status st =
        await_front_locked(gz, io, PLT_SIZE_UNKNOWN, err);
    *size = gz->out;
    pthread_mutex_unlock(&gz->lock);
    return st;
}

static enum plt_status gzip_extents(void *image, struct plt_io *io,
                                    uint64_t off, uint64_t len,
                                    plt_extent_fn *emit, void *cookie,
                                    struct plt_error *err)
{
    struct gzip_image *const gz = (struct gzip_image *)image;
    const uint64_t end = off + len;
    bool is_more = true;

    (void)io;
    (void)err;
    while (off < end && is_more) {
        struct plt_extent e = {
            .off = off, .len = end - off, .flags = PLT_EXTENT_COMPRESSED};
        uint64_t next = UINT64_MAX;
        pthread_mutex_lock(&gz->lock);
        const uint64_t zeros = gzip_runs_at(gz, off, &next);
        pthread_mutex_unlock(&gz->lock);
        if (zeros) {
            e.flags |= PLT_EXTENT_ZERO;
            e.len = zeros;
        } else if (next < end) {
            e.len = next - off;
        }
        is_more = emit(cookie, &e);
        off += e.len;
    }
    return PLT_OK;
}

static void gzip_info(void *image, struct plt_info *info)
{
    struct gzip_image *const gz = (struct gzip_image *)image;
    static const char *const states[] = {"decoding", "complete", "failed"};

    pthread_mutex_lock(&gz->lock);
    const bool is_bgzf = gz->is_bgzf, has_eof = gz->has_eof_block;
    const size_t n_blocks = gz->n_lens;
    pthread_mutex_unlock(&gz->lock);
    info->text(info, "access",
               gz->dict_version ? "dictzip"
               : is_bgzf        ? "bgzf"
                                : "points");
    if (gz->name[0])
        info->text(info, "name", gz->name);
    if (gz->dict_version) {
        info->number(info, "dictzip-version", gz->dict_version);
        info->number(info, "chunk-size", gz->chunk_len);
        info->number(info, "chunks", gz->n_chunks);
        return;
    }
    pthread_mutex_lock(&gz->lock);
    const uint64_t mem = gz->mem, out = gz->out, members = gz->members;
    const uint64_t in = gz->in;
    const size_t n_points = gz->n_points, n_runs = gz->n_runs;
    const enum gzip_front_state state = gz->state;
    const bool garbage = gz->has_garbage, kept = gz->is_kept;
    const uint64_t proven = gz->spans_proven;
    const bool is_refuted = gz->is_refuted;
    const char *const sidecar = gz->sidecar;
    pthread_mutex_unlock(&gz->lock);
    info->text(info, "state", states[(unsigned)state % 3]);
    info->number(info, "decoded", out);
    if (gz->child->size != PLT_SIZE_UNKNOWN)
        info->number(
            info, "source-done",
            state == FRONT_DONE || in > gz->child->size ? gz->child->size : in);
    info->number(info, "members", members);
    if (is_bgzf)
        info->number(info, "blocks", n_blocks);
    else
        info->number(info, "points", n_points);
    if (is_bgzf && state == FRONT_DONE)
        info->boolean(info, "eof-marker", has_eof);
    info->number(info, "zero-runs", n_runs);
    info->number(info, "index-memory", mem);
    info->boolean(info, "index-kept", kept);
    if (sidecar)
        info->text(info, "sidecar", sidecar);
    if (proven || is_refuted) {
        info->number(info, "foreign-spans", proven);
        info->boolean(info, "foreign-refuted", is_refuted);
    }
    if (garbage)
        info->boolean(info, "trailing-garbage", true);
}

PLT_DRIVER(.name = "gzip", .aliases = "dzip,dictzip,bgzf",
           .summary = "gzip streams at random: dictzip, members, points",
           .kind = PLT_KIND_WRAPPER, .threads = PLT_CONCURRENT_READS,
           .caps = PLT_CAP_NOWAIT, .probe = gzip_probe, .open = gzip_open,
           .close = gzip_close, .read = gzip_read, .extents = gzip_extents,
           .resolve_size = gzip_resolve_size, .info = gzip_info,
           .index_get = gzip_index_get, .index_put = gzip_index_put,
           .index_get_as = gzip_index_get_as, .lend = gzip_lend)
