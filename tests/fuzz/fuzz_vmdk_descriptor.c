/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptor alone. */
#include "vmdk_descriptor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vmdk_descriptor d;
    struct plt_error err;

    if (vmdk_descriptor_parse(&d, data, size, &err) == PLT_OK)
        vmdk_descriptor_release(&d);
    return 0;
}
