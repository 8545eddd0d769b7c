// SPDX-License-Identifier: GPL-2.0-only
/* 3222d8c2a7f8 (6.3): rw_page is gone */
#include <linux/blkdev.h>

bool probe(struct gendisk *disk)
{
	return disk->fops->rw_page;
}
