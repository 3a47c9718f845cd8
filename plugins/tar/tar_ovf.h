/* SPDX-License-Identifier: Apache-2.0 */
/* The OVF descriptor of an OVA (DMTF DSP0243): which of its files are disks.
 * The XML is hostile: nothing outside it is loaded, a document with a DTD is
 * refused.  Threads: read only once parsed. */
#ifndef TAR_OVF_H
#define TAR_OVF_H

#include <platter/driver.h>

enum { TAR_MAX_OVF = 4 << 20 /* bytes */, TAR_MAX_OVF_DISKS = 1024 };

struct tar_ovf_disk {
    char *href;        /* the file's name; new, as all here */
    char *format;      /* a URI that says the format, or NULL */
    char *compression; /* "gzip", or NULL: none */
    uint64_t capacity; /* bytes of the disk; 0: not said, or not in a way that
                          is understood */
    bool is_chunked;
};

struct tar_ovf {
    struct tar_ovf_disk *v;
    size_t n;
};

/* After a failure *out is empty. */
PLT_MUST_USE enum plt_status tar_ovf_parse(struct tar_ovf *out,
                                           const uint8_t *text, size_t n,
                                           struct plt_error *err);
void tar_ovf_release(struct tar_ovf *ovf);

#endif
