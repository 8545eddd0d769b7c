// SPDX-License-Identifier: GPL-2.0-only
/*
 * A disk in memory, /dev/erasable, that can erase securely, as no disk of an emulated machine can:
 *
 *	insmod erasable.ko mib=SIZE
 *
 * What is erased, discarded or to be zeroed reads as zeroes. Works with bios, without requests.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/highmem.h>
#include <linux/module.h>
#include <linux/vmalloc.h>

#include "compat.h"

static unsigned int mib = 16;
module_param(mib, uint, 0444);

#if defined(EBB_HAVE_ALLOC_DISK_LIMITS) || defined(EBB_HAVE_ALLOC_DISK_NODE)

static struct gendisk *disk;
static void *memory;

static void copy(struct bio *bio, void *to)
{
	struct bvec_iter iter;
	struct bio_vec vec;
	void *page;

	bio_for_each_segment(vec, bio, iter) {
		page = kmap_local_page(vec.bv_page);
		if (op_is_write(bio_op(bio)))
			memcpy(to, page + vec.bv_offset, vec.bv_len);
		else
			memcpy(page + vec.bv_offset, to, vec.bv_len);
		kunmap_local(page);
		to += vec.bv_len;
	}
}

static void erasable_submit(struct bio *bio)
{
	void *at = memory + (bio->bi_iter.bi_sector << SECTOR_SHIFT);

	switch (bio_op(bio)) {
	case REQ_OP_READ:
	case REQ_OP_WRITE:
		copy(bio, at);
		break;
	case REQ_OP_DISCARD:
	case REQ_OP_SECURE_ERASE:
	case REQ_OP_WRITE_ZEROES:
		memset(at, 0, bio->bi_iter.bi_size);
		break;
	default:
		bio->bi_status = BLK_STS_NOTSUPP;
	}
	bio_endio(bio);
}

static const struct block_device_operations erasable_ops = {
	.owner		= THIS_MODULE,
	.submit_bio	= erasable_submit,
};

static struct gendisk *new_disk(void)
{
	unsigned int most = 1 << 20;
#ifdef EBB_HAVE_ALLOC_DISK_LIMITS
	struct queue_limits lim = {
		.max_hw_discard_sectors		= most,
		.max_secure_erase_sectors	= most,
		.max_write_zeroes_sectors	= most,
		.discard_granularity		= SECTOR_SIZE,
	};

	return blk_alloc_disk(&lim, NUMA_NO_NODE);
#else
	struct gendisk *gd = blk_alloc_disk(NUMA_NO_NODE);

	if (!gd)
		return ERR_PTR(-ENOMEM);
	gd->queue->limits.discard_granularity = SECTOR_SIZE;
	blk_queue_max_discard_sectors(gd->queue, most);
	blk_queue_max_secure_erase_sectors(gd->queue, most);
	blk_queue_max_write_zeroes_sectors(gd->queue, most);
	return gd;
#endif
}

static int __init erasable_init(void)
{
	int err = -ENOMEM;

	memory = vzalloc((unsigned long)mib << 20);
	if (!memory)
		return err;
	disk = new_disk();
	if (IS_ERR(disk)) {
		err = PTR_ERR(disk);
		goto free;
	}
	disk->fops = &erasable_ops;
	strscpy(disk->disk_name, "erasable", sizeof(disk->disk_name));
	set_capacity(disk, (sector_t)mib << (20 - SECTOR_SHIFT));
	err = add_disk(disk);
	if (!err)
		return 0;
	put_disk(disk);
free:
	vfree(memory);
	return err;
}

static void __exit erasable_exit(void)
{
	del_gendisk(disk);
	put_disk(disk);
	vfree(memory);
}

#else

static int __init erasable_init(void)
{
	return -EOPNOTSUPP;
}

static void __exit erasable_exit(void)
{
}

#endif

module_init(erasable_init);
module_exit(erasable_exit);

MODULE_DESCRIPTION("Test: a disk that can erase securely");
MODULE_LICENSE("GPL");
