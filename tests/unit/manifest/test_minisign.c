/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and signatures, with the real minisign on the other side. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "manifest/minisign.h"

static char dir[] = "/tmp/test-minisign-XXXXXX";

/* Files of minisign's: p and s of a key without a password, p2 and s2 of
 * another, doc, and its signatures in both ways. */
static void make(void)
{
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(chdir(dir), 0);
    cr_assert_eq(
        system("exec >log 2>&1 && set -e; head -c 100000 /dev/urandom >doc; "
               "minisign -G -W -p p -s s; minisign -G -W -p p2 -s s2; "
               "minisign -S -s s -m doc -x doc.ED -t 'image=a root=b'; "
               "minisign -S -l -s s -m doc -x doc.Ed -t 'old one'"),
        0);
}

static void clean(void)
{
    char command[64];

    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    cr_assert_eq(system(command), 0);
}

TestSuite(minisign, .init = make, .fini = clean);

static char *load(const char *name, size_t *len)
{
    FILE *const f = fopen(name, "rb");
    char *const text = calloc(1, 200001);

    cr_assert(f && text, "%s", name);
    const size_t n = fread(text, 1, 200000, f);
    (void)fclose(f);
    if (len)
        *len = n;
    return text;
}

static void store(const char *name, const void *data, size_t len)
{
    FILE *const f = fopen(name, "wb");

    cr_assert(f);
    cr_assert_eq(fwrite(data, 1, len, f), len);
    cr_assert_eq(fclose(f), 0);
}

static struct minisign_key key_of(const char *name)
{
    struct minisign_key key;
    struct plt_error err;
    char *const text = load(name, NULL);

    cr_assert_eq(minisign_key_parse(text, &key, &err), PLT_OK, "%s", err.text);
    free(text);
    return key;
}

Test(minisign, what_the_tool_signs_verifies_and_nothing_else)
{
    static const struct {
        const char *name, *comment;
    } table[] = {{"doc.ED", "image=a root=b"}, {"doc.Ed", "old one"}};
    const struct minisign_key keys[] = {key_of("p2"), key_of("p")};
    struct plt_error err;
    char comment[MINISIGN_COMMENT];
    size_t len;
    char *const doc = load("doc", &len);

    for (size_t i = 0; i < 2; i++) {
        char *const text = load(table[i].name, NULL);
        cr_expect_eq(minisign_verify(keys, 2, doc, len, text, comment, &err),
                     PLT_OK, "%s", err.text);
        cr_expect_str_eq(comment, table[i].comment);
        /* Another key, other bytes, fewer bytes. */
        cr_expect_eq(minisign_verify(keys, 1, doc, len, text, comment, &err),
                     PLT_DENIED);
        cr_expect_str_eq(comment, "");
        cr_expect_eq(minisign_verify(keys, 0, doc, len, text, comment, &err),
                     PLT_DENIED);
        doc[len / 2] ^= 1;
        cr_expect_eq(minisign_verify(keys, 2, doc, len, text, comment, &err),
                     PLT_DENIED);
        doc[len / 2] ^= 1;
        cr_expect_eq(
            minisign_verify(keys, 2, doc, len - 1, text, comment, &err),
            PLT_DENIED);
        /* A key that only says that it is that one. */
        struct minisign_key liar = keys[0];
        memcpy(liar.id, keys[1].id, sizeof(liar.id));
        cr_expect_eq(minisign_verify(&liar, 1, doc, len, text, comment, &err),
                     PLT_DENIED);
        free(text);
    }
    free(doc);
}

Test(minisign, no_character_of_a_signature_may_be_another)
{
    static const char *const names[] = {"doc.ED", "doc.Ed"};
    const struct minisign_key key = key_of("p");
    struct plt_error err;
    char comment[MINISIGN_COMMENT];
    size_t len, n;
    char *const doc = load("doc", &len);

    for (size_t k = 0; k < 2; k++) {
        char *const text = load(names[k], &n);
        const size_t first = strcspn(text, "\n"); /* nobody vouches for that */
        for (size_t i = 0; i < n; i++) {
            const char was = text[i];
            for (unsigned bit = 0; bit < 7; bit++) {
                text[i] = (char)(was ^ (1 << bit));
                const bool is_free = i >= strlen("untrusted comment: ") &&
                                     i < first && text[i] && text[i] != '\n';
                const enum plt_status st =
                    minisign_verify(&key, 1, doc, len, text, comment, &err);
                cr_expect_eq(st == PLT_OK, is_free, "%s at %zu: %c", names[k],
                             i, text[i]);
                if (!is_free)
                    cr_expect(st == PLT_DENIED || st == PLT_CORRUPT ||
                              st == PLT_UNSUPPORTED);
            }
            text[i] = was;
        }
        /* Cut anywhere, but for the last line's end. */
        for (size_t i = 0; i + 1 < n; i++) {
            text[n - 1 - i] = '\0';
            cr_expect_eq(
                minisign_verify(&key, 1, doc, len, text, comment, &err),
                i ? PLT_CORRUPT : PLT_OK, "%zu", i);
        }
        free(text);
    }
    free(doc);
}

