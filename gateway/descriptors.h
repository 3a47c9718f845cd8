/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors: connections get what files, origins and the state folder do not
 * need.  Beyond that a client waits in the kernel's queue; without it the
 * connections that are there would take the last one, and nobody's image could
 * be opened. */
#ifndef GATEWAY_DESCRIPTORS_H
#define GATEWAY_DESCRIPTORS_H

/* How many connections of `wanted` there may be, at least 16.  Raises the soft
 * limit of the process to what is needed, as far as the hard one allows; says
 * so in the log when that is too few.  At the start. */
unsigned descriptors_for_connections(unsigned wanted);

#endif
