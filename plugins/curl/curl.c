/* SPDX-License-Identifier: Apache-2.0 */
/* The curl driver: a file on an HTTP server as a source.
 *
 * Opening is one request, for the file's head (curl_first.c), which says the
 * size, what pins the version, and whether ranges are honoured; what it brings
 * is what probing asks for next.  From then on every request carries the
 * validator and every answer is checked against it: this image is one version
 * of the file for ever. An origin without ranges is read forward, from the
 * start again when a reader goes back further than the cache. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "curl_image.h"

void curl_site(const char *url, char *out, size_t cap)
{
    const size_t scheme = strcspn(url, "/") + 2;

    (void)snprintf(out, cap, "%.*s", (int)(scheme + strcspn(url + scheme, "/")),
                   url);
}

static void curl_close(void *image)
{
    struct curl_image *const ci = (struct curl_image *)image;

    if (ci->forward)
        ci->forward->close(ci->forward);
    curl_run_release(ci);
    (void)pthread_mutex_destroy(&ci->lock);
    (void)pthread_mutex_destroy(&ci->forward_lock);
    free(ci->asked_url);
    free(ci->url);
    free(ci->head);
    if (ci->tail)
        ci->host->mem_give(ci->host, CURL_TAIL);
    free(ci->tail);
    free(ci);
}

static enum plt_status curl_open(const struct plt_open_args *args, void **image,
                                 struct plt_opened *out, struct plt_error *err)
{
    struct curl_image *const ci = calloc(1, sizeof(*ci));

    if (!ci)
        return plt_fail(err, PLT_NOMEM, "an image");
    if (!args->url || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(ci);
        return plt_fail(err, PLT_BUG, "no URL, or no libcurl");
    }
    (void)pthread_mutex_init(&ci->lock, NULL);
    (void)pthread_mutex_init(&ci->forward_lock, NULL);
    curl_run_init(ci);
    ci->host = args->host;
    ci->asked_url = strdup(args->url);
    ci->url = strdup(args->url);
    curl_site(args->url, ci->site, sizeof(ci->site));
    ci->pool = (struct curl_pool *)ci->host->shared(ci->host, curl_pool_make,
                                                    curl_pool_destroy);
    enum plt_status st = PLT_OK;
    if (!ci->asked_url || !ci->url || !ci->pool)
        st = plt_fail(err, PLT_NOMEM, "an image");
    if (st == PLT_OK)
        st = curl_first(ci, args->io, (args->flags & PLT_OPEN_EXACT) != 0, err);
    if (st != PLT_OK) {
        curl_close(ci);
        return st;
    }
    out->size = ci->size;
    out->flags = PLT_OPENED_REMOTE | (ci->has_ranges ? 0 : PLT_OPENED_FORWARD);
    *image = ci;
    return PLT_OK;
}

/* ---- Reading ---- */

const uint8_t *curl_known(const struct curl_image *ci, const struct plt_seg *s)
{
    const uint64_t tail_off = ci->size - ci->tail_len;

    if (s->off <= ci->head_len && s->len <= ci->head_len - s->off)
        return ci->head + s->off;
    return ci->tail && s->off >= tail_off ? ci->tail + (s->off - tail_off)
                                          : NULL;
}

/* ---- Origins without ranges ---- */

/* Bring the forward reader to the block and read it; every block that is passed
 * goes into the cache.  buf takes the block.  *len is less at the end. */
static enum plt_status forward_block(struct curl_image *ci, struct plt_io *io,
                                     uint64_t number, uint8_t *buf, size_t *len,
                                     struct plt_error *err)
{
    const uint64_t off = number * CURL_BLOCK;
    enum plt_status st = PLT_OK;

