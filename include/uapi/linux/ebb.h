/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * ebb: change tracking and consistent images of live block devices.
 *
 * This header is the manual of the kernel interface.
 *
 * PARAMETERS of the module (/sys/module/ebb/parameters, writable)
 *	pool_bytes		preserve pool of a group, taken when its first disk is
 *				attached (64 MiB)
 *	hold_deadline_ms	how long a write may be held before the cut is void (50)
 *	owner_timeout_ms	silence after which an owner's pass is void (30,000)
 *	log_deadline_ms		how long the write-intent log may take to be written before
 *				it is given up (5,000)
 *	log_cool_s		least time between two looks for regions that have gone
 *				cold (30)
 *	gate_deadline_max_ms	how long a gate may be closed at most (1,000)
 *
 * UNITS
 *	Positions and lengths on a disk are in sectors of 512 bytes, whatever the
 *	logical block size. Tracking works in blocks of EBB_BLOCK_SECTORS sectors;
 *	ranges that the module reports are aligned to blocks, but for the last one
 *	of a disk whose size is no multiple of a block. Times are nanoseconds.
 *
 * MODEL
 *	A *disk* is a whole block device (never a partition) that is attached.
 *	It belongs to one *group*, the unit of consistency (all disks of a
 *	machine). A group is made by the first attach that names it and goes with
 *	the last detach.
 *
 *	Every write to an attached disk marks the blocks it touches in the
 *	*current* map, under the group's current *generation*.
 *
 *	A *pass* (EBB_CMD_PASS_BEGIN) takes the current maps of all disks of the
 *	group at one instant, the *cut*, and starts a new generation with empty
 *	maps. There are two kinds:
 *	  EBB_PASS_FROZEN  The blocks of the pass are preserved before they are
 *			   overwritten, and reading the image device gives them
 *			   as of the cut.
 *	  EBB_PASS_LIVE	   Nothing is preserved: the image device gives what is
 *			   on the disk now. For bulk transfer before a frozen pass.
 *	Either is readable once all writes of generations up to the cut have
 *	landed (EBB_PASS_READY); until then it is EBB_PASS_DRAINING. A group has
 *	at most one pass at a time.
 *
 *	Reading is done per block range: fetch ranges with EBB_CMD_PASS_MAP, read
 *	them from the image device with O_DIRECT, then let go of them with
 *	EBB_CMD_PASS_RELEASE. Only a release that succeeds vouches for what was
 *	read: a block read is the block as of the cut if, and only if, the release
 *	of its range *after* the read returns 0. A released range is no longer
 *	preserved; its bits are kept apart until the end of the pass.
 *
 *	EBB_CMD_PASS_END ends a pass that has nothing left to release, and moves
 *	what was released to the *unconfirmed* map. A few blocks may join a pass
 *	while it runs (a write that met the cut half way marks in both generations;
 *	their content is as of the cut all the same): on -EBUSY look at the map anew.
 *	EBB_CMD_EPOCH_CONFIRM drops the unconfirmed maps: the target has closed the
 *	epoch durably. EBB_CMD_EPOCH_ABANDON puts everything back: the pass's map and
 *	the unconfirmed map are ORed into the current one. A pass that is void, by the
 *	death or the silence of its owner too, puts back its own map alone, ranges
 *	released in it included; the unconfirmed map stays until it is confirmed or
 *	abandoned, since passes that ended before still count. No bit is ever dropped
 *	by anything but EBB_CMD_EPOCH_CONFIRM (and EBB_CMD_DISK_DETACH). Blocks that
 *	come back have lost the mark that they were discarded: their content is sent.
 *
 *	A pass becomes EBB_PASS_VOID, with a reason, when a held write reached its
 *	deadline, the preserve pool was full, a read to preserve a block failed,
 *	a disk of the group went away or the owner died. Writers are never failed
 *	and never held longer than the deadline. A void pass gives -ESTALE to
 *	every command that names it, and an I/O error to reads of the image that
 *	are not yet complete.
 *
 * SEVERAL MACHINES
 *	Disks of one group are cut at one instant and no write waits for it. Disks of several
 *	machines (or groups) have no instant in common: they are cut behind *gates*. While the gate
 *	of a group is closed (EBB_CMD_GATE_CLOSE) writes that come to its disks are held, those
 *	that must not wait (REQ_NOWAIT) too, neither marked nor counted; reads, empty flushes and
 *	what had been sent before go on. Whoever coordinates
 *	 1. closes the gate of every group, and waits until all have answered: a gate that has
 *	    answered lets no write into the cut that is issued from then on;
 *	 2. begins a pass in every group, naming its gate (EBB_A_GATE_ID); one after the other will
 *	    do, and clocks are not looked at;
 *	 3. when all have answered 0, opens every gate (EBB_CMD_GATE_OPEN).
 *	The cut is a common one if, and only if, all of that returned 0, in that order. A gate opens
 *	by itself at the deadline that it was closed with, when a disk of the group goes away or is
 *	detached, and when the socket that closed it is closed. The pass that was begun behind it
 *	is void then, before any write goes on (EBB_VOID_GATE_DEADLINE, or what happened),
 *	EBB_CMD_PASS_BEGIN with its id is refused, and so is EBB_CMD_GATE_OPEN (-ESTALE). A pass
 *	does not end before its gate has been opened. No write is held by two gates in succession:
 *	one can be closed again when the writes that the last one held are on their way.
 *
 * GAPS
 *	When a write may have gone unseen, or cannot be tracked, the disk is
 *	flagged *resync required* with a reason (enum ebb_resync_reason) and stays
 *	so until EBB_CMD_DISK_MARK_ALL has marked every block dirty. Tracking goes
 *	on meanwhile. A disk attached without a map area keeps nothing over detach,
 *	unload or reboot: its attach has EBB_RESYNC_NEW set and says so.
 *
 * MAP AREA AND WRITE-INTENT LOG
 *	A disk attached with EBB_A_LOG keeps its map in an area of a block device
 *	(docs/map-format.md), so that no block that may differ from what the target
 *	has confirmed is lost by a reboot, a crash or a power cut. The disk is divided
 *	into *regions* of 1 to 4 MiB. Before the first write to a region that is not
 *	*hot* is let go, it is durably noted as hot in the area. A region goes cold
 *	after a confirmation, when none of its blocks is in a map of the disk, what
 *	was written to it has been flushed, and that has been so for log_cool_s.
 *	At reboot the area is *sealed*: the exact map is written, and writes after
 *	that are logged as ever.
 *
 *	An attach that finds a sealed area has the exact map back (EBB_RECOVERY_CLEAN);
 *	one that finds a log that was in use marks all blocks of its hot regions
 *	(EBB_RECOVERY_CRASH). Neither has a resync reason then but those that there
 *	were before. It must come before anything has written to the disk in this boot
 *	(else EBB_RESYNC_UNTRACKED_WRITE). Whatever else is found is named by a reason:
 *	EBB_RESYNC_MAP_LOST, MAP_FOREIGN, MAP_STALE, MAP_FAILED, DETACHED.
 *
 *	When the log cannot be written, or that takes longer than log_deadline_ms, it
 *	is given up: EBB_LOG_FAILED, reason EBB_RESYNC_MAP_FAILED, and writes go on. It
 *	may not have been possible to say so in the area: user space should remember
 *	that the map with this UUID must not be trusted by a later attach.
 *	EBB_CMD_DISK_MARK_ALL makes the map anew, if the area can be written again.
 *
 *	The area's own blocks are not tracked, and the image device gives zeros there.
 *
 *	*Suspect* blocks are dirty without it being known whether they differ from what
 *	the target has (EBB_EXTENT_COMPARE): those recovered after a crash, and those
 *	that user space marked so. Compare them (by digest) before sending; sending them
 *	all the same is correct. What comes back from a void pass may have lost that.
 *
 *	*Witness* blocks (EBB_CMD_DISK_WITNESS) tell whether the disk was written
 *	without the module: their checksums are in the area, and compared at attach.
 *
 * ACCESS
 *	Generic netlink family EBB_GENL_NAME. All commands need CAP_SYS_ADMIN in
 *	the initial user namespace (else -EPERM), as does opening an image device and,
 *	where the kernel can limit it, listening to events. Errors are negative errno in
 *	the netlink answer, with an extended error message that says what was wrong
 *	(-ENOENT: no such disk, group or pass). All commands may sleep. Three wait for the
 *	application's I/O: EBB_CMD_DISK_ATTACH until the requests have completed that the
 *	disk's queue held, and for an empty flush; EBB_CMD_DISK_DETACH until held and
 *	in-flight writes of that disk are gone; EBB_CMD_DISK_MARK_ALL of a disk that
 *	something had passed by, until its queue is empty. Multicast group EBB_GENL_EVENTS carries
 *	EBB_CMD_EVENT.
 *
 *	A gate belongs to the socket that closed it: no other one can open it, or begin a pass
 *	behind it.
 *
 *	The socket that sent EBB_CMD_PASS_BEGIN *owns* the pass: when it closes,
 *	or no command of it has arrived for EBB_A_OWNER_TIMEOUT_MS, the pass is
 *	void. Only the owner may release and end; anyone may confirm or abandon, so
 *	that a daemon that starts anew can settle what the one before it left.
 */
