/* SPDX-License-Identifier: Apache-2.0 */
/* The code behind platter/option.h.  One number parser for every option. */
#include <platter/ckd.h>
#include <platter/option.h>

#include <string.h>

const char *plt_setting_text(const struct plt_setting *s, size_t n,
                             const char *name)
{
    while (n-- > 0) {
        if (strcmp(s[n].name, name) == 0)
            return s[n].value;
    }
    return NULL;
}

bool plt_parse_bytes(const char *text, uint64_t *out)
{
    static const char suffixes[] = "bkMGTPE";
    uint64_t value = 0;
    const char *p = text;

    if (*p < '0' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (ckd_mul(&value, value, (uint64_t)10) ||
            ckd_add(&value, value, (uint64_t)(*p - '0')))
            return false;
    }
    if (*p) {
        const char c = *p == 'K' ? 'k' : *p;
        const char *const s = strchr(suffixes, c);
        if (!s || p[1])
            return false;
        for (ptrdiff_t i = s - suffixes; i > 0; i--) {
            if (ckd_mul(&value, value, (uint64_t)1024))
                return false;
        }
    }
    *out = value;
    return true;
}

bool plt_parse_bool(const char *text, bool *out)
{
    static const struct {
        const char *word;
        bool value;
    } words[] = {{"on", true},   {"off", false},   {"yes", true}, {"no", false},
                 {"true", true}, {"false", false}, {"1", true},   {"0", false}};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(text, words[i].word) == 0) {
            *out = words[i].value;
            return true;
        }
    }
    return false;
}

uint64_t plt_setting_bytes(const struct plt_setting *s, size_t n,
                           const char *name, uint64_t otherwise)
{
    const char *const text = plt_setting_text(s, n, name);
    uint64_t value = otherwise;

    if (text && !plt_parse_bytes(text, &value))
        return otherwise; /* cannot happen: the core has checked it */
    return value;
}

bool plt_setting_bool(const struct plt_setting *s, size_t n, const char *name,
                      bool otherwise)
{
    const char *const text = plt_setting_text(s, n, name);
    bool value = otherwise;

    if (text && !plt_parse_bool(text, &value))
        return otherwise; /* cannot happen: the core has checked it */
    return value;
}
