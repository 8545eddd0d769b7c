// SPDX-License-Identifier: GPL-2.0-only
/*
 * A write to a tracked disk, from the hook to its completion.
 *
 * Membership in a cut needs no gate: a write reads the generation, counts itself in flight and
 * marks its blocks in it, and reads it again. If it changed, it does both anew. The cut increments
 * the number. So all marks of a generation are there when it ends.
 *
 * The mark of a first try that failed stays behind in the map of the pass. That is harmless unless
 * a write of the new generation went over the same block before that mark was seen: the block would
 * then be sent with a content newer than the cut. Either the later writer sees the mark, and has
 * the block preserved, or we see its mark in the new map: then the cut is void (see
 * docs/decisions/0101-kmod-stray-marks.md).
 *
 * A discarded block is so marked after the write is a member. A write clears that when it is
 * sent and once more when it has landed, in both maps, so that of two at once the write wins.
 */
#include <linux/slab.h>

#include "compat/compat.h"
#include "completion.h"
#include "group.h"
#include "pass.h"
#include "preserve.h"
#include "write.h"

struct kmem_cache *ebb_write_cache;

static void write_done(struct bio *bio);

bool ebb_write_is_ours(const struct ebb_disk *disk, const struct bio *bio)
{
	const struct ebb_write *w = bio->bi_private;

	return bio->bi_end_io == write_done && w->bio == bio && w->disk == disk;
}

bool ebb_write_slot_landed(const struct ebb_disk *disk, unsigned int slot)
{
	unsigned long started = 0, finished = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		finished += READ_ONCE(per_cpu_ptr(disk->cpu, cpu)->finished[slot]);
	/* A write that is seen finished is then seen started as well: pairs with landed(). */
	smp_mb();
	for_each_possible_cpu(cpu)
		started += READ_ONCE(per_cpu_ptr(disk->cpu, cpu)->started[slot]);
	return started == finished;
}

bool ebb_write_landed(const struct ebb_disk *disk, unsigned int except)
{
	unsigned int slot;

	for (slot = 0; slot < EBB_SLOTS; slot++)
		if (slot != except && !ebb_write_slot_landed(disk, slot))
			return false;
	return true;
}

u64 ebb_write_in_flight(const struct ebb_disk *disk)
{
	const struct ebb_disk_cpu *c;
	unsigned long started = 0, finished = 0;
	int cpu, slot;

	for_each_possible_cpu(cpu) {
		c = per_cpu_ptr(disk->cpu, cpu);
		for (slot = 0; slot < EBB_SLOTS; slot++) {
			finished += READ_ONCE(c->finished[slot]);
			started += READ_ONCE(c->started[slot]);
		}
	}
	return (long)(started - finished) > 0 ? started - finished : 0;
}

/* Under rcu_read_lock(): the disk may be freed as soon as its last write has landed. */
static inline void landed(struct ebb_disk *disk, unsigned long gen)
{
	/* Pairs with ebb_write_slot_landed(). */
	smp_wmb();
	this_cpu_inc(disk->cpu->finished[gen % EBB_SLOTS]);
	/* Pairs with whoever sets ->draining and then counts. */
	smp_mb();
	if (unlikely(READ_ONCE(disk->draining)))
		ebb_pass_landed(disk);
}

/* The first try marked a block in a map that is not current any more. */
static noinline void stray_mark(struct ebb_disk *disk, unsigned long gen, u64 first, u64 last)
{
	/* Orders our mark before the look; pairs with the same in a later writer. */
	smp_mb();
	if (READ_ONCE(disk->frozen) && !READ_ONCE(disk->whole) &&
	    ebb_map_any(&disk->map[(gen + 1) & 1], first, last))
		ebb_pass_void(disk->group, 0, EBB_VOID_CUT_RACE);
}

