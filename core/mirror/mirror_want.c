/* SPDX-License-Identifier: Apache-2.0 */
/* Mirrors that a configuration wants. */
#include <string.h>

#include "mirror/mirror_inside.h"

static const char *const changing[] = {"priority", "bandwidth", "follow",
                                       "schedule", "trace",     "fetch"};

enum plt_status mirrors_check(const struct mirrors_config *config,
                              json_t *asked, struct plt_error *err)
{
    static const char unknown[] = "a mirror has no ";
    struct mirror_entry entry;

    enum plt_status st = entry_parse(&entry, asked, err);
    if (st != PLT_OK && strncmp(err->text, unknown, sizeof(unknown) - 1) == 0)
        return plt_fail(err, PLT_UNSUPPORTED, "unknown key");
    if (st != PLT_OK)
        return st;
    st = entry_check(&entry, config, err);
    entry_release(&entry);
    return st;
}

/* What of `asked` may change later and is not so now; new. */
static json_t *difference(json_t *now, json_t *asked)
{
    json_t *const change = json_object();

    for (size_t i = 0; i < sizeof(changing) / sizeof(changing[0]); i++) {
        json_t *const value = json_object_get(asked, changing[i]);
        if (value && !json_equal(value, json_object_get(now, changing[i])))
            (void)json_object_set(change, changing[i], value);
    }
    return change;
}

/* As it is, against as it shall be; both with all keys. */
static enum plt_status adjust(struct mirrors *all, struct mirror *m,
                              json_t *asked, struct plt_error *err)
{
    static const char *const fixed[] = {"source", "output", "signed"};

    lock_take(&m->lock);
    json_t *const now = entry_json(&m->entry);
    lock_give(&m->lock);
    enum plt_status st =
        now && asked ? PLT_OK : plt_fail(err, PLT_NOMEM, "a mirror");
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        if (st == PLT_OK && !json_equal(json_object_get(now, fixed[i]),
                                        json_object_get(asked, fixed[i])))
            st = plt_fail(err, PLT_EXISTS,
                          "there is a mirror %.64s with another \"%s\": it "
                          "needs to be deleted first",
                          m->entry.name, fixed[i]);
    }
    json_t *const change = st == PLT_OK ? difference(now, asked) : NULL;
    if (change && json_object_size(change))
        st = mirrors_change(all, m->entry.name, change, err);
    json_decref(change);
    json_decref(now);
    return st;
}

enum plt_status mirrors_want(struct mirrors *all, json_t *asked,
                             struct plt_error *err)
{
    struct mirror_entry entry;
    bool is_new;

    enum plt_status st = entry_parse(&entry, asked, err);
    if (st != PLT_OK)
        return st;
    struct mirror *const m = mirrors_find(all, entry.name);
    if (m) {
        json_t *const whole = entry_json(&entry);
        st = adjust(all, m, whole, err);
        json_decref(whole);
        mirror_unref(m);
    } else {
        st = mirrors_add(all, asked, &is_new, err);
    }
    entry_release(&entry);
    return st;
}
