// SPDX-License-Identifier: GPL-2.0-only
/* The second witness: see witness.h. */
#include <linux/blk-mq.h>
#include <linux/tracepoint.h>
#include <scsi/scsi_cmnd.h>
#include <scsi/scsi_proto.h>

#include "compat/compat.h"
#include "completion.h"
#include "disk.h"
#include "log_store.h"
#include "witness.h"
#include "write.h"

/* ATA commands that write nothing, by their code: smartctl and udev send them. */
static bool ata_is_harmless(u8 command)
{
	switch (command) {
	case 0x2f:	/* READ LOG EXT */
	case 0x47:	/* READ LOG DMA EXT */
	case 0xb0:	/* SMART */
	case 0xe0:	/* STANDBY IMMEDIATE */
	case 0xe1:	/* IDLE IMMEDIATE */
	case 0xe2:	/* STANDBY */
	case 0xe3:	/* IDLE */
	case 0xe5:	/* CHECK POWER MODE */
	case 0xe7:	/* FLUSH CACHE */
	case 0xea:	/* FLUSH CACHE EXT */
	case 0xec:	/* IDENTIFY DEVICE */
		return true;
	default:
		return false;
	}
}

/* What cannot change a block. Everything else may, unheard-of commands included. */
static bool scsi_is_harmless(const u8 *cdb)
{
	switch (cdb[0]) {
	case TEST_UNIT_READY:
	case REQUEST_SENSE:
	case INQUIRY:
	case MODE_SENSE:
	case MODE_SENSE_10:
	case LOG_SENSE:
	case READ_6:
	case READ_10:
	case READ_12:
	case READ_16:
	case VERIFY:
	case VERIFY_16:
	case READ_CAPACITY:
	case SERVICE_ACTION_IN_16:
	case REPORT_LUNS:
	case RECEIVE_DIAGNOSTIC:
	case READ_BUFFER:
	case READ_DEFECT_DATA:
	case SYNCHRONIZE_CACHE:
	case 0x91:	/* SYNCHRONIZE CACHE (16) */
	case START_STOP:
	case ALLOW_MEDIUM_REMOVAL:
	case 0x16:	/* RESERVE (6) */
	case 0x17:	/* RELEASE (6) */
	case 0x56:	/* RESERVE (10) */
	case 0x57:	/* RELEASE (10) */
	case PERSISTENT_RESERVE_IN:
	case PERSISTENT_RESERVE_OUT:
	case MAINTENANCE_IN:
		return true;
	case ATA_12:
		return ata_is_harmless(cdb[9]);
	case ATA_16:
		return ata_is_harmless(cdb[14]);
	default:
		return false;
	}
}

static bool passthrough_is_harmless(enum ebb_bus bus, struct request *rq)
{
	if (bus == EBB_BUS_SCSI)
		return scsi_is_harmless(ebb_scsi_cdb(rq));
	/* virtio-blk asks for the serial number. */
	return bus == EBB_BUS_VIRTIO && req_op(rq) == REQ_OP_DRV_IN;
}

/*
 * Commands to a disk that is stacked on others (dm, md, NVMe's multipath) are requests of those.
 * Which disks lie below which cannot be told in this context: a command that may write, to whatever
 * fixed disk, flags all that are stacked. Nothing is stacked on one that is just being added, whose
 * driver asks it what it is, or is on its way out; nor is it known of which bus it is.
 */
