// SPDX-License-Identifier: GPL-2.0-only
/* before c6a564ffadc9 (5.8): the statistics are in genhd.h; EL8 */
#include <linux/blkdev.h>
#include <linux/genhd.h>

unsigned long probe(struct gendisk *disk)
{
	return part_stat_read(&disk->part0, ios[STAT_WRITE]);
}
