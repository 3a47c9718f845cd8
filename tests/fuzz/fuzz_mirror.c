/* SPDX-License-Identifier: Apache-2.0 */
/* What a mirror is told by others, by the first byte of the input: the head of
 * a manifest, an entry, a source, a list of leaves, a frame.  What is taken is
 * within bounds, and is written as it was read. */
#include <stdlib.h>
#include <string.h>

#include "fuzz_must.h"
#include "manifest/manifest_pack.h"
#include "mirror/mirror_inside.h"

static void try_head(const char *text, size_t len)
{
    struct mirror_head head;
    struct plt_error err;

    if (look_parse_head(text, len, &head, &err) == PLT_OK)
        MUST(head.size <= PLT_SIZE_MAX && !head.signature[0]);
}

/* What is asked for is told again, and means the same. */
static void try_entry(const char *text, size_t len)
{
    json_t *const asked = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
    struct mirror_entry entry, again;
    struct plt_error err;

    if (asked && entry_parse(&entry, asked, &err) == PLT_OK) {
        json_t *const told = entry_json(&entry);
        MUST(told);
        MUST(entry.priority >= -100 && entry.priority <= 100);
        MUST(entry_parse(&again, told, &err) == PLT_OK);
        json_t *const told_again = entry_json(&again);
        MUST(json_equal(told, told_again));
        for (int minute = 0; minute < 24 * 60; minute += 7)
            MUST(entry_is_scheduled(&entry, minute) ==
                 entry_is_scheduled(&again, minute));
        json_decref(told);
        json_decref(told_again);
        entry_release(&entry);
        entry_release(&again);
    }
    json_decref(asked);
}

static void try_source(const char *text)
{
    struct source source;
    struct plt_error err;

    if (source_parse(&source, text, &err) != PLT_OK)
        return;
    if (source.is_url) {
        char *const url = source_url(&source, "manifest", "/groups");
        MUST(url && strncmp(url, source.base, strlen(source.base)) == 0);
        MUST(source.base[strlen(source.base) - 1] == '/');
        MUST(!strpbrk(url, " ?#\n\r"));
        free(url);
    }
    source_release(&source);
}

static void try_pick(const char *text, size_t len)
{
    static struct manifest_pick pick, again;
    char told[MANIFEST_PICK_TEXT];

    if (!manifest_pick_parse(&pick, text, len))
        return;
    manifest_pick_text(&pick, told);
    MUST(strlen(told) == len && memcmp(told, text, len) == 0);
    MUST(pick.n_leaves <= MANIFEST_PICK_LEAVES);
    again.n_runs = again.n_leaves = 0;
    for (size_t i = 0; i < pick.n_runs; i++) {
        for (size_t k = 0; k < pick.run[i].n; k++) {
            if (!manifest_pick_add(&again, pick.run[i].first + k))
                return; /* it is stricter about the text's length */
        }
    }
    MUST(again.n_runs == pick.n_runs && again.n_leaves == pick.n_leaves);
}

static void try_frame(const uint8_t *data, size_t size)
{
    const size_t len = size ? (size_t)data[0] * 16 + 1 : 0;
    uint8_t *const out = malloc(len + 1);
    struct plt_error err;

    MUST(out);
    if (size)
        (void)!manifest_unpack(data + 1, size - 1, out, len, &err);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size || size > 1 << 16)
        return 0;
    char *const text = malloc(size);

    MUST(text);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    switch (data[0] % 5) {
    case 0:
        try_head(text, size - 1);
        break;
    case 1:
        try_entry(text, size - 1);
        break;
    case 2:
        try_source(text);
        break;
    case 3:
        try_pick(text, size - 1);
        break;
    default:
        try_frame(data + 1, size - 1);
    }
    free(text);
    return 0;
}
