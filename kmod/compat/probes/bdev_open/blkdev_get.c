// SPDX-License-Identifier: GPL-2.0-only
/* before 05bdb9965305 (6.5): modes are fmode_t; EL8 */
#include <linux/blkdev.h>
#include <linux/fs.h>

struct block_device *probe(dev_t dev)
{
	void (*put)(struct block_device *bdev, fmode_t mode) = blkdev_put;
	struct block_device *bdev = blkdev_get_by_dev(dev, FMODE_READ, NULL);

	put(bdev, FMODE_READ);
	return bdev;
}
