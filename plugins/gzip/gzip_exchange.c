/* SPDX-License-Identifier: Apache-2.0 */
/* The index as others may have it: the records of the stored form
 * (gzip_points_file.c) behind a header that names the stream by its length and
 * its ends instead of by the place where this process found it. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libdeflate.h>

#include <platter/bytes.h>

#include "gzip_bgzf.h"
#include "gzip_header.h"
#include "gzip_image.h"
#include "gzip_prove.h"

enum { END = 64 * 1024, STEP = 64 * 1024 };

/* Of the compressed stream: checksums of its first and last 64 KiB, the last of
 * which hold gzip's own CRC and length. */
static enum plt_status name_stream(struct gzip_image *gz, struct plt_io *io,
                                   uint8_t id[32], struct plt_error *err)
{
    const uint64_t size = gz->child->size;
    const size_t n = size < END ? (size_t)size : END;
    uint8_t *const ends = malloc(2 * END);
    const struct plt_seg segs[] = {{0, n, ends}, {size - n, n, ends + END}};

    if (size == PLT_SIZE_UNKNOWN || !size) {
        free(ends);
        return plt_fail(err, PLT_UNSUPPORTED,
                        "the length of the source is not known");
    }
    if (!ends)
        return plt_fail(err, PLT_NOMEM, "the ends of a stream");
    const enum plt_status st = gz->child->read(gz->child, io, segs, 2, err);
    memset(id, 0, 32);
    if (st == PLT_OK) {
        memcpy(id, "ends", 4);
        plt_put_le32(id + 4, libdeflate_crc32(0, ends, n));
        plt_put_le32(id + 8, libdeflate_crc32(0, ends + END, n));
        plt_put_le32(id + 12, libdeflate_adler32(1, ends, n));
        plt_put_le32(id + 16, libdeflate_adler32(1, ends + END, n));
    }
    free(ends);
    return st;
}

/* All records into fd.  Called with the lock held. */
static bool write_index(const struct gzip_image *gz, int fd, const uint8_t *id)
{
    size_t run = 0, sum = 0;
    bool is_good = gzip_file_start(fd, id, gz->child->size);

    if (gz->is_bgzf) {
        /* The last row may still grow. */
        const size_t n = gz->state == FRONT_DONE || !gz->n_rows
                             ? gz->n_rows
                             : gz->n_rows - 1;
        for (size_t i = 0; i < n && is_good; i++)
            is_good = gzip_bgzf_write(gz, fd, i);
        return is_good && (gz->state != FRONT_DONE ||
                           gzip_file_end(fd, gz->out, gz->members,
                                         gz->has_garbage, gz->has_eof_block));
    }

    for (size_t i = 0; i < gz->n_points && is_good; i++) {
        const struct gzip_point *const p = &gz->points[i];
        while (run < gz->n_runs && is_good &&
               gz->runs[run].off + gz->runs[run].len <= p->out) {
            is_good = gzip_file_run(fd, gz->runs[run].off, gz->runs[run].len);
            run++;
        }
        const size_t sums = (size_t)(p->out / GZIP_BLOCK);
        if (sums > gz->n_crcs)
            return is_good; /* its sums are not there yet */
        is_good = is_good && gzip_file_crcs(fd, gz->crcs + sum, sums - sum) &&
                  gzip_file_point(fd, p);
        sum = sums;
    }
    if (gz->state != FRONT_DONE || !gz->n_points)
        return is_good;
    for (; run < gz->n_runs && is_good; run++)
        is_good = gzip_file_run(fd, gz->runs[run].off, gz->runs[run].len);
    return is_good && gzip_file_crcs(fd, gz->crcs + sum, gz->n_crcs - sum) &&
           gzip_file_end(fd, gz->out, gz->members, gz->has_garbage, false);
}

enum plt_status gzip_index_get(void *image, struct plt_io *io, plt_put_fn *put,
                               void *cookie, struct plt_error *err)
{
    struct gzip_image *const gz = (struct gzip_image *)image;
    uint8_t id[32], buf[4096];
    ssize_t n;

    if (gz->dict_version)
        return plt_fail(err, PLT_NOT_FOUND,
                        "a dictzip has its index in its own header");
    const enum plt_status st = name_stream(gz, io, id, err);
    if (st != PLT_OK)
        return st;
    const int fd = memfd_create("platter-index", MFD_CLOEXEC);
    if (fd < 0)
        return plt_fail(err, PLT_NOMEM, "an index");
    pthread_mutex_lock(&gz->lock);
    bool is_good = write_index(gz, fd, id);
    pthread_mutex_unlock(&gz->lock);
    for (off_t at = 0; is_good && (n = pread(fd, buf, sizeof(buf), at)) > 0;
         at += n)
        is_good = put(cookie, buf, (size_t)n);
    (void)close(fd);
    return is_good ? PLT_OK : plt_fail(err, PLT_NOMEM, "an index");
}

