// SPDX-License-Identifier: GPL-2.0-only
/* The write-intent log while the disk is tracked: see log.h. */
#include <linux/bitmap.h>
#include <linux/ktime.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "compat/compat.h"
#include "group.h"
#include "log.h"

static struct workqueue_struct *late_wq;

unsigned long ebb_log_deadline(void)
{
	return msecs_to_jiffies(READ_ONCE(ebb_log_deadline_ms)) + 1;
}

struct ebb_format_id ebb_log_id(struct ebb_log *log, enum ebb_format_kind kind, u32 index)
{
	struct ebb_format_id id = {
		.kind = kind,
		.index = index,
		.uuid = kind == EBB_FORMAT_SUPER ? NULL : log->super.uuid,
	};

	return id;
}

/* ---- writing; under io ---- */

void ebb_log_fail(struct ebb_log *log)
{
	bool first;

	spin_lock_irq(&log->lock);
	first = !ebb_log_failed(log);
	WRITE_ONCE(log->state, EBB_LOG_FAILED);
	/*
	 * The next boot believes a seal that nothing contradicts. Devices are shut down one after
	 * the other, and a map device may be before the disk: what is written then must not be.
	 */
	WRITE_ONCE(log->barred, log->sealed && !log->told);
	spin_unlock_irq(&log->lock);
	if (!first)
		return;
	/* Nothing waits any more. */
	if (!READ_ONCE(log->barred))
		bitmap_fill(log->hot, log->nr_regions);
	pr_warn("ebb: %s: the write-intent log could not be written\n", log->disk->name);
	ebb_disk_flag(log->disk, EBB_RESYNC_MAP_FAILED);
	queue_work(log->wq, &log->heat_work);
}

int ebb_log_wq_init(void)
{
	late_wq = alloc_workqueue("ebb_log_late", EBB_WQ_FLAGS, 0);
	return late_wq ? 0 : -ENOMEM;
}

void ebb_log_wq_exit(void)
{
	destroy_workqueue(late_wq);
}

/* Into the slot whose turn it is; after an error the other one's is next. */
static int put_super(struct ebb_log *log)
{
	struct ebb_format_id id = ebb_log_id(log, EBB_FORMAT_SUPER, 0);
	int err;

	log->super_newer = !log->super_newer;
	log->super.reasons |= atomic_read(&log->disk->resync);
	ebb_super_encode(&log->super, ebb_store_page(&log->store, 1));
	ebb_format_encode(ebb_store_page(&log->store, 0), &id, ++log->seq,
			  ebb_store_page(&log->store, 1));
	ebb_store_write(&log->store, 0, log->super_newer, true);
	err = ebb_store_wait(&log->store);
	log->super_late = err == -ETIMEDOUT;
	return err;
}

/* The area says what became of the log: writes that were kept from going on do. */
static void was_told(struct ebb_log *log)
{
	bool barred;

	spin_lock_irq(&log->lock);
	log->told = true;
	barred = log->barred;
	WRITE_ONCE(log->barred, false);
	spin_unlock_irq(&log->lock);
	if (!barred)
		return;
	bitmap_fill(log->hot, log->nr_regions);
	queue_work(log->wq, &log->heat_work);
}

/*
 * It was the superblock that came late, and it says what is true: on a device that is slow for good
 * the next one would be no sooner there.
 */
static bool came_late(struct ebb_log *log)
{
	struct ebb_store *store = &log->store;
	bool is_there = ebb_store_is_back(store);

	lockdep_assert_held(&log->io);
	if (!is_there || !log->super_late)
		return false;
	log->super.reasons |= atomic_read(&log->disk->resync);
	ebb_super_encode(&log->super, ebb_store_page(store, 2));
	return !memcmp(ebb_store_page(store, 2), ebb_store_page(store, 1), EBB_FORMAT_PAYLOAD);
}

static void must_be_failed(struct ebb_log *log)
{
	if (log->super.state != EBB_SUPER_DETACHED)
		log->super.state = EBB_SUPER_FAILED;
}

/*
 * A part of the area may still take writes: it says so before anybody goes on. A later boot would
 * take the log for one that goes up to the crash.
 */
void ebb_log_give_up(struct ebb_log *log)
{
	unsigned int tries;

	lockdep_assert_held(&log->io);
	must_be_failed(log);
	for (tries = 0; tries < 2; tries++) {
		if (ebb_log_failed(log) || ebb_store_is_stuck(&log->store))
			break;
		if (!put_super(log)) {
			was_told(log);
			break;
		}
	}
	ebb_log_fail(log);
}

