/* SPDX-License-Identifier: Apache-2.0 */
/* Finding records without a footer.  What is no record is passed over in steps
 * of 64 bytes, so that one that is damaged does not take those behind it with
 * it; bytes of leaves cannot be taken for one, they lack the secret. */
#include <stdlib.h>

#include "store/store_inside.h"
#include "util/auto.h"

enum { WINDOW = 1 << 20, BAD_BLOCK = 4096 };

/* What has been read of the file. */
struct window {
    uint8_t *bytes;
    uint64_t off;
    size_t len;
};

/* A record that begins at `at` is in the window, if it is in the file. */
static bool show(struct window *w, int fd, uint64_t bytes, uint64_t at)
{
    const uint64_t want = bytes - at < RECORD_MOST ? bytes - at : RECORD_MOST;

    if (at >= w->off && at + want <= w->off + w->len)
        return true;
    w->off = at;
    /* up to a bad block, where there is one */
    (void)store_read(fd, w->bytes, WINDOW, at, &w->len);
    return w->len;
}

uint64_t segment_walk(int fd, uint64_t bytes, const uint8_t *secret,
                      struct store_scratch *scratch,
                      bool (*fn)(void *cookie, uint64_t off,
                                 const struct store_record *r,
                                 const uint8_t *data),
                      void *cookie)
{
    uint64_t at = SEGMENT_HEAD, end = SEGMENT_HEAD;
    struct store_record r;
    AUTO_FREE uint8_t *buf = malloc(WINDOW);
    struct window w = {.bytes = buf};

    if (bytes > SEGMENT_MOST)
        bytes = SEGMENT_MOST;
    if (!buf)
        return 0;
    while (at < bytes) {
        if (!show(&w, fd, bytes, at)) {
            at += BAD_BLOCK;
            continue;
        }
        const uint8_t *const p = w.bytes + (at - w.off);
        const size_t left = (size_t)(w.off + w.len - at);
        if (!store_record_parse(p, left, secret, at, &r) || r.bytes > left) {
            at += RECORD_ALIGN;
            continue;
        }
        if (fn(cookie, at, &r, store_record_data(&r, p, scratch)))
            end = at + r.bytes;
        at += r.bytes;
    }
    return end;
}
