/* SPDX-License-Identifier: Apache-2.0 */
/* Header, extensions, L1 and L2 tables, compressed clusters; no backing file is
 * given, so images that name one are refused. */
#include "fuzz_drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_drive(data, size, NULL);
    return 0;
}
