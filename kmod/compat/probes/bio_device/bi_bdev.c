// SPDX-License-Identifier: GPL-2.0-only
/* 309dca309fc3 (5.12): a bio names its block device, partitions included. EL9 took it over. */
#include <linux/bio.h>
#include <linux/blkdev.h>

sector_t probe(struct bio *bio)
{
	return bio_flagged(bio, BIO_REMAPPED) ? 0 : bio->bi_bdev->bd_start_sect;
}
