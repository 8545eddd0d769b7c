/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A write on its way: marked, counted in flight in its generation, its completion ours.
 */
#ifndef _EBB_WRITE_H
#define _EBB_WRITE_H

#include <linux/bio.h>
#include <linux/list.h>

#include "disk.h"

struct ebb_write {
	struct bio		*bio;
	struct ebb_disk		*disk;
	bio_end_io_t		*end_io;	/* of the sender */
	void			*private;
	u64			first;		/* blocks, both included */
	u64			last;
	unsigned long		gen;
	bool			discard;
	/* while it is held; guarded by the disk's hold_lock */
	struct list_head	held;
	u64			held_at;
	u64			next;		/* all blocks before it are preserved */
};

/* The caller passes the bio on, or must not touch it any more. Any context. */
enum ebb_verdict { EBB_PASS_ON, EBB_TAKEN };

enum ebb_verdict ebb_write_seen(struct ebb_disk *disk, struct bio *bio);

/* Whether the bio on top is ours for this disk. */
bool ebb_write_is_ours(const struct ebb_disk *disk, const struct bio *bio);

/* Marks blocks in the current map, whichever that is by then; returns its generation. */
unsigned long ebb_write_mark(struct ebb_disk *disk, u64 first, u64 last, bool count);

/* No write is in flight, but those counted in the slot @except (none: EBB_SLOTS). */
bool ebb_write_landed(const struct ebb_disk *disk, unsigned int except);
bool ebb_write_slot_landed(const struct ebb_disk *disk, unsigned int slot);
u64 ebb_write_in_flight(const struct ebb_disk *disk);

void ebb_write_starved_work(struct work_struct *work);

extern struct kmem_cache *ebb_write_cache;

int ebb_write_init(void);
void ebb_write_exit(void);

#endif
