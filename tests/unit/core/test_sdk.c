/* SPDX-License-Identifier: Apache-2.0 */
/* What is linked into every plugin, and the decoders of the ABI headers. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include <platter/bytes.h>
#include <platter/ckd.h>
#include <platter/driver.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))

Test(sdk_error, a_failure_is_one_statement_and_clears_what_was_there)
{
    struct plt_error err;
    memset(&err, 0xaa, sizeof(err));
    cr_assert_eq(plt_fail(&err, PLT_CORRUPT, "cluster_bits %u", 99U),
                 PLT_CORRUPT);
    cr_assert_eq(err.status, PLT_CORRUPT);
    cr_assert_eq(err.sys, 0);
    cr_assert_eq(err.at, PLT_AT_NONE);
    cr_assert_str_empty(err.layer);
    cr_assert_str_eq(err.text, "cluster_bits 99");
}

Test(sdk_error, offset_and_errno_travel_with_the_phrase)
{
    struct plt_error err;
    cr_assert_eq(plt_fail_at(&err, PLT_CORRUPT, 512, "no magic"), PLT_CORRUPT);
    cr_assert_eq(err.at, 512);
    cr_assert_eq(plt_fail_sys(&err, PLT_IO, ENOENT, "open"), PLT_IO);
    cr_assert_eq(err.sys, ENOENT);
    cr_assert_eq(err.at, PLT_AT_NONE);
    cr_assert_str_eq(err.text, "open: No such file or directory");
    (void)!plt_fail_sys(&err, PLT_IO, 123456, "open");
    cr_assert(strncmp(err.text, "open: ", 6) == 0);
    cr_assert_gt(strlen(err.text), 6);
}

Test(sdk_error, a_prefix_keeps_the_class_and_everything_else)
{
    struct plt_error err;
    (void)!plt_fail_at(&err, PLT_TIMEOUT, 77, "too slow");
    strcpy(err.layer, "curl");
    cr_assert_eq(plt_prefix(&err, "L2 table %d: ", 17), PLT_TIMEOUT);
    cr_assert_str_eq(err.text, "L2 table 17: too slow");
    cr_assert_eq(err.at, 77);
    cr_assert_str_eq(err.layer, "curl");
}

Test(sdk_error, text_of_any_length_stays_inside)
{
    struct {
        struct plt_error err;
        char guard[16];
    } box;
    char longer[600];
    memset(longer, 'y', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    memset(box.guard, 0x5a, sizeof(box.guard));
    (void)!plt_fail(&box.err, PLT_IO, "%s", longer);
    cr_assert_eq(strlen(box.err.text), sizeof(box.err.text) - 1);
    (void)plt_prefix(&box.err, "%s", longer);
    (void)plt_prefix(&box.err, "short: ");
    cr_assert_eq(strlen(box.err.text), sizeof(box.err.text) - 1);
    cr_assert(strncmp(box.err.text, "short: yyy", 10) == 0);
    (void)!plt_fail_sys(&box.err, PLT_IO, ENOENT, "%s", longer);
    cr_assert_eq(strlen(box.err.text), sizeof(box.err.text) - 1);
    for (size_t i = 0; i < sizeof(box.guard); i++)
        cr_assert_eq(box.guard[i], 0x5a);
}

/* The numbers cross the plugin boundary: they are written out here, so that a
 * row put in the middle of status.def fails. */
