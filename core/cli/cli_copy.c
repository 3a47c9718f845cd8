/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of a disk: to standard output, into a file, against another disk. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "util/auto.h"
#include "util/clock.h"

/* ---- read ---- */

struct out {
    struct progress progress;
    const uint8_t *zeros; /* CLI_PIECE of them */
    uint64_t done, all;
};

static bool write_all(int fd, const uint8_t *p, size_t n)
{
    while (n) {
        const ssize_t did = write(fd, p, n);
        if (did < 0 && errno == EINTR && !cli_is_stopped())
            continue;
        if (did <= 0)
            return false;
        p += did;
        n -= (size_t)did;
    }
    return true;
}

static enum plt_status put_out(void *cookie, const struct image_piece *p,
                               struct plt_error *err)
{
    struct out *const out = (struct out *)cookie;

    if (!write_all(1, p->data ? p->data : out->zeros, p->len))
        return plt_fail_sys(err, cli_is_stopped() ? PLT_CANCELLED : PLT_IO,
                            errno, "standard output");
    out->done += p->len;
    progress_show(&out->progress, out->done, out->all);
    return PLT_OK;
}

/* A short read of a disk whose size nobody knows does not ask for it. */
static int read_known(const struct command_run *run)
{
    const struct options *const o = run->o;
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = cli_io();
    struct image *image = NULL;
    AUTO_FREE uint8_t *buf = malloc(CLI_PIECE);
    uint64_t off = o->offset, left = o->length;
    int code = cli_open(run->images, run->args[0], o,
                        o->is_vm_state ? IMAGE_VM_STATE : 0, &image);

    if (code)
        return code;
    if (!buf)
        code = cli_complain("out of memory");
    const uint64_t size = image_size(image);
    if (!code && size != PLT_SIZE_UNKNOWN && (off > size || left > size - off))
        code = cli_complain("%s: the range ends past the disk of %" PRIu64
                            " bytes",
                            run->args[0], size);
    while (left && !code) {
        const struct plt_seg seg = {
            off, left < CLI_PIECE ? (size_t)left : CLI_PIECE, buf};
        if (image_read(image, &io, &seg, 1, &err) != PLT_OK)
            code = cli_failed(run->args[0], &err);
        else if (!write_all(1, buf, seg.len))
            code = errno == EPIPE
                       ? EXIT_FAILED
                       : cli_complain("standard output: %s", strerror(errno));
        off += seg.len;
        left -= seg.len;
    }
    image_unref(image);
    return code;
}

int cmd_read(const struct command_run *run)
{
    const struct options *const o = run->o;
    struct plt_error err = {.at = PLT_AT_NONE};
    struct target t;
    AUTO_FREE uint8_t *zeros = calloc(1, CLI_PIECE);
    struct out out = {.zeros = zeros};
    struct image_pump pump = {.piece = CLI_PIECE,
                              .threads = o->threads,
                              .take = put_out,
                              .cookie = &out};

    if (isatty(1) && !o->is_forced) {
        (void)cli_complain("a disk does not belong on a terminal (--force)");
        return EXIT_USAGE;
    }
    if (o->has_length && o->length <= 8 * CLI_PIECE && !o->gateway)
        return read_known(run);
    int code = target_open(&t, run->images, run->args[0], o);
    if (code)
        return code;
    code = target_span(&t, &pump.off, &pump.len);
    out.all = pump.len;
    progress_begin(&out.progress, "read", 0, o->is_quiet);
    if (!code && !zeros)
        code = cli_complain("out of memory");
    if (!code && target_pump(&t, &pump, &err) != PLT_OK)
        code = errno == EPIPE && err.status == PLT_IO
                   ? EXIT_FAILED
                   : cli_failed(run->args[0], &err);
    progress_end(&out.progress);
    target_close(&t);
    return code;
}

/* ---- compare ---- */

struct pair {
    struct target *other;
    struct progress progress;
    uint64_t common; /* bytes that both disks have */
    uint64_t all;
    _Atomic uint64_t differs_at; /* UINT64_MAX: nowhere so far */
    struct plt_error err;        /* of the other one */
    atomic_bool has_failed;
};

static size_t first_difference(const uint8_t *a, const uint8_t *b, size_t n)
{
    size_t i = 0;
    while (i < n && a[i] == b[i])
        i++;
    return i;
}

