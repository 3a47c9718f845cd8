/* SPDX-License-Identifier: Apache-2.0 */
/* GET /metrics: the Prometheus text format 0.0.4.  Names follow its naming
 * guide: base units, _total for counters. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache.h"
#include "cache/disk_cache.h"
#include "mirror/mirror.h"
#include "route.h"
#include "stack/prefetch.h"

enum { MAX_TEXT = 1 << 20 };

struct page {
    char *text;
    size_t n, cap;
};

__attribute__((format(printf, 2, 3))) static void put(struct page *p,
                                                      const char *fmt, ...)
{
    va_list ap;

    if (p->cap - p->n < 512 && p->cap < MAX_TEXT) {
        char *const grown = realloc(p->text, p->cap * 2);
        if (!grown)
            return;
        p->text = grown;
        p->cap *= 2;
    }
    va_start(ap, fmt);
    const int n = vsnprintf(p->text + p->n, p->cap - p->n, fmt, ap);
    va_end(ap);
    if (n > 0 && (size_t)n < p->cap - p->n)
        p->n += (size_t)n;
    p->text[p->n] = '\0'; /* what does not fit is left out as a whole line */
}

static void head(struct page *p, const char *name, const char *type,
                 const char *help)
{
    put(p, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static uint64_t number_of(json_t *row, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(row, key));
}

static void put_plain(struct page *p, struct server *s)
{
    struct cache_stats c;
    unsigned queued, running;

    cache_stats(images_cache(s->images), &c);
    workers_load(s->workers, &queued, &running);
    const struct {
        const char *name, *type, *help;
        uint64_t value;
    } rows[] = {
        {"platter_requests_active", "gauge", "Requests being answered.",
         atomic_load(&s->n_active)},
        {"platter_sent_bytes_total", "counter", "Bytes of disks sent.",
         atomic_load(&s->bytes_sent)},
        {"platter_origin_bytes_total", "counter",
         "Bytes fetched from origins that a request waited for.",
         atomic_load(&s->origin_bytes)},
        {"platter_origin_requests_total", "counter", "Requests to origins.",
         atomic_load(&s->origin_requests)},
        {"platter_workers", "gauge", "Workers, at most.",
         workers_most(s->workers)},
        {"platter_workers_queued", "gauge", "Jobs that wait for a worker.",
         queued},
        {"platter_workers_running", "gauge", "Jobs on workers.", running},
        {"platter_cache_budget_bytes", "gauge", "Memory allowed.", c.budget},
        {"platter_cache_bytes", "gauge", "Memory in use.", c.bytes},
        {"platter_cache_reserved_bytes", "gauge",
         "Of it, kept by open images and running reads.", c.reserved},
        {"platter_cache_lent_bytes", "gauge",
         "Memory that answers are being sent from.", c.lent},
        {"platter_cache_hits_total", "counter", "Blocks found.", c.hits},
        {"platter_cache_fills_total", "counter", "Blocks filled.", c.fills},
        {"platter_cache_evictions_total", "counter", "Blocks evicted.",
         c.evictions},
        {"platter_cache_full_total", "counter", "Claims without room.", c.full},
        {"platter_config_reloads_total", "counter",
         "Configurations taken on SIGHUP.", atomic_load(&s->n_reloads)},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        head(p, rows[i].name, rows[i].type, rows[i].help);
        put(p, "%s %" PRIu64 "\n", rows[i].name, rows[i].value);
    }
}

static void put_refused(struct page *p, struct server *s)
{
    head(p, "platter_access_refused_total", "counter",
         "Requests that were refused, by what they lacked.");
    for (unsigned i = ACCESS_OK + 1; i < ACCESS_VERDICTS; i++)
        put(p, "platter_access_refused_total{reason=\"%s\"} %" PRIu64 "\n",
            access_verdict_name((enum access_verdict)i),
            atomic_load(&s->refused[i]));
}

static void put_disk_cache(struct page *p, struct server *s)
{
    struct disk_cache_stats d;

    disk_cache_stats(images_disk_cache(s->images), &d);
    const struct {
        const char *name, *type, *help;
        uint64_t value;
    } rows[] = {
        {"platter_disk_cache_state", "gauge",
         "1: blocks are kept on disk; 0: not, or not any more.", d.is_on},
        {"platter_disk_cache_limit_bytes", "gauge", "Disk allowed.", d.limit},
        {"platter_disk_cache_bytes", "gauge", "Disk in use.", d.bytes},
        {"platter_disk_cache_hits_total", "counter",
         "Blocks missed by memory and found on disk.", d.hits},
        {"platter_disk_cache_misses_total", "counter", "Blocks missed by both.",
         d.misses},
        {"platter_disk_cache_writes_total", "counter", "Blocks written.",
         d.writes},
        {"platter_disk_cache_dropped_total", "counter",
         "Blocks not written: the disk was behind.", d.dropped},
        {"platter_disk_cache_refused_total", "counter",
         "Blocks not written: asked for once, and the disk is full.",
         d.refused},
        {"platter_disk_cache_evicted_total", "counter",
         "Blocks on disk that made room.", d.evicted},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        head(p, rows[i].name, rows[i].type, rows[i].help);
        put(p, "%s %" PRIu64 "\n", rows[i].name, rows[i].value);
    }
}

static void put_prefetch(struct page *p, struct server *s)
{
    struct prefetch_stats f;

    prefetch_stats(images_prefetch(s->images), &f);
    const struct {
        const char *name, *type, *help;
        uint64_t value;
    } rows[] = {
        {"platter_readahead_bytes_total", "counter",
         "Bytes read ahead of clients that read in order.", f.ahead_bytes},
        {"platter_readahead_used_bytes_total", "counter",
         "Bytes planned ahead that their client came to.", f.used_bytes},
        {"platter_prefetch_bytes_total", "counter",
         "Bytes read by prefetches that were asked for, and by traces.",
         f.task_bytes},
        {"platter_prefetch_given_up_total", "counter",
         "Background reads that found no room, or failed.", f.given_up},
        {"platter_prefetch_origin_bytes_total", "counter",
         "Bytes fetched from origins in the background.", f.origin_bytes},
        {"platter_prefetch_origin_requests_total", "counter",
         "Requests to origins in the background.", f.origin_requests},
        {"platter_prefetch_running", "gauge",
         "Prefetches that run or wait for their turn.", f.running},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        head(p, rows[i].name, rows[i].type, rows[i].help);
        put(p, "%s %" PRIu64 "\n", rows[i].name, rows[i].value);
    }
}

/* In sums: a row for each mirror would be a label that requests choose; who
 * wants one asks /v1/mirrors. */
static void put_mirrors(struct page *p, struct server *s)
{
    struct mirrors_totals t;
    json_t *const store = mirrors_store_json(s->mirrors);

    mirrors_totals(s->mirrors, &t);
    const struct {
        const char *state;
        unsigned n;
    } states[] = {{"mirroring", t.n_mirroring},
                  {"complete", t.n_complete},
                  {"paused", t.n_paused},
                  {"failed", t.n_failed}};
    head(p, "platter_mirrors", "gauge", "Mirrors, by their state.");
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
        put(p, "platter_mirrors{state=\"%s\"} %u\n", states[i].state,
            states[i].n);
    const struct {
        const char *name, *type, *help;
        uint64_t value;
    } rows[] = {
        {"platter_mirror_fetched_bytes_total", "counter",
         "Bytes that came over the network for mirrors.", t.fetched_bytes},
        {"platter_mirror_reused_bytes_total", "counter",
         "Bytes of mirrors that this host had.", t.reused_bytes},
        {"platter_mirror_demand_bytes_total", "counter",
         "Bytes of mirrors fetched since a reader waited.", t.demand_bytes},
        {"platter_mirror_repaired_total", "counter",
         "Leaves that were damaged at rest and fetched again.",
         t.repaired_leaves},
        {"platter_mirror_refused_total", "counter",
         "Leaves that a source sent wrong.", t.refused_leaves},
        {"platter_store_leaves", "gauge", "Leaves in the store.",
         number_of(store, "leaves")},
        {"platter_store_bytes", "gauge", "Disk of the store in use.",
         number_of(store, "disk_bytes")},
        {"platter_store_limit_bytes", "gauge", "Disk allowed; 0: no limit.",
         number_of(store, "limit")},
        {"platter_store_memory_bytes", "gauge", "Memory of the store.",
         number_of(store, "memory_bytes")},
        {"platter_store_damaged_total", "counter",
         "Leaves of the store found damaged.", number_of(store, "damaged")},
        {"platter_store_scrubbed_bytes_total", "counter",
         "Bytes of the store read again at rest.",
         number_of(store, "scrubbed_bytes")},
        {"platter_store_scrub_rounds_total", "counter",
         "Times that all of the store was.", number_of(store, "scrub_rounds")},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        head(p, rows[i].name, rows[i].type, rows[i].help);
        put(p, "%s %" PRIu64 "\n", rows[i].name, rows[i].value);
    }
    json_decref(store);
}

static void put_requests(struct page *p, struct server *s)
{
    head(p, "platter_requests_total", "counter",
         "Requests answered, by route and status.");
    for (size_t k = 0; k <= ROUTES; k++) {
        const struct route *const route = route_at(k);
        for (unsigned i = 0; i < SERVER_STATUSES; i++) {
            const uint64_t n = atomic_load(&s->by_route[k][i]);
            if (n)
                put(p,
                    "platter_requests_total{route=\"%s\",status=\"%u\"} "
                    "%" PRIu64 "\n",
                    route ? route->label : "none", i, n);
        }
    }
}

static void put_budgets(struct page *p, struct server *s)
{
    head(p, "platter_client_memory_bytes", "gauge",
         "Memory held for clients: answers not sent yet, bodies.");
    put(p, "platter_client_memory_bytes %" PRIu64 "\n",
        budgets_memory_used(s->budgets));
    head(p, "platter_client_memory_budget_bytes", "gauge", "Of it, allowed.");
    put(p, "platter_client_memory_budget_bytes %" PRIu64 "\n",
        budgets_memory_most(s->budgets));
    head(p, "platter_refused_total", "counter",
         "Requests and connections that were over a budget, by its name.");
    for (unsigned i = 0; i < BUDGETS; i++) {
        const enum budget budget = (enum budget)i;
        put(p, "platter_refused_total{budget=\"%s\"} %" PRIu64 "\n",
            budget_name(budget),
            budget == BUDGET_OPEN ? images_refused(s->images)
                                  : budgets_refused(s->budgets, budget));
    }
}

static void put_manifests(struct page *p, struct server *s)
{
    struct manifests_totals t;

    manifests_totals(s->manifests, &t);
    const struct {
        const char *name, *type, *help;
        uint64_t value;
    } rows[] = {
        {"platter_manifests_made_total", "counter",
         "Manifests that were made, by reading a disk.", t.made},
        {"platter_manifests_failed_total", "counter",
         "Manifests whose making failed.", t.failed},
        {"platter_manifests_dropped_total", "counter",
         "Manifests whose disk had other bytes, under the same validator.",
         t.dropped},
        {"platter_manifests_inherited_groups_total", "counter",
         "Groups of overlays out of the manifests of their backing files, that "
         "were not read.",
         t.inherited},
        {"platter_manifests_being_made", "gauge",
         "Manifests that are being made now.", t.being_made},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        head(p, rows[i].name, rows[i].type, rows[i].help);
        put(p, "%s %" PRIu64 "\n", rows[i].name, rows[i].value);
    }
}

/* One counter of every driver. */
static void put_drivers(struct page *p, struct server *s, const char *name,
                        const char *help, size_t field)
{
    const struct driver_metrics *d;

    head(p, name, "counter", help);
    for (unsigned i = 0; (d = metrics_at(images_metrics(s->images), i)); i++) {
        const _Atomic uint64_t *const v =
            (const _Atomic uint64_t *)(const void *)((const char *)d + field);
        put(p, "%s{driver=\"%s\"} %" PRIu64 "\n", name, d->name,
            atomic_load(v));
    }
}

static void put_times(struct page *p, struct server *s)
{
    const struct driver_metrics *d;

    head(p, "platter_driver_seconds_total", "counter",
         "Time in reads of a driver, without the layers below it.");
    for (unsigned i = 0; (d = metrics_at(images_metrics(s->images), i)); i++)
        put(p, "platter_driver_seconds_total{driver=\"%s\"} %.6f\n", d->name,
            (double)atomic_load(&d->ns) / 1e9);
    head(p, "platter_source_read_seconds", "histogram",
         "Reads of a source: what an origin or a disk takes to answer.");
    for (unsigned i = 0; (d = metrics_at(images_metrics(s->images), i)); i++) {
        uint64_t sum = 0;
        if (!d->is_source)
            continue;
        for (unsigned k = 0; k < METRICS_BUCKETS; k++) {
            char le[24] = "+Inf";
            sum += atomic_load(&d->buckets[k]);
            if (k < METRICS_BUCKETS - 1)
                (void)snprintf(le, sizeof(le), "%g",
                               (double)metrics_bounds_us[k] / 1e6);
            put(p,
                "platter_source_read_seconds_bucket{driver=\"%s\",le=\"%s\"} "
                "%" PRIu64 "\n",
                d->name, le, sum);
        }
        put(p,
            "platter_source_read_seconds_sum{driver=\"%s\"} %.6f\n"
            "platter_source_read_seconds_count{driver=\"%s\"} %" PRIu64 "\n",
            d->name, (double)atomic_load(&d->ns) / 1e9, d->name, sum);
    }
}

/* ---- Open images ---- */

struct coverage {
    uint64_t n_open, n_indexed, n_complete, decoded, points;
};

static void cover(void *cookie, struct image *image)
{
    struct coverage *const c = (struct coverage *)cookie;
    struct plt_error ignored;
    json_t *row = NULL;

    if (!image_is_open(image))
        return;
    c->n_open++;
    if (image_index_json(image, &row, &ignored) != PLT_OK)
        return;
    const char *const state = json_string_value(json_object_get(row, "state"));
    if (state) {
        c->n_indexed++;
        c->n_complete += strcmp(state, "complete") == 0;
        c->decoded += number_of(row, "decoded");
        c->points += number_of(row, "points");
    }
    json_decref(row);
}

static void put_images(struct page *p, struct server *s)
{
    struct coverage c = {0};

    images_visit(s->images, cover, &c);
    const struct {
        const char *name, *help;
        uint64_t value;
    } rows[] = {
        {"platter_images_open", "Stacks that are open.", c.n_open},
        {"platter_indexes_open", "Of them, over a stream with an index.",
         c.n_indexed},
        {"platter_indexes_complete", "Of those, to the stream's end.",
         c.n_complete},
        {"platter_index_decoded_bytes", "Decoded bytes that indexes cover.",
         c.decoded},
        {"platter_index_points", "Restart points.", c.points},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        head(p, rows[i].name, "gauge", rows[i].help);
        put(p, "%s %" PRIu64 "\n", rows[i].name, rows[i].value);
    }
}

enum MHD_Result handle_metrics(struct request *r)
{
    struct server *const s = r->server;
    struct page p = {.text = malloc(16384), .cap = 16384};

    if (!p.text)
        return answer_queue(r, MHD_HTTP_OK, NULL);
    put_plain(&p, s);
    put_disk_cache(&p, s);
    put_refused(&p, s);
    put_prefetch(&p, s);
    put_mirrors(&p, s);
    put_manifests(&p, s);
    put_budgets(&p, s);
    put_requests(&p, s);
    put_drivers(&p, s, "platter_driver_reads_total", "Reads of a driver.",
                offsetof(struct driver_metrics, reads));
    put_drivers(&p, s, "platter_driver_read_bytes_total",
                "Bytes that reads of a driver gave.",
                offsetof(struct driver_metrics, bytes));
    put_drivers(&p, s, "platter_driver_cache_hits_total",
                "Blocks of a driver found in the cache.",
                offsetof(struct driver_metrics, hits));
    put_drivers(&p, s, "platter_driver_cache_fills_total",
                "Blocks that a driver filled.",
                offsetof(struct driver_metrics, fills));
    put_drivers(&p, s, "platter_driver_contract_breaks_total",
                "Answers of a driver that it may not give.",
                offsetof(struct driver_metrics, broken));
    put_times(&p, s);
    put_images(&p, s);
    const enum MHD_Result result =
        answer_text(r, MHD_HTTP_OK, "text/plain; version=0.0.4", p.text);
    free(p.text);
    return result;
}
