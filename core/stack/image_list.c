/* SPDX-License-Identifier: Apache-2.0 */
/* What images there are: registered, open, or both.
 *
 * There may be thousands of names and a page shows a hundred: what is searched
 * and sorted by is gathered without making JSON, which only the rows of the
 * page become. */
#include <stdlib.h>
#include <string.h>

#include "cache/cache.h"
#include "stack/image_inside.h"
#include "util/auto.h"

enum { STACK_TEXT = 128 };

enum state { IDLE, OPENING, OPEN };

/* What is known of an image of the table, when it was looked at. */
struct facts {
    json_t *asked; /* image_reference_json; new */
    enum state state;
    unsigned readers;
    uint64_t size, source_size; /* PLT_SIZE_UNKNOWN: not known */
    uint64_t cached;
    const char *format;     /* a driver's word: they are never unloaded */
    char stack[STACK_TEXT]; /* drivers with commas, guest side first */
    char etag[IMAGE_ETAG];
    struct facts *next;
};

struct row {
    const struct catalogue_row *registered; /* or NULL; borrowed */
    struct facts *facts; /* NULL: it is in no table; borrowed */
    const char *name;
    uint64_t key; /* of the order that was asked for */
    bool has_key;
};

/* Layers of all open images, each with the image that it belongs to. */
struct owned {
    uint64_t owner;
    uint64_t bytes;
    struct facts *facts;
};

struct listing {
    struct catalogue_row *registered; /* sorted by name */
    size_t n_registered;
    struct row *v; /* the registered ones in their order, then others */
    size_t n, cap;
    struct facts *facts; /* of all that are in the table */
    struct owned *owned;
    size_t n_owned, cap_owned;
    bool has_no_memory;
};

/* ---- Gathering ---- */

static int by_registered(const void *key, const void *row)
{
    return strcmp((const char *)key, ((const struct catalogue_row *)row)->name);
}

/* The row of a registered image, when it is opened as registered. */
static struct row *row_of(struct listing *l, struct image *image)
{
    if (image_is_selected(image) || !l->n_registered)
        return NULL;
    const struct catalogue_row *const found =
        bsearch(image_name(image), l->registered, l->n_registered,
                sizeof(*l->registered), by_registered);
    return found ? &l->v[found - l->registered] : NULL;
}

/* Room for one more; false: no memory. */
static bool grow(void **v, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return true;
    void *const grown = realloc(*v, (2 * *cap + 64) * size);
    if (!grown)
        return false;
    *v = grown;
    *cap = 2 * *cap + 64;
    return true;
}

static bool add_row(struct listing *l, const struct row *row)
{
    void *v = l->v;

    if (!grow(&v, l->n, &l->cap, sizeof(*l->v)))
        return false;
    l->v = v;
    l->v[l->n++] = *row;
    return true;
}

/* The layers' names, and who owns blocks of the cache. */
static bool add_layers(struct listing *l, struct image *image, struct facts *f)
{
    size_t len = 0;

    for (struct node *n = stack_top(image_stack(image)); n; n = n->below) {
        void *v = l->owned;
        if (!grow(&v, l->n_owned, &l->cap_owned, sizeof(*l->owned)))
            return false;
        l->owned = v;
        l->owned[l->n_owned++] = (struct owned){.owner = n->owner, .facts = f};
        const size_t more = strlen(n->driver->name);
        if (len + more + 2 > sizeof(f->stack))
            continue; /* deeper than any that is told */
        if (len)
            f->stack[len++] = ',';
        memcpy(f->stack + len, n->driver->name, more + 1);
        len += more;
    }
    return true;
}

static bool learn(struct listing *l, struct image *image, struct facts *f)
{
    f->asked = image_reference_json(image);
    f->state = image_is_open(image) ? OPEN : OPENING;
    f->readers = image_readers(image);
    f->size = f->source_size = PLT_SIZE_UNKNOWN;
    if (f->state == OPEN) {
        f->size = image_size(image);
        f->source_size = node_size(stack_source(image_stack(image)));
        f->format = image_format(image);
        memcpy(f->etag, image_etag(image), strlen(image_etag(image)) + 1);
    }
    return f->asked && json_object_get(f->asked, "name") &&
           (f->state != OPEN || add_layers(l, image, f));
}

