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
 * A closed gate (gate.h) keeps writes from being admitted at all: they are queued as they came,
 * neither marked nor counted.
 *
 * A discarded block is so marked after the write is a member. A write clears that when it is
 * sent and once more when it has landed, in both maps, so that of two at once the write wins.
 */
#include <linux/percpu.h>
#include <linux/slab.h>

#include "compat/compat.h"
#include "completion.h"
#include "group.h"
#include "log.h"
#include "pass.h"
#include "preserve.h"
#include "write.h"

struct kmem_cache *ebb_write_cache;

/*
 * Structures that are ready for the next write of a CPU, whichever its disk: taking one from a
 * mempool and giving it back costs more than all the rest of tracking. The reserve of a mempool
 * never ends up here, see is_surplus(). KASAN must see uses of what was given back: under it, one
 * spare is enough to run the same code, and all else goes through the slab cache.
 */
#define SPARES_MAX	(IS_ENABLED(CONFIG_KASAN) ? 1 : 64)

struct spares {
	struct ebb_write	*first;
	unsigned int		nr;
};

static DEFINE_PER_CPU(struct spares, spares);

/* The first of the spares of this CPU, or NULL. Any context. */
static inline struct ebb_write *take_spare(void)
{
	struct ebb_write *w;
	unsigned long flags;

	/* Writes are submitted and completed by interrupts as well. */
	local_irq_save(flags);
	w = this_cpu_read(spares.first);
	if (likely(w)) {
		this_cpu_write(spares.first, w->next_spare);
		this_cpu_dec(spares.nr);
	}
	local_irq_restore(flags);
	return w;
}

/*
 * Whether the structure of a write that lands is to be freed. As in mempool_free(): whoever gives
 * back what came from the reserve sees that the reserve is not full, since the count went down
 * before the structure was given out; so all of it comes home, and whoever waits for it is woken.
 * The limit of spares is approximate: the CPU may be another one afterwards.
 */
static inline bool is_surplus(const struct ebb_disk *disk)
{
	/* Pairs with mempool_alloc(): it counts, then gives out. */
	smp_rmb();
	return READ_ONCE(disk->writes->curr_nr) < disk->writes->min_nr ||
	       this_cpu_read(spares.nr) >= SPARES_MAX;
}

bool ebb_write_slot_landed(const struct ebb_disk *disk, unsigned int slot)
{
	unsigned long started = 0, finished = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		finished += READ_ONCE(per_cpu_ptr(disk->cpu, cpu)->finished[slot]);
	/* A write that is seen finished is then seen started as well: pairs with count_landed(). */
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
	unsigned long started = 0, finished = 0;
	int cpu, slot;

	for_each_possible_cpu(cpu)
		for (slot = 0; slot < EBB_SLOTS; slot++)
			finished += READ_ONCE(per_cpu_ptr(disk->cpu, cpu)->finished[slot]);
	/* As in ebb_write_slot_landed(). */
	smp_mb();
	for_each_possible_cpu(cpu)
		for (slot = 0; slot < EBB_SLOTS; slot++)
			started += READ_ONCE(per_cpu_ptr(disk->cpu, cpu)->started[slot]);
	return started - finished;
}

/* True: somebody waits. Under RCU in any of its forms, since the disk may be freed by then. */
static inline bool count_landed(struct ebb_disk *disk, unsigned long gen)
{
	RCU_LOCKDEP_WARN(!rcu_read_lock_any_held(), "the disk may go");
	/* Pairs with ebb_write_slot_landed(). */
	smp_wmb();
	this_cpu_inc(disk->cpu->finished[gen % EBB_SLOTS]);
	/* Pairs with whoever sets ->draining and then counts. */
	smp_mb();
	return READ_ONCE(disk->draining);
}

/* The first try marked a block in a map that is not current any more. */
static noinline void stray_mark(struct ebb_disk *disk, unsigned long gen, u64 first, u64 last)
{
	/* Orders our mark before the look; pairs with the same in a later writer. */
	smp_mb();
	if (ebb_disk_looks(disk, EBB_LOOK_FROZEN) && !READ_ONCE(disk->whole) &&
	    ebb_map_any(&disk->map[(gen + 1) & 1], first, last))
		ebb_pass_void(disk->group, 0, EBB_VOID_CUT_RACE);
}

/*
 * One try of mark(); false: the generation has changed.
 *
 * A bit that is seen set is left alone. It is one of this generation, not one that was cleared
 * before: the map was emptied before its number was set, and is looked for by that number (an
 * address dependency orders the two reads).
 */
