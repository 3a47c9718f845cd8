/* SPDX-License-Identifier: Apache-2.0 */
/* Opening: what file this is, its descriptor, its extents, its parent. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <platter/bytes.h>

#include "vmdk_image.h"

enum { FOOTER_BYTES = 3 * VMDK_SECTOR };

enum plt_status vmdk_take(struct vmdk *v, uint64_t bytes, const char *what,
                          struct plt_error *err)
{
    const enum plt_status st = v->host->mem_take(v->host, bytes, err);

    if (st != PLT_OK)
        return plt_prefix(err, "%s: ", what);
    v->mem += bytes;
    return PLT_OK;
}

static void free_extent(struct vmdk_extent *e)
{
    for (uint64_t i = 0; e->walked && i < e->header.gd_count; i++)
        free(e->walked[i]);
    free(e->walked);
    free(e->gd);
}

void vmdk_free(struct vmdk *v)
{
    for (size_t i = 0; i < v->n_extents; i++)
        free_extent(&v->extents[i]);
    free(v->extents);
    vmdk_descriptor_release(&v->descriptor);
    if (v->mem)
        v->host->mem_give(v->host, v->mem);
    free(v);
}

static uint64_t limit_of(const struct plt_child *child)
{
    return child->size == PLT_SIZE_UNKNOWN ? PLT_SIZE_MAX : child->size;
}

/* [off, off+*n) of the child, or as much of it as there is: *n. */
static enum plt_status read_some(struct plt_child *child, struct plt_io *io,
                                 uint64_t off, uint8_t *buf, size_t *n,
                                 struct plt_error *err)
{
    struct plt_seg seg = {off, *n, buf};
    uint64_t size = child->size;

    if (size == PLT_SIZE_UNKNOWN) {
        const enum plt_status st = child->read(child, io, &seg, 1, err);
        if (st != PLT_CORRUPT)
            return st;
        const enum plt_status size_st =
            child->resolve_size(child, io, &size, err);
        if (size_st != PLT_OK)
            return size_st;
    }
    if (off >= size)
        *n = 0;
    else if (size - off < *n)
        *n = (size_t)(size - off);
    seg.len = *n;
    return *n ? child->read(child, io, &seg, 1, err) : PLT_OK;
}

/* ---- One sparse extent ---- */

/* A stream: the footer at its end says where the directory is. */
static enum plt_status read_footer(struct vmdk_extent *e, struct plt_io *io,
                                   struct plt_error *err)
{
    uint8_t tail[FOOTER_BYTES];
    struct vmdk_header footer;
    uint64_t size;
    enum plt_status st = e->child->resolve_size(e->child, io, &size, err);

    if (st != PLT_OK)
        return st;
    atomic_store(&e->size, size);
    if (size < FOOTER_BYTES)
        return plt_fail(err, PLT_CORRUPT, "no footer");
    const struct plt_seg seg = {size - FOOTER_BYTES, FOOTER_BYTES, tail};
    st = e->child->read(e->child, io, &seg, 1, err);
    if (st == PLT_OK)
        st = vmdk_footer_parse(&footer, tail, err);
    if (st == PLT_OK && (footer.grain != e->header.grain ||
                         footer.capacity != e->header.capacity ||
                         footer.gtes != e->header.gtes))
        st = plt_fail(err, PLT_CORRUPT, "header and footer differ");
    if (st == PLT_OK) {
        e->header.gd = footer.gd;
        e->header.rgd = footer.rgd;
    }
    return st;
}

/* seSparse: what the volatile header says must be true before anything is
 * read. */
static enum plt_status check_volatile(struct vmdk_extent *e, struct plt_io *io,
                                      struct plt_error *err)
{
    static const uint64_t magic = 0xcafecafe;
    uint8_t raw[VMDK_SECTOR];
    const struct plt_seg seg = {e->header.volatile_off, sizeof(raw), raw};

    if (!plt_span_ok(seg.off, seg.len, atomic_load(&e->size)))
        return plt_fail_at(err, PLT_CORRUPT, seg.off,
                           "volatile header outside the file");
    const enum plt_status st = e->child->read(e->child, io, &seg, 1, err);
    if (st != PLT_OK)
        return st;
    if (plt_le64(raw) != magic)
        return plt_fail_at(err, PLT_CORRUPT, seg.off, "no volatile header");
    if (raw[24])
        return plt_fail(err, PLT_UNSUPPORTED,
                        "a journal that has to be replayed");
    return PLT_OK;
}

/* The sparse file whose header is in e->header. */
static enum plt_status load_sparse(struct vmdk *v, struct vmdk_extent *e,
                                   struct plt_io *io, struct plt_error *err)
{
    enum plt_status st = PLT_OK;

