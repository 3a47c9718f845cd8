/* SPDX-License-Identifier: Apache-2.0 */
/* A disk in the form of another tool: a few bytes made here, then a file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "content.h"
#include "manifest/manifests_export.h"
#include "route.h"
#include "util/auto.h"
#include "util/clock.h"

struct export
{
    struct content content; /* first */
    char *head;             /* new */
    size_t head_len;
    int fd;
    uint64_t skip; /* bytes of the file that are not sent */
};

static enum plt_status read_export(struct content *content, struct plt_io *io,
                                   uint64_t off, size_t len, uint8_t *buf,
                                   struct plt_error *err)
{
    const struct export *const x = (struct export *)content;

    if (io->flags & PLT_IO_NOWAIT)
        return PLT_AGAIN;
    for (; len && off < x->head_len; len--)
        *buf++ = (uint8_t)x->head[off++];
    while (len) {
        const ssize_t n =
            pread(x->fd, buf, len, (off_t)(off - x->head_len + x->skip));
        if (n <= 0)
            return plt_fail(err, PLT_IO, "read an export");
        buf += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return PLT_OK;
}

static void release_export(struct content *content)
{
    struct export *const x = (struct export *)content;

    (void)close(x->fd);
    free(x->head);
    free(x);
}

/* Where the disk itself is, for who reads what this says: the same path and
 * selectors. */
static char *disk_url(const struct request *r)
{
    const size_t cap = strlen(r->path) + (r->query ? strlen(r->query) : 0) + 16;
    char *const url = malloc(cap);
    size_t n = url ? (size_t)snprintf(url, cap, "/disk/%s",
                                      r->path + strlen(r->route->path))
                   : 0;
    char mark = '?';

    for (const char *q = r->query; url && q && *q;) {
        const size_t len = strcspn(q, "&");
        if (len && strncmp(q, "format=", 7) != 0) {
            n +=
                (size_t)snprintf(url + n, cap - n, "%c%.*s", mark, (int)len, q);
            mark = '&';
        }
        q += len + (q[len] == '&');
    }
    return url;
}

/* zsync's control file up to its sums (zsyncmake of 0.6.2): blocks of 4096,
 * one in a row is a match, all 4 and 16 bytes of the sums are there. */
static enum plt_status zsync_head(struct request *r, struct export *x,
                                  struct manifest_file *file)
{
    const char *const slash = strrchr(r->reference.target, '/');
    const char *const name = slash ? slash + 1 : r->reference.target;
    char sha1[MANIFEST_ZSYNC_HEX + 1] = "", hex[MANIFEST_HEX];
    manifest_digest digest, root;
    AUTO_FREE char *url = disk_url(r);
    const size_t cap = url ? strlen(url) + strlen(name) + 256 : 0;

    x->skip = MANIFEST_ZSYNC_HEX;
    if (pread(x->fd, sha1, MANIFEST_ZSYNC_HEX, 0) != MANIFEST_ZSYNC_HEX)
        return plt_fail(&r->err, PLT_IO, "read an export");
    x->head = url ? malloc(cap) : NULL;
    if (!x->head)
        return plt_fail(&r->err, PLT_NOMEM, "an export");
    x->head_len = (size_t)snprintf(
        x->head, cap,
        "zsync: 0.6.2\nFilename: %s\nBlocksize: %d\nLength: %llu\n"
        "Hash-Lengths: 1,4,16\nURL: %s\nSHA-1: %s\n\n",
        name, MANIFEST_LEAF, (unsigned long long)manifest_file_size(file), url,
        sha1);
    /* It has the reference in it: the ETag as well. */
    if (x->head_len > MANIFEST_LEAF || !manifest_file_root(file, root))
        return plt_fail(&r->err, PLT_INVALID, "the reference is too long");
    manifest_leaf((const uint8_t *)x->head, x->head_len, digest);
    manifest_to_hex(root, hex);
    (void)snprintf(x->content.etag, CONTENT_ETAG,
                   "\"%s-zsync-%02x%02x%02x%02x\"", hex, digest[0], digest[1],
                   digest[2], digest[3]);
    return PLT_OK;
}

/* A chunk of the disk as casync's stores have it. */
static enum plt_status read_chunk(struct request *r, struct plt_io *io, int fd,
                                  struct content **out)
{
    uint64_t off;
    size_t len;
    enum plt_status st = manifest_chunk_find(fd, r->chunk, &off, &len, &r->err);
    AUTO_FREE uint8_t *data = malloc(MANIFEST_CHUNK);
    AUTO_FREE uint8_t *frame = malloc(MANIFEST_CHUNK_FRAME);

    if (st != PLT_OK)
        return st;
    if (!data || !frame)
        return plt_fail(&r->err, PLT_NOMEM, "a chunk");
    const struct plt_seg seg = {off, len, data};
    st = image_read(r->image, io, &seg, 1, &r->err);
    if (st != PLT_OK)
        return st;
    if (!manifest_chunk_is(data, len, r->chunk)) {
        manifests_drop(r->server->manifests, r->image);
        return plt_fail(&r->err, PLT_CHANGED,
                        "a chunk is not what its index says");
    }
    len = manifest_chunk_frame(data, len, frame);
    *out = content_of_bytes(STEAL(frame), len);
    if (*out) {
        char hex[MANIFEST_HEX];
        manifest_to_hex(r->chunk, hex);
        (void)snprintf((*out)->etag, CONTENT_ETAG, "\"%s-chunk\"", hex);
    }
    return PLT_OK;
}

enum plt_status content_of_export(struct request *r, struct plt_io *io,
                                  struct manifest_file *file,
                                  struct content **out)
{
    const enum manifest_export kind =
        r->part == PART_BMAP    ? MANIFEST_EXPORT_BMAP
        : r->part == PART_ZSYNC ? MANIFEST_EXPORT_ZSYNC
                                : MANIFEST_EXPORT_CAIBX;
    const uint64_t wait_ms = (uint64_t)r->server->config->deadline_s * 4000;
    const uint64_t deadline_ns = io->deadline_ns;
    uint64_t len;
    int fd;

    io->deadline_ns = CLOCK_NEVER; /* as long as the disk; each read has one */
    enum plt_status st =
        manifest_exports_get(manifests_exports(r->server->manifests), r->image,
                             file, kind, io, wait_ms, &fd, &len, &r->err);
    io->deadline_ns = deadline_ns;
    if (st == PLT_CHANGED)
        manifests_drop(r->server->manifests, r->image);
    if (st != PLT_OK)
        return st;
    if (r->part == PART_CHUNK) {
        st = read_chunk(r, io, fd, out);
        (void)close(fd);
        return st;
    }
    struct export *const x = calloc(1, sizeof(*x));
    if (!x) {
        (void)close(fd);
        return plt_fail(&r->err, PLT_NOMEM, "an export");
    }
    x->fd = fd;
    x->content.read = read_export;
    x->content.release = release_export;
    if (kind == MANIFEST_EXPORT_ZSYNC)
        st = zsync_head(r, x, file);
    if (st != PLT_OK) {
        release_export(&x->content);
        return st;
    }
    x->content.size = x->head_len + len - x->skip;
    *out = &x->content;
    return PLT_OK;
}