unsigned long ebb_write_mark(struct ebb_disk *disk, u64 first, u64 last, bool count)
{
	struct ebb_group *group = disk->group;
	unsigned long gen;
	unsigned int coarse;

	for (;;) {
		gen = READ_ONCE(group->gen);
		if (count)
			this_cpu_inc(disk->cpu->started[gen % EBB_SLOTS]);
		coarse = ebb_map_set(&disk->map[gen & 1], first, last, GFP_NOWAIT);
		if (unlikely(coarse))
			this_cpu_add(disk->cpu->coarse, coarse);
		/* Pairs with the cut: it sees what we marked and counted, or we its number. */
		smp_mb();
		if (likely(READ_ONCE(group->gen) == gen))
			return gen;
		stray_mark(disk, gen, first, last);
		if (count)
			landed(disk, gen);
	}
}

static void write_done(struct bio *bio)
{
	struct ebb_write *w = bio->bi_private;
	struct ebb_disk *disk = w->disk;
	unsigned long gen = w->gen;

	bio->bi_end_io = w->end_io;
	bio->bi_private = w->private;
	rcu_read_lock();
	if (unlikely(bio->bi_status)) {
		this_cpu_inc(disk->cpu->errors);
		ebb_write_mark(disk, w->first, w->last, false);
		ebb_group_look(disk->group);
	}
	if (unlikely(READ_ONCE(disk->discards)) && !w->discard) {
		ebb_map_clear_discarded(&disk->map[0], w->first, w->last);
		ebb_map_clear_discarded(&disk->map[1], w->first, w->last);
	}
	mempool_free(w, disk->writes);
	landed(disk, gen);
	rcu_read_unlock();
	ebb_complete(bio);
}

/* What is tracked, but not all that it does is seen. */
static noinline void flag_unusual(struct ebb_disk *disk, struct bio *bio)
{
	if (bio->bi_opf & REQ_INTEGRITY)
		ebb_disk_flag(disk, EBB_RESYNC_INTEGRITY);
	if (ebb_bio_is_encrypted(bio))
		ebb_disk_flag(disk, EBB_RESYNC_ENCRYPTED);
	/* Whoever polls for it finds it complete; held, it would be polled for in vain. */
	bio->bi_opf &= ~EBB_REQ_POLLED;
}

static void set_discarded(struct ebb_disk *disk, const struct ebb_write *w, u64 sector, u32 nr)
{
	u64 first = DIV_ROUND_UP_ULL(sector, EBB_BLOCK_SECTORS);
	u64 end = (sector + nr) / EBB_BLOCK_SECTORS;

	if (sector + nr >= disk->sectors)
		end = disk->blocks;
	if (first >= end)
		return;
	WRITE_ONCE(disk->discards, true);
	/* A write that does not see this when it lands has landed before we go on. */
	smp_mb();
	ebb_map_set_discarded(&disk->map[w->gen & 1], first, end - 1);
}

/* Blocks of the bio, within the disk: what lies beyond its end marks the last one. */
static void set_range(struct ebb_disk *disk, struct ebb_write *w, u64 sector, u32 nr)
{
	w->first = sector >> EBB_BLOCK_SHIFT;
	w->last = (sector + nr - 1) >> EBB_BLOCK_SHIFT;
	if (unlikely(w->last >= disk->blocks)) {
		w->last = disk->blocks - 1;
		if (sector + nr <= get_capacity(disk->gd))
			ebb_disk_flag(disk, EBB_RESYNC_RESIZED);
		w->first = min(w->first, w->last);
	}
}

static enum ebb_verdict admit(struct ebb_disk *disk, struct bio *bio, struct ebb_write *w)
{
	u64 sector = ebb_bio_sector(bio);
	u32 nr = bio_sectors(bio);

