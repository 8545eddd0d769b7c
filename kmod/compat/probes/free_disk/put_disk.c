// SPDX-License-Identifier: GPL-2.0-only
/*
 * 8b9ab6266204, 6f8191fdf41d (6.0): put_disk() does all, the functions blk_cleanup_disk() and
 * blk_cleanup_queue() are gone. EL9 took it over.
 */
#include <linux/blkdev.h>

enum { blk_cleanup_disk };
enum { blk_cleanup_queue };

void (*probe)(struct gendisk *) = put_disk;