static __always_inline bool mark_once(struct ebb_disk *disk, unsigned long gen, u64 first,
				      u64 last, bool count)
{
	unsigned int coarse;

	if (count)
		this_cpu_inc(disk->cpu->started[gen % EBB_SLOTS]);
	coarse = ebb_map_set(&disk->map[gen & 1], first, last, GFP_NOWAIT);
	if (unlikely(coarse))
		this_cpu_add(disk->cpu->coarse, coarse);
	/* Pairs with the cut: it sees what we marked and counted, or we its number. */
	smp_mb();
	return READ_ONCE(disk->group->gen) == gen;
}

static noinline unsigned long mark_again(struct ebb_disk *disk, unsigned long gen, u64 first,
					 u64 last, bool count)
{
	do {
		stray_mark(disk, gen, first, last);
		if (count && count_landed(disk, gen))
			ebb_pass_landed(disk);
		gen = READ_ONCE(disk->group->gen);
	} while (!mark_once(disk, gen, first, last, count));
	return gen;
}

/*
 * Marks blocks in the current map, whichever that is by then, and returns its generation. Under
 * rcu_read_lock() if @count, since a try that failed has landed.
 */
static __always_inline unsigned long mark(struct ebb_disk *disk, u64 first, u64 last, bool count)
{
	unsigned long gen = READ_ONCE(disk->group->gen);

	if (likely(mark_once(disk, gen, first, last, count)))
		return gen;
	return mark_again(disk, gen, first, last, count);
}

static noinline void clear_discarded(struct ebb_disk *disk, const struct ebb_write *w)
{
	rcu_read_lock();
	ebb_map_clear_discarded(&disk->map[0], w->first, w->last);
	ebb_map_clear_discarded(&disk->map[1], w->first, w->last);
	rcu_read_unlock();
}

static noinline void write_failed(struct ebb_disk *disk, const struct ebb_write *w)
{
	this_cpu_inc(disk->cpu->errors);
	rcu_read_lock();
	mark(disk, w->first, w->last, false);
	rcu_read_unlock();
	ebb_group_look(disk->group);
}

/*
 * Counting it landed is the last that is done with a disk: it may be freed as soon as all of its
 * writes have landed. Who frees it waits for RCU, and so for this CPU until interrupts are on,
 * which they are not before it is known whether somebody waits, and for rcu_read_unlock() if so.
 */
static inline void land(struct ebb_disk *disk, struct ebb_write *w)
{
	unsigned long gen = w->gen;
	unsigned long flags;

	if (unlikely(is_surplus(disk))) {
		mempool_free(w, disk->writes);
		w = NULL;
	}
	local_irq_save(flags);
	if (likely(w)) {
		w->next_spare = this_cpu_read(spares.first);
		this_cpu_write(spares.first, w);
		this_cpu_inc(spares.nr);
	}
	if (likely(!count_landed(disk, gen))) {
		local_irq_restore(flags);
		return;
	}
	rcu_read_lock();
	local_irq_restore(flags);
	ebb_pass_landed(disk);
	rcu_read_unlock();
}

void ebb_write_done(struct bio *bio)
{
	struct ebb_write *w = bio->bi_private;
	struct ebb_disk *disk = w->disk;

	bio->bi_end_io = w->end_io;
	bio->bi_private = w->private;
	if (unlikely(bio->bi_status))
		write_failed(disk, w);
	if (unlikely(ebb_disk_looks(disk, EBB_LOOK_DISCARDS)) && !w->discard)
		clear_discarded(disk, w);
	land(disk, w);
	ebb_complete(bio);
}

/* What is tracked, but not all that it does is seen. */
static inline bool is_unusual(const struct bio *bio)
{
	return bio->bi_opf & (REQ_INTEGRITY | EBB_REQ_POLLED) || ebb_bio_is_encrypted(bio);
}

/* True: it has to be taken. */
static noinline bool flag_unusual(struct ebb_disk *disk, struct bio *bio)
{
	bool take = ebb_bio_is_polled_by_cookie(bio);

	if (bio->bi_opf & REQ_INTEGRITY)
		ebb_disk_flag(disk, EBB_RESYNC_INTEGRITY);
	if (ebb_bio_is_encrypted(bio))
		ebb_disk_flag(disk, EBB_RESYNC_ENCRYPTED);
	/* Whoever polls for it finds it complete; held, it would be polled for in vain. */
	ebb_bio_clear_polled(bio);
	return take;
}

