// SPDX-License-Identifier: GPL-2.0-only
/*
 * Image devices. A read looks for preserved copies, reads the disk, and looks again when it is
 * there: a block that was overwritten meanwhile had its copy published before the overwriting.
 */
#include <linux/blkdev.h>
#include <linux/capability.h>
#include <linux/highmem.h>
#include <linux/idr.h>
#include <linux/slab.h>

#include "compat/compat.h"
#include "disk.h"
#include "group.h"
#include "image.h"
#include "log_store.h"
#include "pass.h"
#include "preserve.h"

struct ebb_image {
	struct gendisk	*gd;
	int		minor;
};

struct image_read {
	struct bio		*origin;
	struct ebb_disk		*disk;
	u64			pass;
	struct bio		bio;	/* last: as the bio_set wants it */
};

static int image_major;
static DEFINE_IDA(minors);
static struct bio_set image_bios;

static bool is_readable(const struct ebb_disk *disk, u64 pass)
{
	const struct ebb_pass *p = &disk->group->pass;

	return READ_ONCE(p->state) == EBB_PASS_READY && READ_ONCE(p->id) == pass;
}

/*
 * Puts preserved copies over what was read, block by block. With @look, only says whether all of
 * the bio is preserved.
 */
static bool substitute(struct ebb_disk *disk, struct bio *bio, bool look)
{
	u64 at = (u64)bio->bi_iter.bi_sector << SECTOR_SHIFT;
	struct bvec_iter iter;
	struct bio_vec bv;
	unsigned int len, offset;
	char *to;

	bio_for_each_segment(bv, bio, iter) {
		to = kmap_local_page(bv.bv_page);
		for (offset = 0; offset < bv.bv_len; offset += len, at += len) {
			len = min_t(unsigned int, bv.bv_len - offset,
				    EBB_BLOCK_BYTES - at % EBB_BLOCK_BYTES);
			if (!ebb_preserve_get(disk, at / EBB_BLOCK_BYTES, at % EBB_BLOCK_BYTES, len,
					      look ? NULL : to + bv.bv_offset + offset) && look) {
				kunmap_local(to);
				return false;
			}
		}
		kunmap_local(to);
	}
	return true;
}

static void unbusy(struct ebb_disk *disk)
{
	rcu_read_lock();
	if (atomic_dec_and_test(&disk->busy))
		wake_up_all(&disk->idle);
	rcu_read_unlock();
}

static void image_read_done(struct bio *bio)
{
	struct image_read *r = container_of(bio, struct image_read, bio);
	struct bio *origin = r->origin;
	struct ebb_disk *disk = r->disk;

	origin->bi_status = bio->bi_status;
	if (!origin->bi_status) {
		substitute(disk, origin, false);
		ebb_store_blank(disk->gd, origin);
		/* The state last: it is void before anything is overwritten that was not kept. */
		smp_rmb();
		if (!is_readable(disk, r->pass))
			origin->bi_status = BLK_STS_IOERR;
	}
	bio_put(bio);
	bio_endio(origin);
	unbusy(disk);
}

static void image_read(struct ebb_disk *disk, struct bio *origin)
{
	u64 pass = READ_ONCE(disk->group->pass.id);
	struct image_read *r;
	struct bio *bio;

	/* The state is read after the id, and the id once more. */
	smp_rmb();
	if (!is_readable(disk, pass)) {
		bio_io_error(origin);
		return;
	}
	if (ebb_disk_looks(disk, EBB_LOOK_FROZEN) && substitute(disk, origin, true)) {
		substitute(disk, origin, false);
		ebb_store_blank(disk->gd, origin);
		if (is_readable(disk, pass))
			bio_endio(origin);
		else
			bio_io_error(origin);
		return;
	}
	bio = ebb_bio_clone(ebb_disk_bdev(disk), origin, GFP_NOIO, &image_bios);
	r = container_of(bio, struct image_read, bio);
	r->origin = origin;
	r->disk = disk;
	r->pass = pass;
	bio->bi_end_io = image_read_done;
	bio->bi_opf &= ~EBB_REQ_POLLED;
	atomic_inc(&disk->busy);
	submit_bio_noacct(bio);
}

static EBB_ENTRY_RETURN image_submit(EBB_SUBMIT_ARGUMENTS)
{
	struct ebb_disk *disk = ebb_bio_gendisk(bio)->private_data;

	atomic_inc(&disk->busy);
	if (bio_op(bio) != REQ_OP_READ || !bio_sectors(bio))
		bio_io_error(bio);
	else
		image_read(disk, bio);
	unbusy(disk);
	return EBB_ENTRY_RESULT;
}

static int image_open(EBB_OPEN_ARGUMENTS)
{
	return capable(CAP_SYS_ADMIN) ? 0 : -EACCES;
}

static char *image_devnode(struct gendisk *gd, umode_t *mode)
{
	if (mode)
		*mode = 0600;
	return NULL;
}

static const struct block_device_operations image_fops = {
	.owner		= THIS_MODULE,
	.open		= image_open,
	.devnode	= image_devnode,
	EBB_SUBMIT_MEMBER(image_submit)
};

bool ebb_image_is(const struct gendisk *gd)
{
	return gd->fops == &image_fops;
}

dev_t ebb_image_dev(const struct ebb_image *image)
{
	return disk_devt(image->gd);
}

static int add_gendisk(struct ebb_image *image, struct ebb_disk *disk)
{
	struct gendisk *gd;
	int err;

	gd = ebb_alloc_disk(ebb_disk_bdev(disk), image_submit);
	if (IS_ERR_OR_NULL(gd))
		return gd ? PTR_ERR(gd) : -ENOMEM;
	gd->major = image_major;
	gd->first_minor = image->minor;
	gd->minors = 1;
	gd->flags |= EBB_NO_PARTITIONS;
	gd->fops = &image_fops;
	gd->private_data = disk;
	snprintf(gd->disk_name, sizeof(gd->disk_name), "ebb%d", image->minor);
	set_capacity(gd, disk->sectors);
	set_disk_ro(gd, true);
	err = ebb_add_disk(gd);
	if (err) {
		ebb_put_disk(gd);
		return err;
	}
	image->gd = gd;
	return 0;
}

struct ebb_image *ebb_image_add(struct ebb_disk *disk)
{
	struct ebb_image *image = kzalloc(sizeof(*image), GFP_KERNEL);
	int err;

	lockdep_assert_held(&ebb_mutex);
	if (!image)
		return ERR_PTR(-ENOMEM);
	err = ida_alloc_max(&minors, MINORMASK, GFP_KERNEL);
	if (err < 0)
		goto free;
	image->minor = err;
	err = add_gendisk(image, disk);
	if (!err)
		return image;
	ida_free(&minors, image->minor);
free:
	kfree(image);
	return ERR_PTR(err);
}

void ebb_image_del(struct ebb_image *image)
{
	/* It waits for readers, and one may be about to close and take the mutex. */
	might_lock(&ebb_mutex);
	del_gendisk(image->gd);
	ebb_put_disk(image->gd);
	ida_free(&minors, image->minor);
	kfree(image);
}

int ebb_image_init(void)
{
	int err = bioset_init(&image_bios, 16, offsetof(struct image_read, bio), 0);

	if (err)
		return err;
	image_major = register_blkdev(0, "ebb");
	if (image_major < 0) {
		bioset_exit(&image_bios);
		return image_major;
	}
	return 0;
}

void ebb_image_exit(void)
{
	unregister_blkdev(image_major, "ebb");
	bioset_exit(&image_bios);
	ida_destroy(&minors);
}
