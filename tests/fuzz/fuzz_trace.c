/* SPDX-License-Identifier: Apache-2.0 */
/* A boot trace from anybody: what is taken lies inside the disk, is not more
 * than it has, and is the same when it is written and taken again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <platter/driver.h>

#include "stack/trace.h"

#define MUST(x)                                                                \
    do {                                                                       \
        if (!(x)) {                                                            \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);      \
            abort();                                                           \
        }                                                                      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trace t, again;
    struct plt_error err = {.at = PLT_AT_NONE};
    uint64_t sum = 0;
    char *const text = malloc(size + 1);

    MUST(text);
    if (size)
        memcpy(text, data, size);
    const enum plt_status st =
        trace_parse(&t, text, size, PLT_SIZE_UNKNOWN, &err);
    free(text);
    if (st != PLT_OK) {
        MUST(st == PLT_INVALID && err.text[0] && !t.reads);
        return 0;
    }
    MUST(t.n <= TRACE_READS && t.size <= PLT_SIZE_MAX);
    for (size_t i = 0; i < t.n; i++) {
        const struct trace_read *const r = &t.reads[i];
        MUST(r->len && r->off < t.size && r->len <= t.size - r->off);
        sum += r->len;
        MUST(sum <= t.size);
    }
    json_t *const value = trace_json(&t, "complete");
    MUST(value);
    MUST(trace_take(&again, value, t.size, &err) == PLT_OK);
    MUST(again.n == t.n && again.is_truncated == t.is_truncated &&
         strcmp(again.etag, t.etag) == 0 && again.created == t.created);
    for (size_t i = 0; i < t.n; i++)
        MUST(again.reads[i].off == t.reads[i].off &&
             again.reads[i].len == t.reads[i].len &&
             again.reads[i].ms == t.reads[i].ms);
    json_decref(value);
    trace_release(&again);
    trace_release(&t);
    return 0;
}