#ifndef _UAPI_LINUX_EBB_H
#define _UAPI_LINUX_EBB_H

#include <linux/types.h>

#define EBB_GENL_NAME		"ebb"
#define EBB_GENL_VERSION	1
#define EBB_GENL_EVENTS		"events"

#define EBB_BLOCK_SECTORS	8	/* 4 KiB */
#define EBB_ID_MAX		128	/* bytes of a stable id, with the NUL */
#define EBB_NAME_MAX		32	/* bytes of a kernel device name, with the NUL */
#define EBB_UUID_LEN		16
#define EBB_COOKIE_LEN		64	/* bytes kept for user space with the map */
#define EBB_NOTE_MAX		256	/* bytes kept for user space with the group */
#define EBB_BOOTS_MAX		16	/* boots that a map remembers */
#define EBB_WITNESSES_MAX	64	/* blocks */

/**
 * enum ebb_cmd - commands
 * Attributes that a command takes and returns stand beside it; [] is optional.
 */
enum ebb_cmd {
	EBB_CMD_UNSPEC,
	/*
	 * What the module is. Returns VERSION_STRING, FEATURES, INCARNATION (a
	 * random UUID of this load of the module), BLOCK_SECTORS, POOL_BYTES,
	 * POOL_USED_BYTES, HOLD_DEADLINE_MS, OWNER_TIMEOUT_MS, GATE_DEADLINE_MS (the bound).
	 */
	EBB_CMD_INFO,
	/*
	 * Attach a live disk. Takes GROUP, DEV, STABLE_ID, [LOG]. Returns a DISK nest.
	 * -EEXIST attached already, -EINVAL a partition or an id that is empty,
	 * -EOPNOTSUPP what cannot be tracked (DAX, zoned, rw_page, an image device of
	 * ebb), -EIO the probe, an empty flush, was not seen, -EBUSY the group has a
	 * pass or its gate is closed, -ENODEV, -ENOMEM. A disk without requests of its own
	 * (dm, md) has no queue to wait for: begin the first pass when what was in flight has
	 * landed.
	 * With LOG also: -EOPNOTSUPP a map device that is stacked on others (dm, md,
	 * loop) or the tracked disk as a whole, -EROFS, -EBUSY somebody else has it,
	 * -EEXIST the area overlaps with that of another disk, -ERANGE it is not on the
	 * device or not aligned to 4 KiB, -ENOSPC it is too small (the message says how
	 * many sectors are needed), -EIO it cannot be read or written.
	 */
	EBB_CMD_DISK_ATTACH,
	/*
	 * Detach. Takes DISK_ID. A pass of the group becomes void first, and its gate opens.
	 * Waits for the disk's writes in flight (interruptible: -EINTR, still attached, and
	 * flagged EBB_RESYNC_UNTRACKED_WRITE since writes may have passed meanwhile).
	 */
	EBB_CMD_DISK_DETACH,
	/* Takes [DISK_ID]; a dump without it lists all. Returns DISK nests. */
	EBB_CMD_DISK_GET,
	/*
	 * Mark every block of the disk dirty and clear its resync-required flag:
	 * the caller undertakes to send all of it. Takes DISK_ID, [MARK_FLAGS]. If
	 * something had passed by, waits until the requests in the disk's queue have
	 * completed: what passed may be one of them.
	 */
	EBB_CMD_DISK_MARK_ALL,
	/* Mark ranges dirty. Takes DISK_ID, EXTENTS, [MARK_FLAGS]. Durable with a log. */
	EBB_CMD_DISK_MARK,
	/*
	 * Begin a pass over all disks of a group. Takes GROUP, PASS_KIND,
	 * [PASS_FLAGS], [GATE_ID]. Returns a PASS nest. -EBUSY there is one already, or the
	 * gate is closed and was not named, -ESTALE the gate that was named is not closed
	 * any more, -EPERM it belongs to another socket, -ENOENT no such group, -ENODEV a disk
	 * of it is gone, -EAGAIN writes of so old a generation are still in flight that none
	 * can be begun: try again.
	 * A pass that is void or ended gives way to the new one.
	 */
	EBB_CMD_PASS_BEGIN,
	/* State of the group's pass. Takes GROUP, [PASS_ID]. Returns a PASS nest; -ENOENT. */
	EBB_CMD_PASS_GET,
	/*
	 * Ranges of a pass not yet released, in ascending order, at most
	 * EBB_EXTENTS_PER_REPLY, starting at SECTOR. Takes PASS_ID, DISK_ID, SECTOR.
	 * Returns EXTENTS, and NEXT_SECTOR when there are more. -EAGAIN while
	 * draining, -ESTALE when void.
	 */
	EBB_CMD_PASS_MAP,
	/*
	 * Let go of ranges (block aligned). Takes PASS_ID, DISK_ID, EXTENTS.
	 * -ESTALE: void, nothing read for this pass may be used. -ENOMEM: let go of
	 * in part, to be repeated. -EAGAIN while draining.
	 */
	EBB_CMD_PASS_RELEASE,
	/*
	 * Takes PASS_ID. -EBUSY ranges are left to release, or the pass was begun behind a
	 * gate that is still closed; -EAGAIN while draining.
	 */
	EBB_CMD_PASS_END,
	/*
	 * Drop the unconfirmed maps of the group. Takes GROUP, [COOKIE]. -EBUSY during
	 * a pass. The cookie is durable in the area of each disk that has one (and is
	 * not EBB_LOG_FAILED) before anything is dropped.
	 */
	EBB_CMD_EPOCH_CONFIRM,
	/* Void the pass if there is one; OR everything back. Takes GROUP. */
	EBB_CMD_EPOCH_ABANDON,
	/* Multicast only: EVENT_KIND with GROUP, and a DISK or PASS nest. */
	EBB_CMD_EVENT,
	/*
	 * The witness blocks of a disk, at most EBB_WITNESSES_MAX; replaces the set.
	 * Takes DISK_ID, EXTENTS. -EOPNOTSUPP without a log, -E2BIG. Waits for the disk,
	 * no longer than the module's log_deadline_ms. The set is in force all the same where
	 * some of it says nothing until it is given again, or written to: -EIO they cannot be
	 * read, -ETIMEDOUT not in time, -ENOMEM.
	 */
	EBB_CMD_DISK_WITNESS,
	/*
	 * Close the gate of a group, for at most GATE_DEADLINE_MS. Takes GROUP,
	 * GATE_DEADLINE_MS. Returns GATE_ID; all processors have seen it by then. -ERANGE the
	 * deadline is 0 or beyond gate_deadline_max_ms, -EBUSY the group has a pass or its
	 * gate is closed, -ENODEV a disk of it is gone, -EAGAIN no pass could be begun, or
	 * writes that the last gate held are yet to go on: try again, -ETIMEDOUT the
	 * deadline passed before all processors had seen it; it is open again.
	 */
	EBB_CMD_GATE_CLOSE,
	/*
	 * Open it. Takes GROUP, GATE_ID. Returns GATE_ID, GATE_HELD, GATE_NS. -ESTALE it had
	 * opened before, and the pass that was begun behind it is void; -EPERM it belongs to
	 * another socket.
	 */
	EBB_CMD_GATE_OPEN,
	/*
	 * Keep a cookie with the maps of a group, as a confirmation does, and a note in memory,
	 * during a pass too and without dropping anything. Takes GROUP, [COOKIE], [NOTE]; one of
	 * them must be there. The note replaces that before it, and lives as long as the group:
	 * what the unconfirmed maps rely on can be told by it to whoever comes after their owner.
	 */
	EBB_CMD_COOKIE_SET,

