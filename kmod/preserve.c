// SPDX-License-Identifier: GPL-2.0-only
/*
 * Preserving before overwriting: see preserve.h.
 *
 * A block is read only when all writes of generations up to the cut have landed on its disk. Then
 * its copy is published in the disk's table, and then the writers go on in order of arrival. When
 * the oldest of them has waited for the deadline, or the pool is empty, or the read failed, the
 * pass becomes void first, and then they go on.
 */
#include <linux/interval_tree_generic.h>
#include <linux/ktime.h>
#include <linux/slab.h>

#include "compat/compat.h"
#include "pass.h"
#include "preserve.h"

#define READ_BLOCKS	32	/* of one read, at most */
#define RELEASE_BATCH	32	/* held writes that are looked at with interrupts off */

static struct workqueue_struct *read_wq;
static struct workqueue_struct *deadline_wq;
static struct bio_set read_bios;

/* ---- the pool ---- */

int ebb_pool_init(struct ebb_pool *pool, u64 bytes)
{
	u32 nr = bytes / PAGE_SIZE;
	u32 i;

	might_sleep();
	spin_lock_init(&pool->lock);
	INIT_LIST_HEAD(&pool->free);
	pool->keeps = kvcalloc(max(nr, 1u), sizeof(*pool->keeps), GFP_KERNEL);
	if (!pool->keeps)
		return -ENOMEM;
	for (i = 0; i < nr; i++) {
		pool->keeps[i].page = alloc_page(GFP_KERNEL);
		if (!pool->keeps[i].page) {
			ebb_pool_exit(pool);
			return -ENOMEM;
		}
		list_add_tail(&pool->keeps[i].list, &pool->free);
		pool->nr++;
	}
	return 0;
}

void ebb_pool_exit(struct ebb_pool *pool)
{
	u32 i;

	WARN_ON_ONCE(pool->used);
	for (i = 0; i < pool->nr; i++)
		__free_page(pool->keeps[i].page);
	kvfree(pool->keeps);
	memset(pool, 0, sizeof(*pool));
}

void ebb_pool_new_peak(struct ebb_pool *pool)
{
	spin_lock_irq(&pool->lock);
	pool->peak = pool->used;
	spin_unlock_irq(&pool->lock);
}

/* Both under hold_lock, and so with interrupts off. */
static struct ebb_keep *pool_take(struct ebb_pool *pool)
{
	struct ebb_keep *keep;

	lockdep_assert_irqs_disabled();
	spin_lock(&pool->lock);
	keep = list_first_entry_or_null(&pool->free, struct ebb_keep, list);
	if (keep) {
		list_del_init(&keep->list);
		pool->used++;
		pool->peak = max(pool->peak, pool->used);
	}
	spin_unlock(&pool->lock);
	return keep;
}

static void pool_give(struct ebb_pool *pool, struct ebb_keep *keep)
{
	lockdep_assert_irqs_disabled();
	spin_lock(&pool->lock);
	list_add(&keep->list, &pool->free);
	pool->used--;
	spin_unlock(&pool->lock);
}

/* ---- what is kept of a disk; under hold_lock ---- */

static struct ebb_keep *find_keep(struct ebb_disk *disk, u64 block)
{
	struct ebb_keep *keep;

	lockdep_assert_held(&disk->hold_lock);
	hash_for_each_possible(disk->keeps, keep, node, block)
		if (keep->block == block)
			return keep;
	return NULL;
}

/* Takes a block out of the table; one that is being read is freed when that is over. */
static void drop_keep(struct ebb_disk *disk, struct ebb_keep *keep)
{
	lockdep_assert_held(&disk->hold_lock);
	hash_del(&keep->node);
	if (keep->state == EBB_KEEP_READING) {
		keep->orphan = true;
		return;
	}
	list_del_init(&keep->list);
	pool_give(&disk->group->pool, keep);
}

/* The first block from there on that has to be kept; beyond @last: none. */
static u64 next_kept(struct ebb_disk *disk, u64 block, u64 last)
{
	return READ_ONCE(disk->whole) ? block : ebb_map_first(ebb_pass_map(disk), block, last);
}