    if (ci->forward && ci->forward_pos > off) {
        ci->forward->close(ci->forward);
        ci->forward = NULL;
    }
    if (!ci->forward) {
        st = curl_stream_open(ci, io, 0, &ci->forward, err);
        ci->forward_pos = 0;
    }
    while (st == PLT_OK && ci->forward_pos <= off) {
        size_t n = 0, got = 1;
        while (st == PLT_OK && n < CURL_BLOCK && got) {
            st = ci->forward->read(ci->forward, io, buf + n, CURL_BLOCK - n,
                                   &got, err);
            n += st == PLT_OK ? got : 0;
        }
        if (st != PLT_OK)
            break;
        struct plt_block *block = NULL;
        const uint64_t k = ci->forward_pos / CURL_BLOCK;
        if (n && ci->host->block_claim(ci->host, k, CURL_BLOCK, false,
                                       &block) == PLT_CLAIM_FILL) {
            memset(block->data, 0, CURL_BLOCK);
            memcpy(block->data, buf, n);
            ci->host->block_commit(ci->host, block);
            ci->host->block_release(ci->host, block);
        } else if (block) { /* HIT: nobody else fills, the lock is held */
            ci->host->block_release(ci->host, block);
        }
        ci->forward_pos += n;
        *len = n;
        if (n < CURL_BLOCK) {
            if (ci->size == PLT_SIZE_UNKNOWN)
                ci->size = ci->forward_pos;
            break;
        }
    }
    if (st != PLT_OK && ci->forward) {
        ci->forward->close(ci->forward);
        ci->forward = NULL;
    }
    return st;
}

static enum plt_status forward_seg(struct curl_image *ci, struct plt_io *io,
                                   struct plt_seg seg, uint8_t *scratch,
                                   struct plt_error *err)
{
    uint8_t *buf = (uint8_t *)seg.buf;

    while (seg.len) {
        const uint64_t k = seg.off / CURL_BLOCK;
        const size_t in = (size_t)(seg.off % CURL_BLOCK);
        const size_t now =
            seg.len < CURL_BLOCK - in ? seg.len : CURL_BLOCK - in;
        struct plt_block *block;
        if (ci->host->block_claim(ci->host, k, CURL_BLOCK, true, &block) ==
            PLT_CLAIM_HIT) {
            /* The last block is filled up with zeros that are nobody's. */
            const bool is_past =
                ci->size != PLT_SIZE_UNKNOWN && seg.off + now > ci->size;
            if (!is_past)
                memcpy(buf, block->data + in, now);
            ci->host->block_release(ci->host, block);
            if (is_past)
                return plt_fail_at(err, PLT_CORRUPT, seg.off,
                                   "the file ends before what is asked");
        } else if (io->flags & PLT_IO_NOWAIT) {
            return PLT_AGAIN;
        } else {
            size_t len = 0;
            const enum plt_status st =
                forward_block(ci, io, k, scratch, &len, err);
            if (st != PLT_OK)
                return st;
            if (ci->forward_pos < seg.off + now || len < in + now)
                return plt_fail_at(err, PLT_CORRUPT, seg.off,
                                   "the file ends before what is asked");
            memcpy(buf, scratch + in, now);
        }
        buf += now;
        seg.off += now;
        seg.len -= now;
    }
    return PLT_OK;
}

static enum plt_status read_forward(struct curl_image *ci, struct plt_io *io,
                                    const struct plt_seg *segs, size_t n,
                                    struct plt_error *err)
{
    enum plt_status st = PLT_OK;
    uint8_t *const scratch = malloc(CURL_BLOCK);

    if (!scratch)
        return plt_fail(err, PLT_NOMEM, "a block");
    if (io->flags & PLT_IO_NOWAIT) {
        if (pthread_mutex_trylock(&ci->forward_lock) != 0) {
            free(scratch);
            return PLT_AGAIN;
        }
    } else {
        (void)pthread_mutex_lock(&ci->forward_lock);
    }
    for (size_t i = 0; i < n && st == PLT_OK; i++) {
        if (curl_known(ci, &segs[i]))
            continue;
        st = forward_seg(ci, io, segs[i], scratch, err);
    }
    (void)pthread_mutex_unlock(&ci->forward_lock);
    free(scratch);
    return st;
}

static enum plt_status curl_read(void *image, struct plt_io *io,
                                 const struct plt_seg *segs, size_t n,
                                 struct plt_error *err)
{
    struct curl_image *const ci = (struct curl_image *)image;
    size_t left = 0;

