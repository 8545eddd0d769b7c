// SPDX-License-Identifier: GPL-2.0-only
/* before 40b3a52ffc5b (5.15): no function disk_live(), a flag; EL8 */
#include <linux/blkdev.h>
#include <linux/genhd.h>

enum { disk_live };

bool probe(struct gendisk *disk)
{
	return disk->flags & GENHD_FL_UP;
}
