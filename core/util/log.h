/* SPDX-License-Identifier: Apache-2.0 */
/* One event, one line, key=value, on standard error.
 *
 *     level=info event=stack_opened image=demo/x.tar.gz size=1073741824
 *
 * Untrusted text is escaped here and nowhere else: anything but printable ASCII
 * becomes \xNN, and a value with a space, a quote, a backslash or '=' is
 * quoted. URLs lose user, password, query and fragment (log_url).  A line is
 * written by one write(2), so lines of several threads never mix.  Threads:
 * any. */
#ifndef UTIL_LOG_H
#define UTIL_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level {
    LOG_ERROR,
    LOG_WARN,
    LOG_INFO,
    LOG_DEBUG,
    LOG_ALWAYS /* of a line: whatever the level is; reads as info */
};

/* Lines above this level are dropped.  Default LOG_INFO. */
void log_set_level(enum log_level level);
/* File descriptor to write to; default 2. */
void log_set_fd(int fd);

/* A line being built, on the caller's stack; too long a line is cut and says
 * so (cut=1).
 *     struct log_line l;
 *     log_begin(&l, LOG_WARN, "read_failed");
 *     log_text(&l, "image", name);
 *     log_end(&l);                                                       */
struct log_line {
    enum log_level level;
    size_t len;
    bool is_cut;
    bool is_dropped; /* above the level: nothing is put into it */
    char text[2048];
};
void log_begin(struct log_line *line, enum log_level level, const char *event);
void log_text(struct log_line *line, const char *key, const char *value);
void log_number(struct log_line *line, const char *key, uint64_t value);
void log_signed(struct log_line *line, const char *key, int64_t value);
void log_hex(struct log_line *line, const char *key, uint64_t value);
void log_url(struct log_line *line, const char *key, const char *url);
void log_end(struct log_line *line);

/* url without user, password, query and fragment, into out. */
void log_redact_url(const char *url, char *out, size_t cap);

#endif