static bool is_preserving(struct ebb_disk *disk)
{
	lockdep_assert_held(&disk->hold_lock);
	return ebb_disk_looks(disk, EBB_LOOK_FROZEN) && ebb_pass_is_live(disk->group);
}

/* ---- holding ---- */

#define FIRST(w)	((w)->first)
#define LAST(w)		((w)->last)

INTERVAL_TREE_DEFINE(struct ebb_write, rb, u64, subtree_last, FIRST, LAST, static, held_tree)

#undef FIRST
#undef LAST

/* Sees to it that the blocks are going to be preserved: 1 they are not yet, 0 they are. */
static int claim_blocks(struct ebb_disk *disk, struct ebb_write *w)
{
	struct ebb_keep *keep;
	int wait = 0;
	u64 block;

	lockdep_assert_held(&disk->hold_lock);
	/* A discard may be of a million blocks: at most as many are looked at as the pool has. */
	for (block = next_kept(disk, w->first, w->last); block <= w->last;
	     block = next_kept(disk, block + 1, w->last)) {
		keep = find_keep(disk, block);
		if (!keep) {
			keep = pool_take(&disk->group->pool);
			if (!keep)
				return -ENOMEM;
			keep->block = block;
			keep->state = EBB_KEEP_QUEUED;
			keep->orphan = false;
			hash_add(disk->keeps, &keep->node, block);
			list_add_tail(&keep->list, &disk->to_read);
		}
		if (keep->state != EBB_KEEP_DONE)
			wait = 1;
	}
	return wait;
}

/* Whether a write that is held goes to a block of it. */
static bool meets_held(struct ebb_disk *disk, struct ebb_write *w)
{
	lockdep_assert_held(&disk->hold_lock);
	return held_tree_iter_first(&disk->held_tree, w->first, w->last);
}

/* The same of one that is held itself, and those that came before it. */
static bool is_behind(struct ebb_disk *disk, struct ebb_write *w)
{
	struct ebb_write *other;

	lockdep_assert_held(&disk->hold_lock);
	if (list_first_entry(&disk->held, struct ebb_write, held) == w)
		return false;
	for (other = held_tree_iter_first(&disk->held_tree, w->first, w->last); other;
	     other = held_tree_iter_next(other, w->first, w->last))
		if ((s32)(other->order - w->order) < 0)
			return true;
	return false;
}

static void add_held(struct ebb_disk *disk, struct ebb_write *w)
{
	w->held_at = ktime_get_ns();
	w->next = w->first;
	w->order = disk->nr_held++;
	list_add_tail(&w->held, &disk->held);
	held_tree_insert(w, &disk->held_tree);
	atomic64_inc(&disk->group->pass.held);
}

static bool is_frozen(struct ebb_disk *disk, struct ebb_write *w)
{
	/* Pairs with ebb_preserve_begin(): EBB_LOOK_FROZEN is set after the rest. */
	smp_rmb();
	if (w->gen <= READ_ONCE(disk->cut_gen))
		return false;
	return READ_ONCE(disk->whole) || ebb_map_any(ebb_pass_map(disk), w->first, w->last);
}

bool ebb_preserve_hold(struct ebb_disk *disk, struct ebb_write *w)
{
	unsigned long flags;
	bool hold = false;
	int wait = 0;

	RCU_LOCKDEP_WARN(!rcu_read_lock_held(), "the disk may go");
	if (!ebb_pass_is_live(disk->group) || !is_frozen(disk, w))
		return false;
	spin_lock_irqsave(&disk->hold_lock, flags);
	if (is_preserving(disk) && w->gen > READ_ONCE(disk->cut_gen)) {
		wait = claim_blocks(disk, w);
		hold = wait > 0 || (!wait && meets_held(disk, w));
	}
	if (hold) {
		add_held(disk, w);
		queue_delayed_work(deadline_wq, &disk->deadline_work,
				   msecs_to_jiffies(READ_ONCE(ebb_hold_deadline_ms)));
		if (READ_ONCE(disk->drained))
			queue_work(read_wq, &disk->read_work);
	} else if (wait < 0) {
		ebb_pass_void(disk->group, 0, EBB_VOID_POOL_FULL);
	}
	spin_unlock_irqrestore(&disk->hold_lock, flags);
	return hold;
}

