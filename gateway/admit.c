/* SPDX-License-Identifier: Apache-2.0 */
#include "admit.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "route.h"
#include "tls.h"

enum { MAX_TOKEN = 512, MIRROR_NAME = 64 };

/* ---- From this machine ---- */

/* RFC 9110 7.2: a host, and a port that does not matter here. */
static bool is_own_name(const char *host)
{
    char name[64];
    struct in_addr v4;
    const char *const end = *host == '[' ? strchr(host, ']') : NULL;
    const size_t n = end ? (size_t)(end + 1 - host) : strcspn(host, ":");

    if (n >= sizeof(name))
        return false;
    memcpy(name, host, n);
    name[n] = '\0';
    if (strcasecmp(name, "localhost") == 0 || strcmp(name, "[::1]") == 0)
        return true;
    return inet_pton(AF_INET, name, &v4) == 1 &&
           ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
}

bool admit_is_local(const struct request *r)
{
    static const char *const passed_on[] = {
        "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"};

    if (!r->is_loopback)
        return false;
    for (size_t i = 0; i < sizeof(passed_on) / sizeof(passed_on[0]); i++) {
        if (MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND,
                                        passed_on[i]))
            return false;
    }
    if (r->is_unix)
        return true;
    const char *const host =
        MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "Host");
    return !host || is_own_name(host); /* HTTP/1.0 need not say one */
}

/* ---- What it shows ---- */

/* The token of an Authorization field; "": none that could be one.  Basic is
 * for clients that know nothing else: the password is the token (RFC 7617). */
static void take_token(const char *field, char out[MAX_TOKEN])
{
    static const char bearer[] = "Bearer ", basic[] = "Basic ";
    unsigned char plain[MAX_TOKEN];
    const size_t len = strlen(field);

    out[0] = '\0';
    if (len >= MAX_TOKEN)
        return;
    if (strncasecmp(field, bearer, sizeof(bearer) - 1) == 0) {
        field += sizeof(bearer) - 1;
        memcpy(out, field + strspn(field, " "),
               strlen(field + strspn(field, " ")) + 1);
        return;
    }
    if (strncasecmp(field, basic, sizeof(basic) - 1) != 0)
        return;
    field += sizeof(basic) - 1;
    field += strspn(field, " ");
    const int n = EVP_DecodeBlock(plain, (const unsigned char *)field,
                                  (int)strlen(field));
    if (n > 0) {
        /* padding has become NULs */
        const unsigned char *const colon = memchr(plain, ':', (size_t)n);
        if (colon) {
            const size_t rest = (size_t)(plain + n - (colon + 1));
            memcpy(out, colon + 1, rest);
            out[rest] = '\0';
        }
    }
    OPENSSL_cleanse(plain, sizeof(plain));
}

