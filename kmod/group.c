// SPDX-License-Identifier: GPL-2.0-only
/* Groups of disks: see group.h. */
#include <linux/slab.h>

#include "compat/compat.h"
#include "disk.h"
#include "gate.h"
#include "group.h"
#include "netlink.h"
#include "pass.h"
#include "preserve.h"

LIST_HEAD(ebb_groups);

struct ebb_group *ebb_group_find(u32 id)
{
	struct ebb_group *group;

	lockdep_assert_held(&ebb_mutex);
	list_for_each_entry(group, &ebb_groups, list)
		if (group->id == id)
			return group;
	return NULL;
}

static void look_work(struct work_struct *work)
{
	struct ebb_group *group = container_of(work, struct ebb_group, look_work);
	struct ebb_disk *disk;

	mutex_lock(&ebb_mutex);
	list_for_each_entry(disk, &group->disks, member)
		if (ebb_disk_refresh(disk))
			ebb_netlink_tell_disk(disk);
	ebb_pass_settle(group);
	ebb_netlink_tell_pass(group);
	mutex_unlock(&ebb_mutex);
}

static void owner_work(struct work_struct *work)
{
	struct ebb_group *group = container_of(work, struct ebb_group, owner_work.work);

	ebb_pass_void(group, 0, EBB_VOID_OWNER);
}

struct ebb_group *ebb_group_get(u32 id)
{
	struct ebb_group *group = ebb_group_find(id);

	if (group)
		return group;
	group = kzalloc(sizeof(*group), GFP_KERNEL);
	if (!group)
		return NULL;
	group->id = id;
	group->gen = 1;
	group->pass.state = EBB_PASS_ENDED;
	group->pass.told = true;
	INIT_LIST_HEAD(&group->disks);
	spin_lock_init(&group->pass_lock);
	INIT_WORK(&group->look_work, look_work);
	INIT_DELAYED_WORK(&group->owner_work, owner_work);
	ebb_gate_group_init(group);
	if (ebb_pool_init(&group->pool, ebb_pool_bytes)) {
		kfree(group);
		return NULL;
	}
	list_add_tail_rcu(&group->list, &ebb_groups);
	return group;
}

/* Drops ebb_mutex for a moment, for a work that may be waiting for it. */
void ebb_group_put_empty(struct ebb_group *group)
{
	lockdep_assert_held(&ebb_mutex);
	if (group->refs)
		return;
	list_del_rcu(&group->list);
	mutex_unlock(&ebb_mutex);
	ebb_gate_group_exit(group);
	cancel_delayed_work_sync(&group->owner_work);
	cancel_work_sync(&group->look_work);
	mutex_lock(&ebb_mutex);
	ebb_pool_exit(&group->pool);
	kfree_rcu(group, rcu);
}

u64 ebb_group_pool_used(void)
{
	struct ebb_group *group;
	u64 used = 0;

	lockdep_assert_held(&ebb_mutex);
	list_for_each_entry(group, &ebb_groups, list)
		/* A figure to show: changed under the pool's lock, which nobody waits for here. */
		used += (u64)data_race(group->pool.used) * PAGE_SIZE;
	return used;
}
