/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of leaves and frames: what is written is read, and nothing else is. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/manifest_pack.h"

static struct manifest_pick pick;

static bool parse(const char *text)
{
    return manifest_pick_parse(&pick, text, strlen(text));
}

Test(manifest_pack, what_is_written_is_read)
{
    static const uint64_t leaves[] = {0, 1, 2, 17, 300, 301, 9999999};
    struct manifest_pick made = {.n_runs = 0};
    char text[MANIFEST_PICK_TEXT];

    for (size_t i = 0; i < 7; i++)
        cr_assert(manifest_pick_add(&made, leaves[i]));
    manifest_pick_text(&made, text);
    cr_assert_str_eq(text, "0-2,17,300-301,9999999");
    cr_assert(parse(text));
    cr_assert_eq(pick.n_runs, 4);
    cr_assert_eq(pick.n_leaves, 7);
    cr_assert_eq(pick.run[2].first, 300);
    cr_assert_eq(pick.run[2].n, 2);
}

Test(manifest_pack, one_list_is_written_in_one_way)
{
    static const char *const bad[] = {
        "",   "-",  ",",   "1,",  ",1",    "1,2", "1-1", "2-1", "1--2", "01",
        "1 ", "+1", "0x1", "3,1", "1-3,4", "1,1", "1-",  "a",   "1-2-3"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert(!parse(bad[i]), "%s", bad[i]);
    cr_assert(parse("0"));
    cr_assert(parse("1,3"));
    cr_assert(parse("0-1023"));
    cr_assert(!parse("0-1024"));
    cr_assert(!parse("0-511,600-1112"));
    cr_assert(!parse("99999999999999999999"));
}

/* Whatever is put in, as long as it is taken, comes out of the text. */
Test(manifest_pack, any_list_fits_its_text)
{
    for (uint64_t step = 4; step < UINT64_C(1) << 44; step *= 3) {
        struct manifest_pick made = {.n_runs = 0};
        char text[MANIFEST_PICK_TEXT];
        for (uint64_t n = step; manifest_pick_add(&made, n); n += step) {
            if (made.n_runs % 3 == 0 && !manifest_pick_add(&made, n + 1))
                break;
        }
        manifest_pick_text(&made, text);
        cr_assert(parse(text), "%s", text);
        cr_assert_eq(pick.n_leaves, made.n_leaves);
        cr_assert_eq(pick.n_runs, made.n_runs);
        cr_assert_gt(made.n_runs, 50);
    }
}

Test(manifest_pack, bytes_end_with_the_disk)
{
    size_t len;

    cr_assert(parse("0,2-3"));
    cr_assert(manifest_pick_bytes(&pick, 4 * 4096, &len) && len == 3 * 4096);
    cr_assert(manifest_pick_bytes(&pick, 3 * 4096 + 1, &len) &&
              len == 2 * 4096 + 1);
    cr_assert(!manifest_pick_bytes(&pick, 3 * 4096, &len));
    cr_assert(!manifest_pick_bytes(&pick, 0, &len));
}

Test(manifest_pack, frames_hold_exactly_what_was_packed)
{
    const size_t len = 100000;
    uint8_t *const data = malloc(len), *const out = malloc(len), *frame;
    struct plt_error err;
    size_t n;

    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * i >> 7);
    cr_assert_eq(manifest_pack(data, len, &frame, &n, &err), PLT_OK);
    cr_assert_leq(n, manifest_pack_bound(len));
    cr_assert_eq(manifest_unpack(frame, n, out, len, &err), PLT_OK);
    cr_assert_eq(memcmp(data, out, len), 0);
    cr_assert_eq(manifest_unpack(frame, n, out, len - 1, &err), PLT_CORRUPT);
    cr_assert_eq(manifest_unpack(frame, n - 1, out, len, &err), PLT_CORRUPT);
    cr_assert_eq(manifest_unpack(data, len, out, len, &err), PLT_CORRUPT);
    cr_assert_eq(manifest_unpack(frame, 0, out, len, &err), PLT_CORRUPT);
    free(data);
    free(out);
    free(frame);
}