void ebb_preserve_kick(struct ebb_disk *disk)
{
	if (READ_ONCE(disk->drained))
		queue_work(read_wq, &disk->read_work);
	queue_work(disk->release_wq, &disk->release_work);
}

/* ---- letting go ---- */

static bool may_go(struct ebb_disk *disk, struct ebb_write *w)
{
	struct ebb_keep *keep;

	/*
	 * One that an earlier pass held, and that was not sent before the next began, belongs to
	 * what that one closed: it waits for this write to land, not the other way round.
	 */
	if (!is_preserving(disk) || w->gen <= READ_ONCE(disk->cut_gen))
		return true;
	for (;; w->next++) {
		w->next = next_kept(disk, w->next, w->last);
		if (w->next > w->last)
			break;
		keep = find_keep(disk, w->next);
		/* None at all: the mark is a stray one, and who left it makes the pass void. */
		if (!keep || keep->state != EBB_KEEP_DONE)
			return false;
	}
	return !is_behind(disk, w);
}

static void count_held(struct ebb_disk *disk, struct ebb_write *w)
{
	u64 ns = ktime_get_ns() - w->held_at;
	atomic64_t *max = &disk->group->pass.held_ns_max;
	s64 old = atomic64_read(max);

	lockdep_assert_held(&disk->hold_lock);
	disk->held_ns += ns;
	disk->held_ns_max = max(disk->held_ns_max, ns);
	while (old < (s64)ns && !atomic64_try_cmpxchg(max, &old, ns))
		;
}

static void release_work(struct work_struct *work)
{
	struct ebb_disk *disk = container_of(work, struct ebb_disk, release_work);
	struct ebb_write *w, *next;
	struct blk_plug plug;
	unsigned int nr = 0;
	LIST_HEAD(go);

	spin_lock_irq(&disk->hold_lock);
	list_for_each_entry_safe(w, next, &disk->held, held) {
		/* Interrupts come in between: nobody but this work takes any off the list. */
		if (++nr % RELEASE_BATCH == 0) {
			spin_unlock_irq(&disk->hold_lock);
			cond_resched();
			spin_lock_irq(&disk->hold_lock);
			next = list_next_entry(w, held);
		}
		if (!may_go(disk, w))
			continue;
		count_held(disk, w);
		held_tree_remove(w, &disk->held_tree);
		list_move_tail(&w->held, &go);
	}
	spin_unlock_irq(&disk->hold_lock);
	blk_start_plug(&plug);
	list_for_each_entry_safe(w, next, &go, held) {
		/* Here it may wait; its sender was told long ago that it need not. */
		w->bio->bi_opf &= ~REQ_NOWAIT;
		submit_bio_noacct(w->bio);
	}
	blk_finish_plug(&plug);
}

/* The oldest write that waits for this pass; those of an earlier one are about to go. */
static struct ebb_write *oldest_held(struct ebb_disk *disk)
{
	struct ebb_write *w;

	if (is_preserving(disk))
		list_for_each_entry(w, &disk->held, held)
			if (w->gen > READ_ONCE(disk->cut_gen))
				return w;
	return NULL;
}

static void deadline_work(struct work_struct *work)
{
	struct ebb_disk *disk = container_of(work, struct ebb_disk, deadline_work.work);
	u64 limit = (u64)READ_ONCE(ebb_hold_deadline_ms) * NSEC_PER_MSEC, age;
	struct ebb_write *w;

	spin_lock_irq(&disk->hold_lock);
	w = oldest_held(disk);
	if (w) {
		age = ktime_get_ns() - w->held_at;
		if (age >= limit)
			ebb_pass_void(disk->group, 0, EBB_VOID_DEADLINE);
		else
			queue_delayed_work(deadline_wq, &disk->deadline_work,
					   nsecs_to_jiffies(limit - age) + 1);
	}
	spin_unlock_irq(&disk->hold_lock);
}

