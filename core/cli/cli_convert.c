/* SPDX-License-Identifier: Apache-2.0 */
/* A guest disk into a raw file or a block device.
 *
 *     OUT.part       the file while it grows: sparse, written only where the
 *                    disk has something else than zeros
 *     OUT.part.json  how far it is: {"etag","size","done"}, told to the disk
 *                    before it is written down
 *     OUT            the file, by renaming, when all of it is there
 *
 * So that OUT is never half a disk, and a run that was stopped or killed goes
 * on with --resume, if the source still is what it was.  A block device is
 * written in place, zeros included. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "util/auto.h"
#include "util/clock.h"

enum { GRAIN = 4096, KEEP_EVERY_S = 2 };

struct copy {
    const char *name; /* OUT */
    char *part, *journal;
    int fd;
    bool is_device;
    char etag[48];
    uint64_t size, done, first;
    uint64_t kept_ns;
    const uint8_t *zeros;
    struct progress progress;
};

static bool is_zero(const uint8_t *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static enum plt_status put(struct copy *c, const uint8_t *p, size_t n,
                           uint64_t off, struct plt_error *err)
{
    while (n) {
        const ssize_t did = pwrite(c->fd, p, n, (off_t)off);
        if (did < 0 && errno == EINTR)
            continue;
        if (did <= 0)
            return plt_fail_sys(err, PLT_IO, errno, "%.200s", c->name);
        p += did;
        n -= (size_t)did;
        off += (uint64_t)did;
    }
    return PLT_OK;
}

/* A file begins as a hole; a device may hold anything. */
static enum plt_status put_zeros(struct copy *c, uint64_t off, uint64_t len,
                                 struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    if (!c->is_device ||
        fallocate(c->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)off,
                  (off_t)len) == 0)
        return PLT_OK;
    while (len && st == PLT_OK) {
        const size_t n = len < CLI_PIECE ? (size_t)len : CLI_PIECE;
        st = put(c, c->zeros, n, off, err);
        off += n;
        len -= n;
    }
    return st;
}

/* Stretches of data, in grains: what is zeros within is left out. */
static enum plt_status put_piece(struct copy *c, const struct image_piece *p,
                                 struct plt_error *err)
{
    enum plt_status st = PLT_OK;
    size_t at = 0;

    if (!p->data)
        return put_zeros(c, p->off, p->len, err);
    while (at < p->len && st == PLT_OK) {
        const size_t start = at;
        const size_t left = p->len - at;
        const bool zero = is_zero(p->data + at, left < GRAIN ? left : GRAIN);
        while (at < p->len) {
            const size_t n = p->len - at < GRAIN ? p->len - at : GRAIN;
            if (is_zero(p->data + at, n) != zero)
                break;
            at += n;
        }
        st = zero ? put_zeros(c, p->off + start, at - start, err)
                  : put(c, p->data + start, at - start, p->off + start, err);
    }
    return st;
}

/* Data first, then the word that it is there. */
static enum plt_status keep(struct copy *c, struct plt_error *err)
{
    char next[4200];
    json_t *const doc =
        json_pack("{s:s, s:I, s:I}", "etag", c->etag, "size",
                  (json_int_t)c->size, "done", (json_int_t)c->done);
    bool is_good;

    (void)snprintf(next, sizeof(next), "%.4090s.new", c->journal);
    is_good = doc && fdatasync(c->fd) == 0 &&
              json_dump_file(doc, next, JSON_COMPACT) == 0 &&
              rename(next, c->journal) == 0;
    json_decref(doc);
    c->kept_ns = clock_now();
    return is_good ? PLT_OK
                   : plt_fail_sys(err, PLT_IO, errno, "%.200s", c->journal);
}

static enum plt_status take(void *cookie, const struct image_piece *p,
                            struct plt_error *err)
{
    struct copy *const c = (struct copy *)cookie;
    enum plt_status st = put_piece(c, p, err);

    if (st != PLT_OK)
        return st;
    c->done = p->off + p->len;
    if (clock_now() - c->kept_ns > KEEP_EVERY_S * NS_PER_S)
        st = keep(c, err);
    progress_show(&c->progress, c->done, c->size);
    return st;
}

