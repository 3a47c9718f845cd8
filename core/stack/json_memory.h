/* SPDX-License-Identifier: Apache-2.0 */
/* jansson without memory.  It says so with -1 or NULL at each of hundreds of
 * calls, and a document that lost a field looks whole.  So its allocations are
 * watched instead: whoever makes a document compares the count before with the
 * count behind.
 *
 * Text is parsed by json_memory_parse() alone: jansson 2.14 loses a character
 * that it has no memory for, and when that is the quote that ends a text,
 * writes on behind its buffer. */
#ifndef STACK_JSON_MEMORY_H
#define STACK_JSON_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

/* Watch from here on.  Once, before there are threads. */
void json_memory_watch(void);

/* Count them as well: take is asked for each piece, in usable bytes, and there
 * is none when it says false; give gives them back.  Both from any thread.
 * NULL: no more.  Before there are threads, or when they have ended; pieces of
 * before must have been given back. */
typedef bool json_memory_take(size_t bytes);
typedef void json_memory_give(size_t bytes);
void json_memory_count(json_memory_take *take, json_memory_give *give);

/* Allocations of jansson's that have failed on this thread so far.
 * Threads: any. */
uint64_t json_memory_lost(void);

/* As json_loadb(); new.  NULL with another json_memory_lost() than before: for
 * want of memory.  why: may be NULL.  Threads: any. */
json_t *json_memory_parse(const char *text, size_t len, size_t flags,
                          json_error_t *why);

#endif
