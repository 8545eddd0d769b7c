// SPDX-License-Identifier: GPL-2.0-only
/* Passes: see pass.h, and the uapi header for what they promise. */
#include <linux/ktime.h>

#include "compat/compat.h"
#include "gate.h"
#include "log.h"
#include "netlink.h"
#include "pass.h"
#include "preserve.h"
#include "suspect.h"
#include "write.h"

static u64 next_pass_id = 1;	/* under ebb_mutex */

bool ebb_pass_void_locked(struct ebb_group *group, u64 id, enum ebb_void_reason reason)
{
	struct ebb_pass *pass = &group->pass;

	lockdep_assert_held(&group->pass_lock);
	if (!ebb_pass_is_live(group) || (id && pass->id != id))
		return false;
	WRITE_ONCE(pass->reason, reason);
	pass->settled = false;
	pass->told = false;
	/* Pairs with put_pass(): who sees that it is void sees why. */
	smp_store_release(&pass->state, EBB_PASS_VOID);
	/* It is void before any held write goes on. */
	smp_mb();
	return true;
}

void ebb_pass_voided(struct ebb_group *group)
{
	struct ebb_disk *disk;

	rcu_read_lock();
	list_for_each_entry_rcu(disk, &group->disks, member)
		ebb_preserve_kick(disk);
	rcu_read_unlock();
	ebb_group_look(group);
}

bool ebb_pass_void(struct ebb_group *group, u64 id, enum ebb_void_reason reason)
{
	unsigned long flags;
	bool done;

	spin_lock_irqsave(&group->pass_lock, flags);
	done = ebb_pass_void_locked(group, id, reason);
	spin_unlock_irqrestore(&group->pass_lock, flags);
	if (done)
		ebb_pass_voided(group);
	return done;
}

/* All writes up to the cut have landed. Not before the cut has been made. */
static bool has_drained(struct ebb_disk *disk)
{
	unsigned long gen = READ_ONCE(disk->group->gen);

	/* Pairs with cut(): what was counted in generations before this one is seen. */
	smp_rmb();
	return gen == READ_ONCE(disk->cut_gen) + 1 && ebb_write_landed(disk, gen % EBB_SLOTS);
}

void ebb_pass_landed(struct ebb_disk *disk)
{
	struct ebb_group *group = disk->group;
	struct ebb_pass *pass = &group->pass;
	unsigned long flags;
	bool ready = false, drained = false;

	RCU_LOCKDEP_WARN(!rcu_read_lock_held(), "the disk may go");
	if (READ_ONCE(disk->detaching))
		wake_up_all(&disk->idle);
	if (READ_ONCE(disk->drained) || !has_drained(disk))
		return;
	/* Once more, since that may have been another pass: this one stays as long as the lock. */
	spin_lock_irqsave(&group->pass_lock, flags);
	if (!disk->drained && ebb_pass_is_live(group) && has_drained(disk)) {
		WRITE_ONCE(disk->drained, true);
		WRITE_ONCE(disk->draining, READ_ONCE(disk->detaching));
		drained = true;
		ready = --pass->undrained == 0;
		if (ready) {
			pass->told = false;
			WRITE_ONCE(pass->state, EBB_PASS_READY);
		}
	}
	spin_unlock_irqrestore(&group->pass_lock, flags);
	if (drained)
		ebb_preserve_kick(disk);
	if (ready)
		ebb_group_look(group);
}

struct ebb_map *ebb_pass_map(struct ebb_disk *disk)
{
	return &disk->map[READ_ONCE(disk->cut_gen) & 1];
}

static struct ebb_map *current_map(struct ebb_disk *disk)
{
	lockdep_assert_held(&ebb_mutex);
	return &disk->map[disk->group->gen & 1];
}

static void end_preservation(struct ebb_group *group)
{
	struct ebb_disk *disk;

	list_for_each_entry(disk, &group->disks, member)
		ebb_preserve_end(disk);
}

void ebb_pass_settle(struct ebb_group *group)
{
	struct ebb_pass *pass = &group->pass;
	struct ebb_disk *disk;
	bool due;

	lockdep_assert_held(&ebb_mutex);
	spin_lock_irq(&group->pass_lock);
	due = pass->state == EBB_PASS_VOID && !pass->settled;
	pass->settled = true;
	spin_unlock_irq(&group->pass_lock);
	if (!due)
		return;
	end_preservation(group);
	list_for_each_entry(disk, &group->disks, member) {
		WRITE_ONCE(disk->draining, disk->detaching);
		ebb_map_merge(current_map(disk), ebb_pass_map(disk));
		ebb_map_merge(current_map(disk), &disk->released);
	}
}

