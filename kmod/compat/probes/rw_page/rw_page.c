// SPDX-License-Identifier: GPL-2.0-only
/* before 3222d8c2a7f8 (6.3): a driver may have rw_page; EL8 */
#include <linux/blkdev.h>

bool probe(struct gendisk *disk)
{
	return disk->fops->rw_page;
}
