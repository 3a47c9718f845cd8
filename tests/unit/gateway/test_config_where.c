/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of keys in a JSON text, against lines counted by eye (or by `grep -n`),
 * and keys given twice.  Escapes are those of RFC 8259 section 7. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_where.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

static const char text[] = "\n"                                     /* 1 */
                           "{\n"                                    /* 2 */
                           "  \"listen\": [\"a\",\n"                /* 3 */
                           "             \"b\", {\"x\": [1, 2]},\n" /* 4 */
                           "   \"c\"],\r\n"                         /* 5 */
                           "  \"images\":\n"                        /* 6 */
                           "  {\n"                                  /* 7 */
                           "    \"debian\"\n"                       /* 8 */
                           "      : {\n"                            /* 9 */
                           "        \"source\": \"g/x}{][\",\n"     /* 10 */
                           "        \"member\": \"a\\\"b\\\\\"\n"   /* 11 */
                           "    },\n"                               /* 12 */
                           "    \"a.b\": {\"source\": null},\n"     /* 13 */
                           "    \"[1]\": -1.5e3,\n"                 /* 14 */
                           "    \"\": true\n"                       /* 15 */
                           "  },\n"                                 /* 16 */
                           "  \"deadline\": 30,\n"                  /* 17 */
                           "  \"deadline\":\n"                      /* 18 */
                           "      31\n"                             /* 19 */
                           "}\n";

struct row {
    unsigned line;
    size_t n;
    const char *path[4];
};

static void check(const char *json, const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned line = config_where(json, rows[i].path, rows[i].n);
        cr_expect_eq(line, rows[i].line, "row %zu: line %u, not %u", i, line,
                     rows[i].line);
    }
}

Test(config_where, key_is_where_it_begins)
{
    static const struct row rows[] = {
        {3, 1, {"listen"}},
        {6, 1, {"images"}},
        {8, 2, {"images", "debian"}},
        {10, 3, {"images", "debian", "source"}},
        {11, 3, {"images", "debian", "member"}},
        {13, 3, {"images", "a.b", "source"}},
        {14, 2, {"images", "[1]"}}, /* a key, since this is no array */
        {15, 2, {"images", ""}},
    };
    check(text, rows, N(rows));
}

Test(config_where, item_is_where_it_begins)
{
    static const struct row rows[] = {
        {3, 2, {"listen", "[0]"}},
        {4, 2, {"listen", "[1]"}},
        {4, 4, {"listen", "[2]", "x", "[1]"}},
        {5, 2, {"listen", "[3]"}},
    };
    check(text, rows, N(rows));
}

Test(config_where, of_a_key_given_twice_it_is_the_last)
{
    static const struct row rows[] = {{18, 1, {"deadline"}}};
    check(text, rows, N(rows));
}

Test(config_where, what_is_not_there_is_where_its_parent_is)
{
    static const struct row rows[] = {
        {1, 0, {NULL}},
        {1, 1, {"nothing"}},
        {8, 3, {"images", "debian", "layers"}},
        {10, 4, {"images", "debian", "source", "deeper"}},
        {3, 2, {"listen", "[4]"}},
        {3, 2, {"listen", "b"}},
        {6, 2, {"images", "debia"}},
        {6, 2, {"images", "debian2"}},
        {18, 2, {"deadline", "[0]"}},
    };
    check(text, rows, N(rows));
}

Test(config_where, keys_are_compared_as_decoded)
{
    static const char json[] = "{\n\"\\u0061\": 1,\n"                 /* 2 */
                               "\"\\u00e9\": 1,\n"                    /* 3 */
                               "\"\\u20AC\": 1,\n"                    /* 4 */
                               "\"\\ud83d\\uDE00\": 1,\n"             /* 5 */
                               "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\": 1,\n" /* 6 */
                               "\"\xc3\xbc\": 1\n}";                  /* 7 */
    static const struct row rows[] = {
        {2, 1, {"a"}},
        {3, 1, {"\xc3\xa9"}},
        {4, 1, {"\xe2\x82\xac"}},
        {5, 1, {"\xf0\x9f\x98\x80"}},
        {6, 1, {"\"\\/\b\f\n\r\t"}},
        {7, 1, {"\xc3\xbc"}},
    };
    check(json, rows, N(rows));
}

Test(config_where, root_may_be_an_array_or_a_word)
{
    static const struct row array[] = {{2, 2, {"[1]", "a"}}};
    static const struct row word[] = {{1, 1, {"a"}}};
    check("[0,\n{\"a\":1}]", array, N(array));
    check(" \n 5", word, N(word));
}

/* What was told, as "path line first;". */
struct told {
    char text[512];
};

static void tell(void *cookie, const char *const *path, size_t n, unsigned line,
                 unsigned first)
{
    struct told *const t = cookie;

    size_t used = strlen(t->text);
    for (size_t i = 0; i < n; i++)
        used += (size_t)snprintf(t->text + used, sizeof(t->text) - used,
                                 "%.64s%s", path[i], i + 1 < n ? "/" : "");
    snprintf(t->text + used, sizeof(t->text) - used, " %u %u;", line, first);
}

static void check_twice(const char *json, const char *expected)
{
    struct told t = {""};

    cr_expect(config_where_twice(json, tell, &t));
    cr_expect_str_eq(t.text, expected, "%s: %s", json, t.text);
}

Test(config_where, keys_given_twice_are_told_with_both_lines)
{
    check_twice(text, "deadline 18 17;");
    check_twice("{}", "");
    check_twice("{\"a\":1,\n\"b\":1,\n\"\\u0061\":1}", "a 3 1;");
    check_twice("{\"a\":1,\n\"a\":1,\n\"a\":1}", "a 2 1;a 3 2;");
    check_twice("{\"o\":{\"x\":{},\n\"y\":[],\n\"x\":0}}", "o/x 3 1;");
    check_twice("[0,{\"k\":\"k\",\n\"k\":{}}]", "[1]/k 2 1;");
    /* the same key in two objects is two keys */
    check_twice("{\"a\":{\"k\":1},\"b\":{\"k\":1},\"k\":1}", "");
}

Test(config_where, deep_objects_are_stepped_over)
{
    char json[4096] = "";

    for (unsigned i = 0; i < 200; i++)
        strcat(json, "{\"a\":[");
    strcat(json, "{\"x\":1,\"x\":2}");
    for (unsigned i = 0; i < 200; i++)
        strcat(json, "]}");
    check_twice(json, "");
}

/* Cut anywhere, or with any byte changed, nothing is read behind its end (the
 * sanitizer sees it: the copy has no room to spare) and both come back. */
Test(config_where, malformed_text_is_never_read_past_its_end)
{
    static const char *const path[] = {"images", "debian", "member"};
    static const char *const item[] = {"listen", "[9]"};
    static const char bytes[] = "\"\\{}[],:u 0";

    for (size_t len = 0; len < sizeof(text); len++) {
        char *const cut = malloc(len + 1);
        struct told t = {""};
        memcpy(cut, text, len);
        cut[len] = '\0';
        for (size_t i = 0; len && i < sizeof(bytes); i++) {
            cut[len - 1] = i ? bytes[i - 1] : cut[len - 1];
            t.text[0] = '\0';
            (void)config_where(cut, path, 3);
            (void)config_where(cut, item, 2);
            cr_assert(config_where_twice(cut, tell, &t));
        }
        free(cut);
    }
}
