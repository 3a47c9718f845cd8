/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP request, from its first line to its completion.
 *
 * Counted: libmicrohttpd holds one reference, each job on a worker another, and
 * so does the body of an answer.  It carries the circumstances (struct plt_io)
 * under which its reads run: deadline, cancellation, costs.
 * Threads: fields belong to the event thread while the request is not
 * suspended, and to the worker while it is; the atomics to anybody. */
#ifndef GATEWAY_REQUEST_H
#define GATEWAY_REQUEST_H

#include <stdatomic.h>

#include <jansson.h>
#include <microhttpd.h>

#include "precondition.h"
#include "range.h"
#include "server.h"

/* What comes first, before the status line is sent: an error in it still has a
 * status of its own. */
enum { FIRST_PIECE = 256 * 1024 };

enum request_kind {
    KIND_NONE,
    KIND_DISK, /* /disk and /raw */
    KIND_INFO,
    KIND_MEMBERS,
    KIND_EXTENTS,
    KIND_SNAPSHOTS,
    KIND_CHECK
};

struct request {
    _Atomic unsigned refs;
    struct server *server;
    struct MHD_Connection *connection;
    char id[17];
    char *path, *query; /* raw; query NULL: none */
    char method[16];
    char client[64];
    uint64_t start_ns;
    bool has_begun; /* the handler has seen it */
    bool has_dispatched;
    uint64_t body_len; /* of what the client sent */
    bool is_head;

    /* headers, copied */
    char *range;
    char *if_match, *if_none_match, *if_modified_since, *if_unmodified_since,
        *if_range;

    enum request_kind kind;
    struct reference reference;
    struct image *image;
    bool has_entered; /* counted among those who wait for the image */

    /* the result of a job */
    bool is_ready;
    struct plt_error err; /* status OK: none */
    json_t *choices, *json;
    /* the decision on a disk request */
    unsigned status;
    uint64_t size, first, last;
    uint8_t *piece; /* its first bytes; new */
    size_t piece_len;

    atomic_bool is_gone; /* completed, or the client left */
    atomic_bool is_suspended;
    _Atomic uint64_t origin_bytes, peeked_ns;
    _Atomic uint32_t origin_requests;
    _Atomic uint64_t sent;
    int fd;
};

/* The circumstances of one wait of a request. */
struct request_io {
    struct plt_io io; /* first */
    struct request *request;
};

struct request *request_new(struct server *server, const char *raw_uri);
void request_ref(struct request *request);
void request_unref(struct request *request);
/* Copy method, headers and client of the connection. */
void request_begin(struct request *request, struct MHD_Connection *connection,
                   const char *method);
/* flags: PLT_IO_*; the deadline is a whole new one. */
void request_io_init(struct request_io *io, struct request *request,
                     uint32_t flags);

/* Suspend and run fn on a worker; it must call request_resume.  When there is
 * no worker free the request is ready at once, with PLT_BUSY. */
void request_submit(struct request *request, workers_fn *fn);
/* On the worker: the result is in place. */
void request_resume(struct request *request);

/* handle_disk.c: answer, or submit.  Called again once is_ready. */
enum MHD_Result handle_disk(struct request *request);
/* handle_json.c */
enum MHD_Result handle_image_json(struct request *request);
enum MHD_Result handle_origins(struct request *request);
enum MHD_Result handle_images(struct request *request);
enum MHD_Result handle_health(struct request *request);
enum MHD_Result handle_ready(struct request *request);
enum MHD_Result handle_metrics(struct request *request);
enum MHD_Result handle_index(struct request *request);

/* answer.c */
/* Queue a response that is then destroyed; headers common to all are added. */
enum MHD_Result answer_queue(struct request *request, unsigned status,
                             struct MHD_Response *response);
/* A problem document (RFC 9457) for err; choices may be NULL. */
enum MHD_Result answer_error(struct request *request,
                             const struct plt_error *err);
/* The same for what is wrong with the HTTP request itself. */
enum MHD_Result answer_problem(struct request *request, unsigned status,
                               const char *title, const char *detail);
enum MHD_Result answer_json(struct request *request, unsigned status,
                            json_t *value, const char *type);
enum MHD_Result answer_text(struct request *request, unsigned status,
                            const char *type, const char *text);

/* body.c: the content of a disk answer that is longer than its first piece.
 * NULL without memory. */
struct MHD_Response *body_response(struct request *request);

/* access_log.c: one line at the end of a request. */
void access_log(struct request *request, enum MHD_RequestTerminationCode end);

#endif
