/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens and signed URLs of platterd(8), ACCESS. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <platter/driver.h>

#include "cli/cli.h"
#include "stack/policy.h"
#include "stack/signature.h"
#include "util/auto.h"

enum { EXPIRES_S = 3600, MAX_EXPIRES_S = 10 * 365 * 86400 };

/* 256 bits that nobody can guess: a plain hash of it is as good as a slow one.
 */
int cmd_token(const struct command_run *run)
{
    uint8_t secret[SIGNATURE_MAC], digest[EVP_MAX_MD_SIZE];
    char text[SIGNATURE_TEXT], token[SIGNATURE_TEXT + 8], hex[65];
    unsigned n = 0;

    if (RAND_bytes(secret, sizeof(secret)) != 1)
        return cli_complain("no random numbers");
    signature_format(secret, text);
    (void)snprintf(token, sizeof(token), "platter_%.43s", text);
    if (EVP_Digest(token, strlen(token), digest, &n, EVP_sha256(), NULL) != 1)
        return cli_complain("no SHA-256");
    for (size_t i = 0; i < 32; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    if (run->o->is_json)
        return cli_print_json(
            json_pack("{s:s, s:s}", "token", token, "token_sha256", hex));
    (void)printf("token         %s\ntoken_sha256  %s\n", token, hex);
    return cli_flush();
}

/* "90", "90s", "15m", "12h", "30d": in seconds; 0: it is not that. */
static int64_t parse_span(const char *text)
{
    static const struct {
        char suffix;
        int64_t factor;
    } rows[] = {{'\0', 1}, {'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    const size_t n = strspn(text, "0123456789");
    const int64_t v = n && n < 10 ? strtol(text, NULL, 10) : 0;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (text[n] == rows[i].suffix && (!text[n] || !text[n + 1]))
            return v * rows[i].factor;
    }
    return 0;
}

/* The bytes of a key's file as they are; 0: told why not. */
static size_t read_key(const char *file, uint8_t key[PLT_MAX_SECRET])
{
    AUTO_FD int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat sb;

    if (fd < 0 || fstat(fd, &sb) != 0) {
        (void)cli_complain("%s: %s", file, strerror(errno));
        return 0;
    }
    if (!S_ISREG(sb.st_mode) || sb.st_size < SIGNATURE_KEY_LEAST ||
        sb.st_size > PLT_MAX_SECRET ||
        read(fd, key, (size_t)sb.st_size) != (ssize_t)sb.st_size) {
        (void)cli_complain("%s: a signing key is a file of %d to %d bytes",
                           file, SIGNATURE_KEY_LEAST, PLT_MAX_SECRET);
        return 0;
    }
    return (size_t)sb.st_size;
}

/* "disk" is "/disk/", "info" is "/v1/info/"; false: it has none. */
static bool route_of(const char *word, char out[32])
{
    static const char *const bytes[] = {"disk", "raw"};
    static const char *const json[] = {
        "info",     "members", "extents",  "partitions", "snapshots", "check",
        "checksum", "index",   "manifest", "trace",      "prefetch"};

    for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
        if (strcmp(word, bytes[i]) == 0)
            return snprintf(out, 32, "/%s/", word) > 0;
    }
    for (size_t i = 0; i < sizeof(json) / sizeof(json[0]); i++) {
        if (strcmp(word, json[i]) == 0)
            return snprintf(out, 32, "/v1/%s/", word) > 0;
    }
    return false;
}

/* The gateway's URL without its last slash; "" without one. */
static int print_url(const struct options *o, const char *route,
                     const char *path, int64_t expires, const char *key,
                     const char *signature)
{
    const char *const base = o->gateway ? o->gateway : "";
    size_t n = strlen(base);
    char *url = NULL;
    size_t len = 0;

    while (n && base[n - 1] == '/')
        n--;
    FILE *const f = open_memstream(&url, &len);
    if (!f)
        return cli_complain("out of memory");
    (void)fprintf(f, "%.*s%s%s;expires=%" PRId64 ";key=%s;signature=%s", (int)n,
                  base, route, path, expires, key, signature);
    if (fclose(f) != 0) {
        free(url);
        return cli_complain("out of memory");
    }
    AUTO_FREE char *text = url;
    if (o->is_json)
        return cli_print_json(json_pack("{s:s, s:I}", "url", text, "expires",
                                        (json_int_t)expires));
    (void)puts(text);
    return cli_flush();
}

int cmd_sign(const struct command_run *run)
{
    const struct options *const o = run->o;
    const char *const eq = o->signing_key ? strchr(o->signing_key, '=') : NULL;
    const int64_t span = o->expires ? parse_span(o->expires) : EXPIRES_S;
    const char *const word = o->route ? o->route : "disk";
    char name[SIGNATURE_KEY_NAME] = "", route[32], text[SIGNATURE_TEXT];
    uint8_t key[PLT_MAX_SECRET], mac[SIGNATURE_MAC];
    struct reference reference;
    struct plt_error err;

    if (eq && (size_t)(eq - o->signing_key) < sizeof(name))
        (void)snprintf(name, sizeof(name), "%.*s", (int)(eq - o->signing_key),
                       o->signing_key);
    if (!policy_name_ok(name))
        return cli_usage("sign needs --signing-key NAME=FILE");
    if (span < 1 || span > MAX_EXPIRES_S)
        return cli_usage(
            "--expires is a span: 90s, 15m, 12h, 30d, to 10 years");
    if (!route_of(word, route))
        return cli_usage("--route is disk, raw, info, members, extents, ...");
    AUTO_FREE char *path = gateway_path(o, run->args[0]);
    if (!path)
        return cli_complain("out of memory");
    /* As the gateway will read it: what it would refuse is not signed. */
    if (reference_parse(&reference, path, NULL, NULL, &err) != PLT_OK)
        return cli_failed(run->args[0], &err);
    const size_t key_len = read_key(eq + 1, key);
    const int64_t expires = (int64_t)time(NULL) + span;
    int code = EXIT_FAILED;
    if (key_len &&
        signature_make(key, key_len, route, &reference, name, expires, mac)) {
        signature_format(mac, text);
        code = print_url(o, route, path, expires, name, text);
    }
    reference_release(&reference);
    explicit_bzero(key, sizeof(key));
    return code;
}
