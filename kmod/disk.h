/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A tracked disk: what every write looks at, its maps, its counters, and the state of its part of
 * a pass. Found by gendisk under RCU (ebb_disk_of()); the list and all changes are under ebb_mutex.
 */
#ifndef _EBB_DISK_H
#define _EBB_DISK_H

#include <linux/blkdev.h>
#include <linux/hash.h>
#include <linux/hashtable.h>
#include <linux/mempool.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/rculist.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <uapi/linux/ebb.h>

#include "map.h"

#define EBB_SLOTS		4	/* generations whose writes may be in flight at once */
#define EBB_DISK_HASH_BITS	8
#define EBB_KEEP_HASH_BITS	10
#define EBB_WRITES_RESERVE	256
#define EBB_WQ_FLAGS		(WQ_MEM_RECLAIM | WQ_HIGHPRI | WQ_UNBOUND)

struct ebb_group;
struct ebb_image;
struct ebb_bdev;
struct ebb_log;
struct ebb_log_options;

/* Bits of ->look: what a write need not look at unless they are set, and they seldom are. */
enum ebb_look {
	EBB_LOOK_FROZEN,	/* blocks of the pass are preserved */
	EBB_LOOK_DISCARDS,	/* a map may hold a discarded block */
	EBB_LOOK_GATE,		/* the gate is closed: no write is admitted */
};

/* Whose passthrough commands are understood. */
enum ebb_bus {
	EBB_BUS_OTHER,
	EBB_BUS_SCSI,
	EBB_BUS_VIRTIO,
};

struct ebb_disk_cpu {
	unsigned long	started[EBB_SLOTS];
	unsigned long	finished[EBB_SLOTS];
	u64		writes;
	u64		sectors;
	u64		discards;
	u64		errors;
	u64		coarse;
	u64		untracked;
};

struct ebb_disk {
	/* read by every write; constant after attach but for ->look and ->draining */
	struct hlist_node	node;
	struct gendisk		*gd;
	struct ebb_group	*group;
	struct ebb_disk_cpu __percpu *cpu;
	mempool_t		*writes;
	u64			blocks;
	u64			sectors;
	unsigned long		look;		/* 1 << enum ebb_look */
	bool			whole;		/* frozen, and all blocks are preserved */
	bool			probing;	/* attach waits for its probe to be seen */
	bool			draining;	/* somebody waits for writes to land */
	unsigned long		cut_gen;	/* the generation that the pass closed */
	unsigned long		*hot;		/* regions to which a write may go; NULL: all */
	unsigned int		region_shift;	/* blocks of a region */
	struct ebb_map		map[2];		/* by generation: current and pass */

	/* guarded by ebb_mutex */
	struct list_head	list;		/* in ebb_disks */
	struct list_head	member;		/* in the group; readers by RCU */
	struct ebb_map		released;	/* of the pass, until its end */
	struct ebb_map		unconfirmed;	/* of passes that ended */
	struct ebb_map		*suspect;	/* NULL: no block is */
	struct ebb_bdev		*bdev;
	struct ebb_image	*image;
	bool			detaching;
	bool			gone;
	int			resync_told;	/* user space knows of these reasons */
	u32			id;
	enum ebb_bus		bus;
	bool			is_stacked;	/* perhaps: no requests or no hardware of its own */
	char			name[EBB_NAME_MAX];
	char			stable_id[EBB_ID_MAX];

	struct ebb_log		*log;		/* constant while the disk is known; NULL: none */

	atomic_t		resync;		/* bits 1 << enum ebb_resync_reason */
	atomic_t		probe_seen;
	wait_queue_head_t	idle;

	/* preservation; guarded by hold_lock */
	spinlock_t		hold_lock;
	bool			drained;	/* the writes of the pass have landed here */
	struct list_head	held;		/* struct ebb_write, in order of arrival */
	struct rb_root_cached	held_tree;	/* the same, by blocks */
	struct list_head	to_read;	/* struct ebb_keep */
	u64			nr_held;
	u64			held_ns;
	u64			held_ns_max;
	u64			nr_preserved;
	DECLARE_HASHTABLE(keeps, EBB_KEEP_HASH_BITS);
	struct work_struct	read_work;
	struct work_struct	release_work;
	/*
	 * Letting go may wait for the disk, and a disk that is stacked on others for theirs: each
	 * has a worker of its own in reserve. The same with those that are yet to be admitted.
	 */
	struct workqueue_struct *release_wq;
	struct workqueue_struct *admit_wq;
	struct delayed_work	deadline_work;
	atomic_t		busy;		/* reads under way: to preserve, and of the image */

	/* writes that came to a closed gate or found no memory; guarded by to_admit_lock */
	spinlock_t		to_admit_lock;
	struct bio_list		to_admit;
	u64			nr_gated;	/* ever */
	atomic_t		nr_to_admit;
	struct work_struct	admit_work;
};

extern struct mutex ebb_mutex;
extern struct list_head ebb_disks;
extern struct hlist_head ebb_disk_table[1 << EBB_DISK_HASH_BITS];
extern unsigned int ebb_nr_stacked;	/* tracked disks that are stacked on others */

static inline struct hlist_head *ebb_disk_bucket(const struct gendisk *gd)
{
	return &ebb_disk_table[hash_ptr(gd, EBB_DISK_HASH_BITS)];
}

/* The disk that is tracked under this gendisk, or NULL. Under rcu_read_lock(). */
static inline struct ebb_disk *ebb_disk_of(const struct gendisk *gd)
{
	struct ebb_disk *disk;

	RCU_LOCKDEP_WARN(!rcu_read_lock_held(), "the disk may go");
	hlist_for_each_entry_rcu(disk, ebb_disk_bucket(gd), node)
		if (disk->gd == gd)
			return disk;
	return NULL;
}

static inline bool ebb_disk_looks(const struct ebb_disk *disk, enum ebb_look what)
{
	return READ_ONCE(disk->look) & BIT(what);
}

struct block_device *ebb_disk_bdev(const struct ebb_disk *disk);

/* All under ebb_mutex, may sleep. */
struct ebb_disk *ebb_disk_attach(u32 group, dev_t dev, const char *stable_id,
				 const struct ebb_log_options *log, const char **why);
int ebb_disk_detach(struct ebb_disk *disk);	/* drops ebb_mutex while it waits */
struct ebb_disk *ebb_disk_find(u32 id);
/* Looks whether the disk has gone or changed its size; true if something was new. */
bool ebb_disk_refresh(struct ebb_disk *disk);
void ebb_disk_mark_all(struct ebb_disk *disk, u32 flags);
void ebb_disk_mark(struct ebb_disk *disk, const struct ebb_extent *extents, unsigned int nr,
		   u32 flags);

/* Flags the disk as to be sent whole. Any context; tells user space later. */
void ebb_disk_flag(struct ebb_disk *disk, enum ebb_resync_reason reason);

/* The bus that a disk, tracked or not, is on. Any context. */
enum ebb_bus ebb_disk_bus(const struct gendisk *gd);

#endif
