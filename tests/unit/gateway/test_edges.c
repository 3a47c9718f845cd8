/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "edges.h"
#include "util/clock.h"

static const uint8_t one[32] = "one", other[32] = "other";

/* One list holds this URL. */
static bool has(struct edges *edges, const uint8_t *root, uint64_t now,
                const char *url)
{
    char out[EDGES_MOST][EDGES_URL];
    const size_t n = edges_list(edges, root, NULL, NULL, 0, now, out);

    for (size_t i = 0; i < n; i++) {
        if (strcmp(out[i], url) == 0)
            return true;
    }
    return false;
}

Test(edges, urls_that_may_be_told_and_handed_on)
{
    static const struct {
        const char *url;
        bool is_good;
    } table[] = {{"http://10.0.0.1", true},
                 {"https://h.example:8443/a/b;c=d/", true},
                 {"http://[fe80::1]:80/", true},
                 {"ftp://10.0.0.1/", false},
                 {"HTTP://10.0.0.1/", false},
                 {"http:///x", false},
                 {"http://", false},
                 {"http://h:/", false},
                 {"http://h:123456/", false},
                 {"http://h:8a/", false},
                 {"http://u@h/", false},
                 {"http://[::1/", false},
                 {"http://[::1]x/", false},
                 {"http://h/?a", false},
                 {"http://h/#a", false},
                 {"http://h/a b", false},
                 {"http://h/\r\nX: y", false},
                 {"http://h/\"", false},
                 {"http://h/\xc3\xa4", false},
                 {"", false}};
    char url[EDGES_URL + 1];

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        cr_expect_eq(edges_url_ok(table[i].url), table[i].is_good, "%s",
                     table[i].url);
    (void)snprintf(url, sizeof(url), "http://h/%0*d", EDGES_URL - 9, 0);
    cr_expect_not(edges_url_ok(url));
    url[EDGES_URL - 1] = '\0';
    cr_expect(edges_url_ok(url));
}

Test(edges, an_edge_names_its_own_address)
{
    static const struct {
        const char *url, *client;
        bool is_own;
    } table[] = {{"http://10.0.0.1:8080/", "10.0.0.1:5555", true},
                 {"https://10.0.0.1", "10.0.0.1:5555", true},
                 {"http://10.0.0.1/", "[::ffff:10.0.0.1]:5555", true},
                 {"http://[2001:db8:0:0::1]/", "[2001:db8::1]:5", true},
                 {"http://10.0.0.2:8080/", "10.0.0.1:5555", false},
                 {"http://[2001:db8::2]/", "[2001:db8::1]:5", false},
                 {"http://10.0.0.1.example/", "10.0.0.1:5555", false},
                 {"http://localhost/", "127.0.0.1:5555", false},
                 {"http://10.0.0.1@10.0.0.2/", "10.0.0.1:5555", false},
                 {"http://0x0a000001/", "10.0.0.1:5555", false},
                 {"http://10.0.0.1/", "unix", false},
                 {"http://10.0.0.1/", "", false}};

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        cr_expect_eq(edges_is_own(table[i].url, table[i].client),
                     table[i].is_own, "%s %s", table[i].url, table[i].client);
}

Test(edges, those_of_a_root_for_five_minutes)
{
    struct edges *const edges = edges_new();
    const uint64_t t = 1000 * NS_PER_S, kept = EDGES_KEPT_S * NS_PER_S;

    edges_tell(edges, one, "http://10.0.0.1/", t);
    edges_tell(edges, other, "http://10.0.0.2/", t);
    edges_tell(edges, one, "http://name.example/", t); /* of no address */
    cr_expect(has(edges, one, t, "http://10.0.0.1/"));
    cr_expect_not(has(edges, one, t, "http://10.0.0.2/"));
    cr_expect_not(has(edges, one, t, "http://name.example/"));
    cr_expect(has(edges, one, t + kept - 1, "http://10.0.0.1/"));
    cr_expect_not(has(edges, one, t + kept, "http://10.0.0.1/"));
    edges_tell(edges, one, "http://10.0.0.1/", t + kept / 2);
    cr_expect(has(edges, one, t + kept, "http://10.0.0.1/"));
    edges_free(edges);
}

Test(edges, nobody_fills_the_table)
{
    struct edges *const edges = edges_new();
    const uint64_t t = 1000 * NS_PER_S;
    char url[EDGES_URL];

    edges_tell(edges, one, "http://10.0.0.1/", t);
    for (int i = 0; i < 5000; i++) {
        (void)snprintf(url, sizeof(url), "http://10.0.0.2:%d/", i + 1);
        edges_tell(edges, one, url, t + 1 + (uint64_t)i);
    }
    cr_expect(has(edges, one, t + 9999, "http://10.0.0.1/"));
    char out[EDGES_MOST][EDGES_URL];
    cr_expect_eq(edges_list(edges, one, NULL, NULL, 0, t + 9999, out),
                 1 + EDGES_OF_CLIENT);
    cr_expect(has(edges, one, t + 9999, "http://10.0.0.2:5000/"));
    cr_expect(has(edges, one, t + 9999, "http://10.0.0.2:4993/"));
    /* Many clients: the oldest goes. */
    for (unsigned i = 0; i < EDGES_TABLE; i++) {
        (void)snprintf(url, sizeof(url), "http://10.1.%u.%u/", i / 250,
                       i % 250);
        edges_tell(edges, other, url, t + 10000 + i);
    }
    cr_expect_not(has(edges, one, t + 20000, "http://10.0.0.1/"));
    edges_free(edges);
}

Test(edges, a_few_of_many_in_random_order_each_once_and_not_the_asker)
{
    struct edges *const edges = edges_new();
    const uint64_t t = 1000 * NS_PER_S;
    char *const siblings[] = {(char[]){"http://sibling.example/"},
                              (char[]){"http://10.0.0.5/"}};
    char out[EDGES_MOST][EDGES_URL], url[EDGES_URL];
    unsigned times[42] = {0}, first[42] = {0};

    for (unsigned i = 0; i < 40; i++) {
        (void)snprintf(url, sizeof(url), "http://10.0.0.%u/", i);
        edges_tell(edges, one, url, t);
    }
    for (int k = 0; k < 4000; k++) {
        const size_t n =
            edges_list(edges, one, "http://10.0.0.7/", siblings, 2, t, out);
        cr_assert_eq(n, EDGES_MOST);
        for (size_t i = 0; i < n; i++) {
            unsigned who = 41;
            if (strcmp(out[i], siblings[0]) != 0)
                cr_assert_eq(sscanf(out[i], "http://10.0.0.%u/", &who), 1);
            times[who]++;
            first[who] += i == 0;
            for (size_t j = 0; j < i; j++)
                cr_assert_str_neq(out[i], out[j]);
        }
    }
    cr_expect_eq(times[7], 0);
    /* 40 of them, 16 at a time: 1600 of each, and 100 at the front. */
    for (unsigned i = 0; i < 42; i++) {
        if (i == 7 || i == 40)
            continue;
        cr_expect(times[i] > 1300 && times[i] < 2000, "%u: %u", i, times[i]);
        cr_expect(first[i] > 40 && first[i] < 200, "%u: %u", i, first[i]);
    }
    cr_expect_eq(edges_list(edges, other, NULL, siblings, 2, t, out), 2);
    cr_expect_eq(edges_list(edges, other, siblings[0], siblings, 2, t, out), 1);
    edges_free(edges);
}
