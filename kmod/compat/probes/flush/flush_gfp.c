// SPDX-License-Identifier: GPL-2.0-only
/* 9398554fb397 (5.8): blkdev_issue_flush() lost its error_sector, and has its gfp_t */
#include <linux/blkdev.h>

int probe(struct block_device *bdev)
{
	return blkdev_issue_flush(bdev, GFP_KERNEL);
}
