/* SPDX-License-Identifier: Apache-2.0 */
/* The OVF of an OVA. */
#include "tar_ovf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tar_ovf ovf;
    struct plt_error err;

    if (tar_ovf_parse(&ovf, data, size, &err) == PLT_OK)
        tar_ovf_release(&ovf);
    return 0;
}
