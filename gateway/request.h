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

#include "access.h"
#include "budgets.h"
#include "content.h"
#include "errors.h"
#include "manifest/manifests.h"
#include "manifest/manifest_pack.h"
#include "multipart.h"
#include "precondition.h"
#include "range.h"
#include "server.h"
#include "stack/image_loan.h"
#include "watch.h"

/* What comes first, before the status line is sent: an error in it still has a
 * status of its own. */
enum { FIRST_PIECE = 256 * 1024 };

/* An answer of several ranges is read at once, in one vectored read, up to
 * this; a longer one part by part. */
enum { MULTI_PIECE = 1024 * 1024 };

/* Pieces up to this are not counted as memory held for clients: what every
 * answer needs to move at all. */
enum { PIECE_SMALL = 64 * 1024 };

enum {
    REQUEST_ID = 65,              /* with its NUL */
    MAX_BODY = 64 * 1024,         /* of a POST; beyond it 413 */
    MAX_TRACE_BODY = 1024 * 1024, /* of a boot trace */
    MAX_DRAIN = 1024 * 1024       /* a body that means nothing is read so far */
};

struct route;

/* offset= and limit= of a list (query.h), rows. */
struct list_page {
    size_t first, most;
};

/* Of a manifest. */
enum manifest_part {
    PART_HEAD,
    PART_GROUPS,
    PART_LEAVES,
    PART_PREFIXES,
    PART_SIGNATURE,
    PART_SOURCES,
    PART_BMAP, /* and on: by format= */
    PART_RAUC,
    PART_ZSYNC,
    PART_CAIBX,
    PART_CHUNK /* of caibx */
};

enum { PEER_TEXT = 64 };

/* Who is at the other end of a connection. */
struct peer {
    char text[PEER_TEXT]; /* ADDR:PORT or [ADDR]:PORT */
    uint64_t number;      /* of the address, without the port */
    bool is_loopback;     /* or a unix socket */
    bool is_unix, is_tls;
    /* of TLS: what the client's certificate says it is (tls.h), when it was
     * asked for first; by the event thread alone */
    bool has_names, is_untrusted;
    char *names; /* new, or NULL */
    /* Whose budgets: of an IPv4 address, of the /64 of an IPv6 one */
    uint64_t share;
    bool is_counted; /* among its client's connections */
    struct watched watched;
};
/* Once for a connection, whose socket context it is; NULL without memory. */
struct peer *peer_new(const struct server *server,
                      struct MHD_Connection *connection);
void peer_free(struct peer *peer); /* NULL is fine */

struct request {
    _Atomic unsigned refs;
    struct server *server;
    struct MHD_Connection *connection;
    char id[REQUEST_ID];       /* the client's own, when it is well formed */
    char boundary[17];         /* request_boundary(); "": not yet made */
    char *path, *query;        /* raw; query NULL: none */
    const struct route *route; /* NULL: none */
    char method[16];
    char client[PEER_TEXT];
    uint64_t client_number; /* of its address, without the port */
    uint64_t share;         /* whose budgets */
    struct peer *peer;      /* borrowed; event thread, until completion */
    uint64_t start_ns;
    bool has_begun;       /* the handler has seen it */
    bool has_no_memory;   /* for a part of it */
    bool has_lost_header; /* answer_header() */
    /* json_memory_lost() when this thread began with it */
    uint64_t json_lost;
    bool is_untimed; /* the watch alone looks at how it is sent */
    bool is_last;    /* nothing more is read on its connection */
    bool has_dispatched;
    uint64_t body_len; /* of what the client sent */
    char *body;        /* of a POST; new */
    bool is_head, is_loopback, is_unix, is_tls;
    /* of access.h; who is borrowed from the configuration, NULL: nobody known
     */
    struct signature signature;
    enum access_verdict verdict;
    const char *who;
    const char *challenge; /* of a 401; static */

    /* headers, copied */
    char *range;
    char *if_match, *if_none_match, *if_modified_since, *if_unmodified_since,
        *if_range;
    char *want_content_digest, *want_repr_digest, *origin, *content_type,
        *accept, *authorization;
    bool wants_events;    /* Accept names text/event-stream */
    char traceparent[56]; /* for origins; "": none */

