// SPDX-License-Identifier: GPL-2.0-only
/*
 * The log's witnesses: blocks of the tracked disk that tell whether somebody wrote to it while
 * nobody tracked it, each with a checksum. That counts where the region of a block is cold on the
 * map device: a region which is cold now has not been written to since it went cold, for only we
 * make it cold.
 */
#include <linux/bio.h>
#include <linux/slab.h>

#include "compat/compat.h"
#include "group.h"
#include "log.h"

struct block_read {
	struct bio	bio;
	struct bio_vec	vec;
	struct page	*page;
};

struct reads {
	atomic_t		left;
	struct completion	done;
};

static void read_ended(struct bio *bio)
{
	struct reads *reads = bio->bi_private;

	if (atomic_dec_and_test(&reads->left))
		complete(&reads->done);
}

static void begin_read(struct ebb_disk *disk, u64 block, struct block_read *read,
		       struct reads *reads)
{
	u64 sector = block << EBB_BLOCK_SHIFT;
	unsigned int len = min_t(u64, disk->sectors - sector, EBB_BLOCK_SECTORS) << SECTOR_SHIFT;

	read->page = alloc_page(GFP_NOIO | __GFP_ZERO);
	if (!read->page)
		return;
	ebb_bio_init_own(&read->bio, ebb_disk_bdev(disk), &read->vec, REQ_OP_READ | REQ_SYNC);
	read->bio.bi_iter.bi_sector = sector;
	read->bio.bi_private = reads;
	read->bio.bi_end_io = read_ended;
	__bio_add_page(&read->bio, read->page, len, 0);
	atomic_inc(&reads->left);
	submit_bio(&read->bio);
}

static void end_read(struct block_read *read, struct ebb_super_witness *w)
{
	if (!read->page)
		return;
	w->known = !read->bio.bi_status;
	w->crc = ebb_format_crc(0, page_address(read->page), EBB_FORMAT_BLOCK);
	bio_uninit(&read->bio);
	__free_page(read->page);
}

void ebb_log_read_witnesses(struct ebb_disk *disk, struct ebb_super_witness *w, unsigned int nr)
{
	struct block_read *all = kcalloc(nr, sizeof(*all), GFP_NOIO);
	struct reads reads = { .left = ATOMIC_INIT(1) };
	unsigned int i;

	init_completion(&reads.done);
	for (i = 0; i < nr; i++)
		w[i].known = 0;
	if (!all)
		return;
	for (i = 0; i < nr; i++)
		begin_read(disk, w[i].block, &all[i], &reads);
	if (!atomic_dec_and_test(&reads.left))
		wait_for_completion_io(&reads.done);
	for (i = 0; i < nr; i++)
		end_read(&all[i], &w[i]);
	kfree(all);
}

static const struct ebb_super_witness *find(const struct ebb_super_witness *w, unsigned int nr,
					    u64 block)
{
	for (; nr; nr--, w++)
		if (w->block == block)
			return w;
	return NULL;
}

static bool is_hot(const struct ebb_log *log, u64 block)
{
	return test_bit(block >> log->shift, log->hot);
}

static bool is_on_disk(const struct ebb_log *log, u64 block)
{
	return test_bit(block >> log->shift, log->on_disk);
}

/* ---- when regions go cold ---- */

unsigned int ebb_log_read_cooling(struct ebb_log *log, struct ebb_super_witness *fresh)
{
	unsigned int nr = 0, i;
	u64 block;

	mutex_lock(&log->io);
	for (i = 0; i < log->super.nr_witnesses; i++) {
		block = log->super.witnesses[i].block;
		if (is_on_disk(log, block) && !is_hot(log, block))
			fresh[nr++].block = block;
	}
	mutex_unlock(&log->io);
	ebb_log_read_witnesses(log->disk, fresh, nr);
	return nr;
}

