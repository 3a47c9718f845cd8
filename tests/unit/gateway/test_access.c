/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include <criterion/criterion.h>

#include "access.h"

static char names[][16] = {"anonymous", "local", "ci", "edge", "hv"};
static char pattern[] = "*.edge.example", image[] = "lab/a*", secret[] = "one";
static char spiffe[] = "spiffe://d/admin";
static char *images[] = {image}, *secrets[] = {secret};
static uint8_t key[16];
static char target[] = "lab/abc", other[] = "lab/b", asked[] = "one,two";
static const struct signature unsigned_ask = {.state = SIGNATURE_NONE};

static struct access_ask ask_for(unsigned scope, const struct reference *r)
{
    return (struct access_ask){.signature = &unsigned_ask,
                               .route = "/disk/",
                               .reference = r,
                               .scope = scope,
                               .now = 1000};
}

static enum access_verdict decide(const struct access_list *list,
                                  const struct access_ask *ask)
{
    const char *who = NULL;
    return access_decide(list, ask, &who);
}

Test(access, without_rows_all_read_and_who_is_here_does_everything)
{
    const struct access_list none = {.n = 0};

    for (unsigned scope = ACCESS_READ; scope <= ACCESS_ADMIN; scope *= 2) {
        struct access_ask ask = ask_for(scope, NULL);
        cr_assert((decide(&none, &ask) == ACCESS_OK) ==
                  (scope <= ACCESS_METADATA));
        ask.is_local = true;
        cr_assert(decide(&none, &ask) == ACCESS_OK);
    }
}

Test(access, rights_add_up_and_a_wrong_token_takes_all_away)
{
    /* SHA-256 of "abc", FIPS 180-4 */
    struct access_row rows[] = {{.name = names[0],
                                 .kind = ACCESS_ANONYMOUS,
                                 .scopes = ACCESS_READ,
                                 .expires = INT64_MAX},
                                {.name = names[2],
                                 .kind = ACCESS_TOKEN,
                                 .scopes = ACCESS_METADATA,
                                 .expires = 2000},
                                {.name = names[3],
                                 .kind = ACCESS_TOKEN,
                                 .scopes = ACCESS_ALL,
                                 .expires = 2000}};
    const struct access_list list = {.v = rows, .n = 3};
    struct access_ask ask = ask_for(ACCESS_READ, NULL);

    cr_assert(access_digest("ba7816bf8f01cfea414140de5dae2223"
                            "b00361a396177a9cb410ff61f20015ad",
                            rows[1].digest));
    cr_assert(decide(&list, &ask) == ACCESS_OK);
    ask.scope = ACCESS_METADATA;
    cr_assert(decide(&list, &ask) == ACCESS_NEEDED);
    ask.token = "abc";
    cr_assert(decide(&list, &ask) == ACCESS_OK);
    ask.scope = ACCESS_READ;
    cr_assert(decide(&list, &ask) == ACCESS_OK);
    ask.scope = ACCESS_ADMIN;
    cr_assert(decide(&list, &ask) == ACCESS_NOT_SCOPE);
    ask.scope = ACCESS_READ;
    ask.token = "abd";
    cr_assert(decide(&list, &ask) == ACCESS_UNKNOWN);
    ask.token = "";
    cr_assert(decide(&list, &ask) == ACCESS_UNKNOWN);
    cr_assert(access_digest("e3b0c44298fc1c149afbf4c8996fb924"
                            "27ae41e4649b934ca495991b7852b855",
                            rows[2].digest));
    cr_assert(decide(&list, &ask) == ACCESS_UNKNOWN, "nothing is no token");
    ask.token = "abc";
    ask.now = 2000;
    cr_assert(decide(&list, &ask) == ACCESS_EXPIRED);
}

Test(access, a_star_is_one_label)
{
    struct access_row rows[] = {{.name = names[3],
                                 .kind = ACCESS_CERTIFICATE,
                                 .scopes = ACCESS_READ,
                                 .certificate = pattern,
                                 .expires = INT64_MAX}};
    const struct access_list list = {.v = rows, .n = 1};
    static const struct {
        const char *names; /* each with its NUL, and one more */
        bool is_good;
    } cases[] = {
        {"a.edge.example\0", true},        {"A.EDGE.example\0", true},
        {"x\0b.edge.example\0", true},     {"edge.example\0", false},
        {".edge.example\0", false},        {"a.b.edge.example\0", false},
        {"aedge.example\0", false},        {"a.edge.example.org\0", false},
        {"me@a.edge.example\0", false},    {"urn:a.edge.example\0", false},
        {"it is a.edge.example\0", false}, {"", false}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct access_ask ask = ask_for(ACCESS_READ, NULL);
        ask.certificate = cases[i].names;
        cr_assert((decide(&list, &ask) == ACCESS_OK) == cases[i].is_good, "%s",
                  cases[i].names);
        ask.is_untrusted = true;
        cr_assert(decide(&list, &ask) == ACCESS_UNTRUSTED);
    }
}

