/* SPDX-License-Identifier: Apache-2.0 */
/* C23's checked arithmetic for C11 and C17: true means it overflowed.  The day
 * every compiler has <stdckdint.h>, this file is one #include. */
#ifndef PLATTER_CKD_H
#define PLATTER_CKD_H

#ifndef ckd_add
#define ckd_add(r, a, b) __builtin_add_overflow((a), (b), (r))
#define ckd_sub(r, a, b) __builtin_sub_overflow((a), (b), (r))
#define ckd_mul(r, a, b) __builtin_mul_overflow((a), (b), (r))
#endif

#endif