    for (size_t i = 0; i < n; i++) {
        const uint8_t *const known = curl_known(ci, &segs[i]);
        if (known)
            memcpy(segs[i].buf, known, segs[i].len);
        else
            left++;
    }
    if (!left)
        return PLT_OK;
    if (ci->has_ranges && (io->flags & PLT_IO_EXACT) &&
        !(io->flags & PLT_IO_NOWAIT))
        return curl_read_exact(ci, io, segs, n, err);
    return ci->has_ranges ? curl_read_ranges(ci, io, segs, n, err)
                          : read_forward(ci, io, segs, n, err);
}

static enum plt_status curl_resolve_size(void *image, struct plt_io *io,
                                         uint64_t *size, struct plt_error *err)
{
    struct curl_image *const ci = (struct curl_image *)image;
    uint8_t *const scratch = malloc(CURL_BLOCK);
    enum plt_status st = PLT_OK;

    if (!scratch)
        return plt_fail(err, PLT_NOMEM, "a block");
    (void)pthread_mutex_lock(&ci->forward_lock);
    while (ci->size == PLT_SIZE_UNKNOWN && st == PLT_OK) {
        size_t len;
        st = forward_block(ci, io,
                           ci->forward ? ci->forward_pos / CURL_BLOCK : 0,
                           scratch, &len, err);
    }
    *size = ci->size;
    (void)pthread_mutex_unlock(&ci->forward_lock);
    free(scratch);
    return st;
}

static void curl_identity(void *image, struct plt_identity *out)
{
    const struct curl_image *const ci = (const struct curl_image *)image;
    const bool is_strong = ci->etag[0] && strncmp(ci->etag, "W/", 2) != 0;
    char size[24] = "?";

    out->pin = is_strong                        ? PLT_PIN_STRONG
               : ci->etag[0] || ci->modified[0] ? PLT_PIN_WEAK
                                                : PLT_PIN_NONE;
    out->mtime = ci->mtime;
    if (ci->size != PLT_SIZE_UNKNOWN)
        (void)snprintf(size, sizeof(size), "%llu",
                       (unsigned long long)ci->size);
    (void)snprintf(out->validator, sizeof(out->validator), "%s|%.62s|%.160s",
                   size, is_strong ? "" : ci->modified,
                   is_strong ? "" : ci->etag);
    if (is_strong) {
        const size_t n = strlen(out->validator);
        (void)snprintf(out->validator + n, sizeof(out->validator) - n, "%s",
                       ci->etag);
    }
}

static enum plt_status curl_revalidate(void *image, struct plt_io *io,
                                       struct plt_error *err)
{
    struct curl_image *const ci = (struct curl_image *)image;
    uint8_t byte;
    const struct curl_want one = {0, 1, &byte};

    /* Asking for one byte under the validator says it all; an origin without
     * ranges says it when it is read again, and an empty file by its length. */
    if (!ci->has_ranges || ci->size == 0)
        return PLT_OK;
    return curl_fetch(ci, io, &one, 1, err);
}

static void curl_info(void *image, struct plt_info *info)
{
    struct curl_image *const ci = (struct curl_image *)image;
    char clean[1024] = "";
    const char *const scheme = strstr(ci->asked_url, "://");

    /* No query in what is shown: that is where signatures stand. */
    if (scheme)
        (void)snprintf(clean, sizeof(clean), "%.*s",
                       (int)strcspn(ci->asked_url, "?#"), ci->asked_url);
    info->text(info, "url", clean);
    if (ci->etag[0])
        info->text(info, "origin-etag", ci->etag);
    if (ci->modified[0])
        info->text(info, "origin-last-modified", ci->modified);
    info->boolean(info, "ranges", ci->has_ranges);
}

PLT_DRIVER(.name = "curl", .aliases = "http,https",
           .summary = "a file on an HTTP server, by ranges",
           .kind = PLT_KIND_SOURCE, .threads = PLT_CONCURRENT_READS,
           .caps = PLT_CAP_NOWAIT, .open = curl_open, .close = curl_close,
           .read = curl_read, .resolve_size = curl_resolve_size,
           .info = curl_info, .stream_open = curl_stream_open,
           .identity = curl_identity, .revalidate = curl_revalidate,
           .lend = curl_lend, .fetch = curl_document)
