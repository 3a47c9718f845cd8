/* SPDX-License-Identifier: Apache-2.0 */
/* Boot traces of an image, and reading ahead what somebody names: recorded from
 * what clients read, kept by ETag, replayed when an image is read again after
 * it was opened. */
#include <stdlib.h>
#include <string.h>

#include "stack/image_inside.h"
#include "stack/node.h"
#include "stack/traces.h"
#include "util/clock.h"
#include "util/log.h"

static struct traces *traces_of(struct image *image)
{
    return images_traces(image_images(image));
}

static struct prefetch *prefetch_of(struct image *image)
{
    return images_prefetch(image_images(image));
}

static struct recorder *recorder_of(struct image *image)
{
    return atomic_load(&image_follow(image)->recorder);
}

/* ---- Recording ---- */

/* What was recorded becomes the image's trace. */
static void keep(struct image *image)
{
    struct plt_error err = {.at = PLT_AT_NONE};
    struct recorder *const rec = recorder_of(image);
    struct trace trace;
    struct log_line l;

    if (!rec || !recorder_get(rec, &trace))
        return;
    const size_t n = trace.n;
    const enum plt_status st =
        traces_put(traces_of(image), image_etag(image), &trace,
                   stack_top(image_stack(image))->is_pinned, &err);
    log_begin(&l, st == PLT_OK ? LOG_INFO : LOG_WARN,
              st == PLT_OK ? "trace_recorded" : "trace_lost");
    log_text(&l, "image", image_name(image));
    log_number(&l, "reads", n);
    if (st != PLT_OK)
        log_text(&l, "text", err.text);
    log_end(&l);
}

/* Is it recording?  A recording whose time is over is kept first. */
static bool is_recording(struct image *image)
{
    struct recorder *const rec = recorder_of(image);
    bool has_ended = false;
    const bool is_on = rec && recorder_is_on(rec, &has_ended);

    if (has_ended)
        keep(image);
    return is_on;
}

static void keep_job(void *cookie)
{
    struct image *const image = (struct image *)cookie;
    keep(image);
    image_unref(image);
}

enum plt_status image_trace_record(struct image *image, unsigned seconds,
                                   struct plt_error *err)
{
    struct image_follow *const f = image_follow(image);
    struct recorder *rec = recorder_of(image), *none = NULL;

    if (!seconds || seconds > TRACE_SECONDS)
        return plt_fail(err, PLT_INVALID, "seconds is 1 to %d", TRACE_SECONDS);
    if (image_size(image) == PLT_SIZE_UNKNOWN)
        return plt_fail(err, PLT_BUG, "a trace of a disk of unknown size");
    if (!rec) {
        rec = recorder_new();
        if (!rec)
            return plt_fail(err, PLT_NOMEM, "a recording");
        if (!atomic_compare_exchange_strong(&f->recorder, &none, rec)) {
            recorder_free(rec); /* another was first */
            rec = none;
        }
    }
    recorder_begin(rec, image_size(image), image_etag(image), seconds);
    return PLT_OK;
}

enum plt_status image_trace_json(struct image *image, json_t **out,
                                 struct plt_error *err)
{
    const bool is_on = is_recording(image);
    struct trace trace;

    if (is_on ? !recorder_get(recorder_of(image), &trace)
              : !traces_get(traces_of(image), image_etag(image),
                            image_size(image), &trace))
        return is_on ? plt_fail(err, PLT_NOMEM, "a trace")
                     : plt_fail(err, PLT_NOT_FOUND,
                                "no trace of this image is kept");
    *out = trace_json(&trace, is_on ? "recording" : "complete");
    trace_release(&trace);
    return *out ? PLT_OK : plt_fail(err, PLT_NOMEM, "a trace");
}

enum plt_status image_trace_load(struct image *image, json_t *value,
                                 struct plt_error *err)
{
    struct recorder *const rec = recorder_of(image);
    struct trace trace;
    const enum plt_status st =
        trace_take(&trace, value, image_size(image), err);

    if (st != PLT_OK)
        return st;
    if (rec)
        (void)recorder_end(rec);
    return traces_put(traces_of(image), image_etag(image), &trace,
                      stack_top(image_stack(image))->is_pinned, err);
}

enum plt_status image_trace_drop(struct image *image, struct plt_error *err)
{
    struct recorder *const rec = recorder_of(image);
    const bool was_on = rec && recorder_end(rec);
    const bool was_kept = traces_drop(traces_of(image), image_etag(image));

    return was_on || was_kept
               ? PLT_OK
               : plt_fail(err, PLT_NOT_FOUND, "no trace of this image is kept");
}

/* ---- Prefetching ---- */

/* Its trace as a list of stretches; new.  NULL: none is kept. */
static struct prefetch_span *trace_spans(struct image *image, size_t *n)
{
    struct trace trace;

