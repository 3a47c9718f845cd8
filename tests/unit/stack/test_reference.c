/* SPDX-License-Identifier: Apache-2.0 */
/* Paths and queries from clients, after RFC 3986 2.1 and 3.3 and PRODUCT's
 * grammar of references. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>

#include "stack/reference.h"

static enum plt_status parse(struct reference *r, const char *path,
                             const char *query)
{
    struct plt_error err = {0};
    return reference_parse(r, path, query, NULL, &err);
}

Test(reference, plain_path_is_kept_and_decoded_once)
{
    struct reference r;
    cr_assert_eq(parse(&r, "demo/a%20b/x.tar.gz", NULL), PLT_OK);
    cr_assert_str_eq(r.target, "demo/a b/x.tar.gz");
    cr_assert_null(r.member);
    cr_assert_null(r.layers);
    reference_release(&r);
    cr_assert_eq(parse(&r, "demo/%2541", NULL), PLT_OK);
    cr_assert_str_eq(r.target, "demo/%41");
    reference_release(&r);
}

Test(reference, selectors_come_from_query_and_from_path_parameters)
{
    struct reference a, b;
    cr_assert_eq(parse(&a, "lab/x.box;member=box.img;partition=1", NULL),
                 PLT_OK);
    cr_assert_eq(parse(&b, "lab/x.box", "partition=1&member=box.img"), PLT_OK);
    cr_assert_str_eq(a.member, "box.img");
    cr_assert_str_eq(a.partition, "1");
    char *const ka = reference_key(&a), *const kb = reference_key(&b);
    cr_assert_str_eq(ka, kb);
    free(ka);
    free(kb);
    reference_release(&a);
    reference_release(&b);
}

Test(reference, empty_layers_differs_from_none)
{
    struct reference a, b;
    cr_assert_eq(parse(&a, "d/x", "layers="), PLT_OK);
    cr_assert_eq(parse(&b, "d/x", NULL), PLT_OK);
    cr_assert_str_eq(a.layers, "");
    char *const ka = reference_key(&a), *const kb = reference_key(&b);
    cr_assert_str_neq(ka, kb);
    free(ka);
    free(kb);
    reference_release(&a);
    reference_release(&b);
}

Test(reference, encoded_semicolon_is_part_of_the_name)
{
    struct reference r;
    cr_assert_eq(parse(&r, "d/a%3Bmember=b", NULL), PLT_OK);
    cr_assert_str_eq(r.target, "d/a;member=b");
    cr_assert_null(r.member);
    reference_release(&r);
}

Test(reference, what_could_leave_the_folder_is_refused)
{
    static const char *const bad[] = {"d/../x",
                                      "../x",
                                      "d/..",
                                      "d/%2e%2e/x",
                                      "d/%2E./x",
                                      "d//x",
                                      "d/./x",
                                      "/d/x",
                                      "",
                                      "d/x/",
                                      "d/a%2fb",
                                      "d/a%2Fb",
                                      "d/a%5cb",
                                      "d/a\\b",
                                      "d/a%00b",
                                      "d/%0a",
                                      "d/%7f",
                                      "d/%zz",
                                      "d/%4",
                                      "d/%",
                                      "d/%c0%ae",
                                      "d/%c0%ae%c0%ae/x",
                                      "d/%ed%a0%80",
                                      "d/%ff",
                                      "d/%f5%80%80%80",
                                      "d;member=a/x"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct reference r;
        cr_assert_eq(parse(&r, bad[i], NULL), PLT_INVALID, "%s", bad[i]);
    }
}

Test(reference, unknown_or_repeated_selectors_are_refused)
{
    struct reference r;
    cr_assert_eq(parse(&r, "d/x", "foo=1"), PLT_INVALID);
    cr_assert_eq(parse(&r, "d/x", "member"), PLT_INVALID);
    cr_assert_eq(parse(&r, "d/x", "member=a&member=b"), PLT_INVALID);
    cr_assert_eq(parse(&r, "d/x;member=a", "member=b"), PLT_INVALID);
    cr_assert_eq(parse(&r, "d/x", "member=%00"), PLT_INVALID);
}

Test(reference, long_names_have_a_limit)
{
    struct reference r;
    char *const path = malloc(10000);
    memset(path, 'a', 9999);
    path[1] = '/';
    path[9999] = '\0';
    cr_assert_eq(parse(&r, path, NULL), PLT_INVALID);
    path[4096] = '\0';
    cr_assert_eq(parse(&r, path, NULL), PLT_OK);
    reference_release(&r);
    free(path);
}

Test(reference, query_value_is_decoded)
{
    enum plt_status st;
    char *const v = reference_query("a=1&start=%31%30&b", "start", &st);
    cr_assert_str_eq(v, "10");
    free(v);
    cr_assert_null(reference_query("a=1", "start", &st));
    cr_assert_eq(st, PLT_OK);
    cr_assert_null(reference_query("start=%zz", "start", &st));
    cr_assert_eq(st, PLT_INVALID);
}

Test(reference, other_parameters_have_a_value_and_stand_once)
{
    static const char *const names[] = {"start", "format", NULL};
    const struct {
        const char *query;
        bool is_all;
        enum plt_status status;
    } rows[] = {{NULL, true, PLT_OK},
                {"", true, PLT_OK},
                {"start=1&format=x", true, PLT_OK},
                {"&start=1&", true, PLT_OK},
                {"start=", true, PLT_OK},
                {"start", false, PLT_INVALID},
                {"start=1&start=2", false, PLT_INVALID},
                {"format=a&start=1&format=a", false, PLT_INVALID},
                {"member=x&start=1", false, PLT_OK},
                {"member=x&start=1", true, PLT_INVALID},
                {"starts=1", false, PLT_OK},
                {"starts=1", true, PLT_INVALID}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct plt_error err = {0};
        cr_assert_eq(
            reference_check_query(rows[i].query, names, rows[i].is_all, &err),
            rows[i].status, "%s", rows[i].query);
    }
}