/* ---- In the form of other tools ---- */

struct foreign_put {
    struct gzip_image *gz;
    struct plt_io *io;
    enum gzip_foreign kind;
    plt_put_fn *put;
    void *cookie;
    uint8_t window[GZIP_WINDOW];
    uint8_t room[GZIP_FOREIGN_POINT];
    uint8_t head[4096];
};

/* They want the first deflate block of a member, not its header. */
static enum plt_status behind_header(struct foreign_put *f, uint64_t *in_bits,
                                     struct plt_error *err)
{
    const struct gzip_image *const gz = f->gz;
    const uint64_t left = gz->child->size - *in_bits / 8;
    const size_t n = left < sizeof(f->head) ? (size_t)left : sizeof(f->head);
    const struct plt_seg seg = {*in_bits / 8, n, f->head};
    struct gzip_header h;
    const enum plt_status st = gz->child->read(gz->child, f->io, &seg, 1, err);

    if (st == PLT_OK && gzip_header_parse(f->head, n, &h) != GZIP_PARSED)
        return plt_fail_at(err, PLT_UNSUPPORTED, *in_bits / 8,
                           "a member's header of more than 4 KiB");
    if (st == PLT_OK)
        *in_bits += (uint64_t)h.len * 8;
    return st;
}

static enum plt_status put_foreign_point(struct foreign_put *f,
                                         const struct gzip_point *p,
                                         struct plt_error *err)
{
    struct gzip_foreign_point point = {p->out, p->in_bits, NULL};
    enum plt_status st = PLT_OK;

    if (p->flags & GZIP_AT_MEMBER)
        st = behind_header(f, &point.in_bits, err);
    if (st == PLT_OK && p->window_len) {
        point.window = f->window;
        if (f->kind == GZIP_FOREIGN_GZTOOL && !gzip_window_unpack(p, f->window))
            return plt_fail(err, PLT_NOMEM, "a window");
    }
    const size_t n =
        st == PLT_OK ? gzip_foreign_put_point(f->kind, f->room, &point) : 0;
    if (st == PLT_OK && (!n || !f->put(f->cookie, f->room, n)))
        st = plt_fail(err, PLT_NOMEM, "an index");
    return st;
}

static enum plt_status put_foreign(struct foreign_put *f,
                                   const struct gzip_point *points, size_t n,
                                   uint64_t size, struct plt_error *err)
{
    size_t len =
        gzip_foreign_put_head(f->kind, f->room, n, f->gz->child->size, size);
    enum plt_status st = PLT_OK;
    bool is_good = f->put(f->cookie, f->room, len);

    for (size_t i = 0; st == PLT_OK && is_good && i < n; i++)
        st = put_foreign_point(f, &points[i], err);
    for (size_t i = 0; st == PLT_OK && is_good && i < n; i++) {
        if (f->kind == GZIP_FOREIGN_INDEXED && points[i].window_len)
            is_good = gzip_window_unpack(&points[i], f->window) &&
                      f->put(f->cookie, f->window, GZIP_WINDOW);
    }
    len = gzip_foreign_put_tail(f->kind, f->room, size);
    if (st == PLT_OK && is_good && len)
        is_good = f->put(f->cookie, f->room, len);
    return st == PLT_OK && !is_good ? plt_fail(err, PLT_NOMEM, "an index") : st;
}

/* Points at the blocks that rows begin with: new.  Lock held. */
static struct gzip_point *points_of_rows(const struct gzip_image *gz)
{
    struct gzip_point *const points = calloc(gz->n_rows + 1, sizeof(*points));

    for (size_t i = 0; points && i < gz->n_rows; i++)
        points[i] = (struct gzip_point){.out = gz->rows[i].out,
                                        .in_bits = gz->rows[i].in * 8,
                                        .flags = GZIP_AT_MEMBER};
    return points;
}

