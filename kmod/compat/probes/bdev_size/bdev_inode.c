// SPDX-License-Identifier: GPL-2.0-only
/* before 6436bd90f76e (5.16): no function bdev_nr_sectors(); EL8 */
#include <linux/blkdev.h>
#include <linux/fs.h>

enum { bdev_nr_sectors };

loff_t probe(struct block_device *bdev)
{
	return i_size_read(bdev->bd_inode);
}