Test(minisign, what_is_signed_here_the_tool_verifies)
{
    struct plt_error err;
    char *const secret = load("s", NULL), *signature = NULL;
    char comment[MINISIGN_COMMENT], said[MINISIGN_COMMENT], line[512];
    const struct minisign_key key = key_of("p");
    struct minisign_key own;
    size_t len;
    char *const doc = load("doc", &len);

    cr_assert_eq(minisign_key_of_secret(secret, &own, &err), PLT_OK);
    cr_expect_arr_eq(&own, &key, sizeof(key));
    memset(comment, 'c', sizeof(comment));
    for (size_t n = 0; n < MINISIGN_COMMENT; n += 51) {
        const size_t m = n ? len : 0; /* of nothing, too */
        comment[n] = '\0';
        cr_assert_eq(minisign_sign(secret, doc, m, comment, &signature, &err),
                     PLT_OK, "%s", err.text);
        store("mine", doc, m);
        store("mine.minisig", signature, strlen(signature));
        cr_expect_eq(system("minisign -V -Q -p p -m mine >said 2>&1"), 0);
        FILE *const f = fopen("said", "r");
        cr_expect(fgets(line, sizeof(line), f));
        line[strcspn(line, "\n")] = '\0';
        (void)fclose(f);
        cr_expect_str_eq(line, comment);
        cr_expect_eq(minisign_verify(&key, 1, doc, m, signature, said, &err),
                     PLT_OK);
        cr_expect_str_eq(said, comment);
        free(signature);
        comment[n] = 'c';
    }
    comment[MINISIGN_COMMENT - 1] = 'c';
    cr_expect_eq(minisign_sign(secret, doc, len, comment, &signature, &err),
                 PLT_INVALID);
    cr_expect_eq(minisign_sign(secret, doc, len, "a\nb", &signature, &err),
                 PLT_INVALID);
    free(secret);
    free(doc);
}

Test(minisign, keys_that_are_none_encrypted_or_damaged_are_told_apart)
{
    struct plt_error err;
    struct minisign_key key, same;
    char *const public = load("p", NULL), *const secret = load("s", NULL);
    char *const line = strchr(public, '\n') + 1;
    char *signature;

    cr_assert_eq(minisign_key_parse(public, &key, &err), PLT_OK);
    cr_expect_eq(minisign_key_parse(line, &same, &err), PLT_OK);
    cr_expect_arr_eq(&key, &same, sizeof(key));
    line[strlen(line) - 1] = '\0';
    cr_expect_eq(minisign_key_parse(line, &same, &err), PLT_OK);
    static const char *const bad[] = {
        "", "\n", "RWQ=", "untrusted comment: x", "untrusted comment: x\n",
        /* bits behind the end, another alphabet, two lines */
        "RWSfP4j100V3ZMRKE1GKoFalld3vJe5TVx30F1jbk6Wa3FNy5AUxHd+",
        "RWSfP4j100V3ZMRKE1GKoFalld3vJe5TVx30F1jbk6Wa3FNy5AUxHd-K",
        "RWSfP4j100V3ZMRKE1GKoFalld3vJe5TVx30F1jbk6Wa3FNy5AUxHd+K\nx",
        " RWSfP4j100V3ZMRKE1GKoFalld3vJe5TVx30F1jbk6Wa3FNy5AUxHd+",
        "RUSfP4j100V3ZMRKE1GKoFalld3vJe5TVx30F1jbk6Wa3FNy5AUxHd+K"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_expect_eq(minisign_key_parse(bad[i], &same, &err), PLT_INVALID, "%s",
                     bad[i]);
    cr_expect_eq(minisign_key_parse(secret, &same, &err), PLT_INVALID);
    cr_expect_eq(minisign_sign(public, "", 0, "", &signature, &err),
                 PLT_INVALID);

    /* The seed's and the public key's characters: base64 of bytes 62 to 125. */
    char *const coded = strchr(secret, '\n') + 1;
    for (size_t i = 84; i < 168; i += 7) {
        const char was = coded[i];
        coded[i] = was == 'A' ? 'B' : 'A';
        cr_expect_eq(minisign_sign(secret, "", 0, "", &signature, &err),
                     PLT_INVALID, "%zu", i);
        cr_expect(strstr(err.text, "damaged"), "%s", err.text);
        coded[i] = was;
    }
    free(public);
    free(secret);
}

Test(minisign, an_encrypted_key_is_refused_with_the_reason)
{
    /* of minisign -G; to make it takes a gigabyte of memory */
    static const char secret[] =
        "untrusted comment: minisign encrypted secret key\n"
        "RWRTY0IyUkRpt34d5MRO2FWRKop5XJHGQKiyUHwipVrRuAayX8AAAAACAAAAAAAAAEAAAA"
        "AAEw7PofLOTfkpCNG+Hzx38hIpw10d3bekL9aU0HvzWX8GYQNbOrwsOlvEWLw1ZUBvldV2"
        "6FAI/tre204BVSCqAvYObRIZd8BVkCS3P8jF+ZtxDDb+6XIX5Ujx8V/3TTNPa5VJSfVJre"
        "0=\n";
    struct plt_error err;
    char *signature;

    cr_expect_eq(minisign_sign(secret, "", 0, "", &signature, &err),
                 PLT_UNSUPPORTED, "%s", err.text);
    cr_expect(strstr(err.text, "password"));
}
