/* SPDX-License-Identifier: Apache-2.0 */
/* A name that no spec could say. */
#include "module.h"

PLT_DRIVER(MODULE_PARTS("Bad{Name"))