Test(access, a_name_that_is_no_host_is_compared_as_it_stands)
{
    struct access_row rows[] = {{.name = names[3],
                                 .kind = ACCESS_CERTIFICATE,
                                 .scopes = ACCESS_READ,
                                 .certificate = spiffe,
                                 .expires = INT64_MAX}};
    const struct access_list list = {.v = rows, .n = 1};
    struct access_ask ask = ask_for(ACCESS_READ, NULL);

    ask.certificate = "spiffe://d/admin\0";
    cr_assert(decide(&list, &ask) == ACCESS_OK);
    ask.certificate = "spiffe://d/Admin\0";
    cr_assert(decide(&list, &ask) == ACCESS_NEEDED);
}

Test(access, every_kind_of_row_expires)
{
    static const enum access_kind kinds[] = {ACCESS_ANONYMOUS, ACCESS_LOCAL,
                                             ACCESS_CERTIFICATE};

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct access_row rows[] = {{.name = names[3],
                                     .kind = kinds[i],
                                     .scopes = ACCESS_ALL,
                                     .certificate = pattern,
                                     .expires = 2000}};
        const struct access_list list = {.v = rows, .n = 1};
        struct access_ask ask = ask_for(ACCESS_ADMIN, NULL);
        ask.is_local = kinds[i] == ACCESS_LOCAL;
        ask.certificate = "a.edge.example\0";
        ask.now = 1999;
        cr_assert(decide(&list, &ask) == ACCESS_OK);
        ask.now = 2000;
        cr_assert(decide(&list, &ask) != ACCESS_OK);
    }
}

Test(access, images_and_secrets_bound_a_row)
{
    struct access_row rows[] = {
        {.name = names[0],
         .kind = ACCESS_ANONYMOUS,
         .scopes = ACCESS_ALL,
         .expires = INT64_MAX,
         .images = {.v = images, .n = 1, .is_given = true},
         .secrets = {.v = secrets, .n = 1, .is_given = true}}};
    const struct access_list list = {.v = rows, .n = 1};
    struct reference r = {.target = target};
    struct access_ask ask = ask_for(ACCESS_READ, &r);

    cr_assert(decide(&list, &ask) == ACCESS_OK);
    r.secret = secret;
    cr_assert(decide(&list, &ask) == ACCESS_OK);
    r.secret = asked;
    cr_assert(decide(&list, &ask) == ACCESS_NOT_SECRET);
    r.target = other;
    cr_assert(decide(&list, &ask) == ACCESS_NOT_IMAGE);
    ask = ask_for(ACCESS_METADATA, NULL);
    cr_assert(decide(&list, &ask) == ACCESS_OK, "not known yet which");
    ask.is_for_all = true;
    cr_assert(decide(&list, &ask) == ACCESS_NOT_IMAGE);
    rows[0].images.is_given = false;
    cr_assert(decide(&list, &ask) == ACCESS_OK);
    ask.names_secrets = rows[0].secrets.is_given = true;
    cr_assert(decide(&list, &ask) == ACCESS_NOT_SECRET);
    ask.names_secrets = false;
    cr_assert(decide(&list, &ask) == ACCESS_OK);
    rows[0].secrets.is_given = false;
    rows[0].images.is_given = true;
    rows[0].images.n = 0;
    r = (struct reference){.target = target};
    ask = ask_for(ACCESS_READ, &r);
    cr_assert(decide(&list, &ask) == ACCESS_NOT_IMAGE, "none at all");
}