static int failed(struct ebb_log *log, int err)
{
	if (err && !ebb_log_failed(log))
		ebb_log_give_up(log);
	return err;
}

int ebb_log_write_super(struct ebb_log *log)
{
	int err;

	lockdep_assert_held(&log->io);
	if (ebb_store_is_stuck(&log->store))
		return failed(log, -ETIMEDOUT);
	if (ebb_log_failed(log))
		must_be_failed(log);
	err = put_super(log);
	if (!err && ebb_log_failed(log))
		was_told(log);
	return failed(log, err);
}

/* Starts writing a log block, by its payload in on_disk. */
static void start_log_block(struct ebb_log *log, unsigned int io, u32 index)
{
	struct ebb_format_id id = ebb_log_id(log, EBB_FORMAT_LOG, index);
	const char *payload = (const char *)log->on_disk + (size_t)index * EBB_FORMAT_PAYLOAD;

	ebb_format_encode(ebb_store_page(&log->store, io), &id, ++log->seq, payload);
	ebb_store_write(&log->store, io, ebb_log_block_of(index, !test_bit(index, log->newer)),
			true);
	WRITE_ONCE(log->writes, log->writes + 1);
}

int ebb_log_write_due(struct ebb_log *log)
{
	u32 batch[EBB_STORE_IOS], index = 0;
	unsigned int nr, i;
	int err;

	lockdep_assert_held(&log->io);
	if (ebb_log_failed(log))
		return -EIO;
	for (;;) {
		for (nr = 0; nr < EBB_STORE_IOS; nr++, index++) {
			index = find_next_bit(log->due, log->super.log_blocks, index);
			if (index >= log->super.log_blocks)
				break;
			batch[nr] = index;
			start_log_block(log, nr, index);
		}
		if (!nr)
			return 0;
		err = ebb_store_wait(&log->store);
		if (err)
			return failed(log, err);
		for (i = 0; i < nr; i++) {
			change_bit(batch[i], log->newer);
			clear_bit(batch[i], log->due);
		}
	}
}

void ebb_log_want(struct ebb_log *log, unsigned long first, unsigned long last)
{
	unsigned long r;

	lockdep_assert_held(&log->io);
	for (r = find_next_zero_bit(log->on_disk, last + 1, first); r <= last;
	     r = find_next_zero_bit(log->on_disk, last + 1, r + 1)) {
		__set_bit(r, log->on_disk);
		__set_bit(r / EBB_FORMAT_REGIONS, log->due);
	}
}

/* ---- holding ---- */

bool ebb_log_all_hot(const struct ebb_log *log, u64 first, u64 last)
{
	unsigned long end = (last >> log->shift) + 1;

	return find_next_zero_bit(log->hot, end, first >> log->shift) >= end;
}

bool ebb_log_hold(struct ebb_disk *disk, struct ebb_write *w)
{
	struct ebb_log *log = disk->log;
	unsigned long flags;
	bool held;

	w->held_at = ktime_get_ns();
	spin_lock_irqsave(&log->lock, flags);
	held = !ebb_log_failed(log) || log->barred;
	if (held) {
		list_add_tail(&w->held, &log->waiting);
		WRITE_ONCE(log->nr_held, log->nr_held + 1);
	}
	spin_unlock_irqrestore(&log->lock, flags);
	if (!held)
		return false;
	queue_work(log->wq, &log->heat_work);
	queue_delayed_work(late_wq, &log->late_work, ebb_log_deadline());
	return true;
}

static void set_hot(struct ebb_log *log, u64 first, u64 last)
{
	unsigned long r;

	for (r = first >> log->shift; r <= last >> log->shift; r++)
		if (!test_bit(r, log->hot))
			set_bit(r, log->hot);
}

/* Takes them off the list that the log has; who is late may have done so before. */
static void take(struct ebb_log *log, struct list_head *list, struct list_head *writes)
{
	spin_lock_irq(&log->lock);
	list_splice_tail_init(list, writes);
	spin_unlock_irq(&log->lock);
}

/*
 * Makes the regions of all that waits hot, on disk first. The writes stay in a list of the log, so
 * that they can be let go when this does not come to its end.
 */
