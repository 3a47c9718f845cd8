/* SPDX-License-Identifier: Apache-2.0 */
#include "budgets.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/random.h>

#include "stack/json_memory.h"
#include "util/check.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    PLACES = 4096, /* of a row */
    ROWS = 2,
    KIB = 1024
};

struct refusals {
    _Atomic uint64_t n, told_ns, n_untold;
};

struct budgets {
    uint64_t seed;
    struct refusals refusals[BUDGETS];
    _Atomic uint32_t places[COUNTS][ROWS][PLACES];
    _Atomic uint64_t memory, memory_most;
};

static const char *const names[BUDGETS] = {
    [BUDGET_CONNECTIONS] = "max_connections_per_client",
    [BUDGET_WAITING_PER_CLIENT] = "max_waiting_per_client",
    [BUDGET_WAITING_PER_IMAGE] = "max_waiting_per_image",
    [BUDGET_WAITING_PER_ORIGIN] = "waiting_per_origin",
    [BUDGET_WORKERS] = "workers",
    [BUDGET_OPEN] = "max_open",
    [BUDGET_CACHE] = "cache_size",
    [BUDGET_CLIENT_MEMORY] = "client_memory",
    [BUDGET_DEADLINE] = "deadline",
    [BUDGET_CLIENT_TIMEOUT] = "client_timeout",
    [BUDGET_RATE] = "min_rate",
    [BUDGET_RANGES] = "max_ranges",
    [BUDGET_BODY] = "body_size",
    [BUDGET_HEADER] = "header_size",
    [BUDGET_URL] = "url_size"};

struct budgets *budgets_new(uint64_t memory)
{
    struct budgets *const b = calloc(1, sizeof(*b));

    if (!b)
        return NULL;
    /* Eight bytes come whole or not at all (getrandom(2)). */
    ASSERT(getrandom(&b->seed, sizeof(b->seed), 0) == sizeof(b->seed));
    budgets_set_memory(b, memory);
    return b;
}

void budgets_set_memory(struct budgets *b, uint64_t memory)
{
    atomic_store(&b->memory_most, memory);
}

const char *budget_name(enum budget budget)
{
    return names[budget];
}

/* ---- Refusals ---- */

void budgets_refuse(struct budgets *b, enum budget budget, const char *client,
                    const char *id)
{
    struct refusals *const r = &b->refusals[budget];
    const uint64_t now = clock_now();
    uint64_t told = atomic_load(&r->told_ns);
    struct log_line line;

    (void)atomic_fetch_add(&r->n, 1);
    /* Who floods us does not flood the log. */
    if ((told && now - told < UINT64_C(1000) * NS_PER_MS) ||
        !atomic_compare_exchange_strong(&r->told_ns, &told, now)) {
        (void)atomic_fetch_add(&r->n_untold, 1);
        return;
    }
    log_begin(&line, LOG_WARN, "over_budget");
    log_text(&line, "budget", names[budget]);
    if (client && *client)
        log_text(&line, "client", client);
    if (id)
        log_text(&line, "req", id);
    log_number(&line, "untold", atomic_exchange(&r->n_untold, 0));
    log_end(&line);
}

uint64_t budgets_refused(const struct budgets *b, enum budget budget)
{
    return atomic_load(&b->refusals[budget].n);
}

/* ---- Counts of owners ---- */

/* FNV-1a, and the end of MurmurHash3, so that all bits count in both rows. */
uint64_t budgets_number(const struct budgets *b, const void *data, size_t len)
{
    const uint8_t *const p = (const uint8_t *)data;
    uint64_t h = b->seed ^ UINT64_C(14695981039346656037);

    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * UINT64_C(1099511628211);
    h = (h ^ h >> 33 ^ b->seed) * UINT64_C(0xff51afd7ed558ccd);
    h = (h ^ h >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    h ^= h >> 33;
    return h ? h : 1;
}

static _Atomic uint32_t *place(struct budgets *b, enum budgets_count count,
                               uint64_t owner, unsigned row)
{
    return &b->places[count][row][(owner >> (row * 32)) % PLACES];
}

static bool add(struct budgets *b, enum budgets_count count, uint64_t owner,
                uint32_t n, uint32_t most)
{
    bool is_over = true;

    for (unsigned row = 0; row < ROWS; row++) {
        const uint32_t was = atomic_fetch_add(place(b, count, owner, row), n);
        is_over = is_over && (n > most || was > most - n);
    }
    for (unsigned row = 0; is_over && row < ROWS; row++)
        (void)atomic_fetch_sub(place(b, count, owner, row), n);
    return !is_over;
}

bool budgets_enter(struct budgets *b, enum budgets_count count, uint64_t owner,
                   uint32_t most)
{
    return add(b, count, owner, 1, most);
}

void budgets_leave(struct budgets *b, enum budgets_count count, uint64_t owner)
{
    for (unsigned row = 0; row < ROWS; row++)
        (void)atomic_fetch_sub(place(b, count, owner, row), 1);
}

/* ---- Memory ---- */

static bool take(struct budgets *b, uint64_t bytes)
{
    const uint64_t most = atomic_load(&b->memory_most);

    if (atomic_fetch_add(&b->memory, bytes) + bytes <= most)
        return true;
    (void)atomic_fetch_sub(&b->memory, bytes);
    return false;
}

static uint32_t kib(uint64_t bytes)
{
    const uint64_t n = (bytes + KIB - 1) / KIB;
    return n < UINT32_MAX / 2 ? (uint32_t)n : UINT32_MAX / 2;
}

bool budgets_memory_take(struct budgets *b, uint64_t client, size_t bytes)
{
    const uint64_t most = atomic_load(&b->memory_most);

    if (!add(b, COUNT_MEMORY, client, kib(bytes), kib(most - most / 4)))
        return false;
    if (take(b, bytes))
        return true;
    for (unsigned row = 0; row < ROWS; row++)
        (void)atomic_fetch_sub(place(b, COUNT_MEMORY, client, row), kib(bytes));
    return false;
}

void budgets_memory_give(struct budgets *b, uint64_t client, size_t bytes)
{
    for (unsigned row = 0; row < ROWS; row++)
        (void)atomic_fetch_sub(place(b, COUNT_MEMORY, client, row), kib(bytes));
    (void)atomic_fetch_sub(&b->memory, bytes);
}

bool budgets_memory_is_tight(const struct budgets *b)
{
    return atomic_load(&b->memory) > atomic_load(&b->memory_most) / 2;
}

uint64_t budgets_memory_used(const struct budgets *b)
{
    return atomic_load(&b->memory);
}

uint64_t budgets_memory_most(const struct budgets *b)
{
    return atomic_load(&b->memory_most);
}

/* ---- JSON: jansson's allocator is one for the process, and has no cookie ----
 */

static struct budgets *of_json;
static _Thread_local bool is_bounded, has_failed;

static bool json_take(size_t size)
{
    if (is_bounded && !take(of_json, size)) {
        has_failed = true;
        return false;
    }
    if (!is_bounded)
        (void)atomic_fetch_add(&of_json->memory, size);
    return true;
}

static void json_give(size_t size)
{
    (void)atomic_fetch_sub(&of_json->memory, size);
}

void budgets_count_json(struct budgets *b)
{
    of_json = b;
    json_memory_count(json_take, json_give);
}

void budgets_json_begin(void)
{
    is_bounded = true;
    has_failed = false;
}

bool budgets_json_end(void)
{
    is_bounded = false;
    return !has_failed;
}

void budgets_free(struct budgets *b)
{
    if (b && of_json == b) {
        json_memory_count(NULL, NULL);
        of_json = NULL;
    }
    free(b);
}
