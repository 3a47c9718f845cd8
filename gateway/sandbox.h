/* SPDX-License-Identifier: Apache-2.0 */
/* What this process can still do when somebody else's code runs in it.
 *
 * Files (Landlock, landlock(7)): below the state folder all; below local
 * origins, plugin folders, the configuration, the secrets and what resolving a
 * name and checking a certificate need, reading; nothing else, whoever owns it.
 * Nothing is executed.  TCP is bound at the configured ports alone.
 * Calls (seccomp, seccomp(2)): a list of those that serving needs; any other
 * fails with EPERM, those that only an intruder makes end the process.
 *
 * What a reload brings beyond that is not reached: it is told, and needs a
 * restart. */
#ifndef GATEWAY_SANDBOX_H
#define GATEWAY_SANDBOX_H

#include <stdbool.h>

#include <platter/error.h>

#include "config.h"

/* Once, before any other thread starts; there is no way out.  The state folder
 * is made when it is not there.  PLT_OK also where the kernel has no sandbox
 * and the configuration does not require one; the log says what there is. */
enum plt_status sandbox_enter(const struct config *config,
                              struct plt_error *err);
/* Is there anything that a reload brings and that is out of reach?  Its name,
 * borrowed from config; NULL: nothing. */
const char *sandbox_misses(const struct config *config);

/* sandbox_calls.c: the list of calls.  False: errno. */
bool sandbox_limit_calls(void);

#endif
