/* SPDX-License-Identifier: Apache-2.0 */
/* The tar driver: one member of an archive as a disk, its holes as holes.
 *
 * Which member: the one that member= names, else the only one that could be a
 * disk, by its name or, where no name says so, by its first bytes.  To know
 * that it is the only one the whole archive has to be walked.  Over a plain tar
 * that is a hop from header to header.  Over a stream that is decoded forward
 * (PLT_CHILD_FORWARD) it would mean decoding everything before the first byte
 * is answered; there, when the first candidate is named as the contract of its
 * makers says (disk.raw, Google Compute Engine; box.img, Vagrant's libvirt), it
 * is entered at once.  The rule does not depend on what happens to be known
 * already, so an archive is always entered the same way.
 *
 * Lock: `lock` guards the walk, and is held across reads of headers; reading
 * the member takes no lock. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <platter/bytes.h>
#include <platter/driver.h>

#include "tar_image.h"

enum {
    MAX_CONTENT_PROBES = 1000, /* files looked into when no name helps */
    ON_STACK = 64
};

static int tar_probe(const struct plt_probe *probe)
{
    struct tar_block b;
    const char *why;

    if (probe->head_len < TAR_BLOCK ||
        tar_block_parse(probe->head, &b, &why) != TAR_HEADER)
        return 0;
    if (b.is_gnu || b.is_ustar)
        return 90;
    /* v7 has no magic: a right checksum over something that has a name. */
    return b.name[0] && (b.type == '\0' || (b.type >= '0' && b.type <= '2'))
               ? 60
               : 0;
}

static void tar_close(void *image)
{
    struct tar *const t = (struct tar *)image;

    for (size_t i = 0; i < t->n_members; i++)
        tar_member_release(&t->members[i]);
    free(t->members);
    if (t->members_mem)
        t->host->mem_give(t->host, t->members_mem);
    if (t->map_mem)
        t->host->mem_give(t->host, t->map_mem);
    tar_member_release(&t->member);
    tar_map_release(&t->map);
    tar_ovf_release(&t->ovf);
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
}

/* ---- The walk ---- */

static bool is_file(char type)
{
    return type == '0' || type == '7' || type == 'S';
}

/* One member more; *is_end when there is none.  Lock held (or opening). */
static enum plt_status walk_on(struct tar *t, struct plt_io *io, bool *is_end,
                               struct plt_error *err)
{
    struct tar_member m;

    *is_end = t->walk.is_done;
    if (*is_end)
        return PLT_OK;
    if (t->n_members == TAR_MAX_MEMBERS)
        return plt_fail(err, PLT_UNSUPPORTED, "more than %d members",
                        TAR_MAX_MEMBERS);
    const uint64_t pos = t->walk.pos;
    enum plt_status st = tar_walk_next(&t->walk, io, &m, err);
    if (st != PLT_OK) {
        t->walk.pos = pos; /* a later walk tries this header again */
        return st;
    }
    *is_end = m.name == NULL;
    if (*is_end)
        return PLT_OK;
    const uint64_t mem = strlen(m.name) + strlen(m.link) + sizeof(m) + 64;
    st = t->host->mem_take(t->host, mem, err);
    if (st == PLT_OK) {
        t->members_mem += mem;
        if (t->n_members == t->cap_members) {
            const size_t cap = t->cap_members ? t->cap_members * 2 : 16;
            struct tar_member *const grown =
                realloc(t->members, cap * sizeof(*grown));
            if (grown) {
                t->members = grown;
                t->cap_members = cap;
            } else {
                st = plt_fail(err, PLT_NOMEM, "the list of members");
            }
        }
    }
    if (st != PLT_OK) {
        t->walk.pos = pos;
        tar_member_release(&m);
        return st;
    }
    m.is_candidate = is_file(m.type) && m.size > 0 && tar_name_is_disk(m.name);
    t->members[t->n_members++] = m;
    return PLT_OK;
}

