// SPDX-License-Identifier: GPL-2.0-only
/* f525464a8000 (5.14): blk_alloc_disk() makes disk and queue */
#include <linux/blkdev.h>

struct gendisk *probe(void)
{
	return blk_alloc_disk(NUMA_NO_NODE);
}
