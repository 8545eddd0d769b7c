/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A pass over the disks of a group: cut, drained, read and let go of range by range, ended or void.
 */
#ifndef _EBB_PASS_H
#define _EBB_PASS_H

#include "disk.h"
#include "group.h"

static inline bool ebb_pass_is_live(const struct ebb_group *group)
{
	int state = READ_ONCE(group->pass.state);

	return state == EBB_PASS_DRAINING || state == EBB_PASS_READY;
}

/*
 * Gives up the pass (@id 0: whichever there is), and lets go of the writes that it holds. Any
 * context. Nothing that is read for it afterwards is vouched for. False: it was not going on.
 */
bool ebb_pass_void(struct ebb_group *group, u64 id, enum ebb_void_reason reason);

/* The same in two steps: under pass_lock; and, if that was true, after it. */
bool ebb_pass_void_locked(struct ebb_group *group, u64 id, enum ebb_void_reason reason);
void ebb_pass_voided(struct ebb_group *group);

/* A write of a disk that somebody waits for has landed. Under rcu_read_lock(), any context. */
void ebb_pass_landed(struct ebb_disk *disk);

/* The rest under ebb_mutex, may sleep. */
/* Whether one can be begun now: -ENODEV or -EAGAIN if not. */
int ebb_pass_may_begin(struct ebb_group *group);
int ebb_pass_begin(struct ebb_group *group, u32 kind, u32 flags, u64 gate, u32 owner);
int ebb_pass_release(struct ebb_disk *disk, const struct ebb_extent *extents, unsigned int nr);
int ebb_pass_end(struct ebb_group *group);
/* The cookie, if any, is durable with the disks' maps before anything is dropped. */
int ebb_pass_confirm(struct ebb_group *group, const void *cookie);
void ebb_pass_abandon(struct ebb_group *group);

/* Puts back the map of a pass that is void, once. */
void ebb_pass_settle(struct ebb_group *group);

/* The group whose pass has this id and state; negative errno as the uapi says. */
struct ebb_group *ebb_pass_find(u64 id, bool must_be_ready);
u64 ebb_pass_blocks_left(struct ebb_group *group);
struct ebb_map *ebb_pass_map(struct ebb_disk *disk);

/* The owner gave a sign of life. */
void ebb_pass_owner_seen(struct ebb_group *group, u32 portid);

/* A socket has closed; takes ebb_mutex. */
void ebb_pass_owner_gone(u32 portid);

#endif