/* Leading "./" and trailing "/" mean nothing. */
static bool same_name(const char *a, const char *b)
{
    while (strncmp(a, "./", 2) == 0)
        a += 2;
    while (strncmp(b, "./", 2) == 0)
        b += 2;
    size_t n = strlen(a), m = strlen(b);
    n -= n && a[n - 1] == '/';
    m -= m && b[m - 1] == '/';
    return n == m && memcmp(a, b, n) == 0;
}

/* The file that a hard link stands for: an earlier member of its name. */
static const struct tar_member *linked(const struct tar *t,
                                       const struct tar_member *m)
{
    for (unsigned hops = 0; m && m->type == '1' && hops < 16; hops++) {
        const struct tar_member *found = NULL;
        for (size_t i = 0; i < t->n_members && &t->members[i] != m; i++) {
            if (same_name(t->members[i].name, m->link))
                found = &t->members[i];
        }
        m = found;
    }
    return m && is_file(m->type) ? m : NULL;
}

/* First bytes that only a disk has. */
static bool looks_like_disk(const uint8_t h[TAR_BLOCK])
{
    static const struct {
        const char *magic;
        size_t len;
    } magics[] = {{"QFI\xfb", 4},         {"KDMV", 4},     {"COWD", 4},
                  {"conectix", 8},        {"vhdxfile", 8}, {"QED\0", 4},
                  {"# Disk Descript", 15}};

    for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
        if (memcmp(h, magics[i].magic, magics[i].len) == 0)
            return true;
    }
    return h[510] == 0x55 && h[511] == 0xaa;
}

static enum plt_status probe_contents(struct tar *t, struct plt_io *io,
                                      struct plt_error *err)
{
    uint8_t head[TAR_BLOCK];
    unsigned n = 0;

    for (size_t i = 0; i < t->n_members && n < MAX_CONTENT_PROBES; i++) {
        struct tar_member *const m = &t->members[i];
        if (!is_file(m->type) || m->stored < TAR_BLOCK ||
            m->form == TAR_PAX_1_0)
            continue;
        n++;
        const struct plt_seg seg = {m->data, TAR_BLOCK, head};
        const enum plt_status st = t->child->read(t->child, io, &seg, 1, err);
        if (st != PLT_OK)
            return st;
        m->is_candidate = looks_like_disk(head);
    }
    return PLT_OK;
}

/* The only candidate, or why there is none. */
static enum plt_status pick(struct tar *t, const struct tar_member **out,
                            struct plt_error *err)
{
    size_t n = 0;

    for (size_t i = 0; i < t->n_members; i++) {
        if (t->members[i].is_candidate) {
            n++;
            *out = &t->members[i];
        }
    }
    if (n == 1)
        return PLT_OK;
    if (n == 0)
        return plt_fail(err, PLT_NOT_FOUND, "no disk image in the archive");
    return plt_fail(err, PLT_CHOICE, "%zu disk images in the archive", n);
}

/* ---- OVF ---- */

static const char first_chunk[] = ".000000000";

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* A file by its name, or the first chunk of one. */
static struct tar_member *find_file(struct tar *t, const char *name)
{
    for (size_t i = 0; i < t->n_members; i++) {
        struct tar_member *const m = &t->members[i];
        const size_t n = strlen(name);
        if (!is_file(m->type))
            continue;
        if (same_name(m->name, name) || (strncmp(m->name, name, n) == 0 &&
                                         strcmp(m->name + n, first_chunk) == 0))
            return m;
    }
    return NULL;
}

/* What the OVF calls a disk is one, and nothing else is. */
static enum plt_status take_ovf(struct tar *t, struct plt_io *io,
                                const struct tar_member *m,
                                struct plt_error *err)
{
    uint8_t *const text =
        m->stored <= TAR_MAX_OVF ? malloc((size_t)m->stored + 1) : NULL;
    const struct plt_seg seg = {m->data, (size_t)m->stored, text};
    size_t n_there = 0;

