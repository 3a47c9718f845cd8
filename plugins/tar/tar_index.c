/* SPDX-License-Identifier: Apache-2.0 */
#include "tar_index.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <platter/bytes.h>

/* What the headers before a member's own say of it. */
struct extras {
    char *name, *link; /* new */
    bool has_size, has_real_size, has_mtime;
    uint64_t size, real_size;
    int64_t mtime;
    enum tar_sparse_form form;
    unsigned major, minor;
    bool has_version;
    struct tar_map
        map; /* of forms 0.0 and 0.1, checked against the size later */
    uint64_t piece_off; /* a 0.0 offset that waits for its length */
    bool has_piece_off;
    char *map_text; /* 0.1 */
};

static void extras_release(struct extras *x)
{
    free(x->name);
    free(x->link);
    free(x->map_text);
    tar_map_release(&x->map);
}

void tar_walk_init(struct tar_walk *walk, struct plt_child *child, uint64_t pos)
{
    *walk = (struct tar_walk){.child = child, .pos = pos};
}

void tar_member_release(struct tar_member *member)
{
    free(member->name);
    free(member->link);
    *member = (struct tar_member){.name = NULL};
}

static enum plt_status read_at(struct tar_walk *w, struct plt_io *io,
                               uint64_t off, void *buf, size_t len,
                               struct plt_error *err)
{
    const struct plt_seg seg = {off, len, buf};
    return w->child->read(w->child, io, &seg, 1, err);
}

/* The next block at pos; *is_end when the archive just stops there. */
static enum plt_status read_block(struct tar_walk *w, struct plt_io *io,
                                  uint8_t block[TAR_BLOCK], bool *is_end,
                                  struct plt_error *err)
{
    uint64_t size = w->child->size;

    *is_end = false;
    enum plt_status st = PLT_OK;
    if (size == PLT_SIZE_UNKNOWN) {
        st = read_at(w, io, w->pos, block, TAR_BLOCK, err);
        if (st != PLT_CORRUPT)
            return st;
        /* Past the end of a stream of unknown length, or broken. */
        st = w->child->resolve_size(w->child, io, &size, err);
        if (st != PLT_OK)
            return st;
    }
    if (w->pos == size) {
        *is_end = true;
        return PLT_OK;
    }
    if (!plt_span_ok(w->pos, TAR_BLOCK, size))
        return plt_fail_at(err, PLT_CORRUPT, w->pos,
                           "the archive ends inside a header or a file");
    return read_at(w, io, w->pos, block, TAR_BLOCK, err);
}

static char *copy_text(const char *text, size_t len)
{
    char *const s = malloc(len + 1);
    if (s) {
        memcpy(s, text, len);
        s[len] = '\0';
    }
    return s;
}

static bool key_is(const struct tar_record *r, const char *key)
{
    return strlen(key) == r->key_len && memcmp(key, r->key, r->key_len) == 0;
}

static enum plt_status set_text(char **slot, const struct tar_record *r,
                                struct plt_error *err)
{
    if (r->value_len > TAR_MAX_NAME || memchr(r->value, 0, r->value_len))
        return plt_fail(err, PLT_CORRUPT, "a name of %zu bytes, or with NULs",
                        r->value_len);
    free(*slot);
    *slot = copy_text(r->value, r->value_len);
    return *slot ? PLT_OK : plt_fail(err, PLT_NOMEM, "a name");
}

static enum plt_status bad_record(const struct tar_record *r,
                                  struct plt_error *err)
{
    return plt_fail(err, PLT_CORRUPT, "PAX record %.*s is malformed",
                    (int)(r->key_len < 40 ? r->key_len : 40), r->key);
}

/* "off,len,off,len..." of form 0.1. */
static enum plt_status parse_map_text(struct tar_map *map, const char *p,
                                      size_t len, struct plt_error *err)
{
    struct tar_piece piece = {0, 0};
    bool is_len = false;

    while (len) {
        const char *const comma = memchr(p, ',', len);
        const size_t n = comma ? (size_t)(comma - p) : len;
        if (!tar_decimal(p, n, is_len ? &piece.len : &piece.off))
            return plt_fail(err, PLT_CORRUPT, "GNU.sparse.map is malformed");
        if (is_len) {
            const enum plt_status st =
                tar_map_add(map, PLT_SIZE_MAX, piece, err);
            if (st != PLT_OK)
                return st;
        }
        is_len = !is_len;
        p += n + (comma != NULL);
        len -= n + (comma != NULL);
    }
    return is_len ? plt_fail(err, PLT_CORRUPT, "GNU.sparse.map has an odd end")
                  : PLT_OK;
}

static enum plt_status take_sparse(struct extras *x, const struct tar_record *r,
                                   struct plt_error *err)
{
    uint64_t v = 0;
    const bool is_number = tar_decimal(r->value, r->value_len, &v);

