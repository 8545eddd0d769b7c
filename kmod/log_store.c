// SPDX-License-Identifier: GPL-2.0-only
/* Areas of maps: see log_store.h. */
#include <linux/blk-mq.h>
#include <linux/jiffies.h>

#include "compat/compat.h"
#include "disk.h"
#include "group.h"
#include "log_format.h"
#include "log_store.h"

static LIST_HEAD(stores);
static DEFINE_SPINLOCK(stores_lock);	/* changes of the list */

/* ---- what may hold an area ---- */

static const char *why_not(struct block_device *bdev, const struct gendisk *tracked)
{
	const char *name = bdev->bd_disk->disk_name;

	/* Their own writes may come by the tracked disk and wait for what waits for them. */
	if (!queue_is_mq(bdev_get_queue(bdev)) || !strncmp(name, "dm-", 3) ||
	    !strncmp(name, "loop", 4) || !strncmp(name, "nbd", 3))
		return "the map device is stacked on others";
	if (!bdev_is_partition(bdev) && bdev->bd_disk == tracked)
		return "the map device is the tracked disk itself";
	if (bdev_is_zoned(bdev))
		return "the map device is zoned";
	if (bdev_logical_block_size(bdev) > EBB_FORMAT_BLOCK)
		return "the map device has blocks of more than 4 KiB";
	return NULL;
}

static bool overlaps_another(const struct ebb_store *store)
{
	const struct ebb_store *other;

	lockdep_assert_held(&stores_lock);
	list_for_each_entry(other, &stores, list)
		if (other->gd == store->gd &&
		    other->gd_sector < store->gd_sector + store->sectors &&
		    store->gd_sector < other->gd_sector + other->sectors)
			return true;
	return false;
}

static int check(struct ebb_store *store, const struct gendisk *tracked, const char **why)
{
	struct block_device *bdev = ebb_bdev_of(store->bdev);

	*why = why_not(bdev, tracked);
	if (*why)
		return -EOPNOTSUPP;
	if (ebb_bdev_is_read_only(bdev)) {
		*why = "the map device is read-only";
		return -EROFS;
	}
	if (store->sector % EBB_BLOCK_SECTORS || store->sector > ebb_bdev_sectors(bdev) ||
	    store->sectors > ebb_bdev_sectors(bdev) - store->sector) {
		*why = "the map area is not on its device, or not aligned to 4 KiB";
		return -ERANGE;
	}
	return 0;
}

static int enlist(struct ebb_store *store, const char **why)
{
	int err = 0;

	spin_lock(&stores_lock);
	if (overlaps_another(store)) {
		*why = "the map area overlaps with that of another disk";
		err = -EEXIST;
	} else {
		list_add_tail_rcu(&store->list, &stores);
	}
	spin_unlock(&stores_lock);
	return err;
}

static int new_io(struct ebb_store *store, unsigned int i)
{
	struct ebb_store_io *io = kzalloc(sizeof(*io), GFP_KERNEL);

	if (!io)
		return -ENOMEM;
	store->io[i] = io;
	io->store = store;
	io->page = alloc_page(GFP_KERNEL);
	return io->page ? 0 : -ENOMEM;
}

int ebb_store_open(struct ebb_store *store, dev_t dev, u64 sector, u64 sectors,
		   const struct gendisk *tracked, void (*back)(struct ebb_store *store),
		   const char **why)
{
	struct ebb_bdev *bdev;
	int err, i;

	bdev = ebb_bdev_open_owned(dev, &stores);
	if (IS_ERR(bdev)) {
		*why = "the map device cannot be opened for us alone";
		return PTR_ERR(bdev);
	}
	store->bdev = bdev;
	store->sector = sector;
	store->sectors = sectors;
	store->gd = ebb_bdev_of(bdev)->bd_disk;
	store->gd_sector = get_start_sect(ebb_bdev_of(bdev)) + sector;
	store->back = back;
	atomic_set(&store->pending, 0);
	init_waitqueue_head(&store->wait);
	INIT_LIST_HEAD(&store->list);
	err = check(store, tracked, why);
	for (i = 0; !err && i < EBB_STORE_IOS; i++)
		err = new_io(store, i);
	if (!err)
		err = enlist(store, why);
	if (err)
		ebb_store_close(store);
	return err;
}

void ebb_store_settle(struct ebb_store *store)
{
	if (!store->bdev)
		return;
	wait_event(store->wait, !ebb_store_is_stuck(store));
	/* Who completed the last one has left it. */
	synchronize_rcu();
}

