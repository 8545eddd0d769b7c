// SPDX-License-Identifier: GPL-2.0-only
/* before f525464a8000 (5.14): no function blk_cleanup_disk(); EL8 */
#include <linux/blkdev.h>
#include <linux/genhd.h>

enum { blk_cleanup_disk };

void (*probe)(struct request_queue *) = blk_cleanup_queue;