    if (!text)
        return plt_fail(err, PLT_CORRUPT, "an OVF of %llu bytes",
                        (unsigned long long)m->stored);
    enum plt_status st = t->child->read(t->child, io, &seg, 1, err);
    if (st == PLT_OK)
        st = tar_ovf_parse(&t->ovf, text, (size_t)m->stored, err);
    free(text);
    for (size_t i = 0; st == PLT_OK && i < t->ovf.n; i++)
        n_there += find_file(t, t->ovf.v[i].href) != NULL;
    if (st != PLT_OK || !n_there)
        return st;
    for (size_t i = 0; i < t->n_members; i++)
        t->members[i].is_candidate = false;
    for (size_t i = 0; i < t->ovf.n; i++) {
        struct tar_member *const disk = find_file(t, t->ovf.v[i].href);
        if (disk)
            disk->is_candidate = true;
    }
    return PLT_OK;
}

/* The text in quotes, as a descriptor names its files. */
static bool quotes(const char *text, const char *name)
{
    const char *const slash = strrchr(name, '/');
    const char *const base = slash ? slash + 1 : name;
    const size_t n = strlen(base);

    for (const char *p = text; (p = strstr(p, base)) != NULL; p++)
        if (p > text && p[-1] == '"' && p[n] == '"')
            return true;
    return false;
}

/* A VMDK in several files (a Vagrant box of VMware's): what a descriptor names,
 * extents and parents, is no disk of its own. */
static enum plt_status drop_named(struct tar *t, struct plt_io *io,
                                  struct plt_error *err)
{
    enum { MAX_DESCRIPTOR = 64 * 1024, MAX_DESCRIPTORS = 64 };
    char *const text = malloc(MAX_DESCRIPTOR + 1);
    enum plt_status st = PLT_OK;
    unsigned n = 0;

    if (!text)
        return plt_fail(err, PLT_NOMEM, "a descriptor");
    for (size_t i = 0; i < t->n_members && st == PLT_OK; i++) {
        const struct tar_member *const m = &t->members[i];
        if (!m->is_candidate || !ends_with(m->name, ".vmdk") || !m->stored ||
            m->stored > MAX_DESCRIPTOR || m->form != TAR_DENSE ||
            n++ == MAX_DESCRIPTORS)
            continue;
        const struct plt_seg seg = {m->data, (size_t)m->stored, text};
        st = t->child->read(t->child, io, &seg, 1, err);
        text[m->stored] = '\0';
        if (st != PLT_OK || strncmp(text, "# Disk Descript", 15) != 0)
            continue;
        for (size_t k = 0; k < t->n_members; k++)
            if (k != i && t->members[k].is_candidate &&
                quotes(text, t->members[k].name))
                t->members[k].is_candidate = false;
    }
    free(text);
    return st;
}

/* Which of the candidates are disks: the OVF knows, or the descriptors. */
static enum plt_status look_for_ovf(struct tar *t, struct plt_io *io,
                                    struct plt_error *err)
{
    for (size_t i = 0; i < t->n_members; i++) {
        const struct tar_member *const m = &t->members[i];
        if (is_file(m->type) && m->form == TAR_DENSE && m->stored &&
            ends_with(m->name, ".ovf"))
            return take_ovf(t, io, m, err);
    }
    return drop_named(t, io, err);
}

/* DSP0243 7.1: a file in chunks, NAME.000000000 and so on. */
static enum plt_status enter_chunks(struct tar *t, const char *first,
                                    struct plt_error *err)
{
    const size_t stem = strlen(first) - strlen(first_chunk);
    enum plt_status st = PLT_OK;
    uint64_t size = 0;

