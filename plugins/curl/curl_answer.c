/* SPDX-License-Identifier: Apache-2.0 */
/* Is this answer the bytes that were asked for, of the version that was opened?
 */
#include <string.h>
#include <strings.h>

#include "curl_image.h"

void curl_answer_clear(struct curl_answer *a)
{
    struct curl_image *const ci = a->ci;

    memset(a, 0, sizeof(*a));
    a->ci = ci;
    a->total = CURL_TOTAL_UNKNOWN;
    a->retry_after = -1;
}

static void text_field(char *out, size_t cap, const char *p, const char *end)
{
    const size_t n = (size_t)(end - p);
    out[0] = '\0';
    if (n < cap) {
        memcpy(out, p, n);
        out[n] = '\0';
    }
}

size_t curl_answer_header(char *data, size_t size, size_t n, void *cookie)
{
    struct curl_answer *const a = (struct curl_answer *)cookie;
    const char *p = data, *end = data + size * n; /* no NUL */
    uint64_t v;

    a->header_bytes += size * n;
    if (a->header_bytes > CURL_MAX_HEADERS)
        return 0;
    if (end - p > 5 && strncmp(p, "HTTP/", 5) == 0) {
        const size_t bytes = a->header_bytes;
        curl_answer_clear(
            a); /* the final answer's headers count, not a 100's */
        a->header_bytes = bytes;
        return size * n;
    }
    while (end > p && (end[-1] == '\n' || end[-1] == '\r' || end[-1] == ' '))
        end--;
    const char *const colon = memchr(p, ':', (size_t)(end - p));
    if (!colon)
        return size * n;
    const size_t len = (size_t)(colon - p);
    const char *value = colon + 1;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    if (len == 13 && strncasecmp(p, "content-range", len) == 0) {
        struct curl_content_range r; /* of two the last, and that one whole */
        a->has_range = curl_content_range(value, end, &r);
        if (a->has_range) {
            a->first = r.first;
            a->last = r.last;
            a->total = r.total;
        }
    } else if (len == 12 && strncasecmp(p, "content-type", len) == 0) {
        if (!curl_boundary(value, end, a->boundary))
            a->boundary[0] = '\0';
    } else if (len == 4 && strncasecmp(p, "etag", len) == 0) {
        text_field(a->etag, sizeof(a->etag), value, end);
    } else if (len == 13 && strncasecmp(p, "last-modified", len) == 0) {
        text_field(a->modified, sizeof(a->modified), value, end);
    } else if (len == 8 && strncasecmp(p, "location", len) == 0) {
        text_field(a->location, sizeof(a->location), value, end);
    } else if (len == 14 && strncasecmp(p, "content-length", len) == 0) {
        a->has_length = curl_digits(&value, end, &a->length) && value == end;
    } else if (len == 16 && strncasecmp(p, "content-encoding", len) == 0) {
        const size_t n_value = (size_t)(end - value);
        a->is_coded =
            n_value && (n_value != 8 || strncasecmp(value, "identity", 8) != 0);
    } else if (len == 11 && strncasecmp(p, "retry-after", len) == 0) {
        if (curl_digits(&value, end, &v) && v < 3600)
            a->retry_after = (long)v;
    }
    return size * n;
}

bool curl_may_retry(const struct plt_error *err)
{
    return err->status == PLT_BUSY || err->status == PLT_TIMEOUT ||
           (err->status == PLT_ORIGIN && err->sys != -1);
}

/* ORIGIN, but asking again would get the same. */
static enum plt_status lies(struct plt_error *err, const char *what)
{
    const enum plt_status st = plt_fail(err, PLT_ORIGIN, "%s", what);
    err->sys = -1;
    return st;
}

enum plt_status curl_status_error(const struct curl_answer *a, bool is_open,
                                  struct plt_error *err)
{
    if (a->code >= 300 && a->code < 400)
        return a->location[0] ? PLT_AGAIN
                              : lies(err, "a redirect that leads nowhere");
    switch (a->code) {
    case 401:
    case 403:
    case 407:
        return plt_fail(err, PLT_DENIED, "origin answers %ld", a->code);
    case 404:
    case 410:
        return is_open
                   ? plt_fail(err, PLT_NOT_FOUND, "origin answers %ld", a->code)
                   : plt_fail(err, PLT_CHANGED,
                              "the file is gone from the "
                              "origin");
    case 412:
    case 416:
        return plt_fail(err, PLT_CHANGED, "origin answers %ld", a->code);
    case 429:
    case 503:
        return plt_fail(err, PLT_BUSY, "origin answers %ld", a->code);
    case 408:
    case 504:
        return plt_fail(err, PLT_TIMEOUT, "origin answers %ld", a->code);
    default:
        break;
    }
    const enum plt_status st =
        plt_fail(err, PLT_ORIGIN, "origin answers %ld", a->code);
    if (a->code < 500)
        err->sys = -1;
    return st;
}