Test(access, a_signature_is_for_one_reference_until_a_time)
{
    struct access_row rows[] = {{.name = names[4],
                                 .kind = ACCESS_SIGNING_KEY,
                                 .scopes = ACCESS_READ,
                                 .key = key,
                                 .key_len = sizeof(key),
                                 .expires = INT64_MAX}};
    const struct access_list list = {.v = rows, .n = 1};
    struct reference r = {.target = target};
    struct signature s = {
        .state = SIGNATURE_GIVEN, .expires = 2000, .key = "hv"};
    struct access_ask ask = ask_for(ACCESS_READ, &r);

    cr_assert(
        signature_make(key, sizeof(key), "/disk/", &r, "hv", 2000, s.mac));
    ask.signature = &s;
    cr_assert(decide(&list, &ask) == ACCESS_OK);
    ask.scope = ACCESS_METADATA;
    cr_assert(decide(&list, &ask) == ACCESS_NOT_SCOPE);
    ask.scope = ACCESS_READ;
    ask.route = "/raw/";
    cr_assert(decide(&list, &ask) == ACCESS_FORGED);
    ask.route = "/disk/";
    r.target = other;
    cr_assert(decide(&list, &ask) == ACCESS_FORGED);
    r.target = target;
    ask.now = 2000;
    cr_assert(decide(&list, &ask) == ACCESS_LATE);
    s.expires = 3000;
    cr_assert(decide(&list, &ask) == ACCESS_FORGED);
    s.state = SIGNATURE_MALFORMED;
    cr_assert(decide(&list, &ask) == ACCESS_FORGED);
}

Test(access, scopes_and_digests_are_read_strictly)
{
    uint8_t digest[ACCESS_DIGEST];

    cr_assert(access_scopes("read") == ACCESS_READ);
    cr_assert(access_scopes("admin,mirror,metadata,read") == ACCESS_ALL);
    static const char *const bad[] = {"",     ",",           "read,", ",read",
                                      "Read", "read, admin", "reads", "all"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert(!access_scopes(bad[i]), "%s", bad[i]);
    cr_assert(!access_digest("", digest));
    cr_assert(!access_digest("BA7816BF8F01CFEA414140DE5DAE2223"
                             "B00361A396177A9CB410FF61F20015AD",
                             digest));
}

Test(access, of_a_folder_that_is_told_which_may_lead_to_an_image)
{
    static char vm[] = "lab/vm/web/*", one[] = "lab/db/1.raw", b[] = "lab/b*";
    char *some[] = {vm, one, b};
    struct access_row rows[] = {
        {.name = names[1],
         .kind = ACCESS_LOCAL,
         .scopes = ACCESS_METADATA,
         .images = {.v = some, .n = 3, .is_given = true},
         .expires = INT64_MAX},
        {.name = names[0],
         .kind = ACCESS_ANONYMOUS,
         .scopes = ACCESS_READ,
         .expires = INT64_MAX}};
    const struct access_list list = {.v = rows, .n = 2};
    const struct access_row *found[4];
    struct access_own own = {.v = found, .cap = 4};
    struct access_ask ask = ask_for(ACCESS_METADATA, NULL);
    static const struct {
        const char *target;
        bool is_folder, may;
    } cases[] = {{"lab", true, true},           {"lab/vm", true, true},
                 {"lab/vm/web", true, true},    {"lab/vm/web/x", true, true},
                 {"lab/vm/web2", true, false},  {"lab/vm/db", true, false},
                 {"lab/db", true, true},        {"lab/d", true, false},
                 {"lab/b2", true, true},        {"lab/db/1.raw", true, false},
                 {"la", true, false},           {"lab/vm", false, false},
                 {"lab/vm/web/x", false, true}, {"lab/db/1.raw", false, true},
                 {"lab/b2", false, true},       {"lab/c", false, false}};

    ask.is_local = true;
    ask.own = &own;
    ask.folder = "lab/vm/";
    cr_assert(decide(&list, &ask) == ACCESS_OK);
    cr_assert(own.n == 1 && found[0] == &rows[0], "the row with the scope");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        cr_assert(access_own_has(&own, cases[i].target, cases[i].is_folder) ==
                      cases[i].may,
                  "%s", cases[i].target);
    ask.folder = "lab/other/";
    cr_assert(decide(&list, &ask) == ACCESS_NOT_IMAGE);
    cr_assert(own.n == 1);
    /* Two rows add up; a list that has no room for one gives less, not more. */
    rows[1].scopes = ACCESS_METADATA;
    ask.folder = "lab/other/";
    cr_assert(decide(&list, &ask) == ACCESS_OK && own.n == 2);
    cr_assert(access_own_has(&own, "lab/c", false), "by the other row");
    own.n = 0;
    own.cap = 1;
    cr_assert(decide(&list, &ask) == ACCESS_OK && own.n == 1);
    own.cap = 0;
    own.n = 0;
    cr_assert(decide(&list, &ask) == ACCESS_OK && own.n == 0);
}