    for (unsigned no = 0; st == PLT_OK; no++) {
        char number[16];
        struct tar_member *m = NULL;
        (void)snprintf(number, sizeof(number), ".%09u", no);
        for (size_t i = 0; i < t->n_members && !m; i++) {
            if (strncmp(t->members[i].name, first, stem) == 0 &&
                strcmp(t->members[i].name + stem, number) == 0 &&
                is_file(t->members[i].type) && t->members[i].form == TAR_DENSE)
                m = &t->members[i];
        }
        if (!m)
            break;
        if (!m->stored)
            continue;
        if (m->stored > PLT_SIZE_MAX - size)
            return plt_fail(err, PLT_CORRUPT, "chunks of more than 8 EiB");
        st = tar_map_add(&t->map, size + m->stored,
                         (struct tar_piece){size, m->stored}, err);
        if (st == PLT_OK) {
            t->map.stored[t->map.n - 1] = m->data;
            size += m->stored;
        }
    }
    t->member.name = strndup(first, stem);
    t->member.size = t->member.stored = size;
    return st == PLT_OK && !t->member.name ? plt_fail(err, PLT_NOMEM, "a name")
                                           : st;
}

enum plt_status tar_walk_all(struct tar *t, struct plt_io *io,
                             struct plt_error *err)
{
    bool is_end = false;
    enum plt_status st = PLT_OK;

    while (!is_end && st == PLT_OK)
        st = walk_on(t, io, &is_end, err);
    return st;
}

static bool is_contract_name(const char *name)
{
    const char *const slash = strrchr(name, '/');
    const char *const base = slash ? slash + 1 : name;
    return strcmp(base, "disk.raw") == 0 || strcmp(base, "box.img") == 0;
}

/* Walk until the member is found.  *out points into the list. */
static enum plt_status find_member(struct tar *t, struct plt_io *io,
                                   const char *name,
                                   const struct tar_member **out,
                                   struct plt_error *err)
{
    const bool is_forward = (t->child->flags & PLT_CHILD_FORWARD) != 0;
    bool is_end = false, has_candidate = false;

    for (;;) {
        enum plt_status st = walk_on(t, io, &is_end, err);
        if (st != PLT_OK)
            return st;
        if (is_end)
            break;
        const struct tar_member *const m = &t->members[t->n_members - 1];
        if (name && same_name(m->name, name)) {
            *out = linked(t, m);
            if (*out)
                return PLT_OK;
            return plt_fail(err, PLT_NOT_FOUND, "%.100s is not a file", name);
        }
        if (!name && is_forward && m->is_candidate && !has_candidate &&
            is_contract_name(m->name)) {
            *out = m;
            return PLT_OK;
        }
        has_candidate = has_candidate || m->is_candidate;
    }
    if (name) {
        *out = find_file(t, name); /* in chunks, perhaps */
        return *out ? PLT_OK
                    : plt_fail(err, PLT_NOT_FOUND, "no member %.100s", name);
    }
    enum plt_status st = PLT_OK;
    if (!has_candidate)
        st = probe_contents(t, io, err);
    if (st == PLT_OK)
        st = look_for_ovf(t, io, err);
    return st == PLT_OK ? pick(t, out, err) : st;
}

/* The same, by name, in the list that another open image keeps.  *out is a copy
 * without its texts. */
static enum plt_status find_beside(struct tar *b, struct plt_io *io,
                                   const char *name, struct tar_member *out,
                                   struct plt_error *err)
{
    const struct tar_member *m = NULL;
    enum plt_status st = PLT_OK;

    (void)pthread_mutex_lock(&b->lock);
    for (size_t i = 0; i < b->n_members && !m; i++)
        if (same_name(b->members[i].name, name))
            m = &b->members[i];
    if (!m) {
        st = find_member(b, io, name, &m, err);
    } else {
        m = linked(b, m);
        if (!m)
            st = plt_fail(err, PLT_NOT_FOUND, "%.100s is not a file", name);
    }
    if (st == PLT_OK) {
        *out = *m;
        out->name = out->link = NULL;
    }
    (void)pthread_mutex_unlock(&b->lock);
    return st;
}

