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

/* What is not hot is not on disk either, witnesses first. */
static void write_cold(struct ebb_log *log, const struct ebb_super_witness *fresh, unsigned int nr)
{
	unsigned long i, word;

	lockdep_assert_held(&log->io);
	if (ebb_log_take_cooling(log, fresh, nr) && ebb_log_write_super(log))
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
	struct ebb_super_witness *fresh;
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
	nr = ebb_log_read_cooling(log, fresh);
	mutex_lock(&ebb_mutex);
	mutex_lock(&log->io);
	if (may_cool(log))
		write_cold(log, fresh, nr);
	mutex_unlock(&log->io);
	mutex_unlock(&ebb_mutex);
out:
	kfree(fresh);
}
