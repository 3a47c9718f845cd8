/* SPDX-License-Identifier: Apache-2.0 */
/* The driver of provided disks: for stack.c and provided.c alone. */
#ifndef STACK_PROVIDED_INSIDE_H
#define STACK_PROVIDED_INSIDE_H

#include "stack/provided.h"

extern const struct plt_driver provided_driver;

#endif