	w->bio = bio;
	w->disk = disk;
	w->end_io = bio->bi_end_io;
	w->private = bio->bi_private;
	w->discard = bio_op(bio) == REQ_OP_DISCARD || bio_op(bio) == REQ_OP_SECURE_ERASE;
	set_range(disk, w, sector, nr);
	w->gen = ebb_write_mark(disk, w->first, w->last, true);
	this_cpu_inc(disk->cpu->writes);
	this_cpu_add(disk->cpu->sectors, nr);
	if (unlikely(w->discard)) {
		this_cpu_inc(disk->cpu->discards);
		set_discarded(disk, w, sector, nr);
	} else if (unlikely(READ_ONCE(disk->discards))) {
		ebb_map_clear_discarded(&disk->map[0], w->first, w->last);
		ebb_map_clear_discarded(&disk->map[1], w->first, w->last);
	}
	bio->bi_end_io = write_done;
	bio->bi_private = w;
	if (unlikely(READ_ONCE(disk->frozen)) && ebb_preserve_hold(disk, w))
		return EBB_TAKEN;
	return EBB_PASS_ON;
}

/* No memory, not even in the reserve: a worker waits for some in our place. */
static noinline enum ebb_verdict starve(struct ebb_disk *disk, struct bio *bio)
{
	unsigned long flags;

	atomic_inc(&disk->nr_starved);
	spin_lock_irqsave(&disk->starved_lock, flags);
	bio_list_add(&disk->starved, bio);
	spin_unlock_irqrestore(&disk->starved_lock, flags);
	queue_work(disk->starved_wq, &disk->starved_work);
	return EBB_TAKEN;
}

void ebb_write_starved_work(struct work_struct *work)
{
	struct ebb_disk *disk = container_of(work, struct ebb_disk, starved_work);
	struct ebb_write *w;
	struct bio *bio;

	for (;;) {
		spin_lock_irq(&disk->starved_lock);
		bio = bio_list_pop(&disk->starved);
		spin_unlock_irq(&disk->starved_lock);
		if (!bio)
			return;
		w = mempool_alloc(disk->writes, GFP_NOIO);
		rcu_read_lock();
		if (admit(disk, bio, w) == EBB_TAKEN)
			bio = NULL;
		rcu_read_unlock();
		if (bio) {
			bio->bi_opf &= ~REQ_NOWAIT;
			submit_bio_noacct(bio);
		}
		if (atomic_dec_and_test(&disk->nr_starved))
			wake_up_all(&disk->idle);
	}
}

static noinline enum ebb_verdict not_tracked(struct ebb_disk *disk, struct bio *bio)
{
	ebb_disk_flag(disk, EBB_RESYNC_ZONED);
	return EBB_PASS_ON;
}

enum ebb_verdict ebb_write_seen(struct ebb_disk *disk, struct bio *bio)
{
	struct ebb_write *w;

	/* The rest of a split comes back; it is part of what was marked and counted. */
	if (unlikely(ebb_write_is_ours(disk, bio)))
		return EBB_PASS_ON;
	if (unlikely(!bio_sectors(bio))) {
		if (READ_ONCE(disk->probing))
			atomic_set(&disk->probe_seen, 1);
		return EBB_PASS_ON;
	}
	switch (bio_op(bio)) {
	case REQ_OP_WRITE:
	case REQ_OP_DISCARD:
	case REQ_OP_SECURE_ERASE:
	case REQ_OP_WRITE_ZEROES:
#ifdef EBB_HAVE_WRITE_SAME
	case REQ_OP_WRITE_SAME:
#endif
		break;
	default:
		return not_tracked(disk, bio);
	}
	if (unlikely((bio->bi_opf & (REQ_INTEGRITY | EBB_REQ_POLLED)) || ebb_bio_is_encrypted(bio)))
		flag_unusual(disk, bio);
	w = mempool_alloc(disk->writes, GFP_NOWAIT | __GFP_NOWARN);
	if (unlikely(!w))
		return starve(disk, bio);
	return admit(disk, bio, w);
}

int ebb_write_init(void)
{
	ebb_write_cache = KMEM_CACHE(ebb_write, 0);
	return ebb_write_cache ? 0 : -ENOMEM;
}

void ebb_write_exit(void)
{
	kmem_cache_destroy(ebb_write_cache);
}
