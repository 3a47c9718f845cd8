/* SPDX-License-Identifier: Apache-2.0 */
/* Archives by GNU tar, bsdtar and Python; the oracle is the file packed. */
#include "drive.h"

Test(tar, every_form_gives_the_file_that_was_packed)
{
    static const char *const files[] = {
        "v7.tar",  "ustar.tar", "gnu.tar", "pax.tar", "old-s.tar",
        "p00.tar", "p01.tar",   "p10.tar", "bsd.tar", "py.tar"};
    char dir[] = "/tmp/driver_tar.XXXXXX";
    make_files(dir,
               "head -c 5000 /dev/urandom >disk.raw;"
               "for i in 1 2 3 4 5 6 7 8; do head -c 4096 /dev/urandom | "
               "dd of=disk.raw bs=4096 seek=$((i * 9)) conv=notrunc; done;"
               "truncate -s 400001 disk.raw;"
               "for f in v7 ustar gnu pax; do"
               " tar --format=$f -cf $f.tar disk.raw; done;"
               "tar --format=oldgnu -Scf old-s.tar disk.raw;"
               "tar --format=pax --sparse-version=0.0 -Scf p00.tar disk.raw;"
               "tar --format=pax --sparse-version=0.1 -Scf p01.tar disk.raw;"
               "tar --format=pax --sparse-version=1.0 -Scf p10.tar disk.raw;"
               "bsdtar -cf bsd.tar disk.raw;"
               "python3 -m tarfile -c py.tar disk.raw");
    struct bytes want = load(dir, "disk.raw");
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        same_as(dir, files[i], want, 1 << 20, true);
    cr_assert_geq(n_lent, 20 * sizeof(files) / sizeof(files[0]));
    free(want.p);
    remove_files(dir);
}

Test(tar, a_cut_at_every_512_is_an_error_or_the_right_bytes)
{
    char dir[] = "/tmp/driver_tar.XXXXXX";
    make_files(dir, "head -c 9000 /dev/urandom >disk.raw;"
                    "tar --format=pax -b 1 -cf a.tar disk.raw");
    struct bytes want = load(dir, "disk.raw"), tar = load(dir, "a.tar");
    uint8_t got[9000];
    for (size_t n = 0; n < tar.n; n += 512) {
        struct memhost *const h = memhost_new(1 << 20, NULL);
        struct memchild child;
        struct plt_opened opened;
        struct plt_error err = {0};
        void *image = NULL;
        memchild_init(&child, tar.p, n);
        if (memhost_open(h, &platter_driver, &child.child, 0, &image, &opened,
                         &err, (const char *)NULL) == PLT_OK) {
            if (memhost_read(&platter_driver, image, got, 0, want.n, &err) ==
                PLT_OK)
                cr_assert_eq(memcmp(got, want.p, want.n), 0, "cut at %zu", n);
            platter_driver.close(image);
        }
        memhost_free(h);
    }
    free(tar.p);
    free(want.p);
    remove_files(dir);
}
