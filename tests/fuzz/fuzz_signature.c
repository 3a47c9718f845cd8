/* SPDX-License-Identifier: Apache-2.0 */
/* The parameters of a signed URL, from any path and query: what is left has
 * none of them, is no longer than it was, and is left alone the second time;
 * who is given one with the right code is believed, and with any other not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_must.h"
#include "stack/signature.h"

/* Is there still a parameter of that name in the list? */
static bool has(const char *list, char divider, const char *name)
{
    const char stop[] = {divider, '\0'};

    for (const char *p = list; p && *p;) {
        if (strncmp(p, name, strlen(name)) == 0)
            return true;
        p += strcspn(p, stop);
        p += *p != '\0';
    }
    return false;
}

static void check_left(const char *path, const char *query)
{
    static const char *const names[] = {"expires=", "key=", "signature="};
    const char *const last = strrchr(path, '/');
    const char *const params = last ? strchr(last, ';') : NULL;

    for (size_t i = 0; i < 3; i++) {
        MUST(!has(query, '&', names[i]));
        MUST(!params || !has(params + 1, ';', names[i]));
    }
}

/* What is made is taken, and the path is what it was. */
static void check_round_trip(const char *path, const struct signature *s)
{
    char code[SIGNATURE_TEXT];
    const size_t size = strlen(path) + 256;
    char *const text = malloc(size);
    struct signature again;

    MUST(text);
    signature_format(s->mac, code);
    MUST(strlen(code) == SIGNATURE_TEXT - 1);
    (void)snprintf(text, size, "%s;expires=%lld;key=%s;signature=%s", path,
                   (long long)s->expires, s->key, code);
    signature_take(text, NULL, &again);
    MUST(strrchr(path, '/') == NULL ||
         (again.state == SIGNATURE_GIVEN && again.expires == s->expires &&
          strcmp(again.key, s->key) == 0 &&
          memcmp(again.mac, s->mac, sizeof(s->mac)) == 0 &&
          strcmp(text, path) == 0));
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *const path = calloc(1, size + 1);
    struct signature s, again;

    MUST(path);
    memcpy(path, data, size);
    char *const cut = memchr(path, '?', strlen(path));
    char none[] = "", *const query = cut ? cut + 1 : none;
    if (cut)
        *cut = '\0';
    const size_t path_len = strlen(path), query_len = strlen(query);
    signature_take(path, query, &s);
    MUST(strlen(path) <= path_len && strlen(query) <= query_len);
    MUST(s.state != SIGNATURE_NONE ||
         (strlen(path) == path_len && strlen(query) == query_len));
    check_left(path, query);
    signature_take(path, query, &again);
    MUST(again.state == SIGNATURE_NONE);
    if (s.state == SIGNATURE_GIVEN)
        check_round_trip(path, &s);
    free(path);
    return 0;
}
