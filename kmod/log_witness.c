// SPDX-License-Identifier: GPL-2.0-only
/*
 * The log's witnesses: blocks of the tracked disk that tell whether somebody wrote to it while
 * nobody tracked it, each with a checksum. That counts where the region of a block is cold on the
 * map device: a region which is cold now has not been written to since it went cold, for only we
 * make it cold.
 */
#include <linux/bio.h>
#include <linux/completion.h>
#include <linux/refcount.h>
#include <linux/slab.h>

#include "compat/compat.h"
#include "group.h"
#include "log.h"

#define READS_MAX	4	/* that were not waited for to their end */

struct reads;

struct block_read {
	struct reads	*reads;
	struct page	*page;
	struct bio_vec	vec;
	struct bio	bio;	/* last: its own vectors, which are not used */
};

/* Who comes last frees it: the last block, or who waits, since that may have had enough. */
struct reads {
	struct ebb_log		*log;
	refcount_t		users;
	atomic_t		left;
	struct completion	done;
	struct block_read	*all[EBB_WITNESSES_MAX];
};

static struct reads *new_reads(struct ebb_log *log)
{
	struct reads *reads = kzalloc(sizeof(*reads), GFP_NOIO);

	if (!reads)
		return NULL;
	reads->log = log;
	refcount_set(&reads->users, 2);
	atomic_set(&reads->left, 1);
	init_completion(&reads->done);
	atomic_inc(&log->reading);
	return reads;
}

static void free_block(struct block_read *read)
{
	bio_uninit(&read->bio);
	__free_page(read->page);
	kfree(read);
}

static void put_reads(struct reads *reads)
{
	unsigned int i;

	if (!refcount_dec_and_test(&reads->users))
		return;
	for (i = 0; i < EBB_WITNESSES_MAX; i++)
		if (reads->all[i])
			free_block(reads->all[i]);
	kfree(reads);
}

static void one_less(struct reads *reads)
{
	struct ebb_log *log = reads->log;

	if (!atomic_dec_and_test(&reads->left))
		return;
	/* Pairs with ebb_log_settle_reads(). */
	rcu_read_lock();
	complete(&reads->done);
	put_reads(reads);
	if (atomic_dec_and_test(&log->reading))
		wake_up_all(&log->read_wait);
	rcu_read_unlock();
}

static void read_ended(struct bio *bio)
{
	one_less(container_of(bio, struct block_read, bio)->reads);
}

static struct block_read *begin_read(struct reads *reads, u64 block)
{
	struct ebb_disk *disk = reads->log->disk;
	u64 sector = block << EBB_BLOCK_SHIFT;
	unsigned int len = min_t(u64, disk->sectors - sector, EBB_BLOCK_SECTORS) << SECTOR_SHIFT;
	struct block_read *read = kzalloc(sizeof(*read), GFP_NOIO);

	if (!read)
		return NULL;
	read->page = alloc_page(GFP_NOIO | __GFP_ZERO);
	if (!read->page) {
		kfree(read);
		return NULL;
	}
	read->reads = reads;
	ebb_bio_init_own(&read->bio, ebb_disk_bdev(disk), &read->vec, REQ_OP_READ | REQ_SYNC);
	read->bio.bi_iter.bi_sector = sector;
	read->bio.bi_end_io = read_ended;
	__bio_add_page(&read->bio, read->page, len, 0);
	atomic_inc(&reads->left);
	submit_bio(&read->bio);
	return read;
}

static int end_read(const struct block_read *read, struct ebb_super_witness *w)
{
	if (!read)
		return -ENOMEM;
	if (read->bio.bi_status)
		return -EIO;
	w->crc = ebb_format_crc(0, page_address(read->page), EBB_FORMAT_BLOCK);
	w->known = 1;
	return 0;
}

static int wait_for_reads(struct reads *reads, unsigned long limit)
{
	if (limit)
		return wait_for_completion_io_timeout(&reads->done, limit) ? 0 : -ETIMEDOUT;
	/* A disk may stand still for longer than a task may hang. */
	while (!wait_for_completion_io_timeout(&reads->done, 10 * HZ))
		;
	return 0;
}

int ebb_log_read_witnesses(struct ebb_log *log, struct ebb_super_witness *w, unsigned int nr,
			   unsigned long limit)
{
	struct reads *reads;
	unsigned int i;
	int err, why;

	for (i = 0; i < nr; i++)
		w[i].known = 0;
	if (!nr)
		return 0;
	if (limit && atomic_read(&log->reading) >= READS_MAX)
		return -ETIMEDOUT;
	reads = new_reads(log);
	if (!reads)
		return -ENOMEM;
	for (i = 0; i < nr; i++)
		reads->all[i] = begin_read(reads, w[i].block);
	one_less(reads);
	err = wait_for_reads(reads, limit);
	if (err)
		nr = 0;
	for (i = 0; i < nr; i++) {
		why = end_read(reads->all[i], &w[i]);
		if (why)
			err = why;
	}
	put_reads(reads);
	return err;
}

void ebb_log_settle_reads(struct ebb_log *log)
{
	wait_event(log->read_wait, !atomic_read(&log->reading));
	/* Who completed the last one has left it. */
	synchronize_rcu();
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
	ebb_log_read_witnesses(log, fresh, nr, 0);
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
		/* What was not read says nothing of a cold region: it is tried again. */
		if (!w->known)
			set_bit(w->block >> log->shift, log->hot);
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
		if (new && !is_hot(log, new->block))
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
	int err = 0, n;

	lockdep_assert_held(&ebb_mutex);
	if (!log)
		return -EOPNOTSUPP;
	set = kcalloc(2 * EBB_WITNESSES_MAX, sizeof(*set), GFP_KERNEL);
	if (!set)
		return -ENOMEM;
	fresh = set + EBB_WITNESSES_MAX;
	n = blocks_of(extents, nr, set);
	if (n < 0) {
		err = n;
		goto out;
	}
	mutex_lock(&log->io);
	to_read = keep_known(log, set, n, fresh);
	mutex_unlock(&log->io);
	/* Pairs with a write that makes its region hot before it goes on. */
	smp_mb();
	err = ebb_log_read_witnesses(log, fresh, to_read, ebb_log_deadline());
	mutex_lock(&log->io);
	take(log, set, n, fresh, to_read);
	mutex_unlock(&log->io);
out:
	kfree(set);
	return err;
}
