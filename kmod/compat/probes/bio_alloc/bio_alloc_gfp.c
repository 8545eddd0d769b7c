// SPDX-License-Identifier: GPL-2.0-only
/* before 49add4966d79, 609be1066731, abfc426d1b2f (5.18); EL8 */
#include <linux/bio.h>

struct bio *probe(struct bio *bio, struct block_device *bdev, struct bio_set *set)
{
	bio_init(bio, NULL, 0);
	bio = bio_alloc_bioset(GFP_NOIO, 1, set);
	bio_set_dev(bio, bdev);
	return bio_clone_fast(bio, GFP_NOIO, set);
}
