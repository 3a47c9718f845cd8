/* SPDX-License-Identifier: Apache-2.0 */
/* One pass for each kind: the pump's threads read and compare with the
 * manifest, the caller's thread sums up in order.
 *
 * MD4 and SHA-1 are what the zsync client checks; nothing of ours relies on
 * them.  OpenSSL's older calls have MD4 without its legacy provider, which
 * would have to be loaded from a file. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "manifest/manifest_export.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/md4.h>
#include <openssl/sha.h>

#include "manifest/manifest_export_out.h"
#include "util/auto.h"

enum { BLOCK = MANIFEST_LEAF, SHA1_BYTES = 20, MD4_BYTES = 16 };

struct pass {
    enum manifest_export kind;
    struct manifest_file *file;
    struct export_out out;
    const uint8_t *zeros; /* MANIFEST_GROUP of them */
    atomic_bool is_other; /* a piece was not what the manifest says */
    uint64_t done, size;
    image_progress_fn *progress;
    void *cookie;
    /* bmap */
    SHA256_CTX range;
    uint64_t first, end; /* blocks of the range that is open */
    uint64_t mapped;
    /* zsync */
    SHA_CTX sha1;
};

const char *manifest_export_name(enum manifest_export kind)
{
    static const char *const names[] = {"bmap", "zsync", "caibx"};
    return names[kind];
}

enum plt_status manifest_export_can(enum manifest_export kind, uint64_t size,
                                    struct plt_error *err)
{
    if (!size)
        return plt_fail(err, PLT_UNSUPPORTED, "an empty disk has no %s",
                        manifest_export_name(kind));
    /* The client counts blocks in an int. */
    if (kind == MANIFEST_EXPORT_ZSYNC && size / BLOCK >= INT32_MAX)
        return plt_fail(err, PLT_UNSUPPORTED,
                        "zsync takes files of less than 8 TiB");
    return PLT_OK;
}

/* ---- bmap ---- */

/* Where the two numbers that are known at the end stand. */
#define BMAP_HEAD                                                              \
    "<?xml version=\"1.0\" ?>\n"                                               \
    "<!-- Blocks that are not listed are zeros: they need not be written to "  \
    "a\n     target that reads as zeros. -->\n"                                \
    "<bmap version=\"2.0\">\n"                                                 \
    "    <ImageSize> %llu </ImageSize>\n"                                      \
    "    <BlockSize> 4096 </BlockSize>\n"                                      \
    "    <BlocksCount> %llu </BlocksCount>\n"                                  \
    "    <MappedBlocksCount> %-20llu </MappedBlocksCount>\n"                   \
    "    <ChecksumType> sha256 </ChecksumType>\n"                              \
    "    <BmapFileChecksum> %s </BmapFileChecksum>\n"                          \
    "    <BlockMap>\n"

static const char no_checksum[] =
    "0000000000000000000000000000000000000000000000000000000000000000";

static void bmap_head(struct pass *p, const char *hex)
{
    export_print(&p->out, BMAP_HEAD, (unsigned long long)p->size,
                 (unsigned long long)manifest_leaves(p->size),
                 (unsigned long long)p->mapped, hex);
}

static void bmap_close(struct pass *p)
{
    manifest_digest digest;
    char hex[MANIFEST_HEX];

    if (p->first == p->end)
        return;
    (void)SHA256_Final(digest, &p->range);
    manifest_to_hex(digest, hex);
    export_print(&p->out, "        <Range chksum=\"%s\"> %llu", hex,
                 (unsigned long long)p->first);
    if (p->end - p->first > 1)
        export_print(&p->out, "-%llu", (unsigned long long)p->end - 1);
    export_print(&p->out, " </Range>\n");
    p->first = p->end;
}

static void bmap_block(struct pass *p, uint64_t n, const uint8_t *data,
                       size_t len)
{
    if (memcmp(data, p->zeros, len) == 0) {
        bmap_close(p);
        return;
    }
    if (p->first == p->end) {
        p->first = p->end = n;
        (void)SHA256_Init(&p->range);
    }
    (void)SHA256_Update(&p->range, data, len);
    p->end++;
    p->mapped++;
}

/* The file's own checksum is made with zeros in its place. */
static void bmap_end(struct pass *p)
{
    char hex[MANIFEST_HEX];

    bmap_close(p);
    export_print(&p->out, "    </BlockMap>\n</bmap>\n");
    export_seek(&p->out, 0);
    bmap_head(p, no_checksum);
    export_sha256(&p->out, hex);
    export_seek(&p->out, 0);
    bmap_head(p, hex);
}

/* ---- zsync ---- */

