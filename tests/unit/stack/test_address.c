/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <string.h>

#include <criterion/criterion.h>

#include "stack/address.h"
#include "stack/policy.h"

static size_t bytes_of(const char *text, uint8_t out[16])
{
    const bool is_six = strchr(text, ':') != NULL;
    cr_assert(inet_pton(is_six ? AF_INET6 : AF_INET, text, out) == 1, "%s",
              text);
    return is_six ? 16 : 4;
}

Test(address, what_is_not_the_public_s)
{
    static const struct {
        const char *text, *kind; /* NULL: anybody's */
    } rows[] = {
        {"8.8.8.8", NULL},
        {"1.1.1.1", NULL},
        {"172.15.255.255", NULL},
        {"172.32.0.0", NULL},
        {"100.63.255.255", NULL},
        {"223.255.255.255", NULL},
        {"126.255.255.255", NULL},
        {"2606:4700::1111", NULL},
        {"2a00:1450::", NULL},
        {"127.0.0.1", "loopback"},
        {"127.255.255.254", "loopback"},
        {"0.0.0.0", "unspecified"},
        {"0.1.2.3", "unspecified"},
        {"10.0.0.1", "private"},
        {"172.16.0.1", "private"},
        {"172.31.255.255", "private"},
        {"192.168.1.1", "private"},
        {"100.64.0.1", "private"},
        {"100.127.255.255", "private"},
        {"169.254.169.254", "link-local"},
        {"198.19.0.1", "private"},
        {"192.0.2.1", "reserved"},
        {"224.0.0.1", "multicast"},
        {"255.255.255.255", "reserved"},
        {"::1", "loopback"},
        {"::", "unspecified"},
        {"::127.0.0.1", "unspecified"},
        {"fe80::1", "link-local"},
        {"febf::1", "link-local"},
        {"fd00:ec2::254", "private"},
        {"fec0::1", "private"},
        {"ff02::1", "multicast"},
        {"2001:db8::1", "reserved"},
        /* The same in other clothes. */
        {"::ffff:127.0.0.1", "loopback"},
        {"::ffff:169.254.169.254", "link-local"},
        {"::ffff:8.8.8.8", NULL},
        {"64:ff9b::10.0.0.1", "private"},
        {"64:ff9b::8.8.8.8", NULL},
        {"64:ff9b:1::8.8.8.8", "private"},
        {"2002:7f00:1::", "loopback"},
        {"2002:808:808::", NULL},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t a[16];
        const char *const kind = address_kind(a, bytes_of(rows[i].text, a));
        if (rows[i].kind)
            cr_expect(kind && strstr(kind, rows[i].kind), "%s: %s",
                      rows[i].text, kind ? kind : "public");
        else
            cr_expect_null(kind, "%s: %s", rows[i].text, kind);
    }
    cr_expect_not_null(address_kind((const uint8_t *)"abc", 3));
}

Test(address, lists_of_blocks)
{
    static const char *const bad[] = {
        "",           ",",          "10.0.0.0/33", "10.0.0/8", "10.0.0.0/",
        "10.0.0.0/x", "fd00::/129", "::g",         "1.2.3.4,", "1.2.3.4 ",
        "host",       "1.2.3.4/-1", "1.2.3.4/+1"};
    struct plt_error err;
    uint8_t a[16];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_expect_neq(address_check(bad[i], &err), PLT_OK, "%s", bad[i]);
    cr_expect_eq(address_check("10.0.0.0/8,fd00::/8,192.0.2.7", &err), PLT_OK);

    const char *const list = "10.1.0.0/15,192.0.2.7,fd00:1::/33";
    const struct {
        const char *text;
        bool is_in;
    } rows[] = {{"10.0.255.255", true},   {"10.1.0.0", true},
                {"10.2.0.0", false},      {"192.0.2.7", true},
                {"192.0.2.6", false},     {"fd00:1:7fff::1", true},
                {"fd00:1:8000::", false}, {"::ffff:192.0.2.7", true},
                {"127.0.0.1", false}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        cr_expect_eq(address_in(list, a, bytes_of(rows[i].text, a)),
                     rows[i].is_in, "%s", rows[i].text);
    cr_expect_not(address_in(NULL, a, 4));
}

static bool may(struct policy *p, const char *url, const char *address)
{
    struct plt_error err;
    uint8_t a[16];
    const size_t len = bytes_of(address, a);
    const enum plt_status st = policy_allow_address(p, url, a, len, &err);

    cr_assert(st == PLT_OK || st == PLT_DENIED);
    return st == PLT_OK;
}

Test(address, an_origin_is_where_its_configuration_says)
{
    struct policy *const p = policy_new(false);
    struct plt_error err;

    cr_assert_eq(policy_add_origin(p, "a", "https://a.example/x/", &err), 0);
    cr_assert_eq(policy_add_origin(p, "b", "http://10.1.2.3:80/", &err), 0);
    cr_assert_eq(policy_add_origin(p, "c", "http://[fd00::7]:81/", &err), 0);
    cr_assert_eq(policy_add_origin(p, "d", "http://localhost:82/", &err), 0);
    cr_assert_eq(policy_add_origin(p, "e", "http://e.example/", &err), 0);
    cr_assert_eq(policy_add_origin(p, "f", "/tmp", &err), 0);
    cr_assert_eq(policy_allow_addresses(p, "e", "10.0.0.0/8,::1", &err), 0);
    cr_expect_eq(policy_allow_addresses(p, "f", "10.0.0.0/8", &err),
                 PLT_INVALID);
    cr_expect_eq(policy_allow_addresses(p, "g", "10.0.0.0/8", &err),
                 PLT_INVALID);
    cr_expect_eq(policy_allow_addresses(p, "e", "10.0.0.0/64", &err),
                 PLT_INVALID);

    cr_expect(may(p, "https://a.example/x/1", "93.184.216.34"));
    cr_expect_not(may(p, "https://a.example/x/1", "127.0.0.1"));
    cr_expect_not(may(p, "https://a.example/x/1", "169.254.169.254"));
    cr_expect_not(may(p, "https://a.example/x/1", "10.1.2.3"));
    cr_expect(may(p, "http://10.1.2.3/i", "10.1.2.3"));
    cr_expect_not(may(p, "http://10.1.2.3/i", "10.1.2.4"));
    cr_expect(may(p, "http://[fd00::7]:81/i", "fd00::7"));
    cr_expect_not(may(p, "http://[fd00::7]:81/i", "fd00::8"));
    cr_expect(may(p, "http://localhost:82/", "127.0.0.1"));
    cr_expect(may(p, "http://localhost:82/", "::1"));
    cr_expect_not(may(p, "http://localhost:82/", "10.0.0.1"));
    cr_expect(may(p, "http://e.example/i", "10.200.0.1"));
    cr_expect(may(p, "http://e.example/i", "::ffff:10.200.0.1"));
    cr_expect_not(may(p, "http://e.example/i", "192.168.0.1"));
    /* Another origin's addresses are not this one's. */
    cr_expect_not(may(p, "http://e.example:81/i", "10.200.0.1"));
    cr_expect_not(may(p, "http://of.nobody/", "10.200.0.1"));
    policy_free(p);
}
