/* SPDX-License-Identifier: Apache-2.0 */
/* Headers, PAX records, sparse maps of every form; and the list of members. */
#include "fuzz_drive.h"

static bool any_member(void *cookie, const struct plt_member *member)
{
    FUZZ_MUST(member->name && strlen(member->name) < FUZZ_READ_MAX);
    return ++*(unsigned *)cookie < FUZZ_EXTENTS;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memchild child;
    struct plt_error err = {0};
    struct plt_opened opened;
    void *image = NULL;
    struct memhost *const h = memhost_new(FUZZ_CACHE, NULL);
    unsigned n = 0;

    memchild_init(&child, data, size);
    if (memhost_open(h, &platter_driver, &child.child, PLT_OPEN_LIST, &image,
                     &opened, &err, (const char *)NULL) == PLT_OK) {
        (void)platter_driver.members(image, memhost_io(), any_member, &n, &err);
        platter_driver.close(image);
    }
    if (memhost_open(h, &platter_driver, &child.child, 0, &image, &opened, &err,
                     "member=a.txt", (const char *)NULL) == PLT_OK) {
        fuzz_image(h, image, opened.size);
        platter_driver.close(image);
    }
    memhost_free(h);
    fuzz_drive(data, size, NULL);
    return 0;
}
