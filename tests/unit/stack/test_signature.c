/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "stack/signature.h"

#define MAC "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

static enum signature_state take(const char *path, const char *query,
                                 const char *path_left, const char *query_left)
{
    char p[256], q[256];
    struct signature s;

    (void)snprintf(p, sizeof(p), "%s", path);
    (void)snprintf(q, sizeof(q), "%s", query ? query : "");
    signature_take(p, query ? q : NULL, &s);
    cr_assert_str_eq(p, path_left);
    if (query)
        cr_assert_str_eq(q, query_left);
    return s.state;
}

Test(signature, is_taken_out_wherever_it_stands)
{
    cr_assert(take("/disk/a/b", NULL, "/disk/a/b", NULL) == SIGNATURE_NONE);
    cr_assert(take("/disk/a/b", "", "/disk/a/b", "") == SIGNATURE_NONE);
    cr_assert(take("/disk/a/b;member=x", "layers=", "/disk/a/b;member=x",
                   "layers=") == SIGNATURE_NONE);
    cr_assert(take("/disk/a/b;expires=1;key=k;signature=" MAC, NULL,
                   "/disk/a/b", NULL) == SIGNATURE_GIVEN);
    cr_assert(take("/disk/a/b;expires=1;member=x;key=k;signature=" MAC, NULL,
                   "/disk/a/b;member=x", NULL) == SIGNATURE_GIVEN);
    cr_assert(take("/disk/a/b", "key=k&a=b&signature=" MAC "&c=d&expires=7",
                   "/disk/a/b", "a=b&c=d") == SIGNATURE_GIVEN);
    cr_assert(take("/disk/a/b;key=k;x=y", "expires=7&signature=" MAC,
                   "/disk/a/b;x=y", "") == SIGNATURE_GIVEN);
    /* what stands in a folder's name is none */
    cr_assert(take("/disk/a;key=k/b", NULL, "/disk/a;key=k/b", NULL) ==
              SIGNATURE_NONE);
}

Test(signature, is_malformed_when_it_is_not_whole_and_once)
{
    static const char *const bad[] = {
        "key=k", "key=k&expires=1", "expires=1&signature=" MAC,
        "key=k&expires=1&signature=" MAC "A",
        "key=k&expires=1&signature=", "key=k&expires=1&key=k&signature=" MAC,
        "key=&expires=1&signature=" MAC, "key=k&expires=&signature=" MAC,
        "key=k&expires=-1&signature=" MAC, "key=k&expires=01&signature=" MAC,
        "key=k&expires=1234567890123456&signature=" MAC,
        "key=a/b&expires=1&signature=" MAC,
        /* spare bits that are not zero: another spelling of the same */
        "key=k&expires=1&signature="
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char p[] = "/disk/a/b", q[256];
        struct signature s;
        (void)snprintf(q, sizeof(q), "%s", bad[i]);
        signature_take(p, q, &s);
        cr_assert(s.state == SIGNATURE_MALFORMED, "%s", bad[i]);
        cr_assert_str_eq(q, "");
    }
    /* once in the path and once in the query */
    cr_assert(take("/disk/a/b;key=k", "key=k&expires=1&signature=" MAC,
                   "/disk/a/b", "") == SIGNATURE_MALFORMED);
}

/* What Python's hmac says of the same lines. */
Test(signature, is_the_code_that_the_manual_describes)
{
    static char target[] = "lab/x y.box", member[] = "box.img", layers[] = "";
    const struct reference r = {
        .target = target, .member = member, .layers = layers};
    uint8_t mac[SIGNATURE_MAC], other[SIGNATURE_MAC];
    char text[SIGNATURE_TEXT];

    cr_assert(signature_make("0123456789abcdef", 16, "/disk/", &r, "hv",
                             1790000000, mac));
    signature_format(mac, text);
    cr_assert_str_eq(text, "RdbhC0dGoLhiC4zRNkixEP0zgc7UWmMZ3o7kabNFIfw");
    const struct reference less = {.target = target, .member = member};
    cr_assert(signature_make("0123456789abcdef", 16, "/disk/", &less, "hv",
                             1790000000, other));
    cr_assert(memcmp(mac, other, sizeof(mac)) != 0, "empty is not missing");
}