static inline bool is_discard(const struct bio *bio)
{
	return unlikely(bio_op(bio) != REQ_OP_WRITE) &&
	       (bio_op(bio) == REQ_OP_DISCARD || bio_op(bio) == REQ_OP_SECURE_ERASE);
}

static noinline void set_discarded(struct ebb_disk *disk, struct ebb_write *w, u64 sector, u32 nr)
{
	u64 first = DIV_ROUND_UP_ULL(sector, EBB_BLOCK_SECTORS);
	u64 end = (sector + nr) / EBB_BLOCK_SECTORS;

	w->discard = true;
	this_cpu_inc(disk->cpu->discards);
	if (sector + nr >= disk->sectors)
		end = disk->blocks;
	if (first >= end)
		return;
	if (!ebb_disk_looks(disk, EBB_LOOK_DISCARDS))
		set_bit(EBB_LOOK_DISCARDS, &disk->look);
	/* A write that does not see this when it lands has landed before we go on. */
	smp_mb();
	ebb_map_set_discarded(&disk->map[w->gen & 1], first, end - 1);
}

/* What lies beyond the end of the disk marks its last block. */
static noinline void cut_range(struct ebb_disk *disk, struct ebb_write *w, u64 end)
{
	w->last = disk->blocks - 1;
	w->first = min(w->first, w->last);
	if (end <= get_capacity(disk->gd))
		ebb_disk_flag(disk, EBB_RESYNC_RESIZED);
}

noinline bool ebb_write_look_closer(struct ebb_disk *disk, struct ebb_write *w)
{
	if (ebb_disk_looks(disk, EBB_LOOK_DISCARDS) && !w->discard)
		clear_discarded(disk, w);
	return ebb_disk_looks(disk, EBB_LOOK_FROZEN) && ebb_preserve_hold(disk, w);
}

static __always_inline enum ebb_verdict admit(struct ebb_disk *disk, struct bio *bio,
					      struct ebb_write *w)
{
	u64 sector = ebb_bio_sector(bio);
	u32 nr = bio_sectors(bio);
	struct ebb_disk_cpu __percpu *cpu = disk->cpu;
	const unsigned long *hot = disk->hot;

	w->bio = bio;
	w->disk = disk;
	w->end_io = bio->bi_end_io;
	w->private = bio->bi_private;
	w->discard = false;
	w->first = sector >> EBB_BLOCK_SHIFT;
	w->last = (sector + nr - 1) >> EBB_BLOCK_SHIFT;
	if (unlikely(w->last >= disk->blocks))
		cut_range(disk, w, sector + nr);
	w->gen = mark(disk, w->first, w->last, true);
	this_cpu_inc(cpu->writes);
	this_cpu_add(cpu->sectors, nr);
	if (unlikely(is_discard(bio)))
		set_discarded(disk, w, sector, nr);
	bio->bi_end_io = ebb_write_done;
	bio->bi_private = w;
	if (hot && unlikely(!ebb_log_is_hot(disk, hot, w->first, w->last)) &&
	    ebb_log_hold(disk, w))
		return EBB_TAKEN;
	if (unlikely(READ_ONCE(disk->look)) && ebb_write_look_closer(disk, w))
		return EBB_TAKEN;
	return EBB_PASS_ON;
}

/*
 * A worker admits it in our place, when the gate is open and there is memory; also what its sender
 * must not submit.
 */
static noinline enum ebb_verdict admit_later(struct ebb_disk *disk, struct bio *bio)
{
	unsigned long flags;

	atomic_inc(&disk->nr_to_admit);
	spin_lock_irqsave(&disk->to_admit_lock, flags);
	if (ebb_disk_looks(disk, EBB_LOOK_GATE))
		WRITE_ONCE(disk->nr_gated, disk->nr_gated + 1);
	bio_list_add(&disk->to_admit, bio);
	spin_unlock_irqrestore(&disk->to_admit_lock, flags);
	/* Pairs with let_go(): it finds the bio, or we the gate open. */
	smp_mb();
	if (!ebb_disk_looks(disk, EBB_LOOK_GATE))
		queue_work(disk->admit_wq, &disk->admit_work);
	return EBB_TAKEN;
}

/* The oldest, or NULL when there is none or the gate is closed. */
static struct bio *next_to_admit(struct ebb_disk *disk)
{
	struct bio *bio = NULL;

