/* SPDX-License-Identifier: Apache-2.0 */
/* Decryption of guest data: LUKS version 1 inside qcow2, after the LUKS On-Disk
 * Format Specification 1.2.3 and qcow2 spec, "Full disk encryption header
 * pointer"; and the legacy AES method.
 *
 * Keys are wiped when let go.  Immutable once made.  Threads: any. */
#ifndef QCOW2_CRYPT_H
#define QCOW2_CRYPT_H

#include <platter/driver.h>

enum {
    QCOW2_CRYPT_SECTOR = 512,        /* bytes, of both methods */
    QCOW2_MAX_LUKS = 16 << 20,       /* bytes of header and key material */
    QCOW2_MAX_ITERATIONS = 32 << 20, /* of one PBKDF2, all parts of its key:
                                        ten to thirty seconds, and no longer
                                        than somebody waits */
    QCOW2_MAX_STRIPES = 8192         /* 4000 are usual */
};

struct qcow2_crypt;
struct qcow2_luks; /* a parsed header */

/* *out is new (qcow2_luks_free). */
PLT_MUST_USE enum plt_status qcow2_luks_parse(struct qcow2_luks **out,
                                              const uint8_t *header, size_t len,
                                              struct plt_error *err);
void qcow2_luks_free(struct qcow2_luks *luks);
/* The "encrypt" object of qemu-img info, into an open object. */
void qcow2_luks_info(const struct qcow2_luks *luks, struct plt_info *info);

/* Try every secret that the host hands out on every active key slot; len bytes
 * of header and key material.  PLT_DENIED: none was named, or none fits.  May
 * compute for seconds, in which io is asked each 10 ms or so.  *out is new. */
PLT_MUST_USE enum plt_status
qcow2_luks_open(const struct qcow2_luks *luks, struct plt_host *host,
                struct plt_io *io, const uint8_t *header, size_t len,
                struct qcow2_crypt **out, struct plt_error *err);
/* The first secret that the host hands out; its first 16 bytes are the key.
 * Nothing in this format tells a wrong one: the disk is then noise. */
PLT_MUST_USE enum plt_status qcow2_aes_open(struct plt_host *host,
                                            struct qcow2_crypt **out,
                                            struct plt_error *err);
void qcow2_crypt_free(struct qcow2_crypt *crypt);

/* True: sectors are numbered from the start of the file that holds them; false:
 * from the start of the disk. */
bool qcow2_crypt_by_host(const struct qcow2_crypt *crypt);

/* In place.  off and len are multiples of QCOW2_CRYPT_SECTOR; off counts as
 * qcow2_crypt_by_host says. */
PLT_MUST_USE enum plt_status
qcow2_crypt_decrypt(const struct qcow2_crypt *crypt, uint8_t *buf, size_t len,
                    uint64_t off, struct plt_error *err);

#endif
