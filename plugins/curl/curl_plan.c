/* SPDX-License-Identifier: Apache-2.0 */
#include "curl_plan.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

enum {
    /* Shorter bodies come in one burst, and say nothing of the line. */
    WORTH_MEASURING = 32 * 1024,
    HEAD_PLAIN = 64 * 1024
};

void curl_cost_learn(struct curl_cost *cost, uint64_t trip_ns, uint64_t body_ns,
                     uint64_t bytes)
{
    if (trip_ns == 0)
        return;
    /* The least, since what is more was the server's; forgotten slowly. */
    const uint64_t older = cost->trip_ns + cost->trip_ns / 16;
    if (cost->trip_ns == 0 || trip_ns < older)
        cost->trip_ns = trip_ns;
    else
        cost->trip_ns = older;
    if (bytes < WORTH_MEASURING || bytes > UINT64_C(1) << 40)
        return;
    /* A body that was there with its headers took no time at all. */
    const uint64_t ns = body_ns > 1000 ? body_ns : 1000;
    const uint64_t rate = bytes * 1000000 / (ns / 1000);
    /* The most, forgotten slowly: TCP begins slower than the line is. */
    const uint64_t before = cost->bytes_per_s;
    cost->bytes_per_s = rate >= before ? rate : before - (before - rate) / 8;
}

uint64_t curl_cost_gap(const struct curl_cost *cost)
{
    if (cost->trip_ns == 0 || cost->bytes_per_s == 0)
        return CURL_GAP;
    const uint64_t us = cost->trip_ns / 1000;
    if (us > UINT64_MAX / cost->bytes_per_s)
        return CURL_GAP_MAX;
    const uint64_t gap = us * cost->bytes_per_s / 1000000;
    if (gap < CURL_GAP_MIN)
        return CURL_GAP_MIN;
    return gap < CURL_GAP_MAX ? gap : CURL_GAP_MAX;
}

struct curl_guess curl_guess(const char *url)
{
    static const struct curl_guess front = {CURL_FRONT, 0, CURL_FRONT};
    static const struct curl_guess both = {CURL_FRONT - CURL_TAIL, CURL_TAIL,
                                           CURL_FRONT};
    static const struct curl_guess stream = {HEAD_PLAIN, 0, 0};
    static const struct {
        const char *ending;
        const struct curl_guess *guess;
    } table[] = {
        {".qcow2", &front}, {".qcow", &front},
        {".img", &front}, /* cloud images of this name are qcow2 */
        {".vmdk", &both},   {".ova", &both},
        {".tar", &both},    {".gz", &stream},
        {".tgz", &stream},  {".box", &stream},
        {".dz", &stream},   {".xz", &stream},
        {".zst", &stream},  {".bz2", &stream},
        {".raw", &stream},
    };
    const size_t len = strcspn(url, "?#");

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        const size_t n = strlen(table[i].ending);
        if (len > n && strncasecmp(url + len - n, table[i].ending, n) == 0)
            return *table[i].guess;
    }
    return (struct curl_guess){HEAD_PLAIN, 0, CURL_FRONT};
}

uint64_t curl_ahead(uint64_t bytes, uint64_t off, uint64_t size)
{
    const uint64_t left = size - off;
    uint64_t n = bytes * 4;

    if (bytes >= CURL_AHEAD_ALL / 4)
        return left;
    if (n < CURL_AHEAD_MIN)
        n = CURL_AHEAD_MIN;
    return n < left ? n : left;
}