static void add_image(void *cookie, struct image *image)
{
    struct listing *const l = (struct listing *)cookie;

    if (image_is_of_url(image) || l->has_no_memory)
        return;
    struct facts *const f = calloc(1, sizeof(*f));
    if (!f) {
        l->has_no_memory = true;
        return;
    }
    f->next = l->facts;
    l->facts = f;
    if (!learn(l, image, f)) {
        l->has_no_memory = true;
        return;
    }
    struct row *const known = row_of(l, image);
    const struct row row = {
        .facts = f,
        .name = json_string_value(json_object_get(f->asked, "name"))};
    if (known)
        known->facts = f;
    else if (!add_row(l, &row))
        l->has_no_memory = true;
}

static int by_owner(const void *a, const void *b)
{
    const struct owned *const x = (const struct owned *)a;
    const struct owned *const y = (const struct owned *)b;
    return x->owner < y->owner ? -1 : x->owner > y->owner;
}

static void count_block(void *cookie, uint64_t owner, size_t len)
{
    struct listing *const l = (struct listing *)cookie;
    const struct owned key = {.owner = owner};
    struct owned *const found =
        l->n_owned
            ? bsearch(&key, l->owned, l->n_owned, sizeof(*l->owned), by_owner)
            : NULL;

    if (found)
        found->bytes += len;
}

/* Bytes of the cache to the images whose layers own them. */
static void add_cached(struct images *images, struct listing *l)
{
    if (!l->n_owned)
        return;
    qsort(l->owned, l->n_owned, sizeof(*l->owned), by_owner);
    cache_visit(images_cache(images), count_block, l);
    for (size_t i = 0; i < l->n_owned; i++)
        l->owned[i].facts->cached += l->owned[i].bytes;
}

static bool gather(struct images *images, struct listing *l)
{
    if (!catalogue_rows(images_catalogue(images), &l->registered,
                        &l->n_registered))
        return false;
    for (size_t i = 0; i < l->n_registered; i++) {
        const struct row row = {.registered = &l->registered[i],
                                .name = l->registered[i].name};
        if (!add_row(l, &row))
            return false;
    }
    images_visit(images, add_image, l);
    if (l->has_no_memory)
        return false;
    add_cached(images, l);
    return true;
}

static void listing_release(struct images *images, struct listing *l)
{
    while (l->facts) {
        struct facts *const f = l->facts;
        l->facts = f->next;
        json_decref(f->asked);
        free(f);
    }
    free(l->owned);
    free(l->v);
    if (l->registered)
        catalogue_rows_free(images_catalogue(images), l->registered,
                            l->n_registered);
}

/* ---- Choosing ---- */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static bool begins(const char *text, const char *with)
{
    while (*with && lower(*text) == lower(*with)) {
        text++;
        with++;
    }
    return !*with;
}

static bool has(const char *text, const char *part)
{
    if (!*part)
        return true;
    for (const char first = lower(*part); text && *text; text++) {
        if (lower(*text) == first && begins(text, part))
            return true;
    }
    return false;
}

static bool matches(const struct row *row, const struct images_query *q)
{
    const struct facts *const f = row->facts;

    if (q->name)
        return row->registered && strcmp(row->name, q->name) == 0;
    return !q->search || has(row->name, q->search) ||
           (row->registered && has(json_string_value(json_object_get(
                                       row->registered->told, "source")),
                                   q->search)) ||
           (f && (has(f->format, q->search) || has(f->stack, q->search)));
}

static void take_key(struct row *row, enum images_order order)
{
    const struct facts *const f = row->facts;
    const bool is_open = f && f->state == OPEN;

    switch (order) {
    case IMAGES_BY_NAME:
        break;
    case IMAGES_BY_SIZE:
        row->has_key = is_open && f->size != PLT_SIZE_UNKNOWN;
        row->key = row->has_key ? f->size : 0;
        break;
    case IMAGES_BY_CACHED:
        row->has_key = is_open;
        row->key = is_open ? f->cached : 0;
        break;
    case IMAGES_BY_READERS:
        row->has_key = f != NULL;
        row->key = f ? f->readers : 0;
        break;
    case IMAGES_BY_STATE:
        row->has_key = true;
        row->key = f ? f->state : IDLE;
        break;
    }
}

