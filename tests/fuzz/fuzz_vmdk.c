/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors, headers of all kinds, directories, tables, compressed grains,
 * streams that are walked; no other file is given, so images of several files
 * are refused once they are parsed. */
#include "fuzz_drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_drive(data, size, NULL);
    return 0;
}