Test(sdk_error, numbers_of_the_classes_never_change)
{
    static const struct {
        enum plt_status status;
        int number, http, retry;
        const char *name;
    } rows[] = {
        {PLT_OK, 0, 200, 0, "OK"},
        {PLT_NOT_FOUND, 1, 404, 0, "NOT_FOUND"},
        {PLT_DENIED, 2, 403, 0, "DENIED"},
        {PLT_IO, 3, 500, 0, "IO"},
        {PLT_BUG, 4, 500, 0, "BUG"},
        {PLT_UNSUPPORTED, 5, 501, 0, "UNSUPPORTED"},
        {PLT_CORRUPT, 6, 502, 0, "CORRUPT"},
        {PLT_ORIGIN, 7, 502, 1, "ORIGIN"},
        {PLT_CHANGED, 8, 502, 1, "CHANGED"},
        {PLT_BUSY, 9, 503, 1, "BUSY"},
        {PLT_NOMEM, 10, 503, 1, "NOMEM"},
        {PLT_TIMEOUT, 11, 504, 1, "TIMEOUT"},
        {PLT_INVALID, 12, 400, 0, "INVALID"},
        {PLT_CHOICE, 13, 300, 0, "CHOICE"},
        {PLT_AGAIN, 14, 503, 1, "AGAIN"},
        {PLT_CANCELLED, 15, 503, 1, "CANCELLED"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        cr_expect_eq((int)rows[i].status, rows[i].number, "%s", rows[i].name);
        cr_expect_str_eq(plt_status_name(rows[i].status), rows[i].name);
        cr_expect_eq(plt_status_http(rows[i].status), rows[i].http);
        cr_expect_eq(plt_status_retry(rows[i].status), rows[i].retry);
        cr_expect_str_not_empty(plt_status_text(rows[i].status));
    }
}

Test(sdk_error, a_class_that_nobody_knows_reads_as_a_bug)
{
    const int odd[] = {PLT_STATUS_COUNT, 9999, -1, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < N(odd); i++) {
        volatile int n = odd[i]; /* another compiler's number */
        cr_expect_str_eq(plt_status_name((enum plt_status)n), "BUG");
        cr_expect_eq(plt_status_http((enum plt_status)n), 500);
    }
}

Test(sdk_option, byte_sizes_take_the_suffixes_of_qemu_img)
{
    static const struct {
        const char *text;
        uint64_t value;
    } rows[] = {
        {"0", 0},
        {"1", 1},
        {"512b", 512},
        {"1k", 1024},
        {"1K", 1024},
        {"3M", UINT64_C(3145728)},
        {"2G", UINT64_C(2147483648)},
        {"5T", UINT64_C(5497558138880)},
        {"1P", UINT64_C(1125899906842624)},
        {"15E", UINT64_C(17293822569102704640)},
        {"18446744073709551615", UINT64_MAX},
        {"007", 7},
        {"00000000000000000000000000000000000001k", 1024},
    };
    for (size_t i = 0; i < N(rows); i++) {
        uint64_t v = 42;
        cr_expect(plt_parse_bytes(rows[i].text, &v), "%s", rows[i].text);
        cr_expect_eq(v, rows[i].value, "%s", rows[i].text);
    }
}

Test(sdk_option, what_is_no_size_leaves_the_number_alone)
{
    static const char *const bad[] = {
        "",    " 1",           "1 ",
        "+1",  "-1",           "k",
        "1kk", "1kB",          "1m",
        "1g",  "1.5",          "0x1",
        "1e3", "1,0",          "1k ",
        "16E", "99999999999E", "18446744073709551616",
        "1\n", "\xc2\xb2",     "18014398509481984k",
    };
    for (size_t i = 0; i < N(bad); i++) {
        uint64_t v = 42;
        cr_expect_not(plt_parse_bytes(bad[i], &v), "\"%s\"", bad[i]);
        cr_expect_eq(v, 42, "\"%s\"", bad[i]);
    }
}

Test(sdk_option, booleans_are_eight_words_and_no_more)
{
    static const char *const yes[] = {"on", "yes", "true", "1"};
    static const char *const no[] = {"off", "no", "false", "0"};
    static const char *const bad[] = {"", "On", "TRUE", "y", "2", "on ", "00"};
    for (size_t i = 0; i < 4; i++) {
        bool v = false;
        cr_expect(plt_parse_bool(yes[i], &v) && v, "%s", yes[i]);
        cr_expect(plt_parse_bool(no[i], &v) && !v, "%s", no[i]);
    }
    for (size_t i = 0; i < N(bad); i++) {
        bool v = true;
        cr_expect_not(plt_parse_bool(bad[i], &v), "%s", bad[i]);
        cr_expect(v);
    }
}

Test(sdk_option, the_last_setting_of_a_name_counts)
{
    static const struct plt_setting s[] = {
        {"size", "1k"}, {"fast", "on"}, {"size", "2k"}, {"name", ""}};
    cr_assert_eq(plt_setting_bytes(s, N(s), "size", 5), 2048);
    cr_assert_eq(plt_setting_bytes(s, 2, "size", 5), 1024);
    cr_assert_eq(plt_setting_bytes(s, N(s), "siz", 5), 5);
    cr_assert_eq(plt_setting_bytes(NULL, 0, "size", 5), 5);
    cr_assert(plt_setting_bool(s, N(s), "fast", false));
    cr_assert(plt_setting_bool(s, N(s), "slow", true));
    cr_assert_str_eq(plt_setting_text(s, N(s), "name"), "");
    cr_assert_null(plt_setting_text(s, N(s), "other"));
}

Test(sdk_bytes, spans_are_checked_without_overflow)
{
    static const struct {
        uint64_t off, len, size;
        bool ok;
    } rows[] = {
        {0, 0, 0, true},
        {0, 1, 0, false},
        {1, 0, 0, false},
        {0, 10, 10, true},
        {10, 0, 10, true},
        {9, 1, 10, true},
        {9, 2, 10, false},
        {UINT64_MAX, 1, 10, false},
        {1, UINT64_MAX, 10, false},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, false},
        {0, UINT64_MAX, UINT64_MAX, true},
        {UINT64_MAX - 1, 2, UINT64_MAX, false},
    };
    for (size_t i = 0; i < N(rows); i++)
        cr_expect_eq(plt_span_ok(rows[i].off, rows[i].len, rows[i].size),
                     rows[i].ok, "row %zu", i);
}