	__EBB_CMD_MAX
};

#define EBB_CMD_MAX		(__EBB_CMD_MAX - 1)
#define EBB_EXTENTS_PER_REPLY	1024

/**
 * struct ebb_extent - a range of a disk
 * @sector:	first sector
 * @nr_sectors:	length; ranges longer than 2^31 sectors are split
 * @flags:	EBB_EXTENT_*
 */
struct ebb_extent {
	__u64 sector;
	__u32 nr_sectors;
	__u32 flags;
};

/* The whole range was discarded last: its content is indeterminate, send a discard. */
#define EBB_EXTENT_DISCARDED	(1u << 0)
/* All of it is suspect: it may well be equal on the target, compare before sending. */
#define EBB_EXTENT_COMPARE	(1u << 1)

/**
 * enum ebb_attr - top level attributes
 */
enum ebb_attr {
	EBB_A_UNSPEC,
	EBB_A_PAD,
	EBB_A_VERSION_STRING,	/* NUL-terminated string */
	EBB_A_FEATURES,		/* u64, EBB_FEATURE_* */
	EBB_A_INCARNATION,	/* EBB_UUID_LEN bytes */
	EBB_A_BLOCK_SECTORS,	/* u32 */
	EBB_A_POOL_BYTES,	/* u64, size of the preserve pool of a group */
	EBB_A_POOL_USED_BYTES,	/* u64 */
	EBB_A_HOLD_DEADLINE_MS,	/* u32 */
	EBB_A_OWNER_TIMEOUT_MS,	/* u32 */
	EBB_A_GROUP,		/* u32, chosen by the caller, not 0 */
	EBB_A_DEV,		/* u64, major << 32 | minor */
	EBB_A_DISK_ID,		/* u32, given by attach, never reused in an incarnation */
	EBB_A_STABLE_ID,	/* NUL-terminated string, at most EBB_ID_MAX */
	EBB_A_PASS_ID,		/* u64, never reused in an incarnation */
	EBB_A_PASS_KIND,	/* u32, enum ebb_pass_kind */
	EBB_A_SECTOR,		/* u64 */
	EBB_A_NEXT_SECTOR,	/* u64 */
	EBB_A_EXTENTS,		/* array of struct ebb_extent */
	EBB_A_DISK,		/* nest, enum ebb_disk_attr */
	EBB_A_PASS,		/* nest, enum ebb_pass_attr */
	EBB_A_EVENT_KIND,	/* u32, enum ebb_event_kind */
	EBB_A_PASS_FLAGS,	/* u32, EBB_PASS_F_* */
	EBB_A_LOG,		/* nest, enum ebb_log_attr */
	EBB_A_COOKIE,		/* EBB_COOKIE_LEN bytes */
	EBB_A_MARK_FLAGS,	/* u32, EBB_MARK_F_* */
	EBB_A_GATE_ID,		/* u64, never reused in an incarnation */
	EBB_A_GATE_DEADLINE_MS,	/* u32 */
	EBB_A_GATE_HELD,	/* u64, write bios that came while it was closed */
	EBB_A_GATE_NS,		/* u64, how long it was closed */
	EBB_A_NOTE,		/* at most EBB_NOTE_MAX bytes; means nothing to the module */

