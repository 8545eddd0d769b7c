// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sends bios that user space has no way to send:
 *
 *	echo chain MAJOR MINOR SECTOR COUNT >/sys/module/issue/parameters/bio
 *		COUNT writes of a page each, each a child of the next
 *	echo tree MAJOR MINOR SECTOR COUNT >...
 *		the same, all children of the last
 *	echo flushed MAJOR MINOR SECTOR COUNT >...
 *		COUNT writes of a page each with PREFLUSH and FUA, in one plug
 *	echo append MAJOR MINOR SECTOR COUNT >...
 *		zone append of a page, COUNT times
 *	echo same MAJOR MINOR SECTOR COUNT >...
 *		one WRITE_SAME over COUNT pages, on kernels that have it
 *
 * Returns when they are done, with the error of the last. Pages have random content.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/gfp.h>
#include <linux/module.h>
#include <linux/random.h>

#include "compat.h"

#define MOST_PAGES	64

static struct page *pages[MOST_PAGES];

static struct bio *page_bio(struct block_device *bdev, EBB_OPF opf, u64 sector, unsigned int i)
{
	struct bio *bio = ebb_bio_alloc_read(bdev, 1, GFP_KERNEL, &fs_bio_set);

	bio->bi_opf = opf;
	get_random_bytes(page_address(pages[i]), PAGE_SIZE);
	bio->bi_iter.bi_sector = sector;
	__bio_add_page(bio, pages[i], PAGE_SIZE, 0);
	return bio;
}

static int wait_and_put(struct bio *bio)
{
	int err = submit_bio_wait(bio);

	bio_put(bio);
	return err;
}

static int chained(struct block_device *bdev, u64 sector, unsigned int count, bool tree)
{
	struct bio *last = page_bio(bdev, REQ_OP_WRITE, sector + 8 * (count - 1), count - 1);
	struct bio *bio, *before = NULL;
	unsigned int i;

	for (i = 0; i + 1 < count; i++) {
		bio = page_bio(bdev, REQ_OP_WRITE, sector + 8 * i, i);
		if (tree)
			bio_chain(bio, last);
		else if (before)
			bio_chain(before, bio);
		if (tree)
			submit_bio(bio);
		else if (before)
			submit_bio(before);
		before = bio;
	}
	if (!tree && before) {
		bio_chain(before, last);
		submit_bio(before);
	}
	return wait_and_put(last);
}

static int flushed(struct block_device *bdev, u64 sector, unsigned int count)
{
	struct bio *last = page_bio(bdev, REQ_OP_WRITE | REQ_PREFLUSH | REQ_FUA,
				    sector + 8 * (count - 1), count - 1);
	struct blk_plug plug;
	struct bio *bio;
	unsigned int i;

	blk_start_plug(&plug);
	for (i = 0; i + 1 < count; i++) {
		bio = page_bio(bdev, REQ_OP_WRITE | REQ_PREFLUSH | REQ_FUA, sector + 8 * i, i);
		bio_chain(bio, last);
		submit_bio(bio);
	}
	blk_finish_plug(&plug);
	return wait_and_put(last);
}

static int append(struct block_device *bdev, u64 sector, unsigned int count)
{
	int err = 0;

	while (!err && count--)
		err = wait_and_put(page_bio(bdev, REQ_OP_ZONE_APPEND | REQ_SYNC, sector, 0));
	return err;
}

static int issue(struct block_device *bdev, const char *what, u64 sector, unsigned int count)
{
	if (!strcmp(what, "chain"))
		return chained(bdev, sector, count, false);
	if (!strcmp(what, "tree"))
		return chained(bdev, sector, count, true);
	if (!strcmp(what, "flushed"))
		return flushed(bdev, sector, count);
	if (!strcmp(what, "append"))
		return append(bdev, sector, count);
#ifdef EBB_HAVE_WRITE_SAME
	if (!strcmp(what, "same")) {
		get_random_bytes(page_address(pages[0]), PAGE_SIZE);
		return blkdev_issue_write_same(bdev, sector, 8 * count, GFP_KERNEL, pages[0]);
	}
#endif
	return -EINVAL;
}

static int set_bio(const char *value, const struct kernel_param *kp)
{
	unsigned int major, minor, count;
	struct ebb_bdev *device;
	char what[16];
	u64 sector;
	int err;

	if (sscanf(value, "%15s %u %u %llu %u", what, &major, &minor, &sector, &count) != 5 ||
	    !count || count > MOST_PAGES)
		return -EINVAL;
	device = ebb_bdev_open(MKDEV(major, minor));
	if (IS_ERR(device))
		return PTR_ERR(device);
	err = issue(ebb_bdev_of(device), what, sector, count);
	ebb_bdev_close(device);
	return err;
}

static const struct kernel_param_ops bio_ops = { .set = set_bio };

module_param_cb(bio, &bio_ops, NULL, 0200);

static void free_pages_all(void)
{
	int i;

	for (i = 0; i < MOST_PAGES; i++)
		if (pages[i])
			__free_page(pages[i]);
}

static int __init issue_init(void)
{
	int i;

	for (i = 0; i < MOST_PAGES; i++) {
		pages[i] = alloc_page(GFP_KERNEL);
		if (!pages[i]) {
			free_pages_all();
			return -ENOMEM;
		}
	}
	return 0;
}

static void __exit issue_exit(void)
{
	free_pages_all();
}

module_init(issue_init);
module_exit(issue_exit);

MODULE_DESCRIPTION("Test: bios that user space cannot send");
MODULE_LICENSE("GPL");