static void note(struct pair *pair, uint64_t at)
{
    uint64_t known = atomic_load(&pair->differs_at);
    while (at < known &&
           !atomic_compare_exchange_weak(&pair->differs_at, &known, at))
        ;
}

/* On a reading thread: the same stretch of the other disk, behind whose end is
 * nothing but zeros. */
static void compare_piece(void *cookie, struct image_piece *p)
{
    struct pair *const pair = (struct pair *)cookie;
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = cli_io();
    const uint64_t left = p->off < pair->common ? pair->common - p->off : 0;
    const size_t len = left < p->len ? (size_t)left : p->len;
    uint8_t *const theirs = calloc(1, p->len);
    uint8_t *const ours = p->data ? NULL : calloc(1, p->len);
    const struct plt_seg seg = {p->off, len, theirs};

    if (!theirs || (!p->data && !ours) ||
        (len && image_read(pair->other->image, &io, &seg, 1, &err) != PLT_OK)) {
        if (!atomic_exchange(&pair->has_failed, true))
            pair->err = err;
    } else {
        const size_t at =
            first_difference(p->data ? p->data : ours, theirs, p->len);
        if (at < p->len)
            note(pair, p->off + at);
    }
    free(theirs);
    free(ours);
}

static enum plt_status after_piece(void *cookie, const struct image_piece *p,
                                   struct plt_error *err)
{
    struct pair *const pair = (struct pair *)cookie;

    if (atomic_load(&pair->has_failed)) {
        *err = pair->err;
        return err->status != PLT_OK ? err->status
                                     : plt_fail(err, PLT_NOMEM, "a piece");
    }
    /* The first difference is known once all before it has been seen. */
    if (p->off + p->len > atomic_load(&pair->differs_at))
        return plt_fail(err, PLT_CANCELLED, "they differ");
    progress_show(&pair->progress, p->off + p->len, pair->all);
    return PLT_OK;
}

/* a is the longer one. */
static int compare(struct target *a, struct target *b,
                   const struct command_run *run)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct pair pair = {.other = b,
                        .common = target_size(b),
                        .all = target_size(a),
                        .differs_at = UINT64_MAX};
    const struct image_pump pump = {.len = pair.all,
                                    .piece = CLI_PIECE,
                                    .threads = run->o->threads,
                                    .prepare = compare_piece,
                                    .take = after_piece,
                                    .cookie = &pair};
    progress_begin(&pair.progress, "compare", 0, run->o->is_quiet);
    const enum plt_status st = target_pump(a, &pump, &err);
    const uint64_t at = atomic_load(&pair.differs_at);
    progress_end(&pair.progress);
    if (st != PLT_OK && at == UINT64_MAX) {
        const int code = cli_failed(run->args[0], &err);
        return code == EXIT_FAILED ? EXIT_NOT_COMPARED : code;
    }
    if (run->o->is_json)
        return cli_print_json(at == UINT64_MAX
                                  ? json_pack("{s:b}", "identical", 1)
                                  : json_pack("{s:b, s:I}", "identical", 0,
                                              "offset", (json_int_t)at))
                   ? EXIT_NOT_COMPARED
                   : at != UINT64_MAX;
    if (at != UINT64_MAX)
        (void)printf("Content mismatch at offset %" PRIu64 "!\n", at);
    else
        (void)puts("Images are identical.");
    return cli_flush() ? EXIT_NOT_COMPARED : at != UINT64_MAX;
}

/* Words and exit codes of qemu-img compare. */
int cmd_compare(const struct command_run *run)
{
    struct target a, b;

    if (target_open(&a, run->images, run->args[0], run->o))
        return EXIT_NOT_COMPARED;
    if (target_open(&b, run->images, run->args[1], run->o)) {
        target_close(&a);
        return EXIT_NOT_COMPARED;
    }
    const bool is_longer = target_size(&a) >= target_size(&b);
    int code;
    if (run->o->is_strict && target_size(&a) != target_size(&b)) {
        code = EXIT_DIFFERENT;
        if (!run->o->is_json)
            (void)puts("Strict mode: Image size mismatch!");
        else if (cli_print_json(json_pack("{s:b}", "identical", 0)))
            code = EXIT_NOT_COMPARED;
    } else {
        if (target_size(&a) != target_size(&b) && !run->o->is_json)
            (void)fprintf(stderr, "platter: Warning: Image size mismatch!\n");
        code = is_longer ? compare(&a, &b, run) : compare(&b, &a, run);
    }
    target_close(&a);
    target_close(&b);
    return code;
}
