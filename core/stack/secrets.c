/* SPDX-License-Identifier: Apache-2.0 */
#include "stack/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <platter/driver.h>

#include "stack/policy.h"
#include "util/auto.h"
#include "util/lock.h"

enum { MAX_SECRETS = 256 };

struct secret {
    char *name;
    size_t len;
    uint8_t bytes[PLT_MAX_SECRET];
};

struct table {
    struct lock lock; /* guards the rest */
    struct secret *v[MAX_SECRETS];
    size_t n;
};

/* Behind a pointer, so that asking may lock secrets that are const to the
 * asker. */
struct secrets {
    struct table *table;
};

struct secrets *secrets_new(void)
{
    struct secrets *const secrets = calloc(1, sizeof(*secrets));

    if (!secrets)
        return NULL;
    secrets->table = calloc(1, sizeof(*secrets->table));
    if (!secrets->table) {
        free(secrets);
        return NULL;
    }
    lock_init(&secrets->table->lock);
    return secrets;
}

static void free_one(struct secret *s)
{
    free(s->name);
    OPENSSL_cleanse(s, sizeof(*s));
    free(s);
}

void secrets_free(struct secrets *secrets)
{
    if (!secrets)
        return;
    for (size_t i = 0; i < secrets->table->n; i++)
        free_one(secrets->table->v[i]);
    lock_release(&secrets->table->lock);
    free(secrets->table);
    free(secrets);
}

void secrets_replace(struct secrets *secrets, struct secrets *other)
{
    struct table *const a = secrets->table, *const b = other->table;

    lock_take(&a->lock);
    for (size_t i = 0; i < MAX_SECRETS; i++) {
        struct secret *const old = a->v[i];
        a->v[i] = b->v[i];
        b->v[i] = old;
    }
    const size_t n = a->n;
    a->n = b->n;
    b->n = n;
    lock_give(&a->lock);
}

static const struct secret *find(const struct secrets *secrets,
                                 const char *name, size_t len)
{
    const struct table *const t = secrets->table;

    for (size_t i = 0; i < t->n; i++)
        if (strlen(t->v[i]->name) == len &&
            memcmp(t->v[i]->name, name, len) == 0)
            return t->v[i];
    return NULL;
}

static enum plt_status read_file(struct secret *s, const char *path,
                                 struct plt_error *err)
{
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t more;

    if (fd < 0)
        return plt_fail_sys(err, PLT_IO, errno, "secret %.64s", s->name);
    for (;;) {
        const ssize_t n =
            read(fd, s->bytes + s->len, sizeof(s->bytes) - s->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return plt_fail_sys(err, PLT_IO, errno, "secret %.64s", s->name);
        s->len += (size_t)n;
        if (n == 0 || s->len == sizeof(s->bytes))
            break;
    }
    if (!s->len || (s->len == sizeof(s->bytes) && read(fd, &more, 1) != 0))
        return plt_fail(err, PLT_INVALID,
                        "secret %.64s is empty or longer than %d bytes",
                        s->name, PLT_MAX_SECRET);
    return PLT_OK;
}

enum plt_status secrets_add_file(struct secrets *secrets, const char *name,
                                 const char *path, struct plt_error *err)
{
    if (!policy_name_ok(name) || find(secrets, name, strlen(name)))
        return plt_fail(err, PLT_INVALID, "secret name %.64s is %s", name,
                        policy_name_ok(name) ? "taken" : "not well formed");
    if (secrets->table->n == MAX_SECRETS)
        return plt_fail(err, PLT_INVALID, "more than %d secrets", MAX_SECRETS);
    struct secret *const s = calloc(1, sizeof(*s));
    if (s)
        s->name = strdup(name);
    if (!s || !s->name) {
        free(s);
        return plt_fail(err, PLT_NOMEM, "a secret");
    }
    const enum plt_status st = read_file(s, path, err);
    if (st == PLT_OK)
        secrets->table->v[secrets->table->n++] = s;
    else
        free_one(s);
    return st;
}

enum plt_status secrets_get(const struct secrets *secrets, const char *names,
                            unsigned i, uint8_t *buf, size_t cap, size_t *len,
                            struct plt_error *err)
{
    size_t n = names ? strcspn(names, ",") : 0;

    for (; names && i; i--) {
        names = names[n] ? names + n + 1 : NULL;
        n = names ? strcspn(names, ",") : 0;
    }
    if (!names)
        return plt_fail(err, PLT_NOT_FOUND, "no further secret");
    lock_take(&secrets->table->lock);
    const struct secret *const s = find(secrets, names, n);
    const bool is_good = s && s->len <= cap;
    if (is_good) {
        memcpy(buf, s->bytes, s->len);
        *len = s->len;
    }
    lock_give(&secrets->table->lock);
    return is_good ? PLT_OK
                   : plt_fail(err, PLT_DENIED, "no secret of that name");
}