	__EBB_A_MAX
};

#define EBB_A_MAX	(__EBB_A_MAX - 1)

/*
 * EBB_A_PASS_FLAGS: a frozen pass preserves every block of every disk before it is overwritten,
 * dirty or not, until EBB_CMD_PASS_END: the image device gives the whole disk as of the cut.
 * EBB_CMD_PASS_MAP lists the dirty ranges alone, as ever.
 */
#define EBB_PASS_F_WHOLE	(1u << 0)

/* EBB_A_MARK_FLAGS: what is marked is suspect; without it, it is so no more. */
#define EBB_MARK_F_COMPARE	(1u << 0)

/**
 * enum ebb_log_attr - inside EBB_A_LOG: the area [SECTOR, SECTOR + SECTORS) of the map device
 * All but FLAGS must be there. Read the area with O_DIRECT: the module bypasses the page cache.
 * It holds 8 * (2 + 2 * L + F) sectors, with L = ceil(regions / 31,744), F = ceil(blocks / 31,680);
 * a region is 1 MiB on disks up to 256 GiB, 2 MiB up to 512 GiB, 4 MiB on others.
 */
enum ebb_log_attr {
	EBB_LOG_A_UNSPEC,
	EBB_LOG_A_PAD,
	EBB_LOG_A_DEV,		/* u64, as EBB_A_DEV: a partition or a whole disk */
	EBB_LOG_A_SECTOR,	/* u64, a multiple of 8 */
	EBB_LOG_A_SECTORS,	/* u64 */
	EBB_LOG_A_FLAGS,	/* u32, EBB_LOG_F_* */
	EBB_LOG_A_BOOT_ID,	/* EBB_UUID_LEN bytes: /proc/sys/kernel/random/boot_id, as binary */

