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

#include "gzip_image.h"

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
           gzip_file_end(fd, gz->out, gz->members, gz->has_garbage);
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

static bool write_all(int fd, const uint8_t *p, size_t n)
{
    while (n) {
        const ssize_t did = write(fd, p, n);
        if (did <= 0)
            return false;
        p += did;
        n -= (size_t)did;
    }
    return true;
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
    gz->mem = theirs->mem;
    gz->out = theirs->out;
    gz->members = theirs->members;
    gz->has_garbage = theirs->has_garbage;
    gz->state = is_whole ? FRONT_DONE : FRONT_RUNNING;
    gz->is_kept = gz->state_fd >= 0 && ftruncate(gz->state_fd, 0) == 0 &&
                  lseek(gz->state_fd, 0, SEEK_SET) == 0 &&
                  write_index(gz, gz->state_fd, gz->child_id);
}

/* Stop the front, take theirs when it reaches further, and go on. */
static enum plt_status take(struct gzip_image *gz, struct gzip_image *theirs,
                            bool is_whole, struct plt_error *err)
{
    enum plt_status st = PLT_OK;

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

enum plt_status gzip_index_put(void *image, struct plt_io *io, const void *data,
                               size_t len, struct plt_error *err)
{
    struct gzip_image *const gz = (struct gzip_image *)image;
    struct gzip_image theirs = {
        .host = gz->host, .child = gz->child, .state_fd = -1};
    bool is_whole = false;

    if (gz->dict_version)
        return plt_fail(err, PLT_UNSUPPORTED,
                        "a dictzip has its index in its own header");
    enum plt_status st = name_stream(gz, io, theirs.child_id, err);
    if (st != PLT_OK)
        return st;
    const int fd = memfd_create("platter-index", MFD_CLOEXEC);
    if (fd < 0 || !write_all(fd, data, len) || lseek(fd, 0, SEEK_SET) != 0) {
        if (fd >= 0)
            (void)close(fd);
        return plt_fail(err, PLT_NOMEM, "an index");
    }
    const bool is_ours = gzip_file_is_of(fd, theirs.child_id, gz->child->size);
    const bool is_good =
        is_ours && gzip_file_load(&theirs, fd, gz->child->size, &is_whole) &&
        theirs.n_points > 0;
    (void)close(fd);
    if (!is_good) {
        gzip_points_release(&theirs);
        return plt_fail(err, PLT_INVALID,
                        is_ours ? "the index is damaged"
                                : "the index is another stream's, or none");
    }
    return take(gz, &theirs, is_whole, err);
}