    if (e->len > e->header.capacity)
        return plt_fail(
            err, PLT_CORRUPT, "an extent of %llu bytes in a file of %llu",
            (unsigned long long)e->len, (unsigned long long)e->header.capacity);
    if (e->header.form == VMDK_SE)
        st = check_volatile(e, io, err);
    if (st == PLT_OK && e->header.is_at_end)
        st = read_footer(e, io, err);
    if (st == PLT_OK)
        st = vmdk_directory_load(v, e, io, err);
    if (st == PLT_CORRUPT && e->header.is_compressed && e->header.has_markers)
        st = vmdk_walk(v, e, io, err);
    return st;
}

/* ---- Extents of a descriptor ---- */

static const enum vmdk_form forms[] = {[VMDK_SPARSE] = VMDK_HOSTED,
                                       [VMDK_VMFSSPARSE] = VMDK_COWD,
                                       [VMDK_SESPARSE] = VMDK_SE};

static enum plt_status open_file(struct vmdk *v, struct vmdk_extent *e,
                                 const struct vmdk_line *line,
                                 struct plt_io *io, struct plt_error *err)
{
    uint8_t *head;
    size_t n = VMDK_HEAD;
    enum plt_status st = v->host->open_named(v->host, io, PLT_ROLE_EXTENT,
                                             line->name, "raw", &e->child, err);

    if (st != PLT_OK)
        return st;
    atomic_store(&e->size, limit_of(e->child));
    if (line->type == VMDK_FLAT)
        return plt_span_ok(line->off, line->len, atomic_load(&e->size))
                   ? PLT_OK
                   : plt_fail(err, PLT_CORRUPT,
                              "%llu bytes at %llu lie outside the file",
                              (unsigned long long)line->len,
                              (unsigned long long)line->off);
    head = malloc(VMDK_HEAD);
    if (!head)
        return plt_fail(err, PLT_NOMEM, "a header");
    st = read_some(e->child, io, 0, head, &n, err);
    if (st == PLT_OK)
        st = vmdk_header_parse(&e->header, head, n, err);
    free(head);
    if (st == PLT_OK && e->header.form != forms[line->type])
        st = plt_fail(err, PLT_CORRUPT, "another kind of file than is said");
    if (st == PLT_OK && !e->header.capacity)
        st = plt_fail(err, PLT_CORRUPT, "a descriptor, not an extent");
    return st == PLT_OK ? load_sparse(v, e, io, err) : st;
}

static enum plt_status add_extents(struct vmdk *v, struct plt_io *io,
                                   struct plt_error *err)
{
    const struct vmdk_descriptor *const d = &v->descriptor;

    if (!d->n_lines)
        return plt_fail(err, PLT_CORRUPT, "a descriptor without extents");
    v->extents = calloc(d->n_lines, sizeof(*v->extents));
    if (!v->extents)
        return plt_fail(err, PLT_NOMEM, "extents");
    for (size_t i = 0; i < d->n_lines; i++) {
        const struct vmdk_line *const line = &d->lines[i];
        struct vmdk_extent *const e = &v->extents[v->n_extents++];
        e->no = (unsigned)i;
        e->start = v->size;
        e->len = line->len;
        e->type = line->type;
        e->off = line->off;
        e->name = line->name;
        e->word = line->word;
        e->is_closed = line->access == VMDK_NOACCESS;
        if (line->len > PLT_SIZE_MAX - v->size)
            return plt_fail(err, PLT_CORRUPT, "extents of more than 8 EiB");
        v->size += line->len;
        if (e->is_closed || e->type == VMDK_ZERO)
            continue;
        const enum plt_status st = open_file(v, e, line, io, err);
        if (st != PLT_OK)
            return plt_prefix(err, "extent %zu: ", i);
    }
    return PLT_OK;
}

/* "createType": those whose extents are files. */
static enum plt_status check_type(const struct vmdk_descriptor *d,
                                  struct plt_error *err)
{
    static const char *const known[] = {"monolithicSparse",
                                        "monolithicFlat",
                                        "twoGbMaxExtentSparse",
                                        "twoGbMaxExtentFlat",
                                        "vmfs",
                                        "vmfsSparse",
                                        "vmfsThin",
                                        "vmfsPreallocated",
                                        "vmfsEagerZeroedThick",
                                        "seSparse",
                                        "streamOptimized",
                                        "2GbMaxExtentSparse",
                                        "2GbMaxExtentFlat"};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcasecmp(d->create_type, known[i]) == 0)
            return PLT_OK;
    return plt_fail(err, PLT_UNSUPPORTED, "createType %s",
                    d->create_type[0] ? d->create_type : "is not said");
}

/* ---- The parent ---- */

/* The CID out of what the parent says of itself. */
struct cid_finder {
    struct plt_info info; /* first */
    uint32_t cid;
    bool is_found;
};

static void find_number(struct plt_info *info, const char *key, uint64_t value)
{
    struct cid_finder *const f = (struct cid_finder *)info;

    if (key && strcmp(key, "cid") == 0 && !f->is_found) {
        f->cid = (uint32_t)value;
        f->is_found = true;
    }
}