    if (key_is(r, "GNU.sparse.name"))
        return set_text(&x->name, r, err);
    if (key_is(r, "GNU.sparse.map")) {
        x->form = TAR_PAX_0_1;
        return parse_map_text(&x->map, r->value, r->value_len, err);
    }
    if (!is_number)
        return bad_record(r, err);
    if (key_is(r, "GNU.sparse.major") || key_is(r, "GNU.sparse.minor")) {
        *(key_is(r, "GNU.sparse.major") ? &x->major : &x->minor) =
            v > 1000 ? 1000 : (unsigned)v;
        x->has_version = true;
    } else if (key_is(r, "GNU.sparse.realsize") ||
               key_is(r, "GNU.sparse.size")) {
        if (v > PLT_SIZE_MAX)
            return bad_record(r, err);
        x->has_real_size = true;
        x->real_size = v;
        if (x->form == TAR_DENSE && key_is(r, "GNU.sparse.size"))
            x->form = TAR_PAX_0_0;
    } else if (key_is(r, "GNU.sparse.offset")) {
        x->form = TAR_PAX_0_0;
        x->piece_off = v;
        x->has_piece_off = true;
    } else if (key_is(r, "GNU.sparse.numbytes")) {
        if (!x->has_piece_off)
            return bad_record(r, err);
        x->has_piece_off = false;
        return tar_map_add(&x->map, PLT_SIZE_MAX,
                           (struct tar_piece){x->piece_off, v}, err);
    }
    return PLT_OK;
}

static enum plt_status take_record(struct extras *x, const struct tar_record *r,
                                   struct plt_error *err)
{
    if (key_is(r, "path")) /* GNU.sparse.name says it better, and comes too */
        return x->has_real_size && x->name ? PLT_OK
                                           : set_text(&x->name, r, err);
    if (key_is(r, "linkpath"))
        return set_text(&x->link, r, err);
    if (key_is(r, "size")) {
        if (!tar_decimal(r->value, r->value_len, &x->size) ||
            x->size > PLT_SIZE_MAX)
            return bad_record(r, err);
        x->has_size = true;
        return PLT_OK;
    }
    if (key_is(r, "mtime")) {
        const char *const dot = memchr(r->value, '.', r->value_len);
        uint64_t v;
        if (tar_decimal(r->value, dot ? (size_t)(dot - r->value) : r->value_len,
                        &v) &&
            v <= INT64_MAX) {
            x->has_mtime = true;
            x->mtime = (int64_t)v;
        }
        return PLT_OK;
    }
    if (r->key_len > 11 && memcmp(r->key, "GNU.sparse.", 11) == 0)
        return take_sparse(x, r, err);
    return PLT_OK;
}

/* The payload of an 'x' or 'g' header. */
static enum plt_status parse_pax(struct extras *x, const uint8_t *text,
                                 size_t len, struct plt_error *err)
{
    struct tar_record r;
    size_t at = 0;
    bool is_bad;

    while (tar_record_next(text, len, &at, &r, &is_bad)) {
        const enum plt_status st = take_record(x, &r, err);
        if (st != PLT_OK)
            return st;
    }
    return is_bad ? plt_fail(err, PLT_CORRUPT, "a PAX record is malformed")
                  : PLT_OK;
}