	__EBB_LOG_A_MAX
};

#define EBB_LOG_A_MAX	(__EBB_LOG_A_MAX - 1)

/* EBB_LOG_A_FLAGS: write a new map, whatever is there (EBB_RESYNC_NEW). */
#define EBB_LOG_F_CREATE	(1u << 0)

/* EBB_A_FEATURES */
#define EBB_FEATURE_SECOND_WITNESS	(1ull << 0)	/* block_rq_issue is watched */
#define EBB_FEATURE_DISCARD_MASK	(1ull << 1)	/* EBB_EXTENT_DISCARDED is reported */
#define EBB_FEATURE_WHOLE_PASS		(1ull << 2)	/* EBB_PASS_F_WHOLE is understood */
#define EBB_FEATURE_LOG			(1ull << 3)	/* EBB_A_LOG is understood */
#define EBB_FEATURE_COMPARE		(1ull << 4)	/* EBB_MARK_F_COMPARE is understood */
#define EBB_FEATURE_GATE		(1ull << 5)	/* EBB_CMD_GATE_CLOSE, EBB_CMD_GATE_OPEN */
#define EBB_FEATURE_NOTE		(1ull << 6)	/* EBB_A_NOTE is understood */

/**
 * enum ebb_disk_attr - inside EBB_A_DISK
 * Counters begin at attach and never go back.
 */