static void heat_all(struct ebb_log *log)
{
	struct ebb_write *w;

	mutex_lock(&log->io);
	spin_lock_irq(&log->lock);
	list_splice_tail_init(&log->waiting, &log->heating);
	if (!ebb_log_failed(log))
		list_for_each_entry(w, &log->heating, held)
			ebb_log_want(log, w->first >> log->shift, w->last >> log->shift);
	spin_unlock_irq(&log->lock);
	if (!ebb_log_write_due(log)) {
		spin_lock_irq(&log->lock);
		list_for_each_entry(w, &log->heating, held)
			set_hot(log, w->first, w->last);
		spin_unlock_irq(&log->lock);
	}
	mutex_unlock(&log->io);
}

static void let_go(struct ebb_log *log, struct list_head *writes)
{
	struct ebb_disk *disk = log->disk;
	struct ebb_write *w, *next;
	u64 now = ktime_get_ns();
	struct blk_plug plug;
	bool held;

	blk_start_plug(&plug);
	list_for_each_entry_safe(w, next, writes, held) {
		if (now - w->held_at > READ_ONCE(log->held_ns_max))
			WRITE_ONCE(log->held_ns_max, now - w->held_at);
		list_del(&w->held);
		rcu_read_lock();
		held = READ_ONCE(disk->look) && ebb_write_look_closer(disk, w);
		rcu_read_unlock();
		if (held)
			continue;
		/* Here it may wait; its sender was told long ago that it need not. */
		w->bio->bi_opf &= ~REQ_NOWAIT;
		submit_bio_noacct(w->bio);
	}
	blk_finish_plug(&plug);
}

static void heat_work(struct work_struct *work)
{
	struct ebb_log *log = container_of(work, struct ebb_log, heat_work);
	unsigned int noio = memalloc_noio_save();
	LIST_HEAD(go);

	while (!list_empty_careful(&log->waiting) || !list_empty_careful(&log->heating)) {
		heat_all(log);
		if (READ_ONCE(log->barred))
			break;
		take(log, &log->heating, &go);
		let_go(log, &go);
	}
	memalloc_noio_restore(noio);
}

/* Of those that wait; NULL: nobody does. Under lock. */
static const struct ebb_write *oldest(struct ebb_log *log)
{
	const struct ebb_write *w;

	w = list_first_entry_or_null(&log->heating, struct ebb_write, held);
	return w ? w : list_first_entry_or_null(&log->waiting, struct ebb_write, held);
}

static u64 limit_ns(void)
{
	return (u64)READ_ONCE(ebb_log_deadline_ms) * NSEC_PER_MSEC;
}

bool ebb_log_is_late(struct ebb_log *log)
{
	const struct ebb_write *w;
	bool late;

	spin_lock_irq(&log->lock);
	w = oldest(log);
	late = w && ktime_get_ns() - w->held_at >= limit_ns();
	spin_unlock_irq(&log->lock);
	return late;
}

/*
 * Sending a block on its way may itself wait without limit, for a queue that is frozen or full:
 * then nobody but this work sees that the deadline has passed.
 */
static void late_work(struct work_struct *work)
{
	struct ebb_log *log = container_of(work, struct ebb_log, late_work.work);
	u64 limit = limit_ns(), age = 0;
	const struct ebb_write *w;
	bool sealing;
	LIST_HEAD(go);

	spin_lock_irq(&log->lock);
	/* After the seal nobody is let go for being late. */
	w = log->sealed ? NULL : oldest(log);
	if (w)
		age = ktime_get_ns() - w->held_at;
	sealing = log->sealing;
	spin_unlock_irq(&log->lock);
	if (!w)
		return;
	if (age < limit || sealing) {
		/* A seal sees itself that it is late. */
		queue_delayed_work(late_wq, &log->late_work,
				   age < limit ? nsecs_to_jiffies(limit - age) + 1 : HZ / 10);
		return;
	}
	ebb_log_fail(log);
	if (READ_ONCE(log->barred))
		return;
	take(log, &log->heating, &go);
	take(log, &log->waiting, &go);
	let_go(log, &go);
}

/* ---- the superblock, now and then ---- */

static void note_work(struct work_struct *work)
{
	struct ebb_log *log = container_of(work, struct ebb_log, note_work);
	unsigned int noio = memalloc_noio_save();

	mutex_lock(&log->io);
	if (!ebb_store_is_stuck(&log->store) && !READ_ONCE(log->closing)) {
		if (!came_late(log))
			ebb_log_write_super(log);
		else if (ebb_log_failed(log))
			was_told(log);
	}
	mutex_unlock(&log->io);
	memalloc_noio_restore(noio);
}

void ebb_log_note_soon(struct ebb_log *log)
{
	queue_work(log->wq, &log->note_work);
}