bool ebb_log_take_cooling(struct ebb_log *log, const struct ebb_super_witness *fresh,
			  unsigned int nr)
{
	const struct ebb_super_witness *new;
	struct ebb_super_witness *w;
	bool changed = false;
	unsigned int i;

	lockdep_assert_held(&log->io);
	for (i = 0; i < log->super.nr_witnesses; i++) {
		w = &log->super.witnesses[i];
		if (!is_on_disk(log, w->block) || is_hot(log, w->block))
			continue;
		/* One that came meanwhile was read then, and its region cold already. */
		new = find(fresh, nr, w->block);
		if (new)
			*w = *new;
		changed = true;
	}
	return changed;
}

/* ---- when they are chosen ---- */

static int blocks_of(const struct ebb_extent *extents, unsigned int nr,
		     struct ebb_super_witness *set)
{
	u64 block, end;
	int n = 0;

	for (; nr; nr--, extents++) {
		end = DIV_ROUND_UP_ULL(extents->sector + extents->nr_sectors, EBB_BLOCK_SECTORS);
		for (block = extents->sector >> EBB_BLOCK_SHIFT; block < end; block++) {
			if (n == EBB_WITNESSES_MAX)
				return -E2BIG;
			set[n++].block = block;
		}
	}
	return n;
}

/*
 * Takes over what is known of those that were witnesses before, so that a change of one does not
 * read them all; returns how many are to be read. Those in hot regions are not.
 */
static unsigned int keep_known(struct ebb_log *log, struct ebb_super_witness *set, unsigned int nr,
			       struct ebb_super_witness *fresh)
{
	const struct ebb_super *super = &log->super;
	const struct ebb_super_witness *old;
	unsigned int to_read = 0, i;

	lockdep_assert_held(&log->io);
	for (i = 0; i < nr; i++) {
		if (is_hot(log, set[i].block))
			continue;
		old = find(super->witnesses, super->nr_witnesses, set[i].block);
		/* A seal reads what may yet be written to, but that is marked. */
		if (old && old->known && !is_on_disk(log, old->block) &&
		    !ebb_log_region_is_marked(log, old->block >> log->shift))
			set[i] = *old;
		else
			fresh[to_read++].block = set[i].block;
	}
	return to_read;
}

static void take(struct ebb_log *log, struct ebb_super_witness *set, unsigned int nr,
		 const struct ebb_super_witness *fresh, unsigned int nr_fresh)
{
	const struct ebb_super_witness *new;
	unsigned int i;

	lockdep_assert_held(&log->io);
	for (i = 0; i < nr; i++) {
		new = find(fresh, nr_fresh, set[i].block);
		/* Hot, and not on disk: the write waits still. */
		if (new && !(is_hot(log, new->block) && is_on_disk(log, new->block)))
			set[i] = *new;
	}
	memcpy(log->super.witnesses, set, sizeof(log->super.witnesses));
	log->super.nr_witnesses = nr;
	if (!ebb_store_is_stuck(&log->store))
		ebb_log_write_super(log);
}

int ebb_log_witness(struct ebb_disk *disk, const struct ebb_extent *extents, unsigned int nr)
{
	struct ebb_super_witness *set, *fresh;
	struct ebb_log *log = disk->log;
	unsigned int to_read;
	int n;

	lockdep_assert_held(&ebb_mutex);
	if (!log)
		return -EOPNOTSUPP;
	set = kcalloc(2 * EBB_WITNESSES_MAX, sizeof(*set), GFP_KERNEL);
	if (!set)
		return -ENOMEM;
	fresh = set + EBB_WITNESSES_MAX;
	n = blocks_of(extents, nr, set);
	if (n < 0)
		goto out;
	mutex_lock(&log->io);
	to_read = keep_known(log, set, n, fresh);
	mutex_unlock(&log->io);
	/* Pairs with a write that makes its region hot before it goes on. */
	smp_mb();
	ebb_log_read_witnesses(disk, fresh, to_read);
	mutex_lock(&log->io);
	take(log, set, n, fresh, to_read);
	mutex_unlock(&log->io);
out:
	kfree(set);
	return min(n, 0);
}