/* ---- reading ---- */

static void kept(struct ebb_disk *disk, struct ebb_keep *keep, bool failed)
{
	lockdep_assert_held(&disk->hold_lock);
	list_del_init(&keep->list);
	if (keep->orphan) {
		pool_give(&disk->group->pool, keep);
		return;
	}
	keep->state = failed ? EBB_KEEP_FAILED : EBB_KEEP_DONE;
	if (failed) {
		ebb_pass_void(disk->group, 0, EBB_VOID_PRESERVE_ERROR);
	} else {
		disk->nr_preserved++;
		atomic64_inc(&disk->group->pass.preserved);
	}
}

struct read {
	struct ebb_disk		*disk;
	struct list_head	keeps;
	struct bio		bio;	/* last: the bio_set puts its vectors behind it */
};

static void read_done(struct bio *bio)
{
	struct read *r = container_of(bio, struct read, bio);
	struct ebb_disk *disk = r->disk;
	struct ebb_keep *keep, *next;
	unsigned long flags;

	spin_lock_irqsave(&disk->hold_lock, flags);
	list_for_each_entry_safe(keep, next, &r->keeps, list)
		kept(disk, keep, bio->bi_status);
	spin_unlock_irqrestore(&disk->hold_lock, flags);
	bio_put(bio);
	queue_work(disk->release_wq, &disk->release_work);
	rcu_read_lock();
	if (atomic_dec_and_test(&disk->busy))
		wake_up_all(&disk->idle);
	rcu_read_unlock();
}

/* Adjacent blocks that wait to be read, from the first on. */
static unsigned int gather(struct ebb_disk *disk, struct list_head *keeps)
{
	struct ebb_keep *keep;
	unsigned int nr = 0;
	u64 block = 0;

	lockdep_assert_held(&disk->hold_lock);
	while (nr < READ_BLOCKS) {
		keep = list_first_entry_or_null(&disk->to_read, struct ebb_keep, list);
		if (!keep || (nr && keep->block != block))
			break;
		list_move_tail(&keep->list, keeps);
		keep->state = EBB_KEEP_READING;
		block = keep->block + 1;
		nr++;
	}
	return nr;
}

static void read_blocks(struct ebb_disk *disk, struct list_head *keeps, unsigned int nr)
{
	struct ebb_keep *keep;
	struct read *r;
	struct bio *bio;
	u64 left;

	bio = ebb_bio_alloc_read(ebb_disk_bdev(disk), nr, GFP_NOIO, &read_bios);
	r = container_of(bio, struct read, bio);
	r->disk = disk;
	INIT_LIST_HEAD(&r->keeps);
	list_splice_init(keeps, &r->keeps);
	keep = list_first_entry(&r->keeps, struct ebb_keep, list);
	bio->bi_iter.bi_sector = keep->block << EBB_BLOCK_SHIFT;
	bio->bi_end_io = read_done;
	list_for_each_entry(keep, &r->keeps, list) {
		left = (disk->sectors - (keep->block << EBB_BLOCK_SHIFT)) << SECTOR_SHIFT;
		__bio_add_page(bio, keep->page, min_t(u64, left, EBB_BLOCK_BYTES), 0);
	}
	atomic_inc(&disk->busy);
	submit_bio_noacct(bio);
}

static void read_work(struct work_struct *work)
{
	struct ebb_disk *disk = container_of(work, struct ebb_disk, read_work);
	unsigned int nr;
	LIST_HEAD(keeps);

	for (;;) {
		spin_lock_irq(&disk->hold_lock);
		nr = is_preserving(disk) && READ_ONCE(disk->drained) ? gather(disk, &keeps) : 0;
		spin_unlock_irq(&disk->hold_lock);
		if (!nr)
			return;
		read_blocks(disk, &keeps, nr);
	}
}