enum plt_status gzip_index_get_as(void *image, struct plt_io *io,
                                  const char *form, plt_put_fn *put,
                                  void *cookie, struct plt_error *err)
{
    struct gzip_image *const gz = (struct gzip_image *)image;
    const enum gzip_foreign kind =
        strcmp(form, "gztool") == 0         ? GZIP_FOREIGN_GZTOOL
        : strcmp(form, "indexed_gzip") == 0 ? GZIP_FOREIGN_INDEXED
                                            : GZIP_FOREIGN_NONE;

    if (gz->dict_version)
        return plt_fail(err, PLT_NOT_FOUND,
                        "a dictzip has its index in its own header");
    if (kind == GZIP_FOREIGN_NONE)
        return plt_fail(err, PLT_UNSUPPORTED, "an index in the form %.32s",
                        form);
    /* Neither form can say how far it reaches so that all readers heed it. */
    enum plt_status st = gzip_await_end(gz, io, err);
    if (st == PLT_TIMEOUT)
        return plt_fail(err, PLT_BUSY, "the index is not whole yet");
    if (st == PLT_OK && gz->child->size == PLT_SIZE_UNKNOWN)
        st = plt_fail(err, PLT_UNSUPPORTED,
                      "the length of the source is not known");
    if (st != PLT_OK)
        return st;
    pthread_mutex_lock(&gz->lock);
    /* They stay as they are until the image is closed. */
    struct gzip_point *const rows = gz->is_bgzf ? points_of_rows(gz) : NULL;
    const bool is_bgzf = gz->is_bgzf;
    const struct gzip_point *const points = is_bgzf ? rows : gz->points;
    const size_t n = is_bgzf ? gz->n_rows : gz->n_points;
    const uint64_t size = gz->out;
    pthread_mutex_unlock(&gz->lock);
    struct foreign_put *const f = malloc(sizeof(*f));
    if (!f || (is_bgzf && !rows)) {
        free(f);
        free(rows);
        return plt_fail(err, PLT_NOMEM, "an index");
    }
    f->gz = gz;
    f->io = io;
    f->kind = kind;
    f->put = put;
    f->cookie = cookie;
    st = put_foreign(f, points, n, size, err);
    free(f);
    free(rows);
    return st;
}

void gzip_exchange_keep(struct gzip_image *gz)
{
    gz->is_kept = gz->state_fd >= 0 && ftruncate(gz->state_fd, 0) == 0 &&
                  lseek(gz->state_fd, 0, SEEK_SET) == 0 &&
                  write_index(gz, gz->state_fd, gz->child_id);
}

/* Its tables in place of ours.  Called with the lock held. */
static void adopt(struct gzip_image *gz, const struct gzip_image *theirs,
                  bool is_whole)
{
    gzip_points_release(gz);
    gz->points = theirs->points;
    gz->n_points = theirs->n_points;
    gz->cap_points = theirs->cap_points;
    gz->runs = theirs->runs;
    gz->n_runs = theirs->n_runs;
    gz->cap_runs = theirs->cap_runs;
    gz->crcs = theirs->crcs;
    gz->n_crcs = theirs->n_crcs;
    gz->cap_crcs = theirs->cap_crcs;
    gz->rows = theirs->rows;
    gz->n_rows = theirs->n_rows;
    gz->cap_rows = theirs->cap_rows;
    gz->lens = theirs->lens;
    gz->n_lens = theirs->n_lens;
    gz->cap_lens = theirs->cap_lens;
    gz->is_bgzf = theirs->is_bgzf;
    gz->has_eof_block = theirs->has_eof_block;
    gz->mem = theirs->mem;
    gz->out = theirs->out;
    gz->members = theirs->members;
    gz->has_garbage = theirs->has_garbage;
    gz->state = is_whole ? FRONT_DONE : FRONT_RUNNING;
    gz->in = is_whole      ? gz->child->size
             : gz->is_bgzf ? gzip_bgzf_in(gz)
                           : gz->points[gz->n_points - 1].in_bits / 8;
    gzip_exchange_keep(gz);
}

static void stop_front(struct gzip_image *gz)
{
    pthread_mutex_lock(&gz->lock);
    gz->is_stopping = true;
    pthread_cond_broadcast(&gz->moved);
    pthread_mutex_unlock(&gz->lock);
    gz->host->task_stop(gz->host, gz->front);
    gz->front = NULL;
    pthread_mutex_lock(&gz->lock);
    gz->is_stopping = false;
    if (gz->state != FRONT_DONE)
        gz->state = FRONT_RUNNING;
    pthread_mutex_unlock(&gz->lock);
}

