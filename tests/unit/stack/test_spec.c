/* SPDX-License-Identifier: Apache-2.0 */
/* Stack specs as PRODUCT writes them, and as users of QEMU's dictzip and tar
 * drivers write them.  Needs the built plugins: names come from them. */
#include <criterion/criterion.h>
#include <string.h>

#include "stack/spec.h"

static struct registry *registry;
static struct plt_error err;

static void setup(void)
{
    cr_assert_eq(registry_load(&registry, NULL, &err), PLT_OK);
}

static void teardown(void)
{
    registry_free(registry);
}

TestSuite(spec, .init = setup, .fini = teardown);

static void expect(const char *text, const char *layers, const char *source)
{
    struct spec s;
    char got[256] = "";
    cr_assert_eq(spec_parse(&s, registry, text, &err), PLT_OK, "%s: %s", text,
                 err.text);
    for (size_t i = 0; i < s.n_layers; i++) {
        strcat(got, i ? "," : "");
        strcat(got, s.layers[i].driver->name);
        for (size_t k = 0; k < s.layers[i].n_settings; k++) {
            strcat(got, "+");
            strcat(got, s.layers[i].settings[k].value);
        }
    }
    cr_assert_str_eq(got, layers, "%s", text);
    cr_assert_str_eq(s.source, source, "%s", text);
    spec_release(&s);
}

Test(spec, text_forms_of_the_contract)
{
    expect("x.tar.gz", "", "x.tar.gz");
    expect("/a/b:c", "", "/a/b:c");
    expect("http://h/x.tar.gz", "", "http://h/x.tar.gz");
    expect("qcow2:tar:gzip:https://host/x.tar.gz", "qcow2,tar,gzip",
           "https://host/x.tar.gz");
    expect("qcow2:tar{member=box.img}:gzip:https://host/x.box",
           "qcow2,tar+box.img,gzip", "https://host/x.box");
    expect("tar{member=a\\,b\\}c}:x.tar", "tar+a,b}c", "x.tar");
    expect("tar:dzip:http://h/x.tar.dz", "tar,gzip", "http://h/x.tar.dz");
    expect("tar://dzip://http://h/x", "tar,gzip", "http://h/x");
    expect("dzip:///srv/x.dz", "gzip", "/srv/x.dz");
    expect("file:x.raw", "", "x.raw");
    expect("gzip:file:///srv/x", "gzip", "/srv/x");
    expect("raw{offset=1M,size=64k}:x", "raw+1M+64k", "x");
}

Test(spec, json_form_says_the_same)
{
    expect("{\"layers\":[{\"driver\":\"tar\",\"member\":\"d\"},"
           "{\"driver\":\"gzip\"}],\"source\":\"http://h/x\"}",
           "tar+d,gzip", "http://h/x");
    expect("{\"source\":\"x\"}", "", "x");
    expect("{\"layers\":[{\"driver\":\"raw\",\"offset\":512}],"
           "\"source\":\"x\"}",
           "raw+512", "x");
}

Test(spec, what_is_not_well_formed_is_refused)
{
    static const char *const bad[] = {
        "",
        "gzip:",
        "tar{member}:x",
        "tar{member=a:x",
        "tar{nope=1}:x",
        "raw{offset=-1}:x",
        "raw{offset=x}:x",
        "tar{member=a}x",
        "{\"source\":1}",
        "{}",
        "{",
        "{\"layers\":[{}],\"source\":\"x\"}",
        "{\"source\":\"x\",\"more\":1}",
        "{\"layers\":[{\"driver\":\"curl\"}],\"source\":\"x\"}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct spec s;
        cr_assert_eq(spec_parse(&s, registry, bad[i], &err), PLT_INVALID, "%s",
                     bad[i]);
    }
    char deep[256] = "";
    for (int i = 0; i < 17; i++)
        strcat(deep, "gzip:");
    strcat(deep, "x");
    struct spec s;
    cr_assert_eq(spec_parse(&s, registry, deep, &err), PLT_INVALID);
}

Test(spec, layers_selector_pins_exactly_what_it_says)
{
    struct spec s;
    cr_assert_eq(spec_parse_layers(&s, registry, "qcow2,tar,gzip", &err),
                 PLT_OK);
    cr_assert_eq(s.n_layers, 3);
    cr_assert(s.is_pinned);
    spec_release(&s);
    cr_assert_eq(spec_parse_layers(&s, registry, "", &err), PLT_OK);
    cr_assert_eq(s.n_layers, 0);
    cr_assert(s.is_pinned);
    spec_release(&s);
    cr_assert_eq(spec_parse_layers(&s, registry, "nope", &err), PLT_INVALID);
    cr_assert_eq(spec_parse_layers(&s, registry, "curl", &err), PLT_INVALID);
}