static noinline void look_below(const struct gendisk *gd, struct request *rq)
{
	struct ebb_disk *disk;
	int bucket;

	/* It may change right now: then nothing can be stacked on it yet, or is any more. */
	if (!data_race(device_is_registered(disk_to_dev((struct gendisk *)gd))))
		return;
	rcu_read_lock();
	if (gd->flags & GENHD_FL_REMOVABLE || passthrough_is_harmless(ebb_disk_bus(gd), rq)) {
		rcu_read_unlock();
		return;
	}
	for (bucket = 0; bucket < 1 << EBB_DISK_HASH_BITS; bucket++) {
		hlist_for_each_entry_rcu(disk, &ebb_disk_table[bucket], node) {
			if (disk->gd != gd && disk->is_stacked) {
				this_cpu_inc(disk->cpu->untracked);
				ebb_disk_flag(disk, EBB_RESYNC_PASSTHROUGH);
			}
		}
	}
	rcu_read_unlock();
}

/* Whether the bio, or one that it is a part of, came through the hook for this disk. */
static bool came_through(const struct ebb_disk *disk, const struct bio *bio)
{
	const struct ebb_write *w;

	for (;;) {
		w = ebb_write_of(bio);
		if ((w && w->disk == disk) || ebb_store_owns(bio))
			return true;
		if (!ebb_is_chained(bio))
			return false;
		bio = bio->bi_private;
	}
}

static noinline void look_at(struct ebb_disk *disk, struct request *rq)
{
	const struct bio *bio;

	if (blk_rq_is_passthrough(rq)) {
		if (!passthrough_is_harmless(disk->bus, rq)) {
			this_cpu_inc(disk->cpu->untracked);
			ebb_disk_flag(disk, EBB_RESYNC_PASSTHROUGH);
		}
		return;
	}
	/* A flush has no bio. */
	for (bio = rq->bio; bio; bio = bio->bi_next) {
		if (likely(came_through(disk, bio)))
			continue;
		this_cpu_inc(disk->cpu->untracked);
		ebb_disk_flag(disk, EBB_RESYNC_UNTRACKED_WRITE);
		return;
	}
}

/*
 * Nearly every request: each of its bios is, itself, a write that came through the hook for this
 * disk. Needs no lock: the disk stays as long as writes of it are in flight, and these are.
 */
static inline bool all_came_through(const struct gendisk *gd, const struct request *rq)
{
	const struct bio *bio = rq->bio;
	const struct ebb_write *w;

	if (!bio)
		return false;
	do {
		w = ebb_write_of(bio);
		if (!w || w->disk->gd != gd)
			return false;
		bio = bio->bi_next;
	} while (bio);
	return true;
}

static void request_issued(void *data, EBB_RQ_ISSUE_ARGUMENTS)
{
	const struct gendisk *gd = ebb_request_gendisk(rq);
	struct ebb_disk *disk;

	if (!gd)
		return;
	/* First what is most frequent: a write to a tracked disk. No passthrough command is one. */
	if (!hlist_empty(ebb_disk_bucket(gd)) && all_came_through(gd, rq))
		return;
	if (unlikely(READ_ONCE(ebb_nr_stacked)) && blk_rq_is_passthrough(rq))
		look_below(gd, rq);
	if (hlist_empty(ebb_disk_bucket(gd)))
		return;
	if (!ebb_op_changes(req_op(rq)) && !blk_rq_is_passthrough(rq))
		return;
	rcu_read_lock();
	disk = ebb_disk_of(gd);
	if (disk)
		look_at(disk, rq);
	rcu_read_unlock();
}

static struct tracepoint *rq_issue;

/* No tracepoint of the block layer is exported by name. */
static void find_rq_issue(struct tracepoint *tp, void *priv)
{
	if (!strcmp(tp->name, "block_rq_issue"))
		rq_issue = tp;
}

int ebb_witness_init(void)
{
	for_each_kernel_tracepoint(find_rq_issue, NULL);
	if (!rq_issue) {
		pr_err("ebb: the kernel has no tracepoint block_rq_issue\n");
		return -EOPNOTSUPP;
	}
	return tracepoint_probe_register(rq_issue, request_issued, NULL);
}

void ebb_witness_exit(void)
{
	tracepoint_probe_unregister(rq_issue, request_issued, NULL);
	tracepoint_synchronize_unregister();
}
