// SPDX-License-Identifier: GPL-2.0-only
/* f525464a8000 (5.14): blk_cleanup_disk() */
#include <linux/blkdev.h>

void (*probe)(struct gendisk *) = blk_cleanup_disk;
