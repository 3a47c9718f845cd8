/* SPDX-License-Identifier: Apache-2.0 */
/* The header parser by itself (no byte behind n may count), then the driver:
 * dictzip tables, the front, restart points, members. */
#include "fuzz_drive.h"
#include "gzip_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gzip_header head;

    if (gzip_header_parse(data, size, &head) == GZIP_PARSED) {
        size_t len = 0;
        FUZZ_MUST(head.len <= size && head.len >= 10);
        const uint8_t *const sub = gzip_header_subfield(&head, 'R', 'A', &len);
        FUZZ_MUST(!sub || (sub >= head.extra && len <= head.extra_len));
    }
    fuzz_drive(data, size, NULL);
    return 0;
}
