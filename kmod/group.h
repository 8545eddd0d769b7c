/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A group: the disks of a machine that are cut together, its generation, its pass and its pool of
 * pages for preserved blocks. Made with its first disk, gone with the last one.
 */
#ifndef _EBB_GROUP_H
#define _EBB_GROUP_H

#include <linux/list.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/workqueue.h>
#include <uapi/linux/ebb.h>

struct ebb_keep;

struct ebb_pass {
	/* changed under pass_lock; state may be read without */
	u64		id;
	int		state;		/* enum ebb_pass_state; EBB_PASS_ENDED: none */
	u32		reason;
	unsigned int	undrained;	/* disks on which writes have yet to land */
	u32		owner;		/* netlink port; 0: nobody any more */
	bool		settled;	/* a void pass: its map has been put back, or is being */
	bool		told;		/* user space knows the state */
	/* under ebb_mutex */
	u32		kind;
	u32		flags;
	u64		gate;		/* the gate that it was begun behind; 0: none */
	u64		generation;
	u64		realtime_ns;
	u64		boottime_ns;
	u64		duration_ns;
	u64		released;	/* blocks */
	/* statistics, by several disks at once */
	atomic64_t	preserved;
	atomic64_t	held;
	atomic64_t	held_ns_max;
};

/* Changed under pass_lock; the last that was closed. */
struct ebb_gate {
	u64			id;
	bool			closed;	/* may be read without */
	u32			owner;	/* netlink port */
	u64			since;	/* ktime_get_ns() */
	u64			deadline;
	u64			gated_before;
	struct delayed_work	deadline_work;
};

struct ebb_pool {
	spinlock_t	lock;		/* of the free pages */
	struct list_head free;		/* struct ebb_keep with a page each */
	struct ebb_keep	*keeps;
	u32		nr;
	u32		used;
	u32		peak;		/* since the pass began */
};

struct ebb_group {
	unsigned long		gen;	/* read by every write, changed by a cut */
	u32			id;
	/* under ebb_mutex */
	struct list_head	list ____cacheline_aligned;	/* readers by RCU */
	struct list_head	disks;	/* readers by RCU */
	u32			nr_disks;
	u32			refs;	/* disks, those that are being detached included */
	spinlock_t		pass_lock;	/* state of the pass and of the gate */
	struct ebb_pass		pass;
	struct ebb_gate		gate;
	struct ebb_pool		pool;
	u8			note[EBB_NOTE_MAX];
	u32			note_bytes;
	struct work_struct	look_work;	/* something happened: look what, and tell */
	struct delayed_work	owner_work;
	struct rcu_head		rcu;
};

extern struct list_head ebb_groups;
extern ulong ebb_pool_bytes;
extern uint ebb_hold_deadline_ms;
extern uint ebb_owner_timeout_ms;
extern uint ebb_gate_deadline_max_ms;
extern uint ebb_log_deadline_ms;
extern uint ebb_log_cool_s;

/* Under ebb_mutex. */
struct ebb_group *ebb_group_find(u32 id);
struct ebb_group *ebb_group_get(u32 id);	/* makes it if it is not there; NULL: no memory */
void ebb_group_put_empty(struct ebb_group *group);	/* frees it when nobody is left */
u64 ebb_group_pool_used(void);

/* Any context: disks are looked at, void passes put back, user space is told. */
static inline void ebb_group_look(struct ebb_group *group)
{
	queue_work(system_unbound_wq, &group->look_work);
}

#endif
