/* SPDX-License-Identifier: Apache-2.0 */
/* Who may do what: one list of rights, and one place where it is looked at.
 *
 * A row of the list gives scopes to those who show what it asks for: nothing at
 * all ("anonymous"), a connection from this machine ("local"), a token, a
 * certificate that a trusted authority has signed, or a signed URL.  What a
 * request may do is the sum of the rows that are its own.  What is shown and is
 * wrong refuses the request, also where nothing would have been needed: a
 * mistake is seen at once, not on the day that the rest is closed.
 *
 * Without the row, "local" has every scope, and "anonymous" reads (READ,
 * METADATA) as long as no other row is there, else nothing.
 *
 * Secrets are compared in constant time, and every row is compared.
 * Threads: a list is fixed once it is made. */
#ifndef GATEWAY_ACCESS_H
#define GATEWAY_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stack/signature.h"

enum access_scope {
    ACCESS_READ = 1,     /* bytes: /disk, /raw */
    ACCESS_METADATA = 2, /* what there is and what it is like: GET /v1,
                            /metrics */
    ACCESS_MIRROR = 4,   /* what has the gateway fetch: traces, prefetches */
    ACCESS_ADMIN = 8,    /* what changes it: registering images; what others
                            asked in vain: /v1/errors */
    ACCESS_ALL = 15
};

enum access_kind {
    ACCESS_ANONYMOUS,
    ACCESS_LOCAL,
    ACCESS_TOKEN,
    ACCESS_CERTIFICATE,
    ACCESS_SIGNING_KEY
};

enum {
    ACCESS_ROWS = 1024,
    ACCESS_DIGEST = 32,   /* SHA-256 of a token */
    ACCESS_PATTERNS = 256 /* images, and secrets, of one row */
};

/* Texts, each new. */
struct access_names {
    char **v;
    size_t n;
    bool is_given; /* else: all there are */
};

struct access_row {
    char *name;
    enum access_kind kind;
    unsigned scopes; /* ACCESS_* */
    uint8_t digest[ACCESS_DIGEST];
    char *certificate; /* a name in it, or "*.DOMAIN"; new */
    char *key_file;    /* new */
    uint8_t *key;      /* new */
    size_t key_len;
    struct access_names images;  /* targets; "x*": all that begin with x */
    struct access_names secrets; /* that may be named with secret= */
    int64_t expires; /* seconds since 1970; INT64_MAX: never.  From then on the
                        row gives nothing */
};

struct access_list {
    struct access_row *v; /* new */
    size_t n;
};

/* Rows by which an asker has a right; v is the caller's, with room for cap. A
 * list needs two more than it has rows; those that find no room give nothing.
 */
struct access_own {
    const struct access_row **v;
    size_t n, cap;
};

/* What a request shows, and what it wants.  All borrowed. */
struct access_ask {
    bool is_local;
    const char *token;       /* NULL: none */
    const char *certificate; /* names in it, each with its NUL, then another;
                                NULL: none that is good */
    const struct signature *signature; /* state NONE: none */
    const char *route;                 /* "/disk/" */
    const struct reference *reference; /* NULL: it is about no image, or it is
                                          not known yet which */
    const char *folder;     /* "ORIGIN/PATH/": rows for images that may lie
                               beneath do; NULL: it is about none */
    struct access_own *own; /* gets the rows that allow it; NULL: not wanted */
    bool is_untrusted;      /* a certificate was shown that nobody trusts */
    bool is_for_all;        /* about no image: rows for some images do not do */
    bool names_secrets;     /* may name any: rows for some secrets do not do */
    unsigned scope;         /* one of ACCESS_* */
    int64_t now;            /* seconds since 1970 */
};

enum access_verdict {
    ACCESS_OK,
    ACCESS_NEEDED,    /* nothing was shown, and it is needed */
    ACCESS_UNKNOWN,   /* a token that nobody has */
    ACCESS_EXPIRED,   /* a token that is no longer good */
    ACCESS_FORGED,    /* a signature that is not right */
    ACCESS_LATE,      /* one whose time is over */
    ACCESS_UNTRUSTED, /* a certificate that none of the authorities signed */
    ACCESS_NOT_SCOPE, /* known, but for something else */
    ACCESS_NOT_IMAGE, /* ... or for other images */
    ACCESS_NOT_SECRET /* ... or without that key */
};
enum { ACCESS_VERDICTS = ACCESS_NOT_SECRET + 1 };

/* *who: the row that allows it, or that was shown; borrowed, NULL: none. */
enum access_verdict access_decide(const struct access_list *list,
                                  const struct access_ask *ask,
                                  const char **who);
/* By one of these rows: the image of that target; or, of a folder's, without
 * its last slash, some image beneath it. */
bool access_own_has(const struct access_own *own, const char *target,
                    bool is_folder);
/* For metrics and the log: "unknown_token". */
const char *access_verdict_name(enum access_verdict verdict);

/* Is there a row of that kind? */
bool access_has(const struct access_list *list, enum access_kind kind);
/* "read,metadata": the bits; 0: not well formed. */
unsigned access_scopes(const char *text);
/* 64 hexadecimal digits. */
bool access_digest(const char *hex, uint8_t out[ACCESS_DIGEST]);
void access_row_release(struct access_row *row);

#endif
