/* SPDX-License-Identifier: Apache-2.0 */
/* What all requests share: what is sent with each, where redirects lead, what
 * an answer cost, when to ask again. */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "curl_image.h"

uint64_t curl_now_ns(void)
{
    struct timespec ts = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static bool add_header(struct curl_slist **list, const char *text)
{
    struct curl_slist *const grown = curl_slist_append(*list, text);
    if (grown)
        *list = grown;
    return grown != NULL;
}

/* libcurl is about to connect: is that an address of the origin's? */
static curl_socket_t open_socket(void *cookie, curlsocktype purpose,
                                 struct curl_sockaddr *to)
{
    struct curl_answer *const answer = (struct curl_answer *)cookie;
    struct curl_image *const ci = answer->ci;
    const void *const raw = &to->addr;
    const bool is_six = to->family == AF_INET6;
    enum plt_status st = PLT_DENIED;

    (void)purpose;
    const uint8_t *const bytes =
        is_six ? ((const struct sockaddr_in6 *)raw)->sin6_addr.s6_addr
               : (const uint8_t *)&((const struct sockaddr_in *)raw)->sin_addr;
    (void)pthread_mutex_lock(&ci->lock);
    char *const url = strdup(ci->url);
    (void)pthread_mutex_unlock(&ci->lock);
    if (url && (is_six || to->family == AF_INET))
        st = PLT_HAS(ci->host, allow_address)
                 ? ci->host->allow_address(ci->host, url, bytes,
                                           is_six ? 16 : 4, &answer->denied)
                 : PLT_OK;
    else if (url)
        st = plt_fail(&answer->denied, PLT_DENIED, "not an IP address");
    else
        st = plt_fail(&answer->denied, PLT_NOMEM, "an address");
    free(url);
    answer->is_denied = st != PLT_OK;
    return st == PLT_OK
               ? socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol)
               : CURL_SOCKET_BAD;
}

/* What the origin of this URL is shown: fields beside ours, and certificates.
 * False without memory. */
static bool show(struct curl_image *ci, const char *url, CURL *c,
                 struct curl_slist **headers)
{
    struct plt_host *const host = ci->host;
    char *const text = malloc(PLT_MAX_CREDENTIAL);
    struct plt_error none;
    bool is_good = text != NULL;

    if (!is_good || !PLT_HAS(host, credential)) {
        free(text);
        return is_good;
    }
    if (host->credential(host, url, PLT_CREDENTIAL_CA, text, PLT_MAX_CREDENTIAL,
                         &none) == PLT_OK)
        is_good = curl_easy_setopt(c, CURLOPT_CAINFO, text) == CURLE_OK &&
                  curl_easy_setopt(c, CURLOPT_CAPATH, NULL) == CURLE_OK;
    if (host->credential(host, url, PLT_CREDENTIAL_CLIENT, text,
                         PLT_MAX_CREDENTIAL, &none) == PLT_OK)
        is_good = is_good &&
                  curl_easy_setopt(c, CURLOPT_SSLCERT, text) == CURLE_OK &&
                  curl_easy_setopt(c, CURLOPT_SSLKEY, text) == CURLE_OK;
    if (host->credential(host, url, PLT_CREDENTIAL_HEADERS, text,
                         PLT_MAX_CREDENTIAL, &none) == PLT_OK) {
        for (char *p = text; *p && is_good;) {
            char *const end = strchr(p, '\n');
            *end = '\0';
            is_good = add_header(headers, p);
            p = end + 1;
        }
        explicit_bzero(text, PLT_MAX_CREDENTIAL);
    }
    free(text);
    return is_good;
}