static void pass_text(struct plt_info *info, const char *key, const char *value)
{
    (void)info;
    (void)key;
    (void)value;
}

static void pass_boolean(struct plt_info *info, const char *key, bool value)
{
    (void)info;
    (void)key;
    (void)value;
}

static void pass_begin(struct plt_info *info, const char *key)
{
    (void)info;
    (void)key;
}

static void pass_end(struct plt_info *info)
{
    (void)info;
}

static enum plt_status open_parent(struct vmdk *v, struct plt_io *io,
                                   struct plt_error *err)
{
    const struct vmdk_descriptor *const d = &v->descriptor;
    struct cid_finder f = {.info = {.struct_size = (uint32_t)sizeof(f.info),
                                    .text = pass_text,
                                    .number = find_number,
                                    .boolean = pass_boolean,
                                    .object_begin = pass_begin,
                                    .array_begin = pass_begin,
                                    .end = pass_end}};

    if (d->parent_cid == VMDK_NO_PARENT)
        return PLT_OK;
    if (!d->parent)
        return plt_fail(err, PLT_CORRUPT, "a parent that is not named");
    const enum plt_status st = v->host->open_named(
        v->host, io, PLT_ROLE_BACKING, d->parent, "vmdk", &v->parent, err);
    if (st != PLT_OK)
        return plt_prefix(err, "parent: ");
    atomic_store(&v->parent_size, limit_of(v->parent));
    if (!PLT_HAS(v->parent, info))
        return PLT_OK;
    v->parent->info(v->parent, &f.info);
    if (!f.is_found || f.cid != d->parent_cid)
        return plt_fail(err, PLT_CORRUPT,
                        "the parent has CID %08x, and %08x was written when "
                        "this image was made of it",
                        f.cid, d->parent_cid);
    return PLT_OK;
}

/* ---- All ---- */

/* A file that is its own extent. */
static enum plt_status add_self(struct vmdk *v, const struct vmdk_header *h,
                                struct plt_io *io, struct plt_error *err)
{
    v->extents = calloc(1, sizeof(*v->extents));
    if (!v->extents)
        return plt_fail(err, PLT_NOMEM, "an extent");
    struct vmdk_extent *const e = &v->extents[v->n_extents++];
    e->header = *h;
    e->child = v->child;
    e->len = h->capacity;
    e->type = h->form == VMDK_HOSTED ? VMDK_SPARSE
              : h->form == VMDK_COWD ? VMDK_VMFSSPARSE
                                     : VMDK_SESPARSE;
    atomic_init(&e->size, limit_of(v->child));
    v->size = h->capacity;
    return load_sparse(v, e, io, err);
}

static enum plt_status parse_descriptor(struct vmdk *v, struct plt_io *io,
                                        uint64_t off, uint64_t len,
                                        struct plt_error *err)
{
    size_t n = len < VMDK_MAX_DESCRIPTOR ? (size_t)len : VMDK_MAX_DESCRIPTOR;
    uint8_t *const text = malloc(n + 1);

    if (!text)
        return plt_fail(err, PLT_NOMEM, "a descriptor");
    enum plt_status st = read_some(v->child, io, off, text, &n, err);
    if (st == PLT_OK)
        st = vmdk_descriptor_parse(&v->descriptor, text, n, err);
    free(text);
    return st;
}

static enum plt_status load_by_head(struct vmdk *v, struct plt_io *io,
                                    const uint8_t *head, size_t n,
                                    struct plt_error *err)
{
    struct vmdk_header h;
    enum plt_status st;

    v->descriptor.parent_cid = VMDK_NO_PARENT;
    if (!vmdk_is_sparse(head, n)) {
        st = parse_descriptor(v, io, 0, VMDK_MAX_DESCRIPTOR, err);
        if (st == PLT_OK)
            st = check_type(&v->descriptor, err);
        return st == PLT_OK ? add_extents(v, io, err) : st;
    }
    st = vmdk_header_parse(&h, head, n, err);
    if (st == PLT_OK && h.descriptor_off && h.descriptor_len)
        st = parse_descriptor(v, io, h.descriptor_off, h.descriptor_len, err);
    if (st != PLT_OK)
        return st;
    if (!h.capacity)
        return add_extents(v, io, err);
    return add_self(v, &h, io, err);
}

enum plt_status vmdk_load(struct vmdk *v, const struct plt_open_args *args,
                          struct plt_error *err)
{
    uint8_t *const head = malloc(VMDK_HEAD);
    size_t n = VMDK_HEAD;

    if (!head)
        return plt_fail(err, PLT_NOMEM, "a header");
    atomic_init(&v->parent_size, 0);
    enum plt_status st = read_some(v->child, args->io, 0, head, &n, err);
    if (st == PLT_OK)
        st = load_by_head(v, args->io, head, n, err);
    free(head);
    return st == PLT_OK ? open_parent(v, args->io, err) : st;
}