/* Read the member's headers again, this time for its map. */
static enum plt_status enter(struct tar *t, struct plt_io *io,
                             const struct tar_member *m, struct plt_error *err)
{
    struct tar_walk again;

    tar_walk_init(&again, t->child, m->header);
    again.want_map = &t->map;
    enum plt_status st = tar_walk_next(&again, io, &t->member, err);
    if (st != PLT_OK)
        return st;
    if (!t->member.name)
        return plt_fail(err, PLT_CHANGED, "the member is gone");
    t->map_mem = t->map.cap * (sizeof(struct tar_piece) + sizeof(uint64_t));
    st = t->host->mem_take(t->host, t->map_mem, err);
    if (st != PLT_OK)
        t->map_mem = 0;
    else if (t->child->size != PLT_SIZE_UNKNOWN &&
             !plt_span_ok(t->member.data, t->member.stored, t->child->size))
        st = plt_fail_at(err, PLT_CORRUPT, t->member.data,
                         "the archive ends inside %.100s", t->member.name);
    return st;
}

static enum plt_status tar_open(const struct plt_open_args *args, void **image,
                                struct plt_opened *out, struct plt_error *err)
{
    const char *const name =
        plt_setting_text(args->settings, args->n_settings, "member");
    const struct tar_member *m = NULL;
    struct tar *const t = calloc(1, sizeof(*t));

    if (!t)
        return plt_fail(err, PLT_NOMEM, "an image");
    t->host = args->host;
    t->child = args->child;
    (void)pthread_mutex_init(&t->lock, NULL);
    tar_walk_init(&t->walk, args->child, 0);
    out->size = 0;
    if (PLT_HAS(args, beside) && args->beside)
        t->beside = ((struct tar *)args->beside)->beside
                        ? ((struct tar *)args->beside)->beside
                        : (struct tar *)args->beside;
    if (!(args->flags & PLT_OPEN_LIST)) {
        struct tar_member copy;
        enum plt_status st;
        if (t->beside && name) {
            st = find_beside(t->beside, args->io, name, &copy, err);
            m = &copy;
        } else {
            st = find_member(t, args->io, name, &m, err);
        }
        if (st == PLT_OK && m->name && ends_with(m->name, first_chunk))
            st = enter_chunks(t, m->name, err);
        else if (st == PLT_OK)
            st = enter(t, args->io, m, err);
        if (st != PLT_OK) {
            tar_close(t);
            return st;
        }
        out->size = t->member.size;
    }
    out->flags =
        args->child->flags & PLT_CHILD_FORWARD ? PLT_OPENED_FORWARD : 0;
    *image = t;
    return PLT_OK;
}

/* ---- Reading ---- */

/* Child segments being gathered: on the stack, or more. */
struct gather {
    struct plt_seg local[ON_STACK], *segs;
    size_t n, cap;
};

static bool gather_add(struct gather *g, struct plt_seg seg)
{
    if (g->n == g->cap) {
        struct plt_seg *const grown = malloc(g->cap * 2 * sizeof(*grown));
        if (!grown)
            return false;
        memcpy(grown, g->segs, g->n * sizeof(*grown));
        if (g->segs != g->local)
            free(g->segs);
        g->segs = grown;
        g->cap *= 2;
    }
    g->segs[g->n++] = seg;
    return true;
}

/* Holes are filled here, data is gathered for the child. */
static bool map_segment(const struct tar *t, struct plt_seg seg,
                        struct gather *g)
{
    size_t i = tar_map_find(&t->map, seg.off);
    uint8_t *buf = (uint8_t *)seg.buf;