enum ebb_disk_attr {
	EBB_DISK_A_UNSPEC,
	EBB_DISK_A_PAD,
	EBB_DISK_A_ID,			/* u32 */
	EBB_DISK_A_GROUP,		/* u32 */
	EBB_DISK_A_DEV,			/* u64, as EBB_A_DEV */
	EBB_DISK_A_NAME,		/* string, kernel name at attach, such as sda */
	EBB_DISK_A_STABLE_ID,		/* string */
	EBB_DISK_A_SECTORS,		/* u64, at attach: when it changes, attach anew */
	EBB_DISK_A_IMAGE_DEV,		/* u64, as EBB_A_DEV, of the image device */
	EBB_DISK_A_STATE,		/* u32, enum ebb_disk_state */
	EBB_DISK_A_RESYNC_REASONS,	/* u32, bits 1 << enum ebb_resync_reason; 0: none */
	EBB_DISK_A_DIRTY_BLOCKS,	/* u64, in the current map */
	EBB_DISK_A_UNCONFIRMED_BLOCKS,	/* u64 */
	EBB_DISK_A_MAP_BYTES,		/* u64, memory of all maps of the disk */
	EBB_DISK_A_COARSE_MARKS,	/* u64, marks that fell back to the coarse map */
	EBB_DISK_A_WRITES,		/* u64, write bios seen (discards included) */
	EBB_DISK_A_WRITTEN_SECTORS,	/* u64 */
	EBB_DISK_A_DISCARDS,		/* u64 */
	EBB_DISK_A_IN_FLIGHT,		/* u64, write bios not completed */
	EBB_DISK_A_HELD,		/* u64, write bios ever held for preservation */
	EBB_DISK_A_HELD_NS_TOTAL,	/* u64 */
	EBB_DISK_A_HELD_NS_MAX,		/* u64 */
	EBB_DISK_A_PRESERVED,		/* u64, blocks ever preserved */
	EBB_DISK_A_WRITE_ERRORS,	/* u64, write bios that failed (their blocks stay dirty) */
	EBB_DISK_A_UNTRACKED_REQUESTS,	/* u64, seen by the second witness only */
	EBB_DISK_A_SUSPECT_BLOCKS,	/* u64 */
	EBB_DISK_A_LOG_STATE,		/* u32, enum ebb_log_state; the rest only with a log */
	EBB_DISK_A_MAP_UUID,		/* EBB_UUID_LEN bytes, new whenever the map is made anew */
	EBB_DISK_A_RECOVERY,		/* u32, enum ebb_recovery: what the attach found */
	EBB_DISK_A_RECOVERED_BLOCKS,	/* u64, that the attach found dirty */
	EBB_DISK_A_HOT_REGIONS,		/* u64 */
	EBB_DISK_A_REGION_SECTORS,	/* u32 */
	EBB_DISK_A_LOG_WRITES,		/* u64, blocks of the log written */
	EBB_DISK_A_LOG_HELD,		/* u64, writes that waited for the log */
	EBB_DISK_A_LOG_HELD_NS_MAX,	/* u64 */
	EBB_DISK_A_COOKIE,		/* EBB_COOKIE_LEN bytes, of the last confirmation */
	/* ids (EBB_UUID_LEN bytes each) of the last boots that used the map, this one last */
	EBB_DISK_A_BOOTS,
	EBB_DISK_A_WITNESSES,		/* u32, number of witness blocks */
	EBB_DISK_A_GATED,		/* u64, write bios ever held by a closed gate */
	EBB_DISK_A_NOTE,		/* the note of its group; not there: none was kept */

