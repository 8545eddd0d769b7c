// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions go cold. One that had no mark in any map when it was looked at is idle. If it still has
 * none at the next look, and none that was there meanwhile has been confirmed away, it was not
 * written to in between; and a flush of the disk that was issued in between makes all of it
 * durable. So one flush before each look is enough.
 */
#include <linux/bitmap.h>

#include "compat/compat.h"
#include "group.h"
#include "log.h"

#define LOOK_CHUNK	2048	/* hot regions that are looked at under ebb_mutex */

struct fresh_crc {
	u64	block;
	u32	crc;
	bool	known;
};

bool ebb_log_region_is_marked(struct ebb_log *log, unsigned long region)
{
	struct ebb_disk *disk = log->disk;
	u64 first = (u64)region << log->shift;
	u64 last = min(first + (1ull << log->shift), disk->blocks) - 1;

	return ebb_map_any(&disk->map[0], first, last) || ebb_map_any(&disk->map[1], first, last) ||
	       ebb_map_any(&disk->released, first, last) ||
	       ebb_map_any(&disk->unconfirmed, first, last);
}

static bool may_cool(struct ebb_log *log)
{
	lockdep_assert_held(&ebb_mutex);
	return !log->closing && !ebb_log_failed(log) && !log->sealed;
}

/* Makes an idle region cold, unless it was written to. */
static void cool(struct ebb_log *log, unsigned long region)
{
	clear_bit(region, log->hot);
	/* Pairs with a write: it marks, then looks whether the region is hot. */
	smp_mb__after_atomic();
	if (!ebb_log_region_is_marked(log, region))
		return;
	set_bit(region, log->hot);
	__clear_bit(region, log->idle);
}

/* Looks at some hot regions from @region on; returns where to go on. */
static unsigned long look(struct ebb_log *log, unsigned long region, bool flushed)
{
	unsigned int nr = 0;

	for (region = find_next_bit(log->hot, log->nr_regions, region);
	     region < log->nr_regions && nr++ < LOOK_CHUNK;
	     region = find_next_bit(log->hot, log->nr_regions, region + 1)) {
		if (!test_bit(region, log->idle)) {
			if (!ebb_log_region_is_marked(log, region))
				__set_bit(region, log->idle);
		} else if (flushed) {
			cool(log, region);
		}
	}
	return region;
}

bool ebb_log_flush_disk(struct ebb_log *log)
{
	int err = ebb_issue_flush(ebb_disk_bdev(log->disk));

	return !err || err == -EOPNOTSUPP;
}

/* ---- witnesses ---- */

int ebb_log_block_crc(struct ebb_disk *disk, u64 block, u32 *crc)
{
	u64 sector = block << EBB_BLOCK_SHIFT;
	unsigned int len = min_t(u64, disk->sectors - sector, EBB_BLOCK_SECTORS) << SECTOR_SHIFT;
	struct page *page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	struct bio_vec vec;
	struct bio bio;
	int err;

	if (!page)
		return -ENOMEM;
	ebb_bio_init_own(&bio, ebb_disk_bdev(disk), &vec, REQ_OP_READ);
	bio.bi_iter.bi_sector = sector;
	__bio_add_page(&bio, page, len, 0);
	err = submit_bio_wait(&bio);
	bio_uninit(&bio);
	*crc = ebb_format_crc(0, page_address(page), EBB_FORMAT_BLOCK);
	__free_page(page);
	return err;
}

/* Of the witnesses in regions that are about to be cold on disk as well. */
static unsigned int read_witnesses(struct ebb_log *log, struct fresh_crc *fresh)
{
	unsigned int nr = 0, i;
	unsigned long r;

	mutex_lock(&log->io);
	for (i = 0; i < log->super.nr_witnesses; i++) {
		r = log->super.witnesses[i].block >> log->shift;
		if (test_bit(r, log->on_disk) && !test_bit(r, log->hot))
			fresh[nr++].block = log->super.witnesses[i].block;
	}
	mutex_unlock(&log->io);
	for (i = 0; i < nr; i++)
		fresh[i].known = !ebb_log_block_crc(log->disk, fresh[i].block, &fresh[i].crc);
	return nr;
}