    while (seg.len) {
        const bool is_left = i < t->map.n;
        const uint64_t start = is_left ? t->map.pieces[i].off : UINT64_MAX;
        size_t now = seg.len;
        if (start > seg.off) {
            if (start - seg.off < now)
                now = (size_t)(start - seg.off);
            memset(buf, 0, now);
        } else {
            const uint64_t in = seg.off - start;
            const uint64_t rest = t->map.pieces[i].len - in;
            if (rest <= now)
                now = (size_t)rest;
            if (!gather_add(
                    g, (struct plt_seg){t->member.data + t->map.stored[i] + in,
                                        now, buf}))
                return false;
            i += rest <= now;
        }
        buf += now;
        seg.off += now;
        seg.len -= now;
    }
    return true;
}

static enum plt_status tar_read(void *image, struct plt_io *io,
                                const struct plt_seg *segs, size_t n,
                                struct plt_error *err)
{
    struct tar *const t = (struct tar *)image;
    struct gather g = {.cap = ON_STACK};
    enum plt_status st = PLT_OK;

    g.segs = g.local;
    for (size_t i = 0; i < n && st == PLT_OK; i++) {
        if (!map_segment(t, segs[i], &g))
            st = plt_fail(err, PLT_NOMEM, "a list of segments");
    }
    if (st == PLT_OK && g.n)
        st = t->child->read(t->child, io, g.segs, g.n, err);
    if (g.segs != g.local)
        free(g.segs);
    return st;
}

static enum plt_status tar_lend(void *image, struct plt_io *io, uint64_t off,
                                uint64_t len, plt_lend_fn *emit, void *cookie)
{
    const struct tar *const t = (const struct tar *)image;
    const uint64_t end = off + len;
    size_t i = tar_map_find(&t->map, off);

    if (!PLT_HAS(t->child, lend))
        return PLT_AGAIN;
    while (off < end) {
        const uint64_t start = i < t->map.n ? t->map.pieces[i].off : UINT64_MAX;
        uint64_t now = (start < end ? start : end) - off;
        if (start > off) {
            if (!emit(cookie, NULL, (size_t)now, NULL))
                return PLT_AGAIN;
            off += now;
            continue;
        }
        const uint64_t in = off - start;
        now = t->map.pieces[i].len - in;
        if (now > end - off)
            now = end - off;
        if (t->child->lend(t->child, io, t->member.data + t->map.stored[i] + in,
                           now, emit, cookie) != PLT_OK)
            return PLT_AGAIN;
        off += now;
        i++;
    }
    return PLT_OK;
}

/* What the child says of a piece, moved to where the piece stands. */
struct moved {
    uint64_t child_off, off, len;
    plt_extent_fn *emit;
    void *cookie;
    bool has_stopped;
};

static bool emit_moved(void *cookie, const struct plt_extent *extent)
{
    struct moved *const m = (struct moved *)cookie;
    struct plt_extent e = *extent;

    e.off = e.off - m->child_off + m->off;
    e.child_off = extent->off;
    if (!(e.flags & (PLT_EXTENT_ZERO | PLT_EXTENT_COMPRESSED)))
        e.flags |= PLT_EXTENT_MAPPED;
    else
        e.flags &= ~(uint32_t)PLT_EXTENT_MAPPED;
    m->has_stopped = !m->emit(m->cookie, &e);
    return !m->has_stopped;
}

static enum plt_status tar_extents(void *image, struct plt_io *io, uint64_t off,
                                   uint64_t len, plt_extent_fn *emit,
                                   void *cookie, struct plt_error *err)
{
    struct tar *const t = (struct tar *)image;
    const uint64_t end = off + len;
    size_t i = tar_map_find(&t->map, off);

    while (off < end) {
        const uint64_t start = i < t->map.n ? t->map.pieces[i].off : UINT64_MAX;
        if (start > off) {
            const struct plt_extent hole = {
                .off = off,
                .len = (start < end ? start : end) - off,
                .flags = PLT_EXTENT_ZERO | PLT_EXTENT_HOLE};
            if (!emit(cookie, &hole))
                return PLT_OK;
            off += hole.len;
            continue;
        }
        const uint64_t in = off - start;
        uint64_t now = t->map.pieces[i].len - in;
        if (now > end - off)
            now = end - off;
        struct moved m = {.child_off = t->member.data + t->map.stored[i] + in,
                          .off = off,
                          .len = now,
                          .emit = emit,
                          .cookie = cookie};
        const enum plt_status st = t->child->extents(t->child, io, m.child_off,
                                                     now, emit_moved, &m, err);
        if (st != PLT_OK || m.has_stopped)
            return st;
        off += now;
        i++;
    }
    return PLT_OK;
}