    struct reference reference;
    struct image *image;
    struct content *content; /* what is served instead of its disk; new */
    enum manifest_part part;
    size_t part_len;                /* of the path's end that names it */
    uint8_t chunk[MANIFEST_DIGEST]; /* which, of PART_CHUNK */
    /* of /v1/blocks */
    manifest_digest root;
    uint64_t block_number;      /* or the list's first leaf's */
    struct manifest_pick *list; /* leaves instead of a block; new, or NULL */
    bool is_packed;             /* as a frame of zstd */
    /* of /v1/files */
    char *folder;          /* "ORIGIN/PATH/", decoded; new */
    struct access_own own; /* by which its asker may see it; v is new */
    char *prefix;          /* of names; new */
    struct list_page page;
    bool is_short; /* there are more than are listed */
    struct reference others[MANIFESTS_CANDIDATES]; /* that may have it too */
    size_t n_others;
    bool is_private;  /* its asker has shown something */
    bool has_entered; /* counted among those who wait for the image */
    bool has_place;   /* admission_enter */
    uint64_t image_number, origin_number; /* budgets_number; 0: none */
    enum budget over;                     /* why it was refused */
    size_t held; /* bytes of budgets_memory_take: body and piece */

    /* the result of a job */
    bool is_ready;
    struct plt_error err;    /* status OK: none */
    struct error_told *told; /* what a problem document said; new, or NULL */
    json_t *choices, *json;
    char *text; /* json as it is sent; new, json_text_free */
    /* the decision on a disk request */
    unsigned status;
    uint64_t size, first, last;
    struct multipart *multi; /* several ranges; NULL: first to last; new */
    uint8_t *piece;          /* its first bytes; new */
    size_t piece_len;
    struct loan *loan;  /* or all of it, where it lies in memory; new */
    bool is_foreign;    /* piece: an index in another tool's form */
    char *link;         /* of a page: where the next one is; or NULL; new */
    bool has_total;     /* of a page: the next is told */
    size_t total;       /* rows of the whole list */
    char location[96];  /* of what was made; "" */
    bool is_dense;      /* json: without spaces, it is for programs */
    bool has_validator; /* text will have one: extents_validate() */
    char etag[IMAGE_ETAG + 16]; /* of text; "": none */

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
/* 16 hexadecimal digits that nobody can guess, the same for this request: no
 * image can hold the boundary of its own parts. */
const char *request_boundary(struct request *request);
/* Copy method, headers and client of the connection. */
void request_begin(struct request *request, struct MHD_Connection *connection,
                   const char *method);
/* flags: PLT_IO_*; the deadline is a whole new one. */
void request_io_init(struct request_io *io, struct request *request,
                     uint32_t flags);

/* So many bytes more are held for its client, until the request's end; false:
 * over the budget. */
bool request_hold(struct request *request, size_t bytes);
void request_let_go(struct request *request); /* all of it */
/* A job for the workers, in the request's name.  is_owed: workers_owner. */
bool request_work(struct request *request, workers_fn *fn, void *cookie,
                  bool is_owed);

/* Suspend and run fn on a worker; it must call request_resume.  When it is one
 * too many, or no worker is free, the request is ready at once, with PLT_BUSY.
 */
void request_submit(struct request *request, workers_fn *fn);
/* On the worker: the result is in place. */
void request_resume(struct request *request);

/* Answer, or submit; called again once is_ready. */
/* handle_disk.c */
enum MHD_Result handle_disk(struct request *request);
/* handle_manifest.c */
/* What the path's end or format= names; the end is then no part of the
 * reference. */
PLT_MUST_USE enum plt_status manifest_take_part(struct request *request);
enum MHD_Result handle_manifest(struct request *request);
enum MHD_Result handle_block(struct request *request);
/* handle_json.c */
enum MHD_Result handle_image_json(struct request *request);
/* handle_extents.c: on the worker, request->json for the open image. */
PLT_MUST_USE enum plt_status extents_job(struct request *request,
                                         struct plt_io *io);
/* What is in memory is asked for, and the image is open: it is the request's.
 * What is asked each second does not have a source asked each time. */
bool extents_look(struct request *request);
/* On the worker: the validator of request->text; false without memory. */
bool extents_validate(struct request *request);
/* The text under its validator, or 304, 412. */
enum MHD_Result answer_extents(struct request *request);
enum MHD_Result handle_origins(struct request *request);
enum MHD_Result handle_images(struct request *request);
enum MHD_Result handle_image(struct request *request);
enum MHD_Result handle_health(struct request *request);
enum MHD_Result handle_ready(struct request *request);
enum MHD_Result handle_openapi(struct request *request);
/* handle_web.c: the page, and its files */
enum MHD_Result handle_index(struct request *request);
enum MHD_Result handle_web(struct request *request);
/* handle_json.c */
enum MHD_Result handle_errors(struct request *request);
/* handle_files.c */
/* Which folder, before it is asked whether its asker may. */
PLT_MUST_USE enum plt_status files_take(struct request *request);
enum MHD_Result handle_files(struct request *request);
/* handle_trace.c: boot traces, prefetches */
enum MHD_Result handle_trace(struct request *request);
/* handle_mirrors.c */
enum MHD_Result handle_mirrors(struct request *request);
enum MHD_Result handle_mirror(struct request *request);
enum MHD_Result handle_mirror_events(struct request *request);
/* handle_images.c: the body says that it is JSON. */
bool request_is_json(const struct request *request);
/* handle_metrics.c */
enum MHD_Result handle_metrics(struct request *request);

/* answer.c */
/* Add a header field.  Without memory for it the request is answered 503. */
void answer_header(struct request *request, struct MHD_Response *response,
                   const char *name, const char *value);
/* Queue a response that is then destroyed; headers common to all are added.
 * NULL, for want of memory: 503 instead. */
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
/* The same of its text out of json_dumps, which is consumed. */
enum MHD_Result answer_json_text(struct request *request, unsigned status,
                                 char *text, const char *type);
enum MHD_Result answer_text(struct request *request, unsigned status,
                            const char *type, const char *text);

/* The problem document of err; choices may be NULL.  new, NULL without memory.
 */
json_t *answer_document(const struct request *request,
                        const struct plt_error *err);

/* events.c: run job on a worker and answer with its progress, then with the
 * JSON that it leaves in request->json, or request->err. */
typedef enum plt_status events_job(struct request *request, struct plt_io *io,
                                   image_progress_fn *progress, void *cookie);
enum MHD_Result answer_events(struct request *request, events_job *job);
/* From a job, with the cookie of its progress: an event of that name with a
 * document; of those that the client is too slow for, some are left out. */
void events_tell(void *cookie, const char *name, json_t *value);

struct events;
/* The same without a job, for what lasts: give() gets a new reference to the
 * stream, and whoever has it then tells with events_tell and ends it.  False:
 * nobody takes it, and the answer is 503.  name, borrowed: of the last
 * event. */
typedef bool events_give(struct request *request, struct events *events);
enum MHD_Result answer_events_of(struct request *request, const char *name,
                                 events_give *give);
struct request *events_request(struct events *events); /* borrowed */
/* The client has gone; it was not ended yet. */
bool events_is_over(struct events *events);
/* An empty line, for who waits long: a client that is gone shows then. */
void events_keep(struct events *events);
/* The last event as after a job, from request->json or ->err.  Drops the
 * reference. */
void events_end(struct events *events, enum plt_status st);

/* tellers.c: events of mirrors, all by one thread. */
struct teller;
/* new; NULL without memory. */
struct teller *teller_new(struct server *server);
/* Who still listens is told the end, and later ones are refused; before
 * libmicrohttpd stops.  NULL is fine, here and below. */
void teller_stop(struct teller *teller);
void teller_free(struct teller *teller);
/* Answer with the events of the mirror that the path names. */
enum MHD_Result teller_answer(struct request *request);

/* body.c: the content of a disk answer that is longer than its first piece.
 * NULL without memory. */
struct MHD_Response *body_response(struct request *request);

/* piece.c */
/* Memory of at least len bytes, freed by free(3); NULL without memory. */
uint8_t *piece_new(size_t len);
/* All of an answer out of memory of piece_new(len), which is consumed; NULL
 * without memory, and nothing is. */
struct MHD_Response *piece_response(uint8_t *piece, size_t len);

/* lent.c */
/* The content of a disk answer, [off, off+len), as a loan of the request.
 * False: read it. */
bool lent_take(struct request *request, struct plt_io *io, uint64_t off,
               uint64_t len);
/* The response that is sent from the loan, which is consumed; NULL without
 * memory. */
struct MHD_Response *lent_response(struct request *request);

/* access_log.c: one line at the end of a request. */
void access_log(struct request *request, enum MHD_RequestTerminationCode end);

#endif