	spin_lock_irq(&disk->to_admit_lock);
	if (!ebb_disk_looks(disk, EBB_LOOK_GATE))
		bio = bio_list_pop(&disk->to_admit);
	spin_unlock_irq(&disk->to_admit_lock);
	return bio;
}

static void put_back(struct ebb_disk *disk, struct bio *bio)
{
	spin_lock_irq(&disk->to_admit_lock);
	bio_list_add_head(&disk->to_admit, bio);
	spin_unlock_irq(&disk->to_admit_lock);
}

/* False: the gate has closed meanwhile. */
static bool admit_now(struct ebb_disk *disk, struct bio *bio)
{
	struct ebb_write *w = mempool_alloc(disk->writes, GFP_NOIO);
	enum ebb_verdict verdict;

	rcu_read_lock();
	/* The gate is closed for all when a grace period has passed. */
	if (ebb_disk_looks(disk, EBB_LOOK_GATE)) {
		rcu_read_unlock();
		mempool_free(w, disk->writes);
		put_back(disk, bio);
		return false;
	}
	verdict = admit(disk, bio, w);
	rcu_read_unlock();
	if (verdict == EBB_PASS_ON) {
		bio->bi_opf &= ~REQ_NOWAIT;
		submit_bio_noacct(bio);
	}
	return true;
}

void ebb_write_admit_work(struct work_struct *work)
{
	struct ebb_disk *disk = container_of(work, struct ebb_disk, admit_work);
	struct blk_plug plug;
	struct bio *bio;

	blk_start_plug(&plug);
	while ((bio = next_to_admit(disk)) && admit_now(disk, bio))
		if (atomic_dec_and_test(&disk->nr_to_admit))
			wake_up_all(&disk->idle);
	blk_finish_plug(&plug);
}

/* No plain write: whether it changes blocks in a way that is tracked. */
static noinline bool is_tracked(struct ebb_disk *disk, const struct bio *bio)
{
	switch (bio_op(bio)) {
	case REQ_OP_DISCARD:
	case REQ_OP_SECURE_ERASE:
	case REQ_OP_WRITE_ZEROES:
#ifdef EBB_HAVE_WRITE_SAME
	case REQ_OP_WRITE_SAME:
#endif
		return true;
	default:
		ebb_disk_flag(disk, EBB_RESYNC_ZONED);
		return false;
	}
}

enum ebb_verdict ebb_write_seen(struct ebb_disk *disk, struct bio *bio)
{
	struct ebb_write *w = ebb_write_of(bio);

	RCU_LOCKDEP_WARN(!rcu_read_lock_held(), "the disk may go");
	/* The rest of a split comes back; it is part of what was marked and counted. */
	if (unlikely(w && w->disk == disk))
		return EBB_PASS_ON;
	/* The map's own blocks are not tracked. */
	if (unlikely(ebb_store_owns(bio)))
		return EBB_PASS_ON;
	if (unlikely(!bio_sectors(bio))) {
		/* Commands to zones say no size. */
		if (bio_op(bio) != REQ_OP_WRITE)
			is_tracked(disk, bio);
		else if (READ_ONCE(disk->probing))
			atomic_set(&disk->probe_seen, 1);
		return EBB_PASS_ON;
	}
	if (unlikely(bio_op(bio) != REQ_OP_WRITE) && !is_tracked(disk, bio))
		return EBB_PASS_ON;
	if (unlikely(is_unusual(bio)) && flag_unusual(disk, bio))
		return admit_later(disk, bio);
	if (unlikely(ebb_disk_looks(disk, EBB_LOOK_GATE)))
		return admit_later(disk, bio);
	w = take_spare();
	if (unlikely(!w)) {
		w = mempool_alloc(disk->writes, GFP_NOWAIT | __GFP_NOWARN);
		/* Not even in the reserve. */
		if (!w)
			return admit_later(disk, bio);
	}
	return admit(disk, bio, w);
}

int ebb_write_init(void)
{
	/* Writes of two CPUs share no cache line. */
	ebb_write_cache = KMEM_CACHE(ebb_write, SLAB_HWCACHE_ALIGN);
	return ebb_write_cache ? 0 : -ENOMEM;
}

void ebb_write_exit(void)
{
	struct ebb_write *w, *next;
	int cpu;

	for_each_possible_cpu(cpu) {
		for (w = per_cpu(spares, cpu).first; w; w = next) {
			next = w->next_spare;
			kmem_cache_free(ebb_write_cache, w);
		}
	}
	kmem_cache_destroy(ebb_write_cache);
}
