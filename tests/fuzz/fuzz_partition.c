/* SPDX-License-Identifier: Apache-2.0 */
/* Partition tables and the first bytes of file systems.  A GPT is guarded by
 * checksums that no mutation survives: each input is tried as it is and with
 * its checksums made right. */
#include <libdeflate.h>

#include <platter/bytes.h>

#include "fuzz_drive.h"

static void open_both(const uint8_t *data, size_t size)
{
    static const char *const numbers[] = {"number=1", "number=2", "number=5",
                                          "number=128"};
    struct memchild child;
    struct plt_error err = {0};
    struct plt_opened opened;
    char unused[64];
    void *image = NULL;

    memchild_init(&child, data, size);
    for (size_t i = 0; i < 5; i++) {
        struct memhost *const h = memhost_new(FUZZ_CACHE, NULL);
        const bool is_list = i == 4;
        if (memhost_open(h, &platter_driver, &child.child,
                         is_list ? PLT_OPEN_LIST : 0, &image, &opened, &err,
                         is_list ? NULL : numbers[i],
                         (const char *)NULL) == PLT_OK) {
            FUZZ_MUST(!is_list || opened.size == 0);
            if (is_list)
                fuzz_describe(image, 0, unused);
            else
                fuzz_image(h, image, opened.size);
            platter_driver.close(image);
        }
        memhost_free(h);
    }
}

/* Make the checksums of a header at `at` say what is there. */
static void mend(uint8_t *data, size_t size, size_t at, size_t sector)
{
    if (at + sector > size || memcmp(data + at, "EFI PART", 8) != 0)
        return;
    uint8_t *const h = data + at;
    const uint64_t array = plt_le64(h + 72), n = plt_le32(h + 80);
    const uint64_t entry = plt_le32(h + 84), len = plt_le32(h + 12);
    if (array < size / sector && entry <= 4096 && n <= 4096 &&
        n * entry <= size - array * sector)
        plt_put_le32(h + 88, libdeflate_crc32(0, data + array * sector,
                                              (size_t)(n * entry)));
    plt_put_le32(h + 16, 0);
    if (len <= sector)
        plt_put_le32(h + 16, libdeflate_crc32(0, h, (size_t)len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    open_both(data, size);
    if (size < 1024)
        return 0;
    uint8_t *const copy = malloc(size);
    memcpy(copy, data, size);
    for (size_t sector = 512; sector <= 4096 && size >= 2 * sector;
         sector *= 8) {
        mend(copy, size, sector, sector);
        mend(copy, size, (size / sector - 1) * sector, sector);
    }
    open_both(copy, size);
    free(copy);
    return 0;
}
