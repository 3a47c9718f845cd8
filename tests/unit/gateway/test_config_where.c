/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of values in a JSON text. */
#include <criterion/criterion.h>
#include <string.h>

#include "config_where.h"

static const char text[] = "{\n"                                 /* 1 */
                           "  \"listen\": [\"a:1\",\n"           /* 2 */
                           "    \"b:2\", {\"x\": [1,\n"          /* 3 */
                           "      2]}\n"                         /* 4 */
                           "  ],\n"                              /* 5 */
                           "  \"images\": {\n"                   /* 6 */
                           "    \"a\\\"}{\": 1, \"deb\": {\n"    /* 7 */
                           "      \"source\": \"x/y\",\n"        /* 8 */
                           "      \"labels\": {}, \"member\":\n" /* 9 */
                           "         null\n"                     /* 10 */
                           "    }\n"                             /* 11 */
                           "  },\n"                              /* 12 */
                           "  \"last\": -1.5e3\n"                /* 13 */
                           "}\n";

static unsigned at(const char *a, const char *b, const char *c)
{
    const char *const path[] = {a, b, c};
    return config_where(text, path, (size_t)1 + (b != NULL) + (c != NULL));
}

Test(where, values_are_found_in_objects_and_arrays)
{
    cr_expect_eq(at("listen", NULL, NULL), 2);
    cr_expect_eq(at("listen", "[0]", NULL), 2);
    cr_expect_eq(at("listen", "[1]", NULL), 3);
    cr_expect_eq(at("listen", "[2]", "x"), 3);
    cr_expect_eq(at("images", "deb", NULL), 7);
    cr_expect_eq(at("images", "deb", "source"), 8);
    cr_expect_eq(at("images", "deb", "member"), 10);
    cr_expect_eq(at("last", NULL, NULL), 13);
}

Test(where, what_is_not_there_has_the_line_of_what_is_around_it)
{
    cr_expect_eq(at("images", "deb", "colour"), 7);
    cr_expect_eq(at("images", "other", NULL), 0);
    cr_expect_eq(at("nothing", NULL, NULL), 0);
    cr_expect_eq(at("listen", "[9]", NULL), 0);
    cr_expect_eq(at("last", "deep", NULL), 0);
    cr_expect_eq(at("listen", "key", NULL), 0);
}

/* The text is parsed before; but nothing that is not leads out of it. */
Test(where, texts_that_end_anywhere_do_no_harm)
{
    char cut[sizeof(text)];
    const char *const path[] = {"images", "deb", "member"};

    for (size_t n = 0; n < sizeof(text); n++) {
        memcpy(cut, text, n);
        cut[n] = '\0';
        cr_assert_leq(config_where(cut, path, 3), 14);
    }
}
