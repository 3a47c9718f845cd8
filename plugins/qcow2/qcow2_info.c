/* SPDX-License-Identifier: Apache-2.0 */
/* What the image is, in the words of qemu-img info. */
#include <stdio.h>

#include "qcow2_image.h"

enum { NS_PER_S = 1000000000 };

static void put_snapshot(struct plt_info *info, const struct plt_snapshot *s)
{
    info->object_begin(info, NULL);
    if (s->icount != UINT64_MAX)
        info->number(info, "icount", s->icount);
    info->number(info, "vm-clock-nsec", s->vm_clock_ns % NS_PER_S);
    info->text(info, "name", s->name);
    info->number(info, "date-sec", s->date_s);
    info->number(info, "date-nsec", s->date_ns);
    info->number(info, "vm-clock-sec", s->vm_clock_ns / NS_PER_S);
    info->text(info, "id", s->id);
    info->number(info, "vm-state-size", s->vm_state_size);
    info->number(info, "disk-size", s->disk_size);
    info->end(info);
}

/* "format-specific": what only this format has. */
static void put_specific(struct plt_info *info, const struct qcow2 *q)
{
    const struct qcow2_header *const h = &q->header;

    info->object_begin(info, "format-specific");
    info->text(info, "type", "qcow2");
    info->object_begin(info, "data");
    info->text(info, "compat", h->version == 2 ? "0.10" : "1.1");
    if (q->has_data_file)
        info->text(info, "data-file", h->data_file);
    if (q->has_data_file)
        info->boolean(info, "data-file-raw",
                      h->autoclear & QCOW2_DATA_FILE_RAW);
    info->text(info, "compression-type", h->compression ? "zstd" : "zlib");
    if (h->version == 3)
        info->boolean(info, "lazy-refcounts", h->compatible & 1);
    qcow2_bitmaps_info(&q->bitmaps, info);
    info->number(info, "refcount-bits", h->refcount_bits);
    if (h->version == 3) {
        info->boolean(info, "corrupt", h->incompatible & QCOW2_CORRUPT);
        info->boolean(info, "extended-l2", h->incompatible & QCOW2_EXTENDED_L2);
    }
    if (h->crypt) {
        info->object_begin(info, "encrypt");
        if (q->luks)
            qcow2_luks_info(q->luks, info);
        else
            info->text(info, "format", "aes");
        info->end(info);
    }
    info->end(info);
    info->end(info);
}

void qcow2_info(void *image, struct plt_info *info)
{
    const struct qcow2 *const q = (const struct qcow2 *)image;
    const struct qcow2_header *const h = &q->header;

    info->number(info, "cluster-size", q->cluster);
    info->boolean(info, "dirty-flag", h->incompatible & QCOW2_DIRTY);
    if (h->crypt)
        info->boolean(info, "encrypted", true);
    if (h->backing[0])
        info->text(info, "backing-filename", h->backing);
    if (h->backing_format[0])
        info->text(info, "backing-filename-format", h->backing_format);
    if (q->snapshots.n) {
        info->array_begin(info, "snapshots");
        for (uint32_t i = 0; i < q->snapshots.n; i++)
            put_snapshot(info, &q->snapshots.v[i].about);
        info->end(info);
    }
    if (q->shown)
        info->text(info, "snapshot", q->shown->about.id);
    put_specific(info, q);
    if (!h->n_unknown)
        return;
    info->array_begin(info, "unknown-header-extensions");
    for (unsigned i = 0; i < h->n_unknown; i++) {
        char type[16];
        (void)snprintf(type, sizeof(type), "0x%08x", h->unknown[i].type);
        info->object_begin(info, NULL);
        info->text(info, "type", type);
        info->number(info, "length", h->unknown[i].len);
        info->end(info);
    }
    info->end(info);
}

enum plt_status qcow2_list_snapshots(void *image, struct plt_io *io,
                                     plt_snapshot_fn *emit, void *cookie,
                                     struct plt_error *err)
{
    const struct qcow2 *const q = (const struct qcow2 *)image;

    (void)io;
    (void)err;
    for (uint32_t i = 0; i < q->snapshots.n; i++)
        if (!emit(cookie, &q->snapshots.v[i].about))
            break;
    return PLT_OK;
}
