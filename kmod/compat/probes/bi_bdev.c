// SPDX-License-Identifier: GPL-2.0-only
/* 309dca309fc3 (5.12): a bio names its block device, partitions included */
#include <linux/blk_types.h>

struct block_device *probe(struct bio *bio)
{
	return bio->bi_bdev;
}
