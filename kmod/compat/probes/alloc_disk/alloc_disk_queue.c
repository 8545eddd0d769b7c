// SPDX-License-Identifier: GPL-2.0-only
/* c62b37d96b6e (5.9): blk_alloc_queue() without the function; before f525464a8000 (5.14) */
#include <linux/blkdev.h>
#include <linux/genhd.h>

struct request_queue *(*probe_queue)(int) = blk_alloc_queue;

struct gendisk *probe(void)
{
	return alloc_disk(1);
}
