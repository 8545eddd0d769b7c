/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The write-intent log of a disk. Its regions are hot or cold: a write to a hot one passes; one
 * to a cold one waits until a worker has durably noted the region as hot. A set bit in any map of
 * the disk means that its region is hot, or that a write waits to make it so:
 *
 *	a write marks its blocks, fences, and looks whether the region is hot;
 *	who makes a region cold clears the bit, fences, and looks for marks.
 *
 * One of them sees the other.
 */
#ifndef _EBB_LOG_H
#define _EBB_LOG_H

#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "disk.h"
#include "log_format.h"
#include "log_store.h"
#include "write.h"

struct ebb_log {
	struct ebb_disk		*disk;
	unsigned int		shift;		/* blocks of a region */
	unsigned long		nr_regions;
	unsigned long		*hot;
	u32			state;		/* enum ebb_log_state */

	/* writes that wait for their region to be hot; guarded by lock */
	spinlock_t		lock;
	struct list_head	waiting;	/* struct ebb_write, in order of arrival */
	struct list_head	heating;	/* ... those that came before: being seen to */
	bool			sealed;		/* a seal is, or may be, in the area */
	bool			told;		/* the area says that the log failed */
	bool			barred;		/* sealed, failed, and not told: nothing goes on */
	bool			sealing;	/* all is cold: who waits does so for it */
	u64			nr_held;
	u64			held_ns_max;
	struct workqueue_struct	*wq;
	struct work_struct	heat_work;
	struct delayed_work	late_work;	/* ... took too long */
	struct work_struct	note_work;	/* the superblock is to be written */

	/* what is in the area; guarded by io */
	struct mutex		io;
	struct ebb_store	store;
	struct ebb_super	super;
	u64			seq;
	unsigned long		*on_disk;	/* regions; hot ones and some that no longer are */
	unsigned long		*newer;		/* by log block: the slot that is the newer one */
	unsigned long		*due;		/* log blocks that are to be written */
	unsigned int		super_newer;
	bool			super_late;	/* the last one had not come to its end in time */
	u64			writes;

	/* witnesses that are read */
	atomic_t		reading;
	wait_queue_head_t	read_wait;

	/* guarded by ebb_mutex */
	unsigned long		*idle;		/* regions without a mark when last looked at */
	unsigned long		cooled_at;	/* jiffies */
	bool			closing;
	struct work_struct	cool_work;
	u32			recovery;	/* enum ebb_recovery */
	u64			recovered;
};

/* What attach is told of the area. */
struct ebb_log_options {
	dev_t	dev;
	u64	sector;
	u64	sectors;
	bool	create;
	u8	boot_id[EBB_UUID_LEN];
};

/* ---- writes: any context ---- */

bool ebb_log_all_hot(const struct ebb_log *log, u64 first, u64 last);

static __always_inline bool ebb_log_is_hot(const struct ebb_disk *disk, const unsigned long *hot,
					   u64 first, u64 last)
{
	unsigned long region = first >> disk->region_shift;

	if (unlikely(region != last >> disk->region_shift))
		return ebb_log_all_hot(disk->log, first, last);
	return test_bit(region, hot);
}

/* Takes the write until its regions are hot; false: the log was given up. */
bool ebb_log_hold(struct ebb_disk *disk, struct ebb_write *w);

/* The superblock is to be written soon: a reason, or the state, has changed. */
void ebb_log_note_soon(struct ebb_log *log);

/* ---- the rest: under ebb_mutex, may sleep; no log is fine ---- */

/* Before the disk is published: finds out what is known of it, and sets its maps and reasons. */
int ebb_log_attach(struct ebb_disk *disk, const struct ebb_log_options *options, const char **why);
/* Tracking is about to end. */
void ebb_log_detach(struct ebb_disk *disk);
/* ... or goes on after all. */
void ebb_log_resume(struct ebb_disk *disk);
/* No write of the disk is under way any more; not under ebb_mutex. */
void ebb_log_stop(struct ebb_disk *disk);
void ebb_log_free(struct ebb_disk *disk);

/* Blocks are about to be marked by other means than a write. */
void ebb_log_heat(struct ebb_disk *disk, u64 first, u64 last);
/* All blocks are marked and reasons dropped: the area is made anew if it had failed. */
void ebb_log_mark_all(struct ebb_disk *disk);
/* The epoch is closed; before the unconfirmed map is dropped. */
void ebb_log_cookie(struct ebb_disk *disk, const void *cookie);
void ebb_log_confirm(struct ebb_disk *disk, const void *cookie);
/* The set is in force even where some could not be read: -EIO, -ENOMEM, -ETIMEDOUT. */
int ebb_log_witness(struct ebb_disk *disk, const struct ebb_extent *extents, unsigned int nr);

u64 ebb_log_bytes(const struct ebb_log *log);

int ebb_log_init(void);
void ebb_log_exit(void);

/* ---- between the files of the log ---- */

unsigned long ebb_log_deadline(void);	/* jiffies */
/* Who waits for a region to be hot has done so for longer than that. */
bool ebb_log_is_late(struct ebb_log *log);
struct ebb_format_id ebb_log_id(struct ebb_log *log, enum ebb_format_kind kind, u32 index);
/* Under io, unless said otherwise. Each gives the log up if it fails. */
int ebb_log_write_super(struct ebb_log *log);
int ebb_log_write_due(struct ebb_log *log);
void ebb_log_give_up(struct ebb_log *log);
void ebb_log_fail(struct ebb_log *log);	/* at once; without io as well */
int ebb_log_wq_init(void);
void ebb_log_wq_exit(void);
/* Notes regions as to be on disk. */
void ebb_log_want(struct ebb_log *log, unsigned long first, unsigned long last);

static inline u64 ebb_log_block_of(u32 log_block, unsigned int slot)
{
	return 2 + 2 * (u64)log_block + slot;
}

static inline bool ebb_log_failed(const struct ebb_log *log)
{
	return READ_ONCE(log->state) == EBB_LOG_FAILED;
}

struct ebb_log *ebb_log_new(struct ebb_disk *disk, const struct ebb_log_options *options,
			    const char **why);
/* Writes an empty map with a new UUID, and the witnesses there are as not known; under io. */
int ebb_log_create(struct ebb_log *log, const u8 *boot_id);

/* What has been written to the tracked disk stays there; false: perhaps not. Without io. */
bool ebb_log_flush_disk(struct ebb_log *log);

bool ebb_log_region_is_marked(struct ebb_log *log, unsigned long region);
void ebb_log_cool_work(struct work_struct *work);

/*
 * Reads @nr blocks of the tracked disk, all at once, and waits for them, for @limit jiffies at
 * most (0: for as long as it takes). Without io, or with it; memory is had without I/O. Not
 * known: what could not be read (-EIO, -ENOMEM), or all (-ETIMEDOUT).
 */
int ebb_log_read_witnesses(struct ebb_log *log, struct ebb_super_witness *w, unsigned int nr,
			   unsigned long limit);
/* Waits for what was not waited for; nothing is begun any more. */
void ebb_log_settle_reads(struct ebb_log *log);
/* Of those in regions that are about to be cold on disk as well; how many. Not under io. */
unsigned int ebb_log_read_cooling(struct ebb_log *log, struct ebb_super_witness *fresh);
/* Under io, before those regions are written as cold. True: the superblock has changed. */
bool ebb_log_take_cooling(struct ebb_log *log, const struct ebb_super_witness *fresh,
			  unsigned int nr);

#endif