/* All disks are there, and the counters of the new generation are free. */
int ebb_pass_may_begin(struct ebb_group *group)
{
	unsigned int slot = (group->gen + 1) % EBB_SLOTS;
	struct ebb_disk *disk;

	lockdep_assert_held(&ebb_mutex);
	/* The last one is about to be gone. */
	if (list_empty(&group->disks))
		return -EAGAIN;
	list_for_each_entry(disk, &group->disks, member) {
		if (ebb_disk_refresh(disk))
			ebb_netlink_tell_disk(disk);
		if (disk->gone)
			return -ENODEV;
		if (disk->detaching)
			return -EAGAIN;
		if (!ebb_write_slot_landed(disk, slot))
			return -EAGAIN;
	}
	return 0;
}

static void prepare(struct ebb_group *group, u32 kind, u32 flags, u64 gate, u32 owner)
{
	struct ebb_pass *pass = &group->pass;
	struct ebb_disk *disk;

	lockdep_assert_held(&ebb_mutex);
	lockdep_assert_held(&group->pass_lock);
	/* Pairs with image_read(). */
	WRITE_ONCE(pass->id, next_pass_id++);
	pass->kind = kind;
	pass->flags = flags;
	pass->gate = gate;
	WRITE_ONCE(pass->owner, owner);
	WRITE_ONCE(pass->reason, EBB_VOID_NONE);
	pass->generation = group->gen;
	pass->released = 0;
	pass->undrained = group->nr_disks;
	atomic64_set(&pass->preserved, 0);
	atomic64_set(&pass->held, 0);
	atomic64_set(&pass->held_ns_max, 0);
	list_for_each_entry(disk, &group->disks, member) {
		WRITE_ONCE(disk->drained, false);
		WRITE_ONCE(disk->cut_gen, group->gen);
	}
	WRITE_ONCE(pass->state, EBB_PASS_DRAINING);
}

/* The instant. Writes of the closing generation do not look at what has been prepared. */
static void cut(struct ebb_group *group)
{
	struct ebb_pass *pass = &group->pass;
	u64 t0;

	lockdep_assert_held(&ebb_mutex);
	preempt_disable();
	t0 = ktime_get_ns();
	/* Who sees the new number sees what has been prepared. */
	smp_mb();
	WRITE_ONCE(group->gen, group->gen + 1);
	/* Pairs with mark(): we see its count and marks, or it the number. */
	smp_mb();
	pass->duration_ns = ktime_get_ns() - t0;
	pass->realtime_ns = ktime_get_real_ns();
	pass->boottime_ns = ktime_get_boottime_ns();
	preempt_enable();
}

int ebb_pass_begin(struct ebb_group *group, u32 kind, u32 flags, u64 gate, u32 owner)
{
	struct ebb_disk *disk;
	int err;

	lockdep_assert_held(&ebb_mutex);
	if (ebb_pass_is_live(group))
		return -EBUSY;
	ebb_pass_settle(group);
	err = ebb_pass_may_begin(group);
	if (err)
		return err;
	cancel_delayed_work_sync(&group->owner_work);
	ebb_pool_new_peak(&group->pool);
	spin_lock_irq(&group->pass_lock);
	err = ebb_gate_allows(group, gate, owner);
	if (!err)
		prepare(group, kind, flags, gate, owner);
	spin_unlock_irq(&group->pass_lock);
	if (err)
		return err;
	if (kind == EBB_PASS_FROZEN)
		list_for_each_entry(disk, &group->disks, member)
			ebb_preserve_begin(disk, flags & EBB_PASS_F_WHOLE);
	cut(group);
	rcu_read_lock();
	list_for_each_entry_rcu(disk, &group->disks, member) {
		WRITE_ONCE(disk->draining, true);
		/* Pairs with count_landed(): it sees this, or we its count. */
		smp_mb();
		ebb_pass_landed(disk);
	}
	rcu_read_unlock();
	ebb_pass_owner_seen(group, owner);
	/* If it opened by itself before the cut, then the pass is void by now. */
	return gate && !READ_ONCE(group->gate.closed) ? -ESTALE : 0;
}

int ebb_pass_release(struct ebb_disk *disk, const struct ebb_extent *extents, unsigned int nr)
{
	struct ebb_pass *pass = &disk->group->pass;
	u64 first, last;
	unsigned int i;
	int err = 0;

	lockdep_assert_held(&ebb_mutex);
	for (i = 0; i < nr && !err; i++) {
		first = extents[i].sector >> EBB_BLOCK_SHIFT;
		last = (extents[i].sector + extents[i].nr_sectors - 1) >> EBB_BLOCK_SHIFT;
		err = ebb_map_move(&disk->released, ebb_pass_map(disk), first, last,
				   &pass->released);
		ebb_disk_unsuspect(disk, first, last);
		ebb_preserve_forget(disk, first, last);
	}
	ebb_preserve_kick(disk);
	return err;
}