static void zsync_block(struct pass *p, const uint8_t *data, size_t len)
{
    uint8_t row[4 + MD4_BYTES], padded[BLOCK];
    uint16_t a = 0, b = 0;

    (void)SHA1_Update(&p->sha1, data, len);
    if (len < BLOCK) {
        memcpy(padded, data, len);
        memset(padded + len, 0, BLOCK - len);
        data = padded;
    }
    for (unsigned i = 0; i < BLOCK; i++) {
        a = (uint16_t)(a + data[i]);
        b = (uint16_t)(b + (BLOCK - i) * data[i]);
    }
    row[0] = (uint8_t)(a >> 8);
    row[1] = (uint8_t)a;
    row[2] = (uint8_t)(b >> 8);
    row[3] = (uint8_t)b;
    (void)MD4(data, BLOCK, row + 4);
    export_bytes(&p->out, row, sizeof(row));
}

static void zsync_end(struct pass *p)
{
    uint8_t digest[SHA1_BYTES];

    (void)SHA1_Final(digest, &p->sha1);
    export_seek(&p->out, 0);
    for (size_t i = 0; i < SHA1_BYTES; i++)
        export_print(&p->out, "%02x", digest[i]);
}

/* ---- All of them ---- */

static void compare(void *cookie, struct image_piece *piece)
{
    struct pass *const p = (struct pass *)cookie;
    manifest_digest want[MANIFEST_LEAVES], got[MANIFEST_LEAVES];
    struct plt_error err = {.at = PLT_AT_NONE};
    size_t n;

    manifest_leaf_list(piece->data ? piece->data : p->zeros, piece->len, got);
    if (manifest_file_leaves(p->file, piece->off / MANIFEST_GROUP, want, &n,
                             &err) != PLT_OK ||
        memcmp(want, got, n * MANIFEST_DIGEST) != 0)
        atomic_store(&p->is_other, true);
}

static void take_block(struct pass *p, uint64_t off, const uint8_t *data,
                       size_t len)
{
    if (p->kind == MANIFEST_EXPORT_BMAP)
        bmap_block(p, off / BLOCK, data, len);
    else if (p->kind == MANIFEST_EXPORT_ZSYNC)
        zsync_block(p, data, len);
    else
        caibx_chunk(&p->out, off + len, data, len);
}

static enum plt_status take_piece(void *cookie, const struct image_piece *piece,
                                  struct plt_error *err)
{
    struct pass *const p = (struct pass *)cookie;
    const size_t step =
        p->kind == MANIFEST_EXPORT_CAIBX ? MANIFEST_CHUNK : BLOCK;
    const uint8_t *const data = piece->data ? piece->data : p->zeros;

    if (atomic_load(&p->is_other))
        return plt_fail(err, PLT_CHANGED,
                        "the disk is not what its manifest says");
    for (size_t at = 0; at < piece->len; at += step) {
        const size_t left = piece->len - at;
        take_block(p, piece->off + at, data + at, left < step ? left : step);
    }
    p->done += piece->len;
    if (p->progress)
        p->progress(p->cookie, p->done, p->size);
    return export_status(&p->out, err);
}

enum plt_status manifest_export_make(
    enum manifest_export kind, struct image *image, struct manifest_file *file,
    struct plt_io *io, uint64_t wait_ms, uint64_t most,
    image_progress_fn *progress, void *cookie, int fd, struct plt_error *err)
{
    AUTO_FREE uint8_t *zeros = calloc(1, MANIFEST_GROUP);
    AUTO_FREE struct pass *p = calloc(1, sizeof(*p));
    enum plt_status st =
        manifest_export_can(kind, manifest_file_size(file), err);

    if (st == PLT_OK && (!zeros || !p))
        st = plt_fail(err, PLT_NOMEM, "an export");
    if (st != PLT_OK)
        return st;
    p->kind = kind;
    p->file = file;
    p->zeros = zeros;
    p->size = manifest_file_size(file);
    p->progress = progress;
    p->cookie = cookie;
    export_init(&p->out, fd, most);
    if (kind == MANIFEST_EXPORT_BMAP)
        bmap_head(p, no_checksum);
    else if (kind == MANIFEST_EXPORT_ZSYNC)
        export_print(&p->out, "%*s", MANIFEST_ZSYNC_HEX, "");
    else
        caibx_head(&p->out);
    (void)SHA1_Init(&p->sha1);
    const struct image_pump pump = {.len = p->size,
                                    .piece = MANIFEST_GROUP,
                                    .wait_ms = wait_ms,
                                    .prepare = compare,
                                    .take = take_piece,
                                    .cookie = p};
    st = image_pump(image, io, &pump, err);
    if (st != PLT_OK)
        return st;
    if (kind == MANIFEST_EXPORT_BMAP)
        bmap_end(p);
    else if (kind == MANIFEST_EXPORT_ZSYNC)
        zsync_end(p);
    else
        caibx_end(&p->out, p->size);
    export_flush(&p->out);
    return export_status(&p->out, err);
}
