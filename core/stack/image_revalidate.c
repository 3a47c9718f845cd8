/* SPDX-License-Identifier: Apache-2.0 */
#include "stack/image_inside.h"
#include "util/clock.h"
#include "util/log.h"

/* A source that does not answer in this time is not asked again before the next
 * turn. */
enum { REVALIDATE_WAIT_MS = 3000 };

/* The asker's circumstances, with less time. */
struct short_io {
    struct plt_io io; /* first */
    struct plt_io *asker;
};

static bool short_cancelled(const struct plt_io *io)
{
    const struct short_io *const s = (const struct short_io *)io;
    return s->asker->cancelled(s->asker);
}

static void short_charge(struct plt_io *io, uint64_t bytes, uint32_t requests)
{
    struct short_io *const s = (struct short_io *)io;
    s->asker->charge(s->asker, bytes, requests);
}

/* Compare with the source.  A source that does not answer is no reason to
 * refuse what is in memory: what was true at the last look is served on, under
 * the same ETag, and reads that need the source get its error. */
void image_revalidate(struct image *image, struct plt_io *io)
{
    struct plt_error err;
    struct short_io s = {.io = *io, .asker = io};
    const uint64_t limit = clock_after_ms(REVALIDATE_WAIT_MS);

    s.io.struct_size = (uint32_t)sizeof(s.io);
    s.io.cancelled = short_cancelled;
    s.io.charge = short_charge;
    if (limit < s.io.deadline_ns)
        s.io.deadline_ns = limit;
    const enum plt_status st =
        stack_revalidate(image_stack(image), &s.io, &err);
    if (st != PLT_OK) {
        struct log_line l;
        log_begin(&l, LOG_WARN,
                  st == PLT_CHANGED ? "source_changed" : "source_silent");
        log_text(&l, "image", image_name(image));
        log_text(&l, "layer", err.layer);
        log_text(&l, "status", plt_status_name(st));
        log_text(&l, "text", err.text);
        log_end(&l);
    }
}
