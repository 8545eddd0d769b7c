// SPDX-License-Identifier: GPL-2.0-only
/* before 83cbce957446 (5.15); EL8 */
#include <linux/blkdev.h>
#include <linux/genhd.h>

void (*probe)(struct gendisk *) = add_disk;
