/* SPDX-License-Identifier: Apache-2.0 */
/* An index that somebody has put beside the source: NAME.pltidx (our exported
 * form), NAME.gzidx (indexed_gzip), NAME.gzi (gztool).
 *
 * Looking costs a round trip for each name, and most sources have none.  So it
 * is looked once, by the front, and only when a reader waits for something far
 * ahead of it: who reads from the beginning on is served as fast without.
 *
 * Our own form is believed as far as the image is: it lies in the same folder,
 * so that whoever can forge it can forge the image.  Against accidents it names
 * the stream by its length and the checksums of its ends, which hold the last
 * member's CRC-32 and length, and has a CRC-32 of every block that is given
 * out. The others have nothing of the kind, and are proven (gzip_prove.h). */
#ifndef GZIP_SIDECAR_H
#define GZIP_SIDECAR_H

#include "gzip_image.h"

/* Lock held: somebody waits for what ends at `end`. */
void gzip_sidecar_want(struct gzip_image *gz, uint64_t end);

/* In the front.  True: there is one; end this pass and take it. */
bool gzip_sidecar_found(struct gzip_image *gz, struct plt_io *io);

/* Nothing is being decoded: take what was found.  True: the end is known. */
bool gzip_sidecar_take(struct gzip_image *gz);

void gzip_sidecar_release(struct gzip_image *gz);

#endif
