// SPDX-License-Identifier: GPL-2.0-only
/*
 * Gates: see gate.h.
 *
 * A write looks for the gate inside the hook, so under RCU, before it is marked and counted. A
 * grace period after the flag was set, every write that had not seen it is a member of the current
 * generation, and each later one waits. So any cut made while the gate is closed has the same
 * members. Neither a clock nor an order of the cuts matters: it is enough that all gates were
 * closed at one moment, and that none had opened before its own cut.
 */
#include <linux/ktime.h>

#include "gate.h"
#include "pass.h"

static u64 next_gate_id = 1;	/* under ebb_mutex */
static struct workqueue_struct *gate_wq;

static void set_looks(struct ebb_group *group)
{
	struct ebb_disk *disk;

	list_for_each_entry_rcu(disk, &group->disks, member, lockdep_is_held(&ebb_mutex))
		set_bit(EBB_LOOK_GATE, &disk->look);
}

static void let_go(struct ebb_group *group)
{
	struct ebb_disk *disk;

	lockdep_assert_held(&group->pass_lock);
	WRITE_ONCE(group->gate.closed, false);
	rcu_read_lock();
	list_for_each_entry_rcu(disk, &group->disks, member) {
		clear_bit(EBB_LOOK_GATE, &disk->look);
		/* Pairs with admit_later(). */
		smp_mb__after_atomic();
		queue_work(disk->admit_wq, &disk->admit_work);
	}
	rcu_read_unlock();
}

static u64 gated(struct ebb_group *group)
{
	struct ebb_disk *disk;
	u64 sum = 0;

	lockdep_assert_held(&ebb_mutex);
	list_for_each_entry(disk, &group->disks, member)
		sum += READ_ONCE(disk->nr_gated);
	return sum;
}

u64 ebb_gate_held(struct ebb_group *group)
{
	return gated(group) - group->gate.gated_before;
}

/* No write is held by two gates, one after the other. */
static bool are_all_admitted(struct ebb_group *group)
{
	struct ebb_disk *disk;

	list_for_each_entry(disk, &group->disks, member)
		if (atomic_read(&disk->nr_to_admit))
			return false;
	return true;
}

int ebb_gate_close(struct ebb_group *group, u32 deadline_ms, u32 owner)
{
	struct ebb_gate *gate = &group->gate;
	int err;

	lockdep_assert_held(&ebb_mutex);
	if (READ_ONCE(gate->closed) || ebb_pass_is_live(group))
		return -EBUSY;
	err = ebb_pass_may_begin(group);
	if (err)
		return err;
	if (!are_all_admitted(group))
		return -EAGAIN;
	gate->gated_before = gated(group);
	spin_lock_irq(&group->pass_lock);
	gate->id = next_gate_id++;
	WRITE_ONCE(gate->owner, owner);
	gate->since = ktime_get_ns();
	gate->deadline = gate->since + (u64)deadline_ms * NSEC_PER_MSEC;
	WRITE_ONCE(gate->closed, true);
	mod_delayed_work(gate_wq, &gate->deadline_work, msecs_to_jiffies(deadline_ms) + 1);
	set_looks(group);
	spin_unlock_irq(&group->pass_lock);
	synchronize_rcu_expedited();
	return READ_ONCE(gate->closed) ? 0 : -ETIMEDOUT;
}

int ebb_gate_open(struct ebb_group *group, u64 id, u32 owner)
{
	struct ebb_gate *gate = &group->gate;
	int err = 0;

	lockdep_assert_held(&ebb_mutex);
	spin_lock_irq(&group->pass_lock);
	if (!gate->closed || gate->id != id)
		err = -ESTALE;
	else if (gate->owner != owner)
		err = -EPERM;
	else
		let_go(group);
	spin_unlock_irq(&group->pass_lock);
	if (!err)
		cancel_delayed_work(&gate->deadline_work);
	return err;
}

/* Under pass_lock; true: ebb_pass_voided() is due. */
static bool break_locked(struct ebb_group *group, enum ebb_void_reason reason)
{
	bool voided = group->pass.gate == group->gate.id &&
		      ebb_pass_void_locked(group, 0, reason);

	let_go(group);
	return voided;
}

void ebb_gate_break(struct ebb_group *group, enum ebb_void_reason reason)
{
	unsigned long flags;
	bool voided;

	spin_lock_irqsave(&group->pass_lock, flags);
	voided = group->gate.closed && break_locked(group, reason);
	spin_unlock_irqrestore(&group->pass_lock, flags);
	if (voided)
		ebb_pass_voided(group);
}

static void deadline_work(struct work_struct *work)
{
	struct ebb_group *group = container_of(work, struct ebb_group, gate.deadline_work.work);
	struct ebb_gate *gate = &group->gate;
	bool voided = false;
	u64 now;

	spin_lock_irq(&group->pass_lock);
	now = ktime_get_ns();
	/* It may be another gate by now, or the clock of the timer be ahead of ours. */
	if (gate->closed && now < gate->deadline)
		queue_delayed_work(gate_wq, &gate->deadline_work,
				   nsecs_to_jiffies(gate->deadline - now) + 1);
	else if (gate->closed)
		voided = break_locked(group, EBB_VOID_GATE_DEADLINE);
	spin_unlock_irq(&group->pass_lock);
	if (voided)
		ebb_pass_voided(group);
}

int ebb_gate_allows(struct ebb_group *group, u64 id, u32 owner)
{
	const struct ebb_gate *gate = &group->gate;

	lockdep_assert_held(&group->pass_lock);
	if (!id)
		return gate->closed ? -EBUSY : 0;
	if (!gate->closed || gate->id != id)
		return -ESTALE;
	return gate->owner == owner ? 0 : -EPERM;
}

void ebb_gate_group_init(struct ebb_group *group)
{
	INIT_DELAYED_WORK(&group->gate.deadline_work, deadline_work);
}

void ebb_gate_group_exit(struct ebb_group *group)
{
	cancel_delayed_work_sync(&group->gate.deadline_work);
}

int ebb_gate_init(void)
{
	gate_wq = alloc_workqueue("ebb_gate", EBB_WQ_FLAGS, 0);
	return gate_wq ? 0 : -ENOMEM;
}

void ebb_gate_exit(void)
{
	destroy_workqueue(gate_wq);
}
