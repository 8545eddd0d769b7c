// SPDX-License-Identifier: GPL-2.0-only
/* 40b3a52ffc5b (5.15): disk_live(). EL9 took it over. */
#include <linux/blkdev.h>

bool probe(struct gendisk *disk)
{
	return disk_live(disk);
}