/* Of two that are opened by one name the ETags differ: no page has a row that
 * another one had. */
static int by_name(const void *a, const void *b)
{
    const struct row *const x = (const struct row *)a;
    const struct row *const y = (const struct row *)b;
    const int names = strcmp(x->name, y->name);

    if (names || !x->registered != !y->registered)
        return names ? names : !x->registered - !y->registered;
    return strcmp(x->facts ? x->facts->etag : "",
                  y->facts ? y->facts->etag : "");
}

static int by_name_down(const void *a, const void *b)
{
    return by_name(b, a);
}

static int by_key_of(const struct row *x, const struct row *y, bool is_down)
{
    if (x->has_key != y->has_key)
        return x->has_key ? -1 : 1;
    if (x->key != y->key)
        return (x->key < y->key) != is_down ? -1 : 1;
    return by_name(x, y);
}

static int by_key(const void *a, const void *b)
{
    return by_key_of((const struct row *)a, (const struct row *)b, false);
}

static int by_key_down(const void *a, const void *b)
{
    return by_key_of((const struct row *)a, (const struct row *)b, true);
}

/* Those that match, first and in order. */
static void choose(struct listing *l, const struct images_query *q)
{
    const bool is_name = q->order == IMAGES_BY_NAME;
    size_t n = 0;

    for (size_t i = 0; i < l->n; i++) {
        if (matches(&l->v[i], q))
            l->v[n++] = l->v[i];
    }
    l->n = n;
    for (size_t i = 0; i < n; i++)
        take_key(&l->v[i], q->order);
    if (n)
        qsort(l->v, n, sizeof(*l->v),
              is_name ? (q->is_descending ? by_name_down : by_name)
                      : (q->is_descending ? by_key_down : by_key));
}

/* ---- Telling ---- */

static json_t *stack_json(const char *text)
{
    json_t *const list = json_array();

    for (const char *p = text; *p;) {
        const size_t len = strcspn(p, ",");
        (void)json_array_append_new(list, json_stringn(p, len));
        p += len + (p[len] == ',');
    }
    return list;
}

static void set_number(json_t *row, const char *key, uint64_t value)
{
    (void)json_object_set_new(row, key, json_integer((json_int_t)value));
}

static void tell_facts(json_t *row, const struct facts *f)
{
    set_number(row, "readers", f->readers);
    if (f->state != OPEN)
        return;
    if (f->size != PLT_SIZE_UNKNOWN)
        set_number(row, "virtual-size", f->size);
    (void)json_object_set_new(row, "format", json_string(f->format));
    (void)json_object_set_new(row, "stack", stack_json(f->stack));
    if (f->source_size != PLT_SIZE_UNKNOWN)
        set_number(row, "source-size", f->source_size);
    (void)json_object_set_new(row, "etag", json_string(f->etag));
    set_number(row, "cached-bytes", f->cached);
}

/* new, or NULL */
static json_t *tell(const struct row *row)
{
    static const char *const states[] = {"idle", "opening", "open"};
    const struct catalogue_row *const c = row->registered;
    json_t *const out = c ? json_deep_copy(c->told)
                          : json_incref(row->facts->asked); /* ours alone */

    if (!out)
        return NULL;
    if (c)
        (void)json_object_set_new(
            out, "registered",
            json_string(c->is_configured ? "configuration" : "request"));
    (void)json_object_set_new(
        out, "state", json_string(states[row->facts ? row->facts->state : 0]));
    if (row->facts)
        tell_facts(out, row->facts);
    return out;
}

json_t *images_json(struct images *images, const struct images_query *q,
                    size_t *total)
{
    struct listing l = {.n = 0};
    json_t *list = NULL;

    *total = 0;
    if (gather(images, &l)) {
        choose(&l, q);
        *total = l.n;
        list = json_array();
        const size_t first = q->first < l.n ? q->first : l.n;
        const size_t end = l.n - first > q->most ? first + q->most : l.n;
        for (size_t i = first; i < end; i++)
            (void)json_array_append_new(list, tell(&l.v[i]));
    }
    listing_release(images, &l);
    return list;
}
