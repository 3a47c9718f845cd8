/* SPDX-License-Identifier: Apache-2.0 */
/* Keys by name; and what layers of one driver share. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <platter/driver.h>

#include "stack/secrets.h"
#include "stack/shares.h"

static void write_file(const char *path, size_t n)
{
    FILE *const f = fopen(path, "w");

    cr_assert(f);
    for (size_t i = 0; i < n; i++)
        cr_assert_neq(fputc('a' + (int)(i % 26), f), EOF);
    cr_assert_eq(fclose(f), 0);
}

Test(secrets, are_read_as_they_are_and_found_in_the_order_that_was_asked)
{
    char path[] = "/tmp/platter-secret-XXXXXX";
    struct secrets *const s = secrets_new();
    uint8_t buf[PLT_MAX_SECRET];
    struct plt_error err;
    size_t len = 0;

    cr_assert(s && mkstemp(path) >= 0);
    write_file(path, 5);
    cr_assert_eq(secrets_add_file(s, "one", path, &err), PLT_OK);
    write_file(path, PLT_MAX_SECRET);
    cr_assert_eq(secrets_add_file(s, "two", path, &err), PLT_OK);
    write_file(path, 0);
    cr_assert_eq(secrets_add_file(s, "none", path, &err), PLT_INVALID);
    write_file(path, PLT_MAX_SECRET + 1);
    cr_assert_eq(secrets_add_file(s, "long", path, &err), PLT_INVALID);
    cr_assert_eq(secrets_add_file(s, "one", path, &err), PLT_INVALID);
    cr_assert_eq(secrets_add_file(s, "a b", path, &err), PLT_INVALID);
    (void)unlink(path);
    cr_assert_eq(secrets_add_file(s, "gone", path, &err), PLT_IO);

    cr_assert_eq(secrets_get(s, "two,one", 1, buf, sizeof(buf), &len, &err),
                 PLT_OK);
    cr_assert(len == 5 && memcmp(buf, "abcde", 5) == 0);
    cr_assert_eq(secrets_get(s, "two,one", 0, buf, sizeof(buf), &len, &err),
                 PLT_OK);
    cr_assert_eq(len, (size_t)PLT_MAX_SECRET);
    cr_assert_eq(secrets_get(s, "two,one", 2, buf, sizeof(buf), &len, &err),
                 PLT_NOT_FOUND);
    cr_assert_eq(secrets_get(s, NULL, 0, buf, sizeof(buf), &len, &err),
                 PLT_NOT_FOUND);
    cr_assert_eq(secrets_get(s, "tw", 0, buf, sizeof(buf), &len, &err),
                 PLT_DENIED);
    cr_assert_eq(secrets_get(s, "", 0, buf, sizeof(buf), &len, &err),
                 PLT_DENIED);
    cr_assert_eq(secrets_get(s, "two", 0, buf, 10, &len, &err), PLT_DENIED);
    secrets_free(s);
}

static unsigned n_made, n_destroyed;

static void *make_one(void)
{
    n_made++;
    return &n_made;
}

static void *make_nothing(void)
{
    return NULL;
}

static void destroy_one(void *object)
{
    cr_assert_eq(object, &n_made);
    n_destroyed++;
}

Test(shares, are_made_for_the_first_and_destroyed_with_the_last)
{
    static const struct plt_driver a = {.name = "a"}, b = {.name = "b"};
    struct shares *const s = shares_new();

    cr_assert(s);
    cr_assert_null(shares_get(s, &a, make_nothing, destroy_one));
    cr_assert_eq(shares_get(s, &a, make_one, destroy_one), &n_made);
    cr_assert_eq(shares_get(s, &a, make_one, destroy_one), &n_made);
    cr_assert_eq(n_made, 1);
    cr_assert_eq(shares_get(s, &b, make_one, destroy_one), &n_made);
    cr_assert_eq(n_made, 2);
    shares_put(s, &a);
    cr_assert_eq(n_destroyed, 0);
    shares_put(s, &a);
    cr_assert_eq(n_destroyed, 1);
    shares_put(s, &b);
    cr_assert_eq(n_destroyed, 2);
    shares_free(s);
}