static enum plt_status tar_members(void *image, struct plt_io *io,
                                   plt_member_fn *emit, void *cookie,
                                   struct plt_error *err)
{
    struct tar *const t = (struct tar *)image;
    bool is_end = false, has_candidate = false;
    enum plt_status st = PLT_OK;

    (void)pthread_mutex_lock(&t->lock);
    while (!is_end && st == PLT_OK)
        st = walk_on(t, io, &is_end, err);
    for (size_t i = 0; i < t->n_members; i++)
        has_candidate = has_candidate || t->members[i].is_candidate;
    if (st == PLT_OK && !has_candidate)
        st = probe_contents(t, io, err);
    if (st == PLT_OK && !t->member.name && !t->ovf.n) /* opened to be listed */
        st = look_for_ovf(t, io, err);
    const size_t n = t->n_members;
    (void)pthread_mutex_unlock(&t->lock);
    /* The walk is at its end: the list does not move any more. */
    for (size_t i = 0; i < n && st == PLT_OK; i++) {
        const struct tar_member *const m = &t->members[i];
        const struct plt_member out = {.name = m->name,
                                       .size = m->size,
                                       .stored = m->stored,
                                       .off = m->data,
                                       .mtime = m->mtime,
                                       .type = m->type,
                                       .is_sparse = m->form != TAR_DENSE,
                                       .is_candidate = m->is_candidate};
        if (!emit(cookie, &out))
            break;
    }
    return st;
}

static void tar_info(void *image, struct plt_info *info)
{
    static const char *const forms[] = {"none", "oldgnu", "pax-0.0", "pax-0.1",
                                        "pax-1.0"};
    const struct tar *const t = (const struct tar *)image;

    if (!t->member.name)
        return;
    info->text(info, "member", t->member.name);
    info->number(info, "member-offset", t->member.data);
    info->number(info, "member-size", t->member.stored);
    info->text(info, "sparse-format", forms[t->member.form]);
    if (t->member.form != TAR_DENSE)
        info->number(info, "data-pieces", t->map.n);
    if (!t->ovf.n)
        return;
    info->array_begin(info, "ovf-disks");
    for (size_t i = 0; i < t->ovf.n; i++) {
        const struct tar_ovf_disk *const d = &t->ovf.v[i];
        info->object_begin(info, NULL);
        info->text(info, "file", d->href);
        if (d->capacity)
            info->number(info, "capacity", d->capacity);
        if (d->format)
            info->text(info, "format", d->format);
        if (d->compression)
            info->text(info, "compression", d->compression);
        info->boolean(info, "chunked", d->is_chunked);
        info->end(info);
    }
    info->end(info);
}

static const struct plt_option tar_options[] = {
    {"member", PLT_OPTION_TEXT, "which file; default: the only disk image"},
    {NULL, PLT_OPTION_TEXT, NULL}};

PLT_DRIVER(.name = "tar", .summary = "a member of a tar archive, sparse or not",
           .kind = PLT_KIND_ARCHIVE, .threads = PLT_CONCURRENT_READS,
           .caps = PLT_CAP_NOWAIT, .options = tar_options, .probe = tar_probe,
           .open = tar_open, .close = tar_close, .read = tar_read,
           .extents = tar_extents, .members = tar_members, .check = tar_check,
           .info = tar_info, .lend = tar_lend)