    if (!traces_get(traces_of(image), image_etag(image), image_size(image),
                    &trace))
        return NULL;
    struct prefetch_span *const spans = malloc((trace.n + 1) * sizeof(*spans));
    for (size_t i = 0; spans && i < trace.n; i++)
        spans[i] =
            (struct prefetch_span){trace.reads[i].off, trace.reads[i].len};
    *n = trace.n;
    trace_release(&trace);
    return spans;
}

enum plt_status image_prefetch_trace(struct image *image, struct plt_error *err)
{
    size_t n = 0;

    (void)is_recording(image);
    struct prefetch_span *const spans = trace_spans(image, &n);

    if (!spans)
        return plt_fail(err, PLT_NOT_FOUND, "no trace of this image is kept");
    return prefetch_start(prefetch_of(image), image, PREFETCH_TRACE, spans, n,
                          err);
}

enum plt_status image_prefetch_disk(struct image *image, struct plt_error *err)
{
    struct prefetch_span *const all = malloc(sizeof(*all));

    if (!all)
        return plt_fail(err, PLT_NOMEM, "a prefetch");
    *all = (struct prefetch_span){0, image_size(image)};
    return prefetch_start(prefetch_of(image), image, PREFETCH_DISK, all,
                          all->len != 0, err);
}

enum plt_status image_prefetch_ranges(struct image *image, json_t *rows,
                                      struct plt_error *err)
{
    const uint64_t size = image_size(image);
    const size_t n = json_array_size(rows);
    json_t *row;
    size_t i;

    if (!json_is_array(rows) || !n || n > IMAGE_PREFETCH_RANGES)
        return plt_fail(err, PLT_INVALID, "ranges is not an array of 1 to %d",
                        IMAGE_PREFETCH_RANGES);
    struct prefetch_span *const spans = malloc(n * sizeof(*spans));
    if (!spans)
        return plt_fail(err, PLT_NOMEM, "a prefetch");
    json_array_foreach(rows, i, row)
    {
        json_t *const off = json_array_get(row, 0), *const len =
                                                        json_array_get(row, 1);
        const json_int_t o = json_integer_value(off),
                         l = json_integer_value(len);
        if (json_array_size(row) != 2 || !json_is_integer(off) ||
            !json_is_integer(len) || o < 0 || l < 1 || (uint64_t)o > size ||
            (uint64_t)l > size - (uint64_t)o) {
            free(spans);
            return plt_fail(err, PLT_INVALID,
                            "ranges[%zu] is not [offset, length] inside the "
                            "disk",
                            i);
        }
        spans[i] = (struct prefetch_span){(uint64_t)o, (uint64_t)l};
    }
    return prefetch_start(prefetch_of(image), image, PREFETCH_RANGES, spans, n,
                          err);
}

enum plt_status image_prefetch_json(struct image *image, json_t **out,
                                    struct plt_error *err)
{
    *out = prefetch_json(prefetch_of(image), image_etag(image));
    return *out ? PLT_OK
                : plt_fail(err, PLT_NOT_FOUND,
                           "nothing was prefetched of this image");
}

enum plt_status image_prefetch_cancel(struct image *image,
                                      struct plt_error *err)
{
    return prefetch_cancel(prefetch_of(image), image_etag(image))
               ? PLT_OK
               : plt_fail(err, PLT_NOT_FOUND, "no prefetch of this image runs");
}

/* ---- As an image lives ---- */

static void replay_job(void *cookie)
{
    struct image *const image = (struct image *)cookie;
    struct plt_error err = {.at = PLT_AT_NONE};
    const enum plt_status st = image_prefetch_trace(image, &err);

    if (st == PLT_OK) {
        struct log_line l;
        log_begin(&l, LOG_INFO, "trace_replayed");
        log_text(&l, "image", image_name(image));
        log_end(&l);
    }
    image_unref(image);
}

/* fn(image) in the background, with a reference of its own. */
static void later(struct image *image, void (*fn)(void *cookie))
{
    image_ref(image);
    if (!prefetch_later(prefetch_of(image), fn, image))
        image_unref(image);
}

void image_trace_seen(struct image *image, uint64_t off, uint64_t len,
                      bool is_hit)
{
    struct image_follow *const f = image_follow(image);
    struct recorder *const rec = recorder_of(image);

    if (!is_hit && !atomic_load(&f->has_begun) &&
        !atomic_exchange(&f->has_begun, true))
        later(image, replay_job);
    if (rec && recorder_add(rec, off, len))
        later(image, keep_job);
}

/* Closing: what is being recorded ends here; a disk that was seen to change
 * has no use for its trace. */
void image_trace_close(struct image *image)
{
    struct recorder *const rec = recorder_of(image);

    if (rec && recorder_end(rec))
        keep(image);
    if (stack_has_changed(image_stack(image)))
        (void)traces_drop(traces_of(image), image_etag(image));
}
