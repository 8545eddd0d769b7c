/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A write on its way: marked, counted in flight in its generation, its completion ours.
 */
#ifndef _EBB_WRITE_H
#define _EBB_WRITE_H

#include <linux/bio.h>
#include <linux/list.h>
#include <linux/rbtree.h>

#include "disk.h"

struct ebb_write {
	union {
		struct bio		*bio;
		struct ebb_write	*next_spare;	/* while no write has it */
	};
	struct ebb_disk		*disk;
	bio_end_io_t		*end_io;	/* of the sender */
	void			*private;
	u64			first;		/* blocks, both included */
	u64			last;
	unsigned long		gen;
	bool			discard;
	/* while it is held; guarded by the disk's hold_lock */
	u32			order;		/* of arrival */
	struct list_head	held;
	struct rb_node		rb;		/* in held_tree, by blocks */
	u64			subtree_last;
	u64			held_at;
	u64			next;		/* all blocks before it are preserved */
};

/* The caller passes the bio on, or must not touch it any more. Any context, under RCU. */
enum ebb_verdict { EBB_PASS_ON, EBB_TAKEN };

enum ebb_verdict ebb_write_seen(struct ebb_disk *disk, struct bio *bio);

/*
 * The write is a member of its generation, and its regions are hot; true: it has to wait all the
 * same. Under rcu_read_lock().
 */
bool ebb_write_look_closer(struct ebb_disk *disk, struct ebb_write *w);

/* The completion of every write on its way. */
void ebb_write_done(struct bio *bio);

/* The write on its way that the bio is, on whichever disk, or NULL. */
static inline struct ebb_write *ebb_write_of(const struct bio *bio)
{
	struct ebb_write *w = bio->bi_private;

	return bio->bi_end_io == ebb_write_done && w->bio == bio ? w : NULL;
}

/* No write is in flight, but those counted in the slot @except (none: EBB_SLOTS). */
bool ebb_write_landed(const struct ebb_disk *disk, unsigned int except);
bool ebb_write_slot_landed(const struct ebb_disk *disk, unsigned int slot);
/* Never too few: what lands or begins meanwhile may be counted, what is under way is. */
u64 ebb_write_in_flight(const struct ebb_disk *disk);

/* Admits what had to wait, in order of arrival, unless the gate is closed. */
void ebb_write_admit_work(struct work_struct *work);

extern struct kmem_cache *ebb_write_cache;

int ebb_write_init(void);
void ebb_write_exit(void);

#endif