/* I/O that took too long has come to its end: it may be possible to say that the log failed. */
static void store_is_back(struct ebb_store *store)
{
	ebb_log_note_soon(container_of(store, struct ebb_log, store));
}

/* ---- commands; under ebb_mutex ---- */

void ebb_log_heat(struct ebb_disk *disk, u64 first, u64 last)
{
	struct ebb_log *log = disk->log;

	lockdep_assert_held(&ebb_mutex);
	if (!log)
		return;
	mutex_lock(&log->io);
	if (!ebb_log_failed(log)) {
		ebb_log_want(log, first >> log->shift, last >> log->shift);
		if (!ebb_log_write_due(log))
			set_hot(log, first, last);
	}
	mutex_unlock(&log->io);
}

static void make_anew(struct ebb_log *log)
{
	u8 boot_id[EBB_UUID_LEN];

	memcpy(boot_id, log->super.boots[log->super.nr_boots - 1], EBB_UUID_LEN);
	spin_lock_irq(&log->lock);
	WRITE_ONCE(log->state, EBB_LOG_ACTIVE);
	log->sealed = false;
	log->told = false;
	WRITE_ONCE(log->barred, false);
	spin_unlock_irq(&log->lock);
	queue_work(log->wq, &log->heat_work);
	ebb_log_create(log, boot_id);
}

void ebb_log_mark_all(struct ebb_disk *disk)
{
	struct ebb_log *log = disk->log;

	lockdep_assert_held(&ebb_mutex);
	if (!log)
		return;
	mutex_lock(&log->io);
	if (ebb_log_failed(log) && !ebb_store_is_stuck(&log->store))
		make_anew(log);
	if (!ebb_log_failed(log)) {
		/* Reasons go from the area after the log says the same. */
		ebb_log_want(log, 0, log->nr_regions - 1);
		if (!ebb_log_write_due(log)) {
			bitmap_fill(log->hot, log->nr_regions);
			atomic_andnot(1 << EBB_RESYNC_MAP_FAILED, &disk->resync);
			log->super.reasons = 0;
			ebb_log_write_super(log);
		}
	}
	mutex_unlock(&log->io);
}

/* Drops the marks that regions had none since they were looked at: these blocks had. */
static void forget_idle(struct ebb_log *log, const struct ebb_map *map)
{
	struct ebb_run run;
	unsigned long r;
	u64 block = 0;

	while (ebb_map_next(map, block, &run)) {
		block = run.block + run.nr;
		for (r = run.block >> log->shift; r <= (block - 1) >> log->shift; r++)
			__clear_bit(r, log->idle);
		cond_resched();
	}
}

void ebb_log_cookie(struct ebb_disk *disk, const void *cookie)
{
	struct ebb_log *log = disk->log;

	lockdep_assert_held(&ebb_mutex);
	if (!log)
		return;
	mutex_lock(&log->io);
	memcpy(log->super.cookie, cookie, EBB_COOKIE_LEN);
	if (!ebb_store_is_stuck(&log->store))
		ebb_log_write_super(log);
	mutex_unlock(&log->io);
}

void ebb_log_confirm(struct ebb_disk *disk, const void *cookie)
{
	struct ebb_log *log = disk->log;
	unsigned long due;

	lockdep_assert_held(&ebb_mutex);
	if (!log)
		return;
	if (cookie)
		ebb_log_cookie(disk, cookie);
	forget_idle(log, &disk->unconfirmed);
	due = log->cooled_at + READ_ONCE(ebb_log_cool_s) * HZ;
	if (time_after_eq(jiffies, due) && !log->closing && !ebb_log_failed(log) && !log->sealed) {
		log->cooled_at = jiffies;
		queue_work(system_unbound_wq, &log->cool_work);
	}
}

/* ---- life ---- */

u64 ebb_log_bytes(const struct ebb_log *log)
{
	if (!log)
		return 0;
	return sizeof(*log) + EBB_STORE_IOS * PAGE_SIZE +
	       3 * PAGE_ALIGN((u64)log->super.log_blocks * EBB_FORMAT_PAYLOAD);
}

/* Large ones by the page: kvzalloc() may take nearly twice as much. */
static void *alloc_bits(size_t bytes)
{
	return bytes > PAGE_SIZE ? vzalloc(bytes) : kzalloc(bytes, GFP_KERNEL);
}

