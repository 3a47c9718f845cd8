/* SPDX-License-Identifier: Apache-2.0 */
#include "multipart.h"

#include <stdio.h>
#include <stdlib.h>

struct multipart *multipart_new(const struct range *spans, size_t n,
                                uint64_t size, const char *boundary)
{
    struct multipart *const m = malloc(sizeof(*m) + n * sizeof(m->parts[0]));

    if (!m)
        return NULL;
    m->n = n;
    m->tail_len = (size_t)snprintf(m->tail, sizeof(m->tail), "\r\n--%.*s--\r\n",
                                   MULTIPART_BOUNDARY, boundary);
    m->len = m->tail_len;
    for (size_t i = 0; i < n; i++) {
        struct part *const p = &m->parts[i];
        p->span = spans[i];
        /* The first begins with a line break as well, as nginx's and Apache's
         * do (an empty preamble): zsync counts on it. */
        p->head_len = (size_t)snprintf(
            p->head, sizeof(p->head),
            "\r\n--%.*s\r\nContent-Type: application/octet-stream\r\n"
            "Content-Range: bytes %llu-%llu/%llu\r\n\r\n",
            MULTIPART_BOUNDARY, boundary, (unsigned long long)spans[i].first,
            (unsigned long long)spans[i].last, (unsigned long long)size);
        m->len += p->head_len + (spans[i].last - spans[i].first + 1);
    }
    return m;
}
