// SPDX-License-Identifier: GPL-2.0-only
/* before 309dca309fc3 (5.12), and 0d02129e76ed (5.11), which removed hd_struct; EL8 */
#include <linux/blkdev.h>
#include <linux/genhd.h>

sector_t probe(struct bio *bio)
{
	struct hd_struct *part = bio->bi_disk->part_tbl->part[bio->bi_partno];

	return part->start_sect;
}
