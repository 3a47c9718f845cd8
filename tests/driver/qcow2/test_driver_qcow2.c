/* SPDX-License-Identifier: Apache-2.0 */
/* Images by qemu-img; the oracle is what qemu-img itself converts back. */
#include "drive.h"

Test(qcow2, random_spans_equal_what_qemu_img_converts)
{
    static const char *const files[] = {"v2.qcow2", "v3.qcow2", "zlib.qcow2",
                                        "zstd.qcow2"};
    char dir[] = "/tmp/driver_qcow2.XXXXXX";
    make_files(dir,
               "head -c 70000 /dev/urandom >d; yes text | head -c 300000 >>d;"
               "truncate -s 1M d;"
               "q='qemu-img convert -f raw -O qcow2';"
               "$q -o compat=0.10,cluster_size=512 d v2.qcow2;"
               "$q -o compat=1.1 d v3.qcow2; $q -c d zlib.qcow2;"
               "$q -c -o compression_type=zstd d zstd.qcow2;"
               "qemu-io -c 'write -z 65536 131072' v3.qcow2 >out;"
               "for i in v2 v3 zlib zstd; do"
               " qemu-img convert -O raw $i.qcow2 $i.raw; done");
    for (size_t i = 0; i < 4; i++) {
        char raw[32];
        (void)snprintf(raw, sizeof(raw), "%.*s.raw",
                       (int)(strlen(files[i]) - 6), files[i]);
        struct bytes want = load(dir, raw);
        n_lent = 0;
        same_as(dir, files[i], want, 2 << 20, true);
        cr_assert_geq(n_lent, 19, "%s: %u lent", files[i], n_lent);
        same_as(dir, files[i], want, 0, false);
        free(want.p);
    }
    remove_files(dir);
}