Test(sdk_bytes, a_cursor_past_its_end_gives_zero_for_ever_and_says_so)
{
    static const uint8_t b[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    struct plt_cur c = plt_cur_init(b, sizeof(b));
    cr_assert_eq(plt_cur_u8(&c), 1);
    cr_assert_eq(plt_cur_le16(&c), 0x0302);
    cr_assert_eq(plt_cur_be32(&c), 0x04050607);
    cr_assert_eq(plt_cur_left(&c), 4);
    cr_assert_not(c.bad);
    cr_assert_eq(plt_cur_le64(&c), 0);
    cr_assert(c.bad);
    cr_assert_eq(plt_cur_left(&c), 0);
    /* there would be room for one byte: the latch holds all the same */
    cr_assert_eq(plt_cur_u8(&c), 0);
    cr_assert_null(plt_cur_take(&c, 0));
    struct plt_cur d = plt_cur_init(b, sizeof(b));
    cr_assert_null(plt_cur_take(&d, SIZE_MAX));
    cr_assert(d.bad);
}

Test(sdk_bytes, loads_and_stores_of_both_orders_agree)
{
    static const uint8_t b[] = {0xf1, 0xe2, 0xd3, 0xc4, 0xb5, 0xa6, 0x97, 0x88};
    uint8_t out[8];
    cr_assert_eq(plt_le16(b), 0xe2f1);
    cr_assert_eq(plt_be16(b), 0xf1e2);
    cr_assert_eq(plt_le32(b), UINT32_C(0xc4d3e2f1));
    cr_assert_eq(plt_be32(b), UINT32_C(0xf1e2d3c4));
    cr_assert_eq(plt_le64(b), UINT64_C(0x8897a6b5c4d3e2f1));
    cr_assert_eq(plt_be64(b), UINT64_C(0xf1e2d3c4b5a69788));
    plt_put_le64(out, plt_le64(b));
    cr_assert_arr_eq(out, b, 8);
    plt_put_be64(out, plt_be64(b));
    cr_assert_arr_eq(out, b, 8);
    plt_put_le16(out, 0xe2f1);
    cr_assert_arr_eq(out, b, 2);
}

Test(sdk_ckd, overflow_is_told_for_every_operation)
{
    uint64_t r;
    cr_assert(ckd_add(&r, UINT64_MAX, 1));
    cr_assert(ckd_sub(&r, UINT64_C(0), 1));
    cr_assert(ckd_mul(&r, UINT64_C(1) << 33, UINT64_C(1) << 31));
    cr_assert_not(ckd_mul(&r, UINT64_C(1) << 32, UINT64_C(1) << 31));
    cr_assert_eq(r, UINT64_C(1) << 63);
}
