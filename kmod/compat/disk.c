// SPDX-License-Identifier: GPL-2.0-only
/* Making a block device of our own, on any kernel. */
#include "compat.h"

#ifdef EBB_HAVE_ALLOC_DISK_LIMITS
struct gendisk *ebb_alloc_disk(struct block_device *like, EBB_SUBMIT_TYPE submit)
{
	struct queue_limits lim = {
		.logical_block_size	= bdev_logical_block_size(like),
		.physical_block_size	= bdev_physical_block_size(like),
	};

	return blk_alloc_disk(&lim, NUMA_NO_NODE);
}
#else
#ifdef EBB_HAVE_ALLOC_DISK_NODE
static struct gendisk *alloc_with_queue(EBB_SUBMIT_TYPE submit)
{
	return blk_alloc_disk(NUMA_NO_NODE);
}
#else
static struct request_queue *alloc_queue(EBB_SUBMIT_TYPE submit)
{
#ifdef EBB_HAVE_ALLOC_DISK_QUEUE_RH
	return blk_alloc_queue_rh(submit, NUMA_NO_NODE);
#else
	return blk_alloc_queue(NUMA_NO_NODE);
#endif
}

static struct gendisk *alloc_with_queue(EBB_SUBMIT_TYPE submit)
{
	struct gendisk *gd = alloc_disk(1);

	if (!gd)
		return NULL;
	gd->queue = alloc_queue(submit);
	if (gd->queue)
		return gd;
	put_disk(gd);
	return NULL;
}
#endif

struct gendisk *ebb_alloc_disk(struct block_device *like, EBB_SUBMIT_TYPE submit)
{
	struct gendisk *gd = alloc_with_queue(submit);

	if (!gd)
		return NULL;
	blk_queue_logical_block_size(gd->queue, bdev_logical_block_size(like));
	blk_queue_physical_block_size(gd->queue, bdev_physical_block_size(like));
	return gd;
}
#endif

void ebb_put_disk(struct gendisk *gd)
{
#if defined(EBB_HAVE_CLEANUP_DISK)
	blk_cleanup_disk(gd);
#elif defined(EBB_HAVE_CLEANUP_QUEUE)
	blk_cleanup_queue(gd->queue);
	put_disk(gd);
#else
	put_disk(gd);
#endif
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