CURL *curl_make(struct curl_image *ci, const struct plt_io *io,
                struct curl_answer *answer, struct curl_slist **headers,
                bool has_validators)
{
    const char *const trace = PLT_HAS(io, traceparent) ? io->traceparent : NULL;
    char line[320];
    bool is_good = true;
    CURL *const c = curl_easy_init();

    *headers = NULL;
    curl_answer_clear(answer);
    answer->ci = ci;
    if (!c)
        return NULL;
    /* A strong ETag pins by itself; else the date does (RFC
     * 9110 13.1.1, 13.1.4: If-Match compares strongly, so a weak one would
     * never match). */
    if (has_validators && ci->etag[0] && strncmp(ci->etag, "W/", 2) != 0) {
        (void)snprintf(line, sizeof(line), "If-Match: %s", ci->etag);
        is_good = add_header(headers, line);
    } else if (has_validators && ci->modified[0]) {
        (void)snprintf(line, sizeof(line), "If-Unmodified-Since: %s",
                       ci->modified);
        is_good = add_header(headers, line);
    }
    if (trace && is_good) {
        (void)snprintf(line, sizeof(line), "traceparent: %s", trace);
        is_good = add_header(headers, line);
    }
    (void)pthread_mutex_lock(&ci->lock);
    char *const url = strdup(ci->url);
    (void)pthread_mutex_unlock(&ci->lock);
    is_good = is_good && url && show(ci, url, c, headers) &&
              curl_easy_setopt(c, CURLOPT_URL, url) == CURLE_OK;
    free(url);
    if (!is_good ||
        curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https") != CURLE_OK) {
        curl_slist_free_all(*headers);
        *headers = NULL;
        curl_easy_cleanup(c);
        return NULL;
    }
    (void)curl_easy_setopt(c, CURLOPT_HTTPHEADER, *headers);
    (void)curl_easy_setopt(c, CURLOPT_SHARE, curl_pool_share(ci->pool));
    (void)curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, curl_answer_header);
    (void)curl_easy_setopt(c, CURLOPT_HEADERDATA, answer);
    (void)curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    (void)curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, answer);
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(c, CURLOPT_SSLVERSION,
                           (long)CURL_SSLVERSION_TLSv1_2);
    (void)curl_easy_setopt(c, CURLOPT_PROXY, ""); /* not from the environment */
    (void)curl_easy_setopt(c, CURLOPT_USERAGENT, "platter/0.1");
    (void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)CURL_CONNECT_MS);
    (void)curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1024L);
    (void)curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)CURL_STALL_S);
    (void)curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L * 1024);
    (void)curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
    /* Where one connection takes all requests, wait for it rather than shake
     * hands for each; elsewhere waiting would cost that round trip. */
    if (atomic_load(&ci->is_multiplexed))
        (void)curl_easy_setopt(c, CURLOPT_PIPEWAIT, 1L);
    return c;
}

void curl_measure(struct curl_image *ci, CURL *easy, uint64_t bytes)
{
    curl_off_t asked = 0, first = 0, last = 0;
    long version = 0;

    (void)curl_easy_getinfo(easy, CURLINFO_HTTP_VERSION, &version);
    if (version == CURL_HTTP_VERSION_2_0)
        atomic_store(&ci->is_multiplexed, true);
    (void)curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &asked);
    (void)curl_easy_getinfo(easy, CURLINFO_STARTTRANSFER_TIME_T, &first);
    (void)curl_easy_getinfo(easy, CURLINFO_TOTAL_TIME_T, &last);
    if (asked < 0 || first <= asked || last < first)
        return;
    (void)pthread_mutex_lock(&ci->lock);
    curl_cost_learn(&ci->cost, (uint64_t)(first - asked) * 1000,
                    (uint64_t)(last - first) * 1000, bytes);
    (void)pthread_mutex_unlock(&ci->lock);
}

uint64_t curl_gap(struct curl_image *ci)
{
    (void)pthread_mutex_lock(&ci->lock);
    const uint64_t gap = curl_cost_gap(&ci->cost);
    (void)pthread_mutex_unlock(&ci->lock);
    return gap;
}

enum plt_status curl_redirect(struct curl_image *ci,
                              const struct curl_answer *answer,
                              struct plt_error *err)
{
    CURLU *const u = curl_url();
    char *target = NULL;
    enum plt_status st = PLT_OK;

    (void)pthread_mutex_lock(&ci->lock);
    const bool is_parsed =
        u && curl_url_set(u, CURLUPART_URL, ci->url, 0) == CURLUE_OK &&
        curl_url_set(u, CURLUPART_URL, answer->location, 0) == CURLUE_OK &&
        curl_url_get(u, CURLUPART_URL, &target, 0) == CURLUE_OK;
    (void)pthread_mutex_unlock(&ci->lock);
    char *const copy = is_parsed ? strdup(target) : NULL;
    if (!is_parsed)
        st = plt_fail(err, PLT_ORIGIN, "a redirect that cannot be read");
    else if (!copy)
        st = plt_fail(err, PLT_NOMEM, "a URL");
    else
        st = ci->host->allow_url(ci->host, copy, err);
    if (st == PLT_OK) {
        (void)pthread_mutex_lock(&ci->lock);
        free(ci->url);
        ci->url = copy;
        (void)pthread_mutex_unlock(&ci->lock);
    } else {
        free(copy);
    }
    curl_free(target);
    curl_url_cleanup(u);
    return st;
}

bool curl_backoff(struct plt_io *io, unsigned n,
                  const struct curl_answer *answer)
{
    /* 100, 200, 400 ms and up to half as much again, by the clock's low bits;
     * what the origin asks for, when it does. */
    const uint64_t base = UINT64_C(100000000) << (n < 6 ? n - 1 : 5);
    uint64_t wait = base + curl_now_ns() / 1000 % (base / 2 / 1000) * 1000;

    if (answer && answer->retry_after >= 0)
        wait = (uint64_t)answer->retry_after * UINT64_C(1000000000) + 1;
    const uint64_t until = curl_now_ns() + wait;
    if (until >= io->deadline_ns)
        return false;
    while (curl_now_ns() < until) {
        const struct timespec step = {0, 20000000};
        if (io->cancelled(io))
            return false;
        (void)nanosleep(&step, NULL);
    }
    return true;
}