void ebb_store_close(struct ebb_store *store)
{
	int i;

	if (!store->bdev)
		return;
	spin_lock(&stores_lock);
	if (!list_empty(&store->list))
		list_del_rcu(&store->list);
	spin_unlock(&stores_lock);
	ebb_store_settle(store);
	for (i = 0; i < EBB_STORE_IOS; i++) {
		if (store->io[i] && store->io[i]->page)
			__free_page(store->io[i]->page);
		kfree(store->io[i]);
		store->io[i] = NULL;
	}
	ebb_bdev_close_owned(store->bdev, &stores);
	store->bdev = NULL;
}

/* ---- I/O ---- */

void ebb_store_io_done(struct bio *bio)
{
	struct ebb_store_io *io = container_of(bio, struct ebb_store_io, bio);
	struct ebb_store *store = io->store;

	rcu_read_lock();
	if (bio->bi_status)
		WRITE_ONCE(store->failed, true);
	if (atomic_dec_and_test(&store->pending)) {
		if (READ_ONCE(store->late))
			store->back(store);
		wake_up_all(&store->wait);
	}
	rcu_read_unlock();
}

static void start(struct ebb_store *store, unsigned int i, u64 block, EBB_OPF op, bool with_page)
{
	struct ebb_store_io *io = store->io[i];

	ebb_bio_init_own(&io->bio, ebb_bdev_of(store->bdev), &io->vec, op);
	io->bio.bi_iter.bi_sector = store->sector + block * EBB_BLOCK_SECTORS;
	io->bio.bi_end_io = ebb_store_io_done;
	if (with_page)
		__bio_add_page(&io->bio, io->page, EBB_FORMAT_BLOCK, 0);
	atomic_inc(&store->pending);
	submit_bio_noacct(&io->bio);
}

void ebb_store_read(struct ebb_store *store, unsigned int io, u64 block)
{
	start(store, io, block, REQ_OP_READ, true);
}

void ebb_store_write(struct ebb_store *store, unsigned int io, u64 block, bool durable)
{
	WRITE_ONCE(store->writes, store->writes + 1);
	start(store, io, block, REQ_OP_WRITE | REQ_SYNC | (durable ? REQ_FUA : 0), true);
}

void ebb_store_flush(struct ebb_store *store, unsigned int io)
{
	start(store, io, 0, REQ_OP_WRITE | REQ_PREFLUSH | REQ_SYNC, false);
}

int ebb_store_wait(struct ebb_store *store)
{
	unsigned long limit = msecs_to_jiffies(READ_ONCE(ebb_log_deadline_ms)) + 1;

	if (!wait_event_timeout(store->wait, !ebb_store_is_stuck(store), limit)) {
		WRITE_ONCE(store->late, true);
		/* Pairs with ebb_store_io_done(): it sees ->late, or we that it is over. */
		smp_mb();
		return -ETIMEDOUT;
	}
	WRITE_ONCE(store->late, false);
	if (!store->failed)
		return 0;
	store->failed = false;
	return -EIO;
}

bool ebb_store_is_back(struct ebb_store *store)
{
	bool failed = store->failed;

	WRITE_ONCE(store->late, false);
	store->failed = false;
	return !failed;
}

/* ---- what others must know of areas ---- */

u64 ebb_store_writes_on(const struct gendisk *gd)
{
	const struct ebb_store *store;
	u64 writes = 0;

	rcu_read_lock();
	list_for_each_entry_rcu(store, &stores, list)
		if (store->gd == gd)
			writes += READ_ONCE(store->writes);
	rcu_read_unlock();
	return writes;
}

static void blank(const struct ebb_store *store, struct bio *bio)
{
	u64 at = bio->bi_iter.bi_sector, first, end;
	struct bvec_iter iter;
	struct bio_vec bv;
	char *to;

	bio_for_each_segment(bv, bio, iter) {
		first = max(at, store->gd_sector);
		end = min(at + (bv.bv_len >> SECTOR_SHIFT), store->gd_sector + store->sectors);
		if (first < end) {
			to = kmap_local_page(bv.bv_page);
			memset(to + bv.bv_offset + ((first - at) << SECTOR_SHIFT), 0,
			       (end - first) << SECTOR_SHIFT);
			kunmap_local(to);
		}
		at += bv.bv_len >> SECTOR_SHIFT;
	}
}

void ebb_store_blank(const struct gendisk *gd, struct bio *bio)
{
	const struct ebb_store *store;
	u64 at = bio->bi_iter.bi_sector;

	rcu_read_lock();
	list_for_each_entry_rcu(store, &stores, list)
		if (store->gd == gd && at < store->gd_sector + store->sectors &&
		    store->gd_sector < at + bio_sectors(bio))
			blank(store, bio);
	rcu_read_unlock();
}