/* ---- The files ---- */

static char *with(const char *name, const char *suffix)
{
    const size_t size = strlen(name) + strlen(suffix) + 1;
    char *const text = malloc(size);
    if (text)
        (void)snprintf(text, size, "%s%s", name, suffix);
    return text;
}

/* How far an earlier run came; 0: there was none.  An exit code: it was of
 * another disk. */
static int find_done(struct copy *c)
{
    json_t *const doc = json_load_file(c->journal, 0, NULL);
    const json_int_t done = cli_number(doc, "done");
    const bool is_same = strcmp(cli_text(doc, "etag"), c->etag) == 0 &&
                         (uint64_t)cli_number(doc, "size") == c->size &&
                         done >= 0 && (uint64_t)done <= c->size;

    if (doc && !is_same) {
        json_decref(doc);
        return cli_complain("%s: begun from another version of the disk; "
                            "without --resume it begins anew",
                            c->part);
    }
    /* Without the file the journal says nothing. */
    if (doc && (c->is_device || access(c->part, W_OK) == 0))
        c->done = (uint64_t)done;
    json_decref(doc);
    return 0;
}

/* A device's journal lies where the user's state does (XDG Base Directory);
 * NULL: there is no such folder, or no memory. */
static char *device_journal(const char *device)
{
    const char *const state = getenv("XDG_STATE_HOME");
    const char *const home = getenv("HOME");
    char path[4096];
    int n = 0;

    if (state && state[0] == '/')
        n = snprintf(path, sizeof(path), "%s/platter", state);
    else
        n = snprintf(path, sizeof(path), "%s/.local/state/platter",
                     home ? home : "/root");
    if (n < 0 || (size_t)n + strlen(device) + 32 > sizeof(path))
        return NULL;
    for (char *p = path + 1; *p; p++)
        if (*p == '/') {
            *p = '\0';
            (void)mkdir(path, 0755);
            *p = '/';
        }
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return NULL;
    char *const name = path + n;
    (void)snprintf(name, sizeof(path) - (size_t)n, "/convert-%s.part.json",
                   device[0] == '/' ? device + 1 : device);
    for (char *p = name + 1; *p; p++)
        if (*p == '/')
            *p = '-';
    return strdup(path);
}

static int open_out(struct copy *c, const struct options *o)
{
    struct stat sb;
    const bool is_there = stat(c->name, &sb) == 0;

    c->is_device = is_there && S_ISBLK(sb.st_mode);
    if (is_there && !S_ISBLK(sb.st_mode) && !S_ISREG(sb.st_mode))
        return cli_complain("%s: neither a file nor a block device", c->name);
    c->part = with(c->name, c->is_device ? "" : ".part");
    c->journal =
        c->is_device ? device_journal(c->name) : with(c->name, ".part.json");
    if (!c->part)
        return cli_complain("out of memory");
    if (!c->journal)
        return cli_complain("no folder for the state of this run: "
                            "set XDG_STATE_HOME");
    if (o->is_resumed) {
        const int code = find_done(c);
        if (code)
            return code;
    }
    const int flags = c->is_device ? 0 : O_CREAT | (c->done ? 0 : O_TRUNC);
    c->fd = open(c->part, O_WRONLY | O_CLOEXEC | flags, 0666);
    if (c->fd < 0 || (!c->is_device && ftruncate(c->fd, (off_t)c->size) != 0))
        return cli_complain("%s: %s", c->part, strerror(errno));
    uint64_t room = c->size;
    if (c->is_device &&
        (ioctl(c->fd, BLKGETSIZE64, &room) != 0 || room < c->size))
        return cli_complain("%s: smaller than the disk", c->name);
    return 0;
}

static int finish(struct copy *c)
{
    if (!c->is_device && rename(c->part, c->name) != 0)
        return cli_complain("%s: %s", c->name, strerror(errno));
    (void)unlink(c->journal);
    return 0;
}

static void release(struct copy *c)
{
    if (c->fd >= 0)
        (void)close(c->fd);
    free(c->part);
    free(c->journal);
}

/* ---- Verify ---- */

