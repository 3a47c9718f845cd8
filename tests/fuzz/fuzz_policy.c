/* SPDX-License-Identifier: Apache-2.0 */
/* Names that images hold, URLs that origins redirect to, and blocks of
 * addresses.  The first line is a name, the second a URL, the third blocks;
 * what follows is an address.
 *
 * A neighbour lies in its image's folder and a redirect beneath its origin's,
 * as one who knows nothing but the RFCs resolves them; an address lies in a
 * block just when its bits say so. */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "fuzz_must.h"
#include "stack/address.h"
#include "stack/policy.h"

#define SITE "http://h.example"

static struct policy *policy;

static void set_up(void)
{
    struct plt_error err = {.at = PLT_AT_NONE};

    policy = policy_new(false);
    MUST(policy);
    MUST(policy_add_origin(policy, "far", SITE "/images", &err) == PLT_OK);
    MUST(policy_add_origin(policy, "near", "/tmp", &err) == PLT_OK);
}

/* RFC 3986 5.2.4, of a URL over what is decoded: it never leaves `base`. */
static void stays(const char *path, const char *base, bool is_url)
{
    char *const plain = strdup(path);
    char *out = plain;
    int depth = 0;

    MUST(plain);
    MUST(strncmp(path, base, strlen(base)) == 0);
    path += strlen(base);
    for (; *path && !(is_url && strchr("?#", *path)); path++) {
        unsigned c = (unsigned char)*path;
        if (is_url && c == '%' && isxdigit((unsigned char)path[1]) &&
            isxdigit((unsigned char)path[2])) {
            MUST(sscanf(path + 1, "%2x", &c) == 1);
            path += 2;
        }
        *out++ = (char)c;
    }
    *out = '\0';
    for (char *p = plain; *p;) {
        const size_t len = strcspn(p, "/");
        if (len == 2 && p[0] == '.' && p[1] == '.')
            MUST(--depth >= 0);
        else if (len && !(len == 1 && p[0] == '.'))
            depth++;
        p += len + (p[len] == '/');
    }
    free(plain);
}

static void check_name(const char *name)
{
    static const char *const targets[] = {"near/dir/x.vmdk", "far/dir/x.vmdk",
                                          "far/x"};
    struct plt_error err = {.at = PLT_AT_NONE};

    for (size_t i = 0; i < 3; i++) {
        struct location from, to;
        MUST(policy_locate(policy, targets[i], &from, &err) == PLT_OK);
        const enum plt_status st =
            policy_locate_sibling(&from, name, &to, &err);
        MUST((st == PLT_OK) == !policy_complaint(name));
        if (st == PLT_OK) {
            const char *const folder = i == 2 ? "" : "dir/";
            stays(to.path, folder, false);
            MUST(!strstr(to.path, "//") && !strchr(to.path, '\\'));
            MUST(to.path[0] != '/' && to.path[strlen(to.path) - 1] != '/');
            if (from.url) {
                char base[64];
                (void)snprintf(base, sizeof(base), SITE "/images/%s", folder);
                stays(to.url, base, true);
                MUST(!strpbrk(to.url, "?#\\ "));
            } else {
                MUST(!to.url && strcmp(to.folder, from.folder) == 0);
            }
            location_release(&to);
        } else {
            MUST(st == PLT_DENIED);
        }
        location_release(&from);
    }
}

static void check_url(const char *url)
{
    struct plt_error err = {.at = PLT_AT_NONE};

    if (policy_allow_url(policy, url, &err) != PLT_OK)
        return;
    const size_t site = strcspn(url + 7, "/");
    MUST(strncasecmp(url, SITE, strlen(SITE)) == 0);
    MUST(site == strlen(SITE) - 7 ||
         strncmp(url + strlen(SITE), ":80", 3) == 0);
    stays(url + 7 + site, "/images/", true);
}

/* One block of IPv4, by the bits. */
static bool in_block(const char *word, const uint8_t a[4])
{
    unsigned b[4], bits = 32;

    if (sscanf(word, "%u.%u.%u.%u/%u", &b[0], &b[1], &b[2], &b[3], &bits) < 4)
        return false;
    for (unsigned i = 0; i < bits; i++)
        if ((a[i / 8] ^ b[i / 8]) >> (7 - i % 8) & 1)
            return false;
    return true;
}

static void check_addresses(char *blocks, const uint8_t *address, size_t len)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    char text[ADDRESS_TEXT];
    uint8_t mapped[16] = {[10] = 0xff, 0xff};
    const char *const kind = address_kind(address, len);

    if (len != 4 && len != 16) {
        MUST(kind);
        return;
    }
    address_text(address, len, text);
    MUST(address_check(text, &err) == PLT_OK && address_in(text, address, len));
    if (len == 4) { /* in the other family's clothes it is the same */
        memcpy(mapped + 12, address, 4);
        const char *const other = address_kind(mapped, 16);
        MUST(kind ? other && strcmp(kind, other) == 0 : !other);
        MUST(address_in(text, mapped, 16));
    }
    if (address_check(blocks, &err) != PLT_OK) {
        MUST(err.status == PLT_INVALID && err.text[0]);
        return;
    }
    const bool is_in = address_in(blocks, address, len);
    bool is_known = len == 4, expected = false;
    for (char *word = strtok(blocks, ","); word; word = strtok(NULL, ",")) {
        is_known = is_known && !strchr(word, ':');
        expected = expected || (is_known && in_block(word, address));
    }
    MUST(!is_known || is_in == expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *lines[3];
    char *const text = malloc(size + 1);

    MUST(text);
    if (!policy)
        set_up();
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    size_t at = 0;
    for (unsigned i = 0; i < 3; i++) {
        lines[i] = text + at;
        char *const end = memchr(text + at, '\n', size - at);
        at = end ? (size_t)(end - text) + 1 : size;
        if (end)
            *end = '\0';
    }
    check_name(lines[0]);
    check_url(lines[1]);
    check_addresses(lines[2], (const uint8_t *)text + at, size - at);
    free(text);
    return 0;
}