bool ebb_preserve_get(struct ebb_disk *disk, u64 block, unsigned int offset, unsigned int len,
		      void *to)
{
	struct ebb_keep *keep;
	unsigned long flags;
	bool found;
	void *from;

	spin_lock_irqsave(&disk->hold_lock, flags);
	keep = find_keep(disk, block);
	found = keep && keep->state == EBB_KEEP_DONE;
	if (found && to) {
		from = kmap_local_page(keep->page);
		memcpy(to, from + offset, len);
		kunmap_local(from);
	}
	spin_unlock_irqrestore(&disk->hold_lock, flags);
	return found;
}

/* ---- over the time of a pass ---- */

void ebb_preserve_begin(struct ebb_disk *disk, bool whole)
{
	lockdep_assert_held(&ebb_mutex);
	spin_lock_irq(&disk->hold_lock);
	WRITE_ONCE(disk->whole, whole);
	/* Pairs with is_frozen(). */
	smp_wmb();
	set_bit(EBB_LOOK_FROZEN, &disk->look);
	spin_unlock_irq(&disk->hold_lock);
}

void ebb_preserve_end(struct ebb_disk *disk)
{
	struct hlist_node *next;
	struct ebb_keep *keep;
	int i;

	lockdep_assert_held(&ebb_mutex);
	for (i = 0; i < HASH_SIZE(disk->keeps); i++) {
		spin_lock_irq(&disk->hold_lock);
		clear_bit(EBB_LOOK_FROZEN, &disk->look);
		hlist_for_each_entry_safe(keep, next, &disk->keeps[i], node)
			drop_keep(disk, keep);
		spin_unlock_irq(&disk->hold_lock);
	}
	WRITE_ONCE(disk->whole, false);
	queue_work(disk->release_wq, &disk->release_work);
}

void ebb_preserve_forget(struct ebb_disk *disk, u64 first, u64 last)
{
	struct hlist_node *next;
	struct ebb_keep *keep;
	u64 block;
	int i;

	lockdep_assert_held(&ebb_mutex);
	spin_lock_irq(&disk->hold_lock);
	if (!ebb_disk_looks(disk, EBB_LOOK_FROZEN) || disk->whole) {
		/* nothing is kept, or all of it until the end */
	} else if (last - first < HASH_SIZE(disk->keeps)) {
		for (block = first; block <= last; block++) {
			keep = find_keep(disk, block);
			if (keep)
				drop_keep(disk, keep);
		}
	} else {
		for (i = 0; i < HASH_SIZE(disk->keeps); i++)
			hlist_for_each_entry_safe(keep, next, &disk->keeps[i], node)
				if (keep->block >= first && keep->block <= last)
					drop_keep(disk, keep);
	}
	spin_unlock_irq(&disk->hold_lock);
}

void ebb_preserve_disk_init(struct ebb_disk *disk)
{
	spin_lock_init(&disk->hold_lock);
	INIT_LIST_HEAD(&disk->held);
	disk->held_tree = RB_ROOT_CACHED;
	INIT_LIST_HEAD(&disk->to_read);
	hash_init(disk->keeps);
	INIT_WORK(&disk->read_work, read_work);
	INIT_WORK(&disk->release_work, release_work);
	INIT_DELAYED_WORK(&disk->deadline_work, deadline_work);
}

void ebb_preserve_disk_exit(struct ebb_disk *disk)
{
	might_sleep();
	cancel_delayed_work_sync(&disk->deadline_work);
	cancel_work_sync(&disk->read_work);
	cancel_work_sync(&disk->release_work);
}

int ebb_preserve_init(void)
{
	if (bioset_init(&read_bios, 64, offsetof(struct read, bio), BIOSET_NEED_BVECS))
		return -ENOMEM;
	read_wq = alloc_workqueue("ebb_read", EBB_WQ_FLAGS, 0);
	deadline_wq = alloc_workqueue("ebb_deadline", EBB_WQ_FLAGS, 0);
	if (read_wq && deadline_wq)
		return 0;
	ebb_preserve_exit();
	return -ENOMEM;
}

void ebb_preserve_exit(void)
{
	if (deadline_wq)
		destroy_workqueue(deadline_wq);
	if (read_wq)
		destroy_workqueue(read_wq);
	bioset_exit(&read_bios);
}
