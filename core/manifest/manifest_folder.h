/* SPDX-License-Identifier: Apache-2.0 */
/* The folder "manifests" of a state folder: names, and what goes when there is
 * too much.  Threads: any, one at a time for one folder. */
#ifndef MANIFEST_MANIFEST_FOLDER_H
#define MANIFEST_MANIFEST_FOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include <platter/error.h>

#include "util/check.h"

enum { MANIFEST_FILE_NAME = 96 };

/* A descriptor of its own in *dir; the folder is made when it is not there. */
PLT_MUST_USE MAY_WAIT enum plt_status
manifest_folder_open(const char *state_dir, int *dir, struct plt_error *err);
/* The name for an ETag, its hexadecimal digits.  False: it is of another shape,
 * and nothing is kept of it. */
bool manifest_folder_name(const char *etag, char out[MANIFEST_FILE_NAME]);
/* It has been used just now. */
MAY_WAIT void manifest_folder_touch(int dir, const char *name);
/* It, and what was derived from it: NAME.* */
MAY_WAIT void manifest_folder_remove(int dir, const char *name);
/* What was used longest ago goes until there are at most so many files, of so
 * many bytes on the disk together; never `keep`. */
MAY_WAIT void manifest_folder_prune(int dir, uint64_t most, uint64_t bytes,
                                    const char *keep);

#endif