	__EBB_DISK_A_MAX
};

#define EBB_DISK_A_MAX	(__EBB_DISK_A_MAX - 1)

enum ebb_disk_state {
	EBB_DISK_TRACKING = 0,
	EBB_DISK_GONE = 1,		/* removed from the system; detach is all that is left */
};

enum ebb_log_state {
	EBB_LOG_NONE = 0,
	EBB_LOG_ACTIVE = 1,
	EBB_LOG_FAILED = 2,		/* could not be written: nothing is durable any more */
};

enum ebb_recovery {
	EBB_RECOVERY_NONE = 0,		/* the map is new: see the resync reasons */
	EBB_RECOVERY_CLEAN = 1,		/* sealed: the exact map */
	EBB_RECOVERY_CRASH = 2,		/* in use: all blocks of hot regions */
};

/**
 * enum ebb_resync_reason - why the map of a disk cannot be trusted
 */
enum ebb_resync_reason {
	EBB_RESYNC_NEW = 0,		/* attached: what was written before is not known */
	EBB_RESYNC_UNTRACKED_WRITE,	/* a write request with a bio that we had not seen */
	EBB_RESYNC_PASSTHROUGH,		/* SG_IO or alike, with a command that may write */
	EBB_RESYNC_ZONED,		/* zone append, reset or alike */
	EBB_RESYNC_INTEGRITY,		/* a bio with an integrity payload made by its sender */
	EBB_RESYNC_ENCRYPTED,		/* a bio with inline encryption */
	EBB_RESYNC_RESIZED,		/* the size changed */
	EBB_RESYNC_GONE,		/* hot removed */
	EBB_RESYNC_MAP_LOST,		/* no valid map in the area: lost or corrupted */
	EBB_RESYNC_MAP_FOREIGN,		/* that of another disk: id or size differ */
	/* a witness differs: written without the module, or disk or map older than the other */
	EBB_RESYNC_MAP_STALE,
	EBB_RESYNC_MAP_FAILED,		/* the log could not be written */
	EBB_RESYNC_DETACHED,		/* was detached, and attached again */
	EBB_RESYNC_HIBERNATED,		/* the machine was hibernated: its image was not tracked */

