/* SPDX-License-Identifier: Apache-2.0 */
/* What all open layers of one driver have in common: one object a driver, made
 * for the first that asks and destroyed with the last.  Threads: any. */
#ifndef STACK_SHARES_H
#define STACK_SHARES_H

#include <platter/driver.h>

struct shares;

struct shares *shares_new(void); /* new, or NULL */
/* Everything was put back. */
void shares_free(struct shares *shares);

/* NULL: make() gave nothing, or too many drivers ask. */
void *shares_get(struct shares *shares, const struct plt_driver *driver,
                 void *(*make)(void), void (*destroy)(void *object));
void shares_put(struct shares *shares, const struct plt_driver *driver);

#endif