/* Stop the front, take theirs when it reaches further, and go on. */
static enum plt_status take(struct gzip_image *gz, struct gzip_image *theirs,
                            bool is_whole, struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    stop_front(gz);
    pthread_mutex_lock(&gz->lock);
    const bool is_better =
        gz->state != FRONT_DONE && (is_whole || theirs->out > gz->out);
    if (is_better)
        adopt(gz, theirs, is_whole);
    const bool is_over = gz->state == FRONT_DONE;
    pthread_mutex_unlock(&gz->lock);
    if (!is_better)
        gzip_points_release(theirs);
    if (!is_over)
        st =
            gz->host->task_start(gz->host, gzip_front_run, gz, &gz->front, err);
    return st;
}

/* Another tool's index: the front goes on with what it claims. */
static enum plt_status take_foreign(struct gzip_image *gz, const void *data,
                                    size_t len, struct plt_error *err)
{
    struct gzip_claims *claims = NULL;
    enum plt_status st = gzip_claims_new(gz, data, len, &claims, err);

    if (st != PLT_OK)
        return st;
    stop_front(gz);
    pthread_mutex_lock(&gz->lock);
    const bool is_over = gz->state == FRONT_DONE;
    struct gzip_claims *const old = gz->claims;
    gz->claims = is_over ? NULL : claims;
    pthread_mutex_unlock(&gz->lock);
    gzip_claims_free(gz, is_over ? claims : old);
    if (!is_over)
        st =
            gz->host->task_start(gz->host, gzip_front_run, gz, &gz->front, err);
    return st;
}

enum plt_status gzip_exchange_load(struct gzip_image *gz, struct plt_io *io,
                                   const void *data, size_t len,
                                   struct gzip_image **out, bool *is_whole,
                                   struct plt_error *err)
{
    struct gzip_image *const theirs = calloc(1, sizeof(*theirs));

    if (!theirs)
        return plt_fail(err, PLT_NOMEM, "an index");
    theirs->host = gz->host;
    theirs->child = gz->child;
    theirs->state_fd = -1;
    theirs->is_bgzf = gz->is_bgzf;
    enum plt_status st = name_stream(gz, io, theirs->child_id, err);
    const int fd =
        st == PLT_OK ? memfd_create("platter-index", MFD_CLOEXEC) : -1;
    if (st == PLT_OK && (fd < 0 || !gzip_write_all(fd, data, len) ||
                         lseek(fd, 0, SEEK_SET) != 0))
        st = plt_fail(err, PLT_NOMEM, "an index");
    const bool is_ours =
        st == PLT_OK && gzip_file_is_of(fd, theirs->child_id, gz->child->size);
    if (st == PLT_OK &&
        (!is_ours || !gzip_file_load(theirs, fd, gz->child->size, is_whole) ||
         (!theirs->n_points && !theirs->n_rows)))
        st = plt_fail(err, PLT_INVALID,
                      is_ours ? "the index is damaged"
                              : "the index is another stream's, or none");
    if (fd >= 0)
        (void)close(fd);
    if (st == PLT_OK) {
        *out = theirs;
        return PLT_OK;
    }
    gzip_points_release(theirs);
    free(theirs);
    return st;
}

enum plt_status gzip_index_put(void *image, struct plt_io *io, const void *data,
                               size_t len, struct plt_error *err)
{
    struct gzip_image *const gz = (struct gzip_image *)image;
    struct gzip_image *theirs = NULL;
    bool is_whole = false;

    if (gz->dict_version)
        return plt_fail(err, PLT_UNSUPPORTED,
                        "a dictzip has its index in its own header");
    if (gzip_foreign_is(data, len) != GZIP_FOREIGN_NONE)
        return gz->is_bgzf ? plt_fail(err, PLT_UNSUPPORTED,
                                      "BGZF says where its blocks are")
                           : take_foreign(gz, data, len, err);
    enum plt_status st =
        gzip_exchange_load(gz, io, data, len, &theirs, &is_whole, err);
    if (st == PLT_OK)
        st = take(gz, theirs, is_whole, err);
    free(theirs);
    return st;
}