/* The version that was opened, by everything that pins it. */
static bool same_version(const struct curl_image *ci,
                         const struct curl_answer *a)
{
    if (ci->etag[0])
        return strcmp(ci->etag, a->etag) == 0;
    return !ci->modified[0] || strcmp(ci->modified, a->modified) == 0;
}

bool curl_end_fits(const struct curl_image *ci, const struct curl_answer *a,
                   size_t cap)
{
    return a->code == 206 && !a->is_coded && same_version(ci, a) &&
           a->has_range && a->total == ci->size && a->last == ci->size - 1 &&
           a->first == (ci->size > cap ? ci->size - cap : 0);
}

enum plt_status curl_answer_check(const struct curl_image *ci,
                                  const struct curl_answer *a, uint64_t off,
                                  uint64_t len, struct plt_error *err)
{
    const uint64_t last = (len ? off + len : ci->size) - 1;

    if (a->is_coded)
        return lies(err, "a Content-Encoding that was not asked for");
    if (a->code != 200 && a->code != 206)
        return curl_status_error(a, false, err);
    if (!same_version(ci, a))
        return plt_fail(err, PLT_CHANGED, "another ETag or Last-Modified");
    if (!ci->has_ranges) {
        if (a->code != 200)
            return lies(err, "206 where 200 was asked");
        if (a->has_length && ci->size != PLT_SIZE_UNKNOWN &&
            a->length != ci->size)
            return plt_fail(err, PLT_CHANGED, "another length");
        return PLT_OK;
    }
    if (a->code == 200) {
        if (a->has_length && a->length != ci->size)
            return plt_fail(err, PLT_CHANGED, "another length");
        return lies(err, "200 where 206 was asked");
    }
    if (!a->has_range)
        return lies(err, "206 without a Content-Range that can be read");
    if (a->total != ci->size && a->total != CURL_TOTAL_UNKNOWN)
        return plt_fail(err, PLT_CHANGED, "another length");
    if (a->first != off || a->last != last)
        return lies(err, "206 with another range than was asked");
    if (a->has_length && a->length != last - off + 1)
        return lies(err, "206 with a length that is not its range's");
    return PLT_OK;
}

enum plt_status curl_answer_check_parts(const struct curl_image *ci,
                                        const struct curl_answer *a,
                                        struct plt_error *err)
{
    bool is_refused = false;

    switch (a->code) {
    case 200: /* RFC 9110 14.2: a server may ignore the Range field */
    case 206:
    case 400:
    case 413:
    case 414:
    case 416: /* 15.5.17: or the set of ranges was too many */
    case 431:
    case 501:
        is_refused = a->code != 206;
        break;
    default:
        return curl_status_error(a, false, err);
    }
    if (a->code < 300 && a->is_coded)
        return lies(err, "a Content-Encoding that was not asked for");
    if (a->code < 300 && !same_version(ci, a))
        return plt_fail(err, PLT_CHANGED, "another ETag or Last-Modified");
    if (a->code == 206 && !a->boundary[0] && a->has_range &&
        a->total != ci->size && a->total != CURL_TOTAL_UNKNOWN)
        return plt_fail(err, PLT_CHANGED, "another length");
    if (is_refused || (!a->boundary[0] && !a->has_range))
        return plt_fail(err, PLT_UNSUPPORTED, "several ranges answered %ld",
                        a->code);
    return PLT_OK;
}

enum plt_status curl_code_error(const struct curl_answer *answer, CURLcode code,
                                const char *text, struct plt_error *err)
{
    if (answer->is_denied && code == CURLE_COULDNT_CONNECT) {
        *err = answer->denied;
        return err->status;
    }
    const char *const why = text && text[0] ? text : curl_easy_strerror(code);

    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        return plt_fail(err, PLT_TIMEOUT, "%.120s", why);
    case CURLE_OUT_OF_MEMORY:
        return plt_fail(err, PLT_NOMEM, "%.120s", why);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_WRITE_ERROR: /* our own callbacks: headers too large */
    case CURLE_WEIRD_SERVER_REPLY: {
        const enum plt_status st = plt_fail(err, PLT_ORIGIN, "%.120s", why);
        err->sys = -1;
        return st;
    }
    default:
        return plt_fail(err, PLT_ORIGIN, "%.120s", why);
    }
}