/* True: the superblock has changed. A region that is cold now was so when the block was read. */
static bool apply(struct ebb_log *log, const struct fresh_crc *fresh, unsigned int nr)
{
	struct ebb_super_witness *w;
	bool changed = false;
	unsigned int i, n;

	for (i = 0; i < log->super.nr_witnesses; i++) {
		w = &log->super.witnesses[i];
		if (!test_bit(w->block >> log->shift, log->on_disk) ||
		    test_bit(w->block >> log->shift, log->hot))
			continue;
		changed = true;
		w->known = 0;
		for (n = 0; n < nr; n++) {
			if (fresh[n].block != w->block || !fresh[n].known)
				continue;
			w->crc = fresh[n].crc;
			w->known = 1;
		}
	}
	return changed;
}

/* ---- the round ---- */

/* What is not hot is not on disk either, witnesses first. */
static void write_cold(struct ebb_log *log, const struct fresh_crc *fresh, unsigned int nr)
{
	unsigned long i, word;

	lockdep_assert_held(&log->io);
	if (apply(log, fresh, nr) && ebb_log_write_super(log))
		return;
	for (i = 0; i < BITS_TO_LONGS(log->nr_regions); i++) {
		word = log->on_disk[i] & ~READ_ONCE(log->hot[i]);
		if (!word)
			continue;
		log->on_disk[i] &= ~word;
		/* Log blocks have a whole number of words. */
		__set_bit(i * BITS_PER_LONG / EBB_FORMAT_REGIONS, log->due);
	}
	ebb_log_write_due(log);
}

void ebb_log_cool_work(struct work_struct *work)
{
	struct ebb_log *log = container_of(work, struct ebb_log, cool_work);
	struct fresh_crc *fresh;
	bool flushed = ebb_log_flush_disk(log), go_on = true;
	unsigned long region = 0;
	unsigned int nr;

	while (region < log->nr_regions && go_on) {
		mutex_lock(&ebb_mutex);
		go_on = may_cool(log);
		if (go_on)
			region = look(log, region, flushed);
		mutex_unlock(&ebb_mutex);
		cond_resched();
	}
	fresh = kcalloc(EBB_WITNESSES_MAX, sizeof(*fresh), GFP_KERNEL);
	if (!go_on || !fresh)
		goto out;
	nr = read_witnesses(log, fresh);
	mutex_lock(&ebb_mutex);
	mutex_lock(&log->io);
	if (may_cool(log))
		write_cold(log, fresh, nr);
	mutex_unlock(&log->io);
	mutex_unlock(&ebb_mutex);
out:
	kfree(fresh);
}

int ebb_log_witness(struct ebb_disk *disk, const struct ebb_extent *extents, unsigned int nr)
{
	struct ebb_super_witness set[EBB_WITNESSES_MAX];
	struct ebb_log *log = disk->log;
	unsigned int n = 0, i;
	u64 block, end;
	bool cold;

	lockdep_assert_held(&ebb_mutex);
	if (!log)
		return -EOPNOTSUPP;
	memset(set, 0, sizeof(set));
	for (i = 0; i < nr; i++) {
		end = DIV_ROUND_UP_ULL(extents[i].sector + extents[i].nr_sectors,
				       EBB_BLOCK_SECTORS);
		for (block = extents[i].sector >> EBB_BLOCK_SHIFT; block < end; block++) {
			if (n == EBB_WITNESSES_MAX)
				return -E2BIG;
			set[n++].block = block;
		}
	}
	/* A region that is cold before and after was so all the time: only we could cool it. */
	for (i = 0; i < n; i++) {
		cold = !test_bit(set[i].block >> log->shift, log->hot);
		/* Pairs with a write that makes it hot before it goes on. */
		smp_mb();
		set[i].known = cold && !ebb_log_block_crc(disk, set[i].block, &set[i].crc);
	}
	mutex_lock(&log->io);
	for (i = 0; i < n; i++)
		if (test_bit(set[i].block >> log->shift, log->on_disk))
			set[i].known = 0;
	memcpy(log->super.witnesses, set, sizeof(set));
	log->super.nr_witnesses = n;
	if (!ebb_store_is_stuck(&log->store))
		ebb_log_write_super(log);
	mutex_unlock(&log->io);
	return 0;
}
