/* SPDX-License-Identifier: Apache-2.0 */
/* The server's side of TLS: libmicrohttpd does it with GnuTLS, and asks here
 * for the certificate at each handshake, so that a reload changes it for those
 * who come afterwards; and who a client's certificate says it is.
 *
 * Certificates that were in use are kept until the end of the process, as a
 * handshake may still look at them; one that has not changed is not loaded
 * again.  One set for the process.
 * Threads: tls_load by one at a time; the others by any. */
#ifndef GATEWAY_TLS_H
#define GATEWAY_TLS_H

#include <gnutls/abstract.h>

#include <platter/error.h>

#include "config.h"

/* TLS 1.2 and 1.3, GnuTLS's own choice of the rest. */
#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

/* Read the files of a configuration: chain and key, which must belong together,
 * and the authorities of clients.  With is_check nothing is taken.  OK as well
 * when none are configured.  On failure what was loaded stays. */
PLT_MUST_USE enum plt_status tls_load(const struct config *config,
                                      bool is_check, struct plt_error *err);
/* The text of the authorities' file, for libmicrohttpd at start: borrowed;
 * NULL: clients are not asked. */
const char *tls_authorities(void);
/* At the very end. */
void tls_unload(void);

/* For MHD_OPTION_HTTPS_CERT_CALLBACK. */
int tls_certificate(gnutls_session_t session, const gnutls_datum_t *authorities,
                    int n_authorities, const gnutls_pk_algorithm_t *algorithms,
                    int n_algorithms, gnutls_pcert_st **certificates,
                    unsigned *n_certificates, gnutls_privkey_t *key);

enum tls_client { TLS_NO_CLIENT, TLS_GOOD_CLIENT, TLS_BAD_CLIENT };
/* Is there a certificate of the client, good for that use today and signed by
 * one of the authorities?  GOOD: *names are its DNS names, URIs and mail
 * addresses, without them its common name, each with its NUL, and one more;
 * new. A name with a NUL in it, or of more than 1024 bytes, is left out. */
enum tls_client tls_client_names(gnutls_session_t session, char **names);

#endif
