/* SPDX-License-Identifier: Apache-2.0 */
/* Streams by gzip, pigz, bgzip and dictzip; the oracle is what was packed. */
#include "drive.h"

Test(gzip, any_span_equals_the_slice)
{
    static const char *const files[] = {"d.gz", "pigz.gz", "pigz-i.gz",
                                        "bgzf.gz", "d.dz"};
    char dir[] = "/tmp/driver_gzip.XXXXXX";
    make_files(dir, "head -c 3000000 /dev/urandom | base64 >d;"
                    "head -c 900000 /dev/zero >>d; echo end >>d;"
                    "gzip -kN d; pigz -c d >pigz.gz; pigz -ic d >pigz-i.gz;"
                    "bgzip -c d >bgzf.gz; dictzip -k d");
    struct bytes want = load(dir, "d");
    for (size_t i = 0; i < 5; i++) {
        n_lent = 0;
        same_as(dir, files[i], want, 16 << 20, false);
        cr_assert_geq(n_lent, 19, "%s: %u lent", files[i], n_lent);
        same_as(dir, files[i], want, 0, false);
    }
    free(want.p);
    remove_files(dir);
}