static bool round_up(uint64_t v, uint64_t *out)
{
    if (v > PLT_SIZE_MAX - TAR_BLOCK)
        return false;
    *out = (v + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    return true;
}

/* Payload of a header that describes the next: 'x', 'g', 'L', 'K'. */
static enum plt_status take_meta(struct tar_walk *w, struct plt_io *io,
                                 const struct tar_block *b, struct extras *x,
                                 struct plt_error *err)
{
    const bool is_pax = b->type == 'x' || b->type == 'g' || b->type == 'X';
    const size_t most = is_pax ? TAR_MAX_PAX : TAR_MAX_NAME;
    uint64_t room;
    enum plt_status st = PLT_OK;

    if (b->size > most || !round_up(b->size, &room))
        return plt_fail_at(err, PLT_UNSUPPORTED, w->pos,
                           "a header of type %c of %llu bytes", b->type,
                           (unsigned long long)b->size);
    uint8_t *const text = malloc((size_t)b->size + 1);
    if (!text)
        return plt_fail(err, PLT_NOMEM, "a header");
    if (b->size)
        st = read_at(w, io, w->pos + TAR_BLOCK, text, (size_t)b->size, err);
    text[b->size] = '\0';
    if (st == PLT_OK && b->type == 'g') {
        /* Global records: none that we know says where data lies, but for a
         * size, which no tool writes there. */
        struct extras global = {.name = NULL};
        st = parse_pax(&global, text, (size_t)b->size, err);
        if (st == PLT_OK && (global.has_size || global.form != TAR_DENSE))
            st = plt_fail(err, PLT_UNSUPPORTED, "sizes in a global header");
        extras_release(&global);
    } else if (st == PLT_OK && is_pax) {
        st = parse_pax(x, text, (size_t)b->size, err);
    } else if (st == PLT_OK) {
        char **const slot = b->type == 'L' ? &x->name : &x->link;
        free(*slot);
        *slot = copy_text((const char *)text, strlen((const char *)text));
        if (!*slot)
            st = plt_fail(err, PLT_NOMEM, "a name");
    }
    free(text);
    w->pos += TAR_BLOCK + room;
    return st;
}

/* The old GNU map: four pieces in the header, 21 in each extension. */
static enum plt_status take_oldgnu(struct tar_walk *w, struct plt_io *io,
                                   const struct tar_block *b,
                                   struct tar_map *map, struct plt_error *err)
{
    struct tar_piece pieces[21];
    uint8_t block[TAR_BLOCK];
    unsigned n = b->n_pieces;
    bool is_more = b->is_extended;
    enum plt_status st = PLT_OK;

    for (unsigned i = 0; i < n && st == PLT_OK; i++)
        st = tar_map_add(map, b->real_size, b->pieces[i], err);
    while (is_more && st == PLT_OK) {
        bool is_end;
        w->pos += TAR_BLOCK;
        st = read_block(w, io, block, &is_end, err);
        if (st == PLT_OK &&
            (is_end || !tar_extension_parse(block, pieces, &n, &is_more)))
            st = plt_fail_at(err, PLT_CORRUPT, w->pos,
                             "sparse map is malformed");
        /* Each goes on behind the last, so this ends at the real size. */
        if (st == PLT_OK && is_more && n == 0)
            st = plt_fail_at(err, PLT_CORRUPT, w->pos, "empty sparse map");
        for (unsigned i = 0; i < n && st == PLT_OK; i++)
            st = tar_map_add(map, b->real_size, pieces[i], err);
    }
    return st;
}

/* One decimal line of the 1.0 map, read through a small window. */
struct lines {
    uint8_t buf[TAR_BLOCK];
    uint64_t next, end; /* offset of the next block; no line goes past end */
    size_t at;
    bool has_block;
};

static enum plt_status next_line(struct tar_walk *w, struct plt_io *io,
                                 struct lines *l, uint64_t *out,
                                 struct plt_error *err)
{
    char text[24];
    size_t n = 0;

    for (;;) {
        if (!l->has_block || l->at == TAR_BLOCK) {
            if (l->next + TAR_BLOCK > l->end)
                return plt_fail(err, PLT_CORRUPT, "sparse map has no end");
            const enum plt_status st =
                read_at(w, io, l->next, l->buf, TAR_BLOCK, err);
            if (st != PLT_OK)
                return st;
            l->next += TAR_BLOCK;
            l->at = 0;
            l->has_block = true;
        }
        const char c = (char)l->buf[l->at++];
        if (c == '\n')
            break;
        if (n == sizeof(text))
            return plt_fail(err, PLT_CORRUPT, "sparse map is malformed");
        text[n++] = c;
    }
    return tar_decimal(text, n, out)
               ? PLT_OK
               : plt_fail(err, PLT_CORRUPT, "sparse map is malformed");
}

/* Form 1.0: count, then offset and length of each, one number a line, padded to
 * a block; the data follows.  Moves m->data and m->stored behind it. */
static enum plt_status take_pax_1_0(struct tar_walk *w, struct plt_io *io,
                                    struct tar_member *m, struct tar_map *map,
                                    struct plt_error *err)
{
    struct lines l = {.next = m->data, .end = m->data + m->stored};
    uint64_t count;
    struct tar_piece piece;

    enum plt_status st = next_line(w, io, &l, &count, err);
    if (st == PLT_OK && count > TAR_MAX_SPARSE)
        st = plt_fail(err, PLT_UNSUPPORTED, "sparse map of over %d pieces",
                      TAR_MAX_SPARSE);
    for (uint64_t i = 0; st == PLT_OK && i < count; i++) {
        st = next_line(w, io, &l, &piece.off, err);
        if (st == PLT_OK)
            st = next_line(w, io, &l, &piece.len, err);
        if (st == PLT_OK)
            st = tar_map_add(map, m->size, piece, err);
    }
    if (st == PLT_OK) {
        const uint64_t used = l.next - m->data;
        m->data = l.next;
        m->stored -= used;
    }
    return st;
}

/* Everything known of the member is in b and x: make it one. */
static enum plt_status finish(struct tar_walk *w, struct plt_io *io,
                              const struct tar_block *b, struct extras *x,
                              uint64_t header, struct tar_member *m,
                              struct plt_error *err)
{
    struct tar_map scratch = {.n = 0};
    struct tar_map *const map = w->want_map ? w->want_map : &scratch;
    enum plt_status st = PLT_OK;
    uint64_t room = 0;

    *m = (struct tar_member){.type = b->type ? b->type : '0',
                             .header = header,
                             .stored = x->has_size ? x->size : b->size,
                             .mtime = x->has_mtime ? x->mtime : b->mtime,
                             .form = x->form};
    m->name = x->name ? x->name : copy_text(b->name, strlen(b->name));
    m->link = x->link ? x->link : copy_text(b->link, strlen(b->link));
    x->name = x->link = NULL;
    if (!m->name || !m->link)
        return plt_fail(err, PLT_NOMEM, "a name");
    /* v7: a folder is a file whose name ends in a slash. */
    const size_t len = strlen(m->name);
    if (m->type == '0' && len && m->name[len - 1] == '/')
        m->type = '5';
    /* Links and folders have no data, whatever their size field says. */
    if (m->type >= '1' && m->type <= '6')
        m->stored = 0;
    if (m->type == 'S') {
        m->form = TAR_OLDGNU;
        m->size = b->real_size;
        st = take_oldgnu(w, io, b, map, err);
    }
    if (x->has_version && st == PLT_OK) {
        if (x->major == 1 && x->minor == 0)
            m->form = TAR_PAX_1_0;
        else if (x->major != 0)
            st = plt_fail(err, PLT_UNSUPPORTED, "GNU.sparse version %u.%u",
                          x->major, x->minor);
    }
    m->data = w->pos + TAR_BLOCK;
    if (st == PLT_OK &&
        (!round_up(m->stored, &room) || room > PLT_SIZE_MAX - m->data))
        st = plt_fail(err, PLT_CORRUPT, "size of %.60s is too large", m->name);
    if (st != PLT_OK) {
        tar_map_release(&scratch);
        return st;
    }
    w->pos = m->data + room;
    if (m->form == TAR_DENSE)
        m->size = m->stored;
    else if (m->form != TAR_OLDGNU)
        m->size = x->has_real_size ? x->real_size : m->stored;
    if (m->form == TAR_PAX_1_0 && w->want_map) /* else: when it is opened */
        st = take_pax_1_0(w, io, m, map, err);
    if (m->form == TAR_DENSE)
        st = tar_map_add(map, m->size, (struct tar_piece){0, m->size}, err);
    for (size_t i = 0; st == PLT_OK && i < x->map.n; i++)
        st = tar_map_add(map, m->size, x->map.pieces[i], err);
    if (st == PLT_OK && map->sum > m->stored &&
        (m->form != TAR_PAX_1_0 || w->want_map))
        st = plt_fail(err, PLT_CORRUPT,
                      "sparse map of %.60s asks for more than is stored",
                      m->name);
    tar_map_release(&scratch);
    return st;
}

enum plt_status tar_walk_next(struct tar_walk *w, struct plt_io *io,
                              struct tar_member *out, struct plt_error *err)
{
    struct extras x = {.name = NULL};
    const uint64_t header = w->pos;
    uint8_t block[TAR_BLOCK];
    struct tar_block b;
    const char *why = "";
    enum plt_status st;

    *out = (struct tar_member){.name = NULL};
    for (;;) {
        bool is_end;
        st = read_block(w, io, block, &is_end, err);
        if (st != PLT_OK)
            break;
        const enum tar_kind kind =
            is_end ? TAR_END : tar_block_parse(block, &b, &why);
        if (kind == TAR_END) {
            /* One zero block ends it for GNU tar too, which then warns. */
            w->is_done = true;
            w->has_end = !is_end;
            break;
        }
        if (kind == TAR_BAD) {
            st = plt_fail_at(err, PLT_CORRUPT, w->pos, "%s", why);
            break;
        }
        if (strchr("xgXLK", b.type) && b.type) {
            st = take_meta(w, io, &b, &x, err);
            if (st != PLT_OK)
                break;
            continue;
        }
        st = finish(w, io, &b, &x, header, out, err);
        break;
    }
    extras_release(&x);
    if (st != PLT_OK)
        tar_member_release(out);
    return st;
}

bool tar_name_is_disk(const char *name)
{
    static const char *const endings[] = {
        ".raw", ".img", ".qcow2", ".qcow", ".qed", ".vmdk", ".vhd", ".vhdx",
        ".vpc", ".vdi", ".dd",    ".hdd",  ".wic", ".iso",  ".dmg"};
    const char *const slash = strrchr(name, '/');
    const char *const base = slash ? slash + 1 : name;
    const char *const dot = strrchr(base, '.');

    if (!dot || strncmp(base, "._", 2) == 0) /* what macOS puts beside files */
        return false;
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        if (strcasecmp(dot, endings[i]) == 0)
            return true;
    }
    return false;
}
