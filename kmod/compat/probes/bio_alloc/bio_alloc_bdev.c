// SPDX-License-Identifier: GPL-2.0-only
/*
 * 49add4966d79, 609be1066731, abfc426d1b2f (5.18): bio_init(), bio_alloc_bioset() and the clone
 * take the device, the first two also the operation. EL9 took them over.
 */
#include <linux/bio.h>

struct bio *probe(struct bio *bio, struct block_device *bdev, struct bio_set *set)
{
	bio_init(bio, bdev, NULL, 0, REQ_OP_READ);
	bio = bio_alloc_bioset(bdev, 1, REQ_OP_READ, GFP_NOIO, set);
	return bio_alloc_clone(bdev, bio, GFP_NOIO, set);
}
