// SPDX-License-Identifier: GPL-2.0-only
/* fa01b1e97356 (5.10): bdev_is_partition(). EL8 took it over. */
#include <linux/blkdev.h>

bool probe(struct block_device *bdev)
{
	return bdev_is_partition(bdev);
}