u64 ebb_pass_blocks_left(struct ebb_group *group)
{
	struct ebb_disk *disk;
	u64 left = 0;

	lockdep_assert_held(&ebb_mutex);
	if (ebb_pass_is_live(group))
		list_for_each_entry(disk, &group->disks, member)
			left += ebb_map_count(ebb_pass_map(disk));
	return left;
}

int ebb_pass_end(struct ebb_group *group)
{
	struct ebb_pass *pass = &group->pass;
	struct ebb_disk *disk;

	lockdep_assert_held(&ebb_mutex);
	if (ebb_pass_blocks_left(group))
		return -EBUSY;
	spin_lock_irq(&group->pass_lock);
	if (pass->state != EBB_PASS_READY) {
		spin_unlock_irq(&group->pass_lock);
		return -ESTALE;
	}
	WRITE_ONCE(pass->state, EBB_PASS_ENDED);
	spin_unlock_irq(&group->pass_lock);
	end_preservation(group);
	list_for_each_entry(disk, &group->disks, member) {
		ebb_map_merge(&disk->unconfirmed, &disk->released);
		ebb_map_clear(ebb_pass_map(disk));
	}
	cancel_delayed_work(&group->owner_work);
	return 0;
}

int ebb_pass_confirm(struct ebb_group *group, const void *cookie)
{
	struct ebb_disk *disk;

	lockdep_assert_held(&ebb_mutex);
	if (ebb_pass_is_live(group))
		return -EBUSY;
	list_for_each_entry(disk, &group->disks, member) {
		ebb_log_confirm(disk, cookie);
		ebb_map_clear(&disk->unconfirmed);
	}
	return 0;
}

void ebb_pass_abandon(struct ebb_group *group)
{
	struct ebb_disk *disk;

	lockdep_assert_held(&ebb_mutex);
	ebb_pass_void(group, 0, EBB_VOID_ABANDONED);
	ebb_pass_settle(group);
	list_for_each_entry(disk, &group->disks, member)
		ebb_map_merge(current_map(disk), &disk->unconfirmed);
}

struct ebb_group *ebb_pass_find(u64 id, bool must_be_ready)
{
	struct ebb_group *group;
	int state;

	lockdep_assert_held(&ebb_mutex);
	list_for_each_entry(group, &ebb_groups, list) {
		if (group->pass.id != id || !id)
			continue;
		state = READ_ONCE(group->pass.state);
		if (state == EBB_PASS_VOID)
			return ERR_PTR(-ESTALE);
		if (state == EBB_PASS_ENDED)
			break;
		if (state == EBB_PASS_DRAINING && must_be_ready)
			return ERR_PTR(-EAGAIN);
		return group;
	}
	/* An id that was given out and is no more is stale; any other never was. */
	return ERR_PTR(id && id < next_pass_id ? -ESTALE : -ENOENT);
}

/* The end of any socket comes by here, of whoever: it does not wait for ebb_mutex. */
static bool owns_anything(u32 portid)
{
	const struct ebb_group *group;
	bool owns = false;

	rcu_read_lock();
	list_for_each_entry_rcu(group, &ebb_groups, list)
		owns |= READ_ONCE(group->gate.owner) == portid ||
			READ_ONCE(group->pass.owner) == portid;
	rcu_read_unlock();
	return owns;
}

void ebb_pass_owner_gone(u32 portid)
{
	struct ebb_group *group;

	if (!owns_anything(portid))
		return;
	mutex_lock(&ebb_mutex);
	list_for_each_entry(group, &ebb_groups, list) {
		if (READ_ONCE(group->gate.owner) == portid)
			ebb_gate_break(group, EBB_VOID_OWNER);
		if (group->pass.owner == portid)
			ebb_pass_void(group, 0, EBB_VOID_OWNER);
	}
	mutex_unlock(&ebb_mutex);
}

void ebb_pass_owner_seen(struct ebb_group *group, u32 portid)
{
	lockdep_assert_held(&ebb_mutex);
	if (ebb_pass_is_live(group) && group->pass.owner == portid)
		mod_delayed_work(system_unbound_wq, &group->owner_work,
				 msecs_to_jiffies(ebb_owner_timeout_ms));
}
