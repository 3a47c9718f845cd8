/* SPDX-License-Identifier: Apache-2.0 */
/* A window over bytes; the oracle is the slice. */
#include "drive.h"

Test(raw, a_window_reads_and_lends_its_slice)
{
    enum { SIZE = 100000, OFF = 4097, LEN = 70001 };
    struct memhost *const h = memhost_new(1 << 20, NULL);
    struct memchild child;
    struct plt_opened opened;
    struct plt_error err = {0};
    void *image = NULL;
    uint8_t *const data = malloc(SIZE);

    cr_assert(data);
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (uint8_t)(i * i >> 7);
    memchild_init(&child, data, SIZE);
    cr_assert_eq(memhost_open(h, &platter_driver, &child.child, 0, &image,
                              &opened, &err, "offset=4097", "size=70001",
                              (const char *)NULL),
                 PLT_OK, "%s", err.text);
    cr_assert_eq(opened.size, LEN);
    same_spans(image, (struct bytes){data + OFF, LEN}, 20, "not lent");
    cr_assert_eq(n_lent, 0);
    child.lends = true;
    same_spans(image, (struct bytes){data + OFF, LEN}, 20, "lent");
    cr_assert_eq(n_lent, 20);
    /* a child of an older core has no such call */
    child.child.struct_size = (uint32_t)offsetof(struct plt_child, lend);
    same_spans(image, (struct bytes){data + OFF, LEN}, 20, "older");
    cr_assert_eq(n_lent, 20);
    platter_driver.close(image);
    memhost_free(h);
    free(data);
}
