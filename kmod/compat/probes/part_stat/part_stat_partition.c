// SPDX-License-Identifier: GPL-2.0-only
/* c6a564ffadc9 (5.8): the header; before 0d02129e76ed (5.11): statistics are hd_struct's */
#include <linux/blkdev.h>
#include <linux/genhd.h>
#include <linux/part_stat.h>

unsigned long probe(struct gendisk *disk)
{
	return part_stat_read(&disk->part0, ios[STAT_WRITE]);
}