static void on_progress(void *cookie, uint64_t done, uint64_t all)
{
    progress_show((struct progress *)cookie, done, all);
}

/* What was written, as a disk as long as the source: a device may be longer. */
static char *raw_spec(const struct copy *c)
{
    const size_t size = strlen(c->part) + 64;
    char *const text = malloc(size);
    if (text)
        (void)snprintf(text, size, "raw{size=%" PRIu64 "}:%s", c->size,
                       c->part);
    return text;
}

/* The block hash of what was written, against that of the source. */
static int verify(const struct command_run *run, struct target *t,
                  const struct copy *c)
{
    enum { BLOCK = 4 << 20 };
    struct plt_error err = {.at = PLT_AT_NONE};
    struct plt_io io = cli_io();
    struct options plain = *run->o;
    struct image *written = NULL;
    struct progress p;
    char ours[IMAGE_CHECKSUM_TEXT] = "", theirs[IMAGE_CHECKSUM_TEXT] = "";
    json_t *sum = NULL;
    AUTO_FREE char *spec = raw_spec(c);
    int code = 0;

    plain.selectors = (struct reference){.target = NULL};
    plain.format = NULL;
    plain.gateway = NULL;
    if (run->o->gateway) {
        code = gateway_events(run->o, "checksum", run->args[0], "block_size=4M",
                              "checksum", &sum);
        (void)snprintf(theirs, sizeof(theirs), "%s", cli_text(sum, "checksum"));
        json_decref(sum);
    }
    progress_begin(&p, "verify", 0, run->o->is_quiet);
    if (!code && !run->o->gateway &&
        image_checksum(t->image, &io, "sha256", BLOCK, 0, on_progress, &p,
                       theirs, &err) != PLT_OK)
        code = cli_failed(run->args[0], &err);
    progress_end(&p);
    if (!code)
        code = cli_open(run->images, spec ? spec : "", &plain, 0, &written);
    if (code)
        return code;
    if (image_checksum(written, &io, "sha256", BLOCK, 0, on_progress, &p, ours,
                       &err) != PLT_OK)
        code = cli_failed(c->part, &err);
    image_unref(written);
    if (!code && strcmp(ours, theirs) != 0)
        code = cli_complain("%s: it is not what the source is", c->part);
    return code;
}

static int copy_all(const struct command_run *run, struct target *t,
                    struct copy *c)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    const struct image_pump pump = {.off = c->done,
                                    .len = c->size - c->done,
                                    .piece = CLI_PIECE,
                                    .threads = run->o->threads,
                                    .take = take,
                                    .cookie = c};
    c->kept_ns = clock_now();
    progress_begin(&c->progress, "convert", c->done, run->o->is_quiet);
    const enum plt_status st = target_pump(t, &pump, &err);
    progress_end(&c->progress);
    if (st == PLT_OK)
        return 0;
    const int code = cli_failed(run->args[0], &err);
    if (c->fd >= 0 && keep(c, &err) == PLT_OK)
        (void)fprintf(stderr, "platter: go on with --resume\n");
    return code;
}

int cmd_convert(const struct command_run *run)
{
    const struct options *const o = run->o;
    struct target t;
    AUTO_FREE uint8_t *zeros = calloc(1, CLI_PIECE);
    struct copy c = {.name = run->args[1], .fd = -1, .zeros = zeros};

    if (o->out_format && strcmp(o->out_format, "raw") != 0)
        return cli_complain("%s cannot be written yet: -O raw", o->out_format);
    if (o->is_compressed)
        return cli_complain("raw cannot be compressed");
    int code = target_open(&t, run->images, run->args[0], o);
    if (code)
        return code;
    c.size = target_size(&t);
    memcpy(c.etag, t.etag, sizeof(c.etag));
    code = zeros ? open_out(&c, o) : cli_complain("out of memory");
    if (!code)
        code = copy_all(run, &t, &c);
    if (!code && fsync(c.fd) != 0)
        code = cli_complain("%s: %s", c.part, strerror(errno));
    if (!code && o->is_verified)
        code = verify(run, &t, &c);
    if (!code)
        code = finish(&c);
    release(&c);
    target_close(&t);
    return code;
}
