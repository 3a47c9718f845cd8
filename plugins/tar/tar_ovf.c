/* SPDX-License-Identifier: Apache-2.0 */
#include "tar_ovf.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <libxml/parser.h>
#include <libxml/tree.h>

/* libxml2 wants to be prepared once in a process, whoever uses it. */
static pthread_once_t is_prepared = PTHREAD_ONCE_INIT;

static void prepare(void)
{
    xmlInitParser();
}

static bool is_named(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE &&
           strcmp((const char *)node->name, name) == 0;
}

/* An attribute by its local name, as text of our own; NULL: not there. */
static char *attribute(const xmlNode *node, const char *name)
{
    for (xmlAttr *a = node->properties; a; a = a->next) {
        if (strcmp((const char *)a->name, name) != 0)
            continue;
        xmlChar *const value = xmlNodeListGetString(node->doc, a->children, 1);
        char *const copy = value ? strdup((const char *)value) : NULL;
        xmlFree(value);
        return copy;
    }
    return NULL;
}

/* DSP0243 9.1: "byte", or "byte * 2^N". */
static uint64_t unit_of(const char *text)
{
    unsigned power = 0;

    for (const char *p = text ? text : ""; *p; p++) {
        if (p[0] == '2' && p[1] == '^') {
            power = (unsigned)strtoul(p + 2, NULL, 10);
            break;
        }
    }
    return power < 60 ? UINT64_C(1) << power : 0;
}

static uint64_t capacity_of(const xmlNode *disk)
{
    char *const number = attribute(disk, "capacity");
    char *const units = attribute(disk, "capacityAllocationUnits");
    const uint64_t unit = unit_of(units);
    char *end = NULL;

    errno = 0;
    const uint64_t n = number ? strtoull(number, &end, 10) : 0;
    const bool is_good = number && end != number && !*end && !errno && unit &&
                         n <= PLT_SIZE_MAX / unit;
    free(number);
    free(units);
    return is_good ? n * unit : 0;
}

static const xmlNode *find_file(const xmlNode *references, const char *id)
{
    for (const xmlNode *f = references ? references->children : NULL; f;
         f = f->next) {
        char *const own = is_named(f, "File") ? attribute(f, "id") : NULL;
        const bool is_it = own && strcmp(own, id) == 0;
        free(own);
        if (is_it)
            return f;
    }
    return NULL;
}

/* A disk that has a file: one without is made empty by whoever imports it. */
static enum plt_status add_disk(struct tar_ovf *ovf, const xmlNode *references,
                                const xmlNode *disk, struct plt_error *err)
{
    char *const ref = attribute(disk, "fileRef");
    const xmlNode *const file = ref ? find_file(references, ref) : NULL;

    free(ref);
    if (!file)
        return PLT_OK;
    if (ovf->n == TAR_MAX_OVF_DISKS)
        return plt_fail(err, PLT_UNSUPPORTED, "an OVF of more than %d disks",
                        TAR_MAX_OVF_DISKS);
    struct tar_ovf_disk *const grown =
        realloc(ovf->v, (ovf->n + 1) * sizeof(*grown));
    if (!grown)
        return plt_fail(err, PLT_NOMEM, "an OVF");
    ovf->v = grown;
    char *const chunk = attribute(file, "chunkSize");
    struct tar_ovf_disk *const d = &ovf->v[ovf->n++];
    *d = (struct tar_ovf_disk){.href = attribute(file, "href"),
                               .format = attribute(disk, "format"),
                               .compression = attribute(file, "compression"),
                               .capacity = capacity_of(disk),
                               .is_chunked = chunk != NULL};
    free(chunk);
    return d->href ? PLT_OK
                   : plt_fail(err, PLT_CORRUPT, "an OVF file without a name");
}

static const xmlNode *child_named(const xmlNode *parent, const char *name)
{
    const xmlNode *n = parent ? parent->children : NULL;

    while (n && !is_named(n, name))
        n = n->next;
    return n;
}

static enum plt_status take_disks(struct tar_ovf *ovf, xmlDoc *doc,
                                  struct plt_error *err)
{
    const xmlNode *const root = xmlDocGetRootElement(doc);
    enum plt_status st = PLT_OK;

    if (doc->intSubset || doc->extSubset)
        return plt_fail(err, PLT_CORRUPT, "an OVF with a DTD");
    if (!root || !is_named(root, "Envelope"))
        return plt_fail(err, PLT_CORRUPT, "no OVF envelope");
    const xmlNode *const references = child_named(root, "References");
    const xmlNode *const section = child_named(root, "DiskSection");
    for (const xmlNode *d = section ? section->children : NULL;
         d && st == PLT_OK; d = d->next) {
        if (is_named(d, "Disk"))
            st = add_disk(ovf, references, d, err);
    }
    return st;
}

enum plt_status tar_ovf_parse(struct tar_ovf *out, const uint8_t *text,
                              size_t n, struct plt_error *err)
{
    *out = (struct tar_ovf){.v = NULL};
    if (n > TAR_MAX_OVF)
        return plt_fail(err, PLT_CORRUPT, "an OVF of %zu bytes", n);
    (void)pthread_once(&is_prepared, prepare);
    /* No network, no entities, no DTD: those are the defaults, and NONET. */
    xmlDoc *const doc =
        xmlReadMemory((const char *)text, (int)n, NULL, NULL,
                      XML_PARSE_NONET | XML_PARSE_NOERROR |
                          XML_PARSE_NOWARNING | XML_PARSE_NOBLANKS);
    if (!doc)
        return plt_fail(err, PLT_CORRUPT, "an OVF that is no XML");
    const enum plt_status st = take_disks(out, doc, err);
    xmlFreeDoc(doc);
    if (st != PLT_OK)
        tar_ovf_release(out);
    return st;
}

void tar_ovf_release(struct tar_ovf *ovf)
{
    for (size_t i = 0; i < ovf->n; i++) {
        free(ovf->v[i].href);
        free(ovf->v[i].format);
        free(ovf->v[i].compression);
    }
    free(ovf->v);
    *ovf = (struct tar_ovf){.v = NULL};
}
