/* SPDX-License-Identifier: Apache-2.0 */
/* What must never be opened: the disclosure table of the threat model, with
 * real files and links. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stack/policy.h"

static char root[64];
static struct policy *policy;
static struct plt_error err;

static void put(const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", root, name);
    const int fd = open(path, O_CREAT | O_WRONLY, 0600);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, "x", 1), 1);
    close(fd);
}

static void setup(void)
{
    char path[256], link[256];
    strcpy(root, "/tmp/platter-policy-XXXXXX");
    cr_assert_not_null(mkdtemp(root));
    snprintf(path, sizeof(path), "%s/images", root);
    mkdir(path, 0700);
    snprintf(path, sizeof(path), "%s/images/sub", root);
    mkdir(path, 0700);
    put("secret");
    put("images/a.raw");
    put("images/sub/b.raw");
    snprintf(path, sizeof(path), "%s/secret", root);
    snprintf(link, sizeof(link), "%s/images/out", root);
    cr_assert_eq(symlink(path, link), 0);
    snprintf(link, sizeof(link), "%s/images/up", root);
    cr_assert_eq(symlink("../secret", link), 0);
    snprintf(link, sizeof(link), "%s/images/in", root);
    cr_assert_eq(symlink("sub/b.raw", link), 0);
    snprintf(path, sizeof(path), "%s/images/fifo", root);
    cr_assert_eq(mkfifo(path, 0600), 0);
    policy = policy_new(false);
    snprintf(path, sizeof(path), "%s/images", root);
    cr_assert_eq(policy_add_origin(policy, "lab", path, &err), PLT_OK);
    cr_assert_eq(
        policy_add_origin(policy, "web", "http://127.0.0.1:81/img", &err),
        PLT_OK);
}

static void teardown(void)
{
    char cmd[128];
    policy_free(policy);
    snprintf(cmd, sizeof(cmd), "rm -rf %s", root);
    cr_assert_eq(system(cmd), 0);
}

TestSuite(policy, .init = setup, .fini = teardown);

static enum plt_status open_target(const char *target)
{
    struct location l;
    int fd = -1;
    enum plt_status st = policy_locate(policy, target, &l, &err);
    if (st != PLT_OK)
        return st;
    st = policy_open_file(&l, &fd, &err);
    if (fd >= 0)
        close(fd);
    location_release(&l);
    return st;
}

Test(policy, files_beneath_the_origin_open_and_links_inside_it_too)
{
    cr_assert_eq(open_target("lab/a.raw"), PLT_OK);
    cr_assert_eq(open_target("lab/sub/b.raw"), PLT_OK);
    cr_assert_eq(open_target("lab/in"), PLT_OK);
    cr_assert_eq(open_target("lab/none"), PLT_NOT_FOUND);
    cr_assert_eq(open_target("lab/sub"), PLT_NOT_FOUND);
    cr_assert_eq(open_target("other/a.raw"), PLT_NOT_FOUND);
    cr_assert_eq(open_target("lab"), PLT_NOT_FOUND);
}

Test(policy, links_out_of_the_folder_and_devices_are_denied)
{
    cr_assert_eq(open_target("lab/out"), PLT_DENIED);
    cr_assert_eq(open_target("lab/up"), PLT_DENIED);
    cr_assert_eq(open_target("lab/../secret"), PLT_DENIED);
    cr_assert_eq(open_target("lab/fifo"), PLT_DENIED);
}

Test(policy, an_image_may_name_a_sibling_and_nothing_else)
{
    static const char *const bad[] = {
        "/etc/passwd", "../secret", "sub/../../secret",
        "..",          "",          "json:{\"driver\":\"file\"}",
        "nbd:host:1",  "ssh://h/x", "http://127.0.0.1/x",
        "file:/etc/x", "a//b",      "a/./b",
        "a/",          "C:\\x",     "a\nb",
        "fat:rw:/etc"};
    struct location from, to;
    cr_assert_eq(policy_locate(policy, "lab/sub/b.raw", &from, &err), PLT_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_eq(policy_locate_sibling(&from, bad[i], &to, &err),
                     PLT_DENIED, "%s", bad[i]);
    cr_assert_eq(policy_locate_sibling(&from, "c.qcow2", &to, &err), PLT_OK);
    cr_assert_str_eq(to.path, "sub/c.qcow2");
    cr_assert_str_eq(to.label, "lab/sub/c.qcow2");
    location_release(&to);
    location_release(&from);
    cr_assert_eq(policy_locate(policy, "web/d/x.qcow2", &from, &err), PLT_OK);
    cr_assert_str_eq(from.url, "http://127.0.0.1:81/img/d/x.qcow2");
    cr_assert_eq(policy_locate_sibling(&from, "./b se", &to, &err), PLT_OK);
    cr_assert_str_eq(to.url, "http://127.0.0.1:81/img/d/b%20se");
    location_release(&to);
    location_release(&from);
}

Test(policy, redirects_stay_inside_origins)
{
    static const struct {
        const char *url;
        enum plt_status want;
    } rows[] = {
        {"http://127.0.0.1:81/img/y", PLT_OK},
        {"HTTP://127.0.0.1:81/img/y", PLT_DENIED},
        {"http://127.0.0.1:81/img/a/../../etc", PLT_DENIED},
        {"http://127.0.0.1:81/img/%2e%2E/etc", PLT_DENIED},
        {"http://127.0.0.1:81/img/..%2fetc", PLT_DENIED},
        {"http://127.0.0.1:81/img/..%5Cetc", PLT_DENIED},
        {"http://127.0.0.1:81/img/..%00", PLT_DENIED},
        {"http://127.0.0.1:81/imgother", PLT_DENIED},
        {"http://127.0.0.1:81/other", PLT_DENIED},
        {"http://127.0.0.1:82/img/y", PLT_DENIED},
        {"http://127.0.0.1/img/y", PLT_DENIED},
        {"https://127.0.0.1:81/img/y", PLT_DENIED},
        {"http://u:p@127.0.0.1:81/img/y", PLT_DENIED},
        {"http://127.0.0.1:81@evil/img/y", PLT_DENIED},
        {"http://169.254.169.254/latest", PLT_DENIED},
        {"file:///etc/passwd", PLT_DENIED},
        {"gopher://127.0.0.1:81/img/", PLT_DENIED},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        cr_assert_eq(policy_allow_url(policy, rows[i].url, &err), rows[i].want,
                     "%s", rows[i].url);
}

Test(policy, a_server_never_takes_a_path_or_url_from_outside)
{
    struct location l;
    cr_assert_eq(policy_locate_own(policy, "/etc/passwd", &l, &err),
                 PLT_DENIED);
    cr_assert_eq(policy_locate_own(policy, "http://h/x", &l, &err), PLT_DENIED);
}

Test(policy, origins_are_checked_when_they_are_added)
{
    cr_assert_eq(policy_add_origin(policy, "lab", "/tmp", &err), PLT_INVALID);
    cr_assert_eq(policy_add_origin(policy, "a/b", "/tmp", &err), PLT_INVALID);
    cr_assert_eq(policy_add_origin(policy, "x", "tmp", &err), PLT_INVALID);
    cr_assert_eq(policy_add_origin(policy, "x", "/none/such", &err),
                 PLT_INVALID);
    cr_assert_eq(policy_add_origin(policy, "x", "http://u:p@h/", &err),
                 PLT_INVALID);
    cr_assert_eq(policy_add_origin(policy, "x", "http://h/?q", &err),
                 PLT_INVALID);
    cr_assert_eq(policy_add_origin(policy, "x", "ftp://h/", &err), PLT_INVALID);
}