	__EBB_RESYNC_MAX
};

enum ebb_pass_kind {
	EBB_PASS_FROZEN = 0,
	EBB_PASS_LIVE = 1,
};

/**
 * enum ebb_pass_attr - inside EBB_A_PASS
 */
enum ebb_pass_attr {
	EBB_PASS_A_UNSPEC,
	EBB_PASS_A_PAD,
	EBB_PASS_A_ID,			/* u64 */
	EBB_PASS_A_GROUP,		/* u32 */
	EBB_PASS_A_KIND,		/* u32 */
	EBB_PASS_A_STATE,		/* u32, enum ebb_pass_state */
	EBB_PASS_A_VOID_REASON,		/* u32, enum ebb_void_reason */
	EBB_PASS_A_GENERATION,		/* u64, the generation that the cut closed */
	EBB_PASS_A_CUT_REALTIME_NS,	/* u64, CLOCK_REALTIME at the cut */
	EBB_PASS_A_CUT_BOOTTIME_NS,	/* u64, CLOCK_BOOTTIME at the cut */
	EBB_PASS_A_CUT_DURATION_NS,	/* u64, how long making the cut took */
	EBB_PASS_A_BLOCKS,		/* u64, blocks in the pass at the cut, all disks */
	EBB_PASS_A_BLOCKS_LEFT,		/* u64, not yet released */
	EBB_PASS_A_PRESERVED,		/* u64, blocks preserved so far */
	EBB_PASS_A_HELD,		/* u64, writes held so far */
	EBB_PASS_A_HELD_NS_MAX,		/* u64 */
	EBB_PASS_A_POOL_PEAK_BYTES,	/* u64 */

	__EBB_PASS_A_MAX
};

#define EBB_PASS_A_MAX	(__EBB_PASS_A_MAX - 1)

enum ebb_pass_state {
	EBB_PASS_DRAINING = 0,
	EBB_PASS_READY = 1,
	EBB_PASS_VOID = 2,
	EBB_PASS_ENDED = 3,
};

enum ebb_void_reason {
	EBB_VOID_NONE = 0,
	EBB_VOID_DEADLINE,	/* a held write reached its deadline */
	EBB_VOID_POOL_FULL,
	EBB_VOID_PRESERVE_ERROR,/* the old content could not be read */
	EBB_VOID_DISK_GONE,
	EBB_VOID_OWNER,		/* the owner closed its socket or was silent */
	EBB_VOID_ABANDONED,
	EBB_VOID_DETACHED,
	EBB_VOID_CUT_RACE,	/* two writes met the cut on one block */
	EBB_VOID_GATE_DEADLINE,	/* the gate that it was begun behind opened by itself */
};

enum ebb_event_kind {
	EBB_EVENT_PASS = 0,	/* a pass became ready or void: PASS nest */
	EBB_EVENT_DISK = 1,	/* state or resync reasons changed: DISK nest */
};

#endif /* _UAPI_LINUX_EBB_H */
