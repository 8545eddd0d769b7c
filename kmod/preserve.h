/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Preserving blocks of a frozen pass before they are overwritten. A write to such a block is held
 * until the block has been read, or until the pass is over or void. Nobody sleeps for it: holding
 * is queueing. The pool of pages is taken with the group, and nothing is allocated afterwards.
 */
#ifndef _EBB_PRESERVE_H
#define _EBB_PRESERVE_H

#include <linux/highmem.h>

#include "disk.h"
#include "group.h"
#include "write.h"

enum ebb_keep_state {
	EBB_KEEP_QUEUED,
	EBB_KEEP_READING,
	EBB_KEEP_DONE,
	EBB_KEEP_FAILED,
};

/* A block that is, or is going to be, preserved. Guarded by the disk's hold_lock. */
struct ebb_keep {
	struct hlist_node	node;
	struct list_head	list;	/* in to_read, in a read, or free in the pool */
	struct page		*page;
	u64			block;
	enum ebb_keep_state	state;
	bool			orphan;	/* being read for a pass that is over */
};

int ebb_pool_init(struct ebb_pool *pool, u64 bytes);
void ebb_pool_exit(struct ebb_pool *pool);
void ebb_pool_new_peak(struct ebb_pool *pool);

/* Takes the write if it has to wait. Any context, under rcu_read_lock(). */
bool ebb_preserve_hold(struct ebb_disk *disk, struct ebb_write *w);

/* Something that held writes wait for may have happened. Any context. */
void ebb_preserve_kick(struct ebb_disk *disk);

/* Copies the preserved content, if there is one, of (a part of) a block. Any context. */
bool ebb_preserve_get(struct ebb_disk *disk, u64 block, unsigned int offset, unsigned int len,
		      void *to);

/* The next three under ebb_mutex, with interrupts on. */
void ebb_preserve_begin(struct ebb_disk *disk, bool whole);
void ebb_preserve_end(struct ebb_disk *disk);
/* The range is released: its copies are not needed any more. */
void ebb_preserve_forget(struct ebb_disk *disk, u64 first, u64 last);

void ebb_preserve_disk_init(struct ebb_disk *disk);
void ebb_preserve_disk_exit(struct ebb_disk *disk);	/* waits for its works */

int ebb_preserve_init(void);
void ebb_preserve_exit(void);

#endif