/* Once for a connection. */
static void take_certificate(struct request *r, struct peer *peer)
{
    const union MHD_ConnectionInfo *const i = MHD_get_connection_info(
        r->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    gnutls_session_t const session = i ? i->tls_session : NULL;
    const enum tls_client state =
        session ? tls_client_names(session, &peer->names) : TLS_NO_CLIENT;

    peer->has_names = true;
    peer->is_untrusted = state == TLS_BAD_CLIENT;
}

/* ---- All of it ---- */

static unsigned scope_of(const struct request *r)
{
    const bool is_change =
        strcmp(r->method, "POST") == 0 || strcmp(r->method, "DELETE") == 0;
    return is_change ? r->route->change_scope : r->route->scope;
}

/* A mirror is an image by its name, for rows with images; all of them, and what
 * a new one would be made of, are for rows without. */
static bool mirror_reference(const struct request *r, char name[MIRROR_NAME],
                             struct reference *out)
{
    static const char at[] = "/v1/mirrors/";
    const size_t n = sizeof(at) - 1;

    if (strncmp(r->route->path, at, n) != 0 || strncmp(r->path, at, n) != 0)
        return false;
    const size_t len = strcspn(r->path + n, "/");
    if (!len || len >= MIRROR_NAME)
        return false;
    memcpy(name, r->path + n, len);
    name[len] = '\0';
    *out = (struct reference){.target = name};
    return true;
}

/* Its source may name a secret, in a body that nobody has read yet. */
static bool is_making_mirror(const struct request *r)
{
    return strcmp(r->route->path, "/v1/mirrors") == 0 &&
           strcmp(r->method, "POST") == 0;
}

bool admit(struct request *r)
{
    const struct access_list *const list = &r->server->config->access;
    const unsigned scope = scope_of(r);
    const bool has_reference = r->reference.target != NULL;
    char name[MIRROR_NAME];
    struct reference mirror;
    struct peer *const peer = r->peer;
    char token[MAX_TOKEN];

    r->who = NULL;
    r->verdict = ACCESS_OK;
    if (!scope)
        return true;
    if (!list->n && !(scope & ~(unsigned)(ACCESS_READ | ACCESS_METADATA)) &&
        r->signature.state == SIGNATURE_NONE)
        return true; /* as most are */
    struct signature unread = {.state = SIGNATURE_NONE};
    struct access_ask ask = {
        .is_local = admit_is_local(r),
        .signature = has_reference ? &r->signature : &unread,
        .route = r->route->path,
        .reference = has_reference                        ? &r->reference
                     : mirror_reference(r, name, &mirror) ? &mirror
                                                          : NULL,
        .folder = r->folder,
        .own = r->own.v ? &r->own : NULL,
        .is_for_all = r->route->kind == KIND_PLAIN,
        .names_secrets = is_making_mirror(r),
        .scope = scope,
        .now = time(NULL)};
    if (r->authorization && access_has(list, ACCESS_TOKEN)) {
        take_token(r->authorization, token);
        ask.token = token;
    }
    if (peer && access_has(list, ACCESS_CERTIFICATE)) {
        if (!peer->has_names)
            take_certificate(r, peer);
        ask.certificate = peer->names;
        ask.is_untrusted = peer->is_untrusted;
    }
    r->verdict = access_decide(list, &ask, &r->who);
    if (ask.token)
        OPENSSL_cleanse(token, sizeof(token));
    return r->verdict == ACCESS_OK;
}

/* RFC 6750 3; RFC 9110 11.6.1. */
static const char *challenge(const struct request *r)
{
    /* A browser asks its user for a password where Basic is offered: not on
     * behalf of a page that shows JSON. */
    const bool is_disk = r->route->kind == KIND_DISK;
    const bool is_wrong = r->verdict != ACCESS_NEEDED;

    if (is_disk)
        return is_wrong ? "Bearer realm=\"platter\", error=\"invalid_token\", "
                          "Basic realm=\"platter\", charset=\"UTF-8\""
                        : "Bearer realm=\"platter\", Basic realm=\"platter\", "
                          "charset=\"UTF-8\"";
    return is_wrong ? "Bearer realm=\"platter\", error=\"invalid_token\""
                    : "Bearer realm=\"platter\"";
}

enum MHD_Result admit_refuse(struct request *r)
{
    static const char *const details[ACCESS_VERDICTS] = {
        [ACCESS_OK] = "",
        [ACCESS_NEEDED] = "a token, a certificate or a signed URL is needed",
        [ACCESS_UNKNOWN] = "the token is not known",
        [ACCESS_EXPIRED] = "the token has expired",
        [ACCESS_FORGED] = "the URL's signature does not fit it",
        [ACCESS_LATE] = "the signed URL has expired",
        [ACCESS_UNTRUSTED] = "the client's certificate is not trusted",
        [ACCESS_NOT_SCOPE] = "this needs a right that is not given here",
        [ACCESS_NOT_IMAGE] = "the right is for other images",
        [ACCESS_NOT_SECRET] = "the right does not cover that secret"};
    const enum access_verdict v = r->verdict;
    const bool is_401 =
        v == ACCESS_NEEDED || v == ACCESS_UNKNOWN || v == ACCESS_EXPIRED;
    const char *detail = details[v];

    (void)atomic_fetch_add(&r->server->refused[v], 1);
    if (v == ACCESS_NOT_SCOPE && scope_of(r) > ACCESS_METADATA &&
        !r->server->config->access.n)
        detail = r->route->change_scope && scope_of(r) == r->route->change_scope
                     ? "changes are asked for from this machine only"
                     : "this is told on this machine only";
    if (is_401)
        r->challenge = challenge(r);
    return answer_problem(r,
                          is_401 ? MHD_HTTP_UNAUTHORIZED : MHD_HTTP_FORBIDDEN,
                          is_401 ? "not authorised" : "not allowed", detail);
}
