/* SPDX-License-Identifier: Apache-2.0 */
#include "tls.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/auto.h"

enum { MAX_CHAIN = 16, MAX_FILE = 1 << 20, MAX_NAME = 1024, MAX_NAMES = 64 };

/* What one loading has brought. */
struct identity {
    gnutls_pcert_st chain[MAX_CHAIN];
    unsigned n_chain;
    gnutls_privkey_t key;
    gnutls_x509_trust_list_t clients; /* NULL: none are asked */
    /* the files' texts: what has not changed is not loaded again */
    gnutls_datum_t certificate_pem, key_pem, clients_pem;
    struct identity *older;
};

static _Atomic(struct identity *) current;

/* ---- Files ---- */

static void drop_text(gnutls_datum_t *d)
{
    if (d->data)
        explicit_bzero(d->data, d->size);
    free(d->data);
    *d = (gnutls_datum_t){.data = NULL};
}

/* With a NUL behind it that does not count; new. */
static enum plt_status read_text(const char *file, gnutls_datum_t *out,
                                 struct plt_error *err)
{
    AUTO_FD int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat sb;
    size_t n = 0;

    if (fd < 0 || fstat(fd, &sb) != 0)
        return plt_fail(err, PLT_INVALID, "%s: %s", file, strerror(errno));
    if (!S_ISREG(sb.st_mode) || sb.st_size < 1 || sb.st_size > MAX_FILE)
        return plt_fail(err, PLT_INVALID, "%s: a PEM file of 1 to %d bytes",
                        file, MAX_FILE);
    unsigned char *const text = calloc(1, (size_t)sb.st_size + 1);
    if (!text)
        return plt_fail(err, PLT_NOMEM, "%s", file);
    while (n < (size_t)sb.st_size) {
        const ssize_t got = read(fd, text + n, (size_t)sb.st_size - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    *out = (gnutls_datum_t){.data = text, .size = (unsigned)n};
    return PLT_OK;
}

static bool same(const gnutls_datum_t *a, const gnutls_datum_t *b)
{
    return a->size == b->size &&
           (!a->size || memcmp(a->data, b->data, a->size) == 0);
}

/* ---- Loading ---- */

static void identity_free(struct identity *id)
{
    if (!id)
        return;
    for (unsigned i = 0; i < id->n_chain; i++)
        gnutls_pcert_deinit(&id->chain[i]);
    if (id->key)
        gnutls_privkey_deinit(id->key);
    if (id->clients)
        gnutls_x509_trust_list_deinit(id->clients, 1);
    drop_text(&id->certificate_pem);
    drop_text(&id->key_pem);
    drop_text(&id->clients_pem);
    free(id);
}

/* A key that does not belong to the certificate would be found by the first
 * client only. */
static bool is_pair(struct identity *id)
{
    gnutls_pubkey_t of_key = NULL;
    uint8_t a[64], b[64];
    size_t n_a = sizeof(a), n_b = sizeof(b);

    const bool is_good =
        gnutls_pubkey_init(&of_key) == 0 &&
        gnutls_pubkey_import_privkey(of_key, id->key, 0, 0) == 0 &&
        gnutls_pubkey_get_key_id(of_key, GNUTLS_KEYID_USE_SHA256, a, &n_a) ==
            0 &&
        gnutls_pubkey_get_key_id(id->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256,
                                 b, &n_b) == 0 &&
        n_a == n_b && memcmp(a, b, n_a) == 0;
    if (of_key)
        gnutls_pubkey_deinit(of_key);
    return is_good;
}

static enum plt_status load_own(struct identity *id, const struct config *c,
                                struct plt_error *err)
{
    enum plt_status st =
        read_text(c->tls_certificate, &id->certificate_pem, err);
    if (st == PLT_OK)
        st = read_text(c->tls_key, &id->key_pem, err);
    if (st != PLT_OK)
        return st;
    unsigned n = MAX_CHAIN;
    int e = gnutls_pcert_list_import_x509_raw(
        id->chain, &n, &id->certificate_pem, GNUTLS_X509_FMT_PEM, 0);
    if (e < 0 || !n)
        return plt_fail(err, PLT_INVALID, "%s: %s", c->tls_certificate,
                        gnutls_strerror(e));
    id->n_chain = n;
    e = gnutls_privkey_init(&id->key);
    if (e == 0)
        e = gnutls_privkey_import_x509_raw(id->key, &id->key_pem,
                                           GNUTLS_X509_FMT_PEM, NULL, 0);
    if (e < 0)
        return plt_fail(err, PLT_INVALID, "%s: %s", c->tls_key,
                        gnutls_strerror(e));
    return is_pair(id) ? PLT_OK
                       : plt_fail(err, PLT_INVALID, "%s: not the key of %s",
                                  c->tls_key, c->tls_certificate);
}

static enum plt_status load_clients(struct identity *id, const struct config *c,
                                    struct plt_error *err)
{
    enum plt_status st = read_text(c->tls_client_ca, &id->clients_pem, err);

    if (st != PLT_OK)
        return st;
    const int n = gnutls_x509_trust_list_init(&id->clients, 0) == 0
                      ? gnutls_x509_trust_list_add_trust_mem(
                            id->clients, &id->clients_pem, NULL,
                            GNUTLS_X509_FMT_PEM, 0, 0)
                      : -1;
    return n > 0 ? PLT_OK
                 : plt_fail(err, PLT_INVALID, "%s: %s", c->tls_client_ca,
                            n < 0 ? gnutls_strerror(n)
                                  : "no certificate is in it");
}

enum plt_status tls_load(const struct config *c, bool is_check,
                         struct plt_error *err)
{
    struct identity *const was = atomic_load(&current);
    enum plt_status st = PLT_OK;

    if (!c->tls_certificate)
        return PLT_OK;
    struct identity *const id = calloc(1, sizeof(*id));
    if (!id)
        return plt_fail(err, PLT_NOMEM, "certificates");
    st = load_own(id, c, err);
    if (st == PLT_OK && c->tls_client_ca)
        st = load_clients(id, c, err);
    const bool is_same = st == PLT_OK && was &&
                         same(&id->certificate_pem, &was->certificate_pem) &&
                         same(&id->key_pem, &was->key_pem) &&
                         same(&id->clients_pem, &was->clients_pem);
    if (st != PLT_OK || is_check || is_same) {
        identity_free(id);
        return st;
    }
    id->older = was;
    atomic_store(&current, id);
    return PLT_OK;
}

const char *tls_authorities(void)
{
    const struct identity *const id = atomic_load(&current);
    return id ? (const char *)id->clients_pem.data : NULL;
}

void tls_unload(void)
{
    struct identity *id = atomic_exchange(&current, NULL);

    while (id) {
        struct identity *const older = id->older;
        identity_free(id);
        id = older;
    }
}

int tls_certificate(gnutls_session_t session, const gnutls_datum_t *authorities,
                    int n_authorities, const gnutls_pk_algorithm_t *algorithms,
                    int n_algorithms, gnutls_pcert_st **certificates,
                    unsigned *n_certificates, gnutls_privkey_t *key)
{
    struct identity *const id = atomic_load(&current);

    (void)session;
    (void)authorities;
    (void)n_authorities;
    (void)algorithms;
    (void)n_algorithms;
    if (!id)
        return -1;
    *certificates = id->chain;
    *n_certificates = id->n_chain;
    *key = id->key;
    return 0;
}

/* ---- Who a client is ---- */

static void add_name(FILE *out, const char *name, size_t len)
{
    if (!len || memchr(name, '\0', len))
        return;
    (void)fwrite(name, 1, len, out);
    (void)fputc('\0', out);
}

static void write_names(FILE *out, gnutls_x509_crt_t c)
{
    char name[MAX_NAME];
    bool has_name = false;
    int kind = 0;

    for (unsigned i = 0; i < MAX_NAMES; i++) {
        size_t len = sizeof(name);
        kind = gnutls_x509_crt_get_subject_alt_name(c, i, name, &len, NULL);
        if (kind == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
            break;
        const bool is_ours = kind == GNUTLS_SAN_DNSNAME ||
                             kind == GNUTLS_SAN_URI ||
                             kind == GNUTLS_SAN_RFC822NAME;
        if (is_ours)
            add_name(out, name, len);
        /* One that is too long to be read still says who it is. */
        has_name = has_name || is_ours || kind == GNUTLS_E_SHORT_MEMORY_BUFFER;
    }
    size_t len = sizeof(name);
    if (!has_name && gnutls_x509_crt_get_dn_by_oid(
                         c, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &len) == 0)
        add_name(out, name, len);
}

/* The client's own certificate, when the whole chain is good; new. */
static gnutls_x509_crt_t verified(gnutls_x509_trust_list_t trust,
                                  const gnutls_datum_t *raw, unsigned n)
{
    gnutls_x509_crt_t chain[MAX_CHAIN];
    gnutls_typed_vdata_st use = {
        .type = GNUTLS_DT_KEY_PURPOSE_OID,
        .data = (unsigned char *)(uintptr_t)GNUTLS_KP_TLS_WWW_CLIENT};
    unsigned made = 0, problems = ~0U;
    bool is_good = n <= MAX_CHAIN;

    for (; is_good && made < n; made++) {
        is_good = gnutls_x509_crt_init(&chain[made]) == 0;
        if (!is_good)
            break;
        if (gnutls_x509_crt_import(chain[made], &raw[made],
                                   GNUTLS_X509_FMT_DER) != 0)
            is_good = false;
    }
    is_good = is_good &&
              gnutls_x509_trust_list_verify_crt2(trust, chain, made, &use, 1, 0,
                                                 &problems, NULL) == 0 &&
              !problems;
    for (unsigned i = is_good ? 1 : 0; i < made; i++)
        gnutls_x509_crt_deinit(chain[i]);
    return is_good ? chain[0] : NULL;
}

enum tls_client tls_client_names(gnutls_session_t session, char **names)
{
    const struct identity *const id = atomic_load(&current);
    unsigned n = 0;
    size_t len = 0;

    *names = NULL;
    const gnutls_datum_t *const raw = gnutls_certificate_get_peers(session, &n);
    if (!raw || !n)
        return TLS_NO_CLIENT;
    const gnutls_x509_crt_t own =
        id && id->clients ? verified(id->clients, raw, n) : NULL;
    if (!own)
        return TLS_BAD_CLIENT;
    FILE *const out = open_memstream(names, &len);
    if (out) {
        write_names(out, own);
        (void)fputc('\0', out);
    }
    gnutls_x509_crt_deinit(own);
    if (out && fclose(out) == 0)
        return TLS_GOOD_CLIENT;
    free(*names);
    *names = NULL;
    return TLS_BAD_CLIENT;
}