static int alloc_bitmaps(struct ebb_log *log)
{
	size_t regions = (size_t)log->super.log_blocks * EBB_FORMAT_PAYLOAD;
	size_t blocks = BITS_TO_LONGS(log->super.log_blocks) * sizeof(long);

	log->hot = alloc_bits(regions);
	log->on_disk = alloc_bits(regions);
	log->idle = alloc_bits(regions);
	log->newer = alloc_bits(blocks);
	log->due = alloc_bits(blocks);
	return log->hot && log->on_disk && log->idle && log->newer && log->due ? 0 : -ENOMEM;
}

static int open_store(struct ebb_log *log, const struct ebb_log_options *options, const char **why)
{
	static char words[64];	/* under ebb_mutex; read when the answer is made */
	struct ebb_format_geometry g;

	ebb_format_geometry(log->disk->sectors, &g);
	if (options->sectors < g.area_sectors) {
		snprintf(words, sizeof(words), "the map area needs %llu sectors", g.area_sectors);
		*why = words;
		return -ENOSPC;
	}
	log->shift = ilog2(g.region_sectors / EBB_BLOCK_SECTORS);
	log->nr_regions = g.regions;
	log->super.disk_sectors = log->disk->sectors;
	log->super.region_sectors = g.region_sectors;
	log->super.log_blocks = g.log_blocks;
	log->super.fine_blocks = g.fine_blocks;
	return ebb_store_open(&log->store, options->dev, options->sector, g.area_sectors,
			      log->disk->gd, store_is_back, why);
}

struct ebb_log *ebb_log_new(struct ebb_disk *disk, const struct ebb_log_options *options,
			    const char **why)
{
	struct ebb_log *log = kvzalloc(sizeof(*log), GFP_KERNEL);
	int err;

	if (!log)
		return ERR_PTR(-ENOMEM);
	log->disk = disk;
	disk->log = log;
	spin_lock_init(&log->lock);
	INIT_LIST_HEAD(&log->waiting);
	INIT_LIST_HEAD(&log->heating);
	mutex_init(&log->io);
	init_waitqueue_head(&log->read_wait);
	INIT_WORK(&log->heat_work, heat_work);
	INIT_DELAYED_WORK(&log->late_work, late_work);
	INIT_WORK(&log->note_work, note_work);
	INIT_WORK(&log->cool_work, ebb_log_cool_work);
	log->cooled_at = jiffies;
	log->wq = alloc_workqueue("ebb_log/%s", EBB_WQ_FLAGS, 0, disk->name);
	err = log->wq ? open_store(log, options, why) : -ENOMEM;
	if (!err)
		err = alloc_bitmaps(log);
	if (!err)
		return log;
	ebb_log_free(disk);
	return ERR_PTR(err);
}

void ebb_log_free(struct ebb_disk *disk)
{
	struct ebb_log *log = disk->log;

	if (!log)
		return;
	cancel_delayed_work_sync(&log->late_work);
	flush_work(&log->heat_work);
	ebb_log_settle_reads(log);
	ebb_store_settle(&log->store);
	flush_work(&log->note_work);
	ebb_store_close(&log->store);
	if (log->wq)
		destroy_workqueue(log->wq);
	disk->log = NULL;
	kvfree(log->hot);
	kvfree(log->on_disk);
	kvfree(log->idle);
	kvfree(log->newer);
	kvfree(log->due);
	kvfree(log);
}

static void say_state(struct ebb_log *log, u32 state)
{
	mutex_lock(&log->io);
	if (!ebb_log_failed(log) || state == EBB_SUPER_DETACHED)
		log->super.state = state;
	if (!ebb_store_is_stuck(&log->store))
		ebb_log_write_super(log);
	mutex_unlock(&log->io);
}

void ebb_log_detach(struct ebb_disk *disk)
{
	lockdep_assert_held(&ebb_mutex);
	if (!disk->log)
		return;
	WRITE_ONCE(disk->log->closing, true);
	say_state(disk->log, EBB_SUPER_DETACHED);
}

void ebb_log_resume(struct ebb_disk *disk)
{
	lockdep_assert_held(&ebb_mutex);
	if (!disk->log)
		return;
	WRITE_ONCE(disk->log->closing, false);
	say_state(disk->log, EBB_SUPER_ACTIVE);
}

void ebb_log_stop(struct ebb_disk *disk)
{
	struct ebb_log *log = disk->log;

	if (!log)
		return;
	cancel_work_sync(&log->cool_work);
	if (!ebb_log_failed(log))
		return;
	/* What was stuck is over some day; then the area can be told. */
	ebb_store_settle(&log->store);
	say_state(log, EBB_SUPER_DETACHED);
}
