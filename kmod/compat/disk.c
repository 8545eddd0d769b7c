// SPDX-License-Identifier: GPL-2.0-only
/* Making a block device of our own, on any kernel. */
#include "compat.h"

#ifdef EBB_HAVE_ALLOC_DISK_LIMITS
struct gendisk *ebb_alloc_disk(struct block_device *like)
{
	struct queue_limits lim = {
		.logical_block_size	= bdev_logical_block_size(like),
		.physical_block_size	= bdev_physical_block_size(like),
	};

	return blk_alloc_disk(&lim, NUMA_NO_NODE);
}
#else
struct gendisk *ebb_alloc_disk(struct block_device *like)
{
	struct gendisk *gd;

#ifdef EBB_HAVE_ALLOC_DISK
	gd = blk_alloc_disk(NUMA_NO_NODE);
	if (!gd)
		return NULL;
#else
	gd = alloc_disk(1);
	if (!gd)
		return NULL;
	gd->queue = blk_alloc_queue(NUMA_NO_NODE);
	if (!gd->queue) {
		put_disk(gd);
		return NULL;
	}
#endif
	blk_queue_logical_block_size(gd->queue, bdev_logical_block_size(like));
	blk_queue_physical_block_size(gd->queue, bdev_physical_block_size(like));
	return gd;
}
#endif

void ebb_put_disk(struct gendisk *gd)
{
#ifndef EBB_HAVE_ALLOC_DISK
	blk_cleanup_queue(gd->queue);
#endif
	put_disk(gd);
}

int ebb_add_disk(struct gendisk *gd)
{
#ifdef EBB_HAVE_ADD_DISK_INT
	return add_disk(gd);
#else
	add_disk(gd);
	return 0;
#endif
}
