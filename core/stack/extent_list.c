/* SPDX-License-Identifier: Apache-2.0 */
#include "stack/extent_list.h"

void extent_list_init(struct extent_list *list, uint64_t off, uint64_t len,
                      plt_extent_fn *emit, void *cookie)
{
    *list = (struct extent_list){
        .next = off, .end = off + len, .emit = emit, .cookie = cookie};
}

void extent_list_flush(struct extent_list *list)
{
    if (list->pending.len && !list->has_stopped)
        list->has_stopped = !list->emit(list->cookie, &list->pending);
    list->pending.len = 0;
}

enum { HAS_OFFSET = PLT_EXTENT_MAPPED | PLT_EXTENT_RESERVED };

/* b continues a: same nature, and same place in the child where it has one. */
static bool continues(const struct plt_extent *a, const struct plt_extent *b)
{
    return a->flags == b->flags && a->depth == b->depth &&
           (!(a->flags & HAS_OFFSET) || a->child_off + a->len == b->child_off);
}

bool extent_list_take(void *cookie, const struct plt_extent *extent)
{
    struct extent_list *const list = (struct extent_list *)cookie;
    struct plt_extent e = *extent;

    if (list->has_stopped || list->next >= list->end)
        return false;
    if (e.len == 0 || e.off > list->next || e.len > PLT_SIZE_MAX ||
        e.off > PLT_SIZE_MAX || e.off + e.len <= list->next) {
        list->is_broken = true;
        return false;
    }
    /* Clip: the first may begin before, the last may reach past. */
    const uint64_t skip = list->next - e.off;
    e.off += skip;
    e.len -= skip;
    e.child_off += skip;
    if (e.len > list->end - e.off)
        e.len = list->end - e.off;
    if (!(e.flags & HAS_OFFSET))
        e.child_off = 0;
    list->next += e.len;
    if (list->pending.len && continues(&list->pending, &e)) {
        list->pending.len += e.len;
    } else {
        extent_list_flush(list);
        list->pending = e;
    }
    return !list->has_stopped && list->next < list->end;
}
