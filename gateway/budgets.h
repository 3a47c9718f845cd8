/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets: what one client, one image, one origin and all of them together may
 * take, how often each was exceeded, and the line in the log that says so.
 *
 * A budget has one name: its key in the configuration where it has one, the
 * label in /metrics and the word in the log.  SECURITY.md has the table of
 * them.
 *
 * Owners (clients, images, origins) are told apart by a number out of
 * budgets_number().  Their counts are in a table of fixed size, each in two
 * places of it: an owner is over its budget when both are.  So no owner costs
 * memory or a lock, however many there are, and two that fall together in one
 * place do not in the other.
 * Threads: any. */
#ifndef GATEWAY_BUDGETS_H
#define GATEWAY_BUDGETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum budget {
    BUDGET_CONNECTIONS,        /* of one client */
    BUDGET_WAITING_PER_CLIENT, /* requests on workers, or waiting for one */
    BUDGET_WAITING_PER_IMAGE,
    BUDGET_WAITING_PER_ORIGIN,
    BUDGET_WORKERS,        /* the queue of all */
    BUDGET_OPEN,           /* images open, all in use */
    BUDGET_CACHE,          /* no memory for tables or reads */
    BUDGET_CLIENT_MEMORY,  /* held for clients */
    BUDGET_DEADLINE,       /* of one wait for a source */
    BUDGET_CLIENT_TIMEOUT, /* a request that does not come, a reader that stops
                            */
    BUDGET_RATE,           /* a reader that is too slow */
    BUDGET_RANGES,
    BUDGET_BODY,
    BUDGET_HEADER,
    BUDGET_URL,
    BUDGETS,
    BUDGET_NONE = BUDGETS
};

/* What is counted, by owner. */
enum budgets_count {
    COUNT_CONNECTIONS, /* by client */
    COUNT_WAITING,     /* by client */
    COUNT_IMAGE,
    COUNT_ORIGIN,
    COUNT_MEMORY, /* KiB, by client */
    COUNTS
};

struct budgets;

/* memory: bytes that may be held for clients, budgets_memory_take.  new; NULL
 * without memory. */
struct budgets *budgets_new(uint64_t memory);
void budgets_free(struct budgets *budgets);
void budgets_set_memory(struct budgets *budgets, uint64_t memory);

const char *budget_name(enum budget budget);
/* Once for each refusal: counted, and logged with client and request id (NULL:
 * none), at most one line a second for each budget. */
void budgets_refuse(struct budgets *budgets, enum budget budget,
                    const char *client, const char *id);
uint64_t budgets_refused(const struct budgets *budgets, enum budget budget);

/* An owner's number, never 0, that nobody else can guess (a seed of this
 * process). */
uint64_t budgets_number(const struct budgets *budgets, const void *data,
                        size_t len);
/* One more of the owner's; false: it has `most`. */
bool budgets_enter(struct budgets *budgets, enum budgets_count count,
                   uint64_t owner, uint32_t most);
void budgets_leave(struct budgets *budgets, enum budgets_count count,
                   uint64_t owner);

/* Bytes held for a client: read for an answer and not sent yet, or of a body
 * that is not complete.  False: all of the budget is taken, or three quarters
 * by this client. */
bool budgets_memory_take(struct budgets *budgets, uint64_t client,
                         size_t bytes);
void budgets_memory_give(struct budgets *budgets, uint64_t client,
                         size_t bytes);
/* More than half is taken: who is slow is to hold less. */
bool budgets_memory_is_tight(const struct budgets *budgets);
uint64_t budgets_memory_used(const struct budgets *budgets);
uint64_t budgets_memory_most(const struct budgets *budgets);

/* From here on all memory of JSON values and texts is counted as held for
 * clients.  Once, before any thread starts; until budgets_free. */
void budgets_count_json(struct budgets *budgets);
/* Between the two, on this thread, JSON beyond the budget is refused.  End:
 * false when that happened; the value that was built lacks something then. */
void budgets_json_begin(void);
bool budgets_json_end(void);

#endif
