/* SPDX-License-Identifier: Apache-2.0 */
/* The circumstances of a mirror's own work, what it costs, and how fast it may
 * be. */
#include "mirror/mirror_inside.h"
#include "util/check.h"
#include "util/clock.h"

enum { SLICE_MS = 50, RATE_SECONDS = 8, BURST_MS = 250, PATIENCE_MS = 8000 };

static bool is_cancelled(const struct plt_io *io)
{
    const struct mirror_io *const m =
        (const struct mirror_io *)(const void *)io;

    if (atomic_load(&m->mirror->mirrors->is_stopping))
        return true;
    if (m->outer)
        return m->outer->cancelled(m->outer);
    /* A paused mirror may be looked at, or its disk could not be read. */
    return m->version ? atomic_load(&m->mirror->is_halted)
                      : atomic_load(&m->mirror->is_gone);
}

void mirror_add_rate(struct mirror *m, uint64_t bytes)
{
    const uint64_t second = clock_now() / NS_PER_S;
    const size_t i = second % RATE_SECONDS;

    if (atomic_exchange(&m->rate_second[i], second) != second)
        atomic_store(&m->rate_bytes[i], 0);
    (void)atomic_fetch_add(&m->rate_bytes[i], bytes);
}

static void charge(struct plt_io *io, uint64_t bytes, uint32_t requests)
{
    struct mirror_io *const m = (struct mirror_io *)(void *)io;
    struct mirrors *const all = m->mirror->mirrors;

    (void)atomic_fetch_add(&all->fetched, bytes);
    if (m->outer)
        (void)atomic_fetch_add(&all->demand, bytes);
    struct mirror_counts *const c =
        m->version ? &m->version->counts : &m->mirror->counts;
    (void)atomic_fetch_add(&c->fetched, bytes);
    (void)atomic_fetch_add(&c->requests, requests);
    if (m->outer) {
        (void)atomic_fetch_add(&c->demand, bytes);
        m->outer->charge(m->outer, bytes, requests);
    }
    mirror_changed(m->mirror);
}

void mirror_io_init(struct mirror_io *m, struct mirror *mirror,
                    struct version *version, struct plt_io *outer,
                    uint32_t flags)
{
    *m = (struct mirror_io){
        .io = {.struct_size = (uint32_t)sizeof(m->io),
               .flags = flags,
               .deadline_ns =
                   outer ? outer->deadline_ns : clock_after_ms(MIRROR_WAIT_MS),
               .cancelled = is_cancelled,
               .charge = charge,
               .traceparent = outer ? outer->traceparent : NULL},
        .version = version,
        .mirror = mirror,
        .outer = outer};
}

uint64_t mirror_rate(struct mirror *m)
{
    const uint64_t second = clock_now() / NS_PER_S;
    uint64_t sum = 0, longest = 0;

    /* The present second is not over: those before it, from the first in which
     * something came. */
    for (size_t i = 0; i < RATE_SECONDS; i++) {
        const uint64_t of = atomic_load(&m->rate_second[i]);
        if (of >= second || second - of >= RATE_SECONDS - 1)
            continue;
        sum += atomic_load(&m->rate_bytes[i]);
        longest = second - of > longest ? second - of : longest;
    }
    return longest ? sum / longest : 0;
}

/* So many bytes go out of an allowance that grows by rate; how long until they
 * may: nanoseconds.  What was not used is kept for a moment alone. */
static uint64_t take_allowance(uint64_t *until, uint64_t rate, uint64_t bytes)
{
    const uint64_t now = clock_now();
    const uint64_t cost =
        (uint64_t)((double)bytes * (double)NS_PER_S / (double)rate);
    const uint64_t earliest = now - (uint64_t)BURST_MS * NS_PER_MS;

    if (*until < earliest)
        *until = earliest;
    *until += cost;
    return *until > now ? *until - now : 0;
}

/* So many bytes are given out: how long until they may come. */
static uint64_t pay(struct mirror *m, uint64_t bytes)
{
    struct mirrors *const all = m->mirrors;
    uint64_t wait = 0;

    lock_take(&m->lock);
    const uint64_t had = bytes < m->paid ? bytes : m->paid;
    m->paid -= had;
    bytes -= had;
    if (m->entry.bandwidth)
        wait = take_allowance(&m->allowance_ns, m->entry.bandwidth, bytes);
    lock_give(&m->lock);
    if (all->config.bandwidth) {
        lock_take(&all->lock);
        const uint64_t other =
            take_allowance(&all->allowance_ns, all->config.bandwidth, bytes);
        lock_give(&all->lock);
        wait = other > wait ? other : wait;
    }
    return wait;
}

bool mirror_pace(struct mirror *m, uint64_t bytes, bool is_patient)
{
    struct mirrors *const all = m->mirrors;
    const uint64_t wait = pay(m, bytes);

    if (!is_patient && wait > (uint64_t)PATIENCE_MS * NS_PER_MS) {
        lock_take(&m->lock);
        m->paid += bytes;
        m->paced_ns = clock_now() + wait;
        lock_give(&m->lock);
        return false;
    }
    /* Who waits for this mirror's disk comes first. */
    const uint64_t end = clock_now() + wait;
    while (!atomic_load(&m->is_halted) && !atomic_load(&all->is_stopping)) {
        const uint64_t now = clock_now();
        if (now >= end && !mirror_is_asked(m)) {
            atomic_store(&m->turn_ns, now);
            return true;
        }
        lock_take(&m->lock);
        (void)cond_wait(&m->moved, &m->lock, clock_after_ms(SLICE_MS));
        lock_give(&m->lock);
    }
    return false;
}

bool mirror_is_asked(struct mirror *m)
{
    const uint64_t now = clock_now(), asked = atomic_load(&m->demand_ns);

    return asked && now - asked < (uint64_t)MIRROR_DEMAND_MS * NS_PER_MS &&
           now - atomic_load(&m->turn_ns) <
               (uint64_t)MIRROR_YIELD_MS * NS_PER_MS;
}

static void give_allowance(uint64_t *until, uint64_t rate, uint64_t bytes)
{
    const uint64_t cost =
        (uint64_t)((double)bytes * (double)NS_PER_S / (double)rate);
    *until = *until > cost ? *until - cost : 0;
}

void mirror_pace_back(struct mirror *m, uint64_t bytes)
{
    struct mirrors *const all = m->mirrors;

    lock_take(&m->lock);
    if (m->entry.bandwidth)
        give_allowance(&m->allowance_ns, m->entry.bandwidth, bytes);
    lock_give(&m->lock);
    if (!all->config.bandwidth)
        return;
    lock_take(&all->lock);
    give_allowance(&all->allowance_ns, all->config.bandwidth, bytes);
    lock_give(&all->lock);
}
