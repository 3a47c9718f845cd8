/* SPDX-License-Identifier: Apache-2.0 */
#include "manifest/manifest_export_out.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

void export_init(struct export_out *out, int fd, uint64_t most)
{
    *out =
        (struct export_out){.fd = fd, .most = most, .err = {.at = PLT_AT_NONE}};
}

void export_flush(struct export_out *out)
{
    size_t at = 0;

    if (out->err.status == PLT_OK && out->off + out->n > out->most)
        out->err.status = plt_fail(&out->err, PLT_UNSUPPORTED,
                                   "it would have more than %llu bytes, which "
                                   "needs a state folder",
                                   (unsigned long long)out->most);
    while (out->err.status == PLT_OK && at < out->n) {
        const ssize_t did =
            pwrite(out->fd, out->buf + at, out->n - at, (off_t)out->off);
        if (did < 0 && errno == EINTR)
            continue;
        if (did <= 0) {
            out->err.status =
                plt_fail_sys(&out->err, PLT_IO, errno, "write an export");
            break;
        }
        at += (size_t)did;
        out->off += (uint64_t)did;
    }
    out->n = 0;
}

void export_bytes(struct export_out *out, const void *data, size_t len)
{
    if (out->n + len > EXPORT_BUFFER)
        export_flush(out);
    memcpy(out->buf + out->n, data, len);
    out->n += len;
}

void export_print(struct export_out *out, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    const int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    export_bytes(out, text, (size_t)n);
}

void export_seek(struct export_out *out, uint64_t off)
{
    export_flush(out);
    out->off = off;
}

void export_sha256(struct export_out *out, char hex[MANIFEST_HEX])
{
    EVP_MD_CTX *const ctx = EVP_MD_CTX_new();
    manifest_digest digest;
    ssize_t n = 0;

    export_flush(out);
    if (!ctx || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(ctx);
        out->err.status = plt_fail(&out->err, PLT_NOMEM, "a digest");
        hex[0] = '\0';
        return;
    }
    for (off_t at = 0; (n = pread(out->fd, out->buf, EXPORT_BUFFER, at)) > 0;
         at += n)
        (void)EVP_DigestUpdate(ctx, out->buf, (size_t)n);
    if (n < 0)
        out->err.status =
            plt_fail_sys(&out->err, PLT_IO, errno, "read an export");
    (void)EVP_DigestFinal_ex(ctx, digest, NULL);
    EVP_MD_CTX_free(ctx);
    manifest_to_hex(digest, hex);
}

enum plt_status export_status(const struct export_out *out,
                              struct plt_error *err)
{
    if (out->err.status != PLT_OK)
        *err = out->err;
    return out->err.status;
}
