// SPDX-License-Identifier: GPL-2.0-only
/* 74fa8f9c553f (6.9): blk_alloc_disk() takes the limits of the queue. EL9 took it over. */
#include <linux/blkdev.h>

struct gendisk *probe(struct queue_limits *lim)
{
	return blk_alloc_disk(lim, NUMA_NO_NODE);
}
