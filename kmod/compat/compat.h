/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between kernels, found by compiling the files in probes/ (each names the commit that
 * made the difference) and never by a version number. A feature is a folder there; of its forms
 * exactly one compiles, or the build ends: see probe.sh. The rest of the module is written for one
 * interface: this one.
 */
#ifndef _EBB_COMPAT_H
#define _EBB_COMPAT_H

#include <linux/bio.h>
#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/ftrace.h>
#include <linux/highmem.h>
#ifndef EBB_HAVE_PART_STAT_GENHD
#include <linux/part_stat.h>
#endif
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <scsi/scsi_cmnd.h>
#ifdef EBB_HAVE_SCSI_REQUEST
#include <scsi/scsi_request.h>
#endif

#ifndef data_race
/* Since dfd402a4c4ba (5.8): a mark for race checkers. */
#define data_race(expr)			(expr)
#endif

/* ---- the entry of the block layer, which bios of all kinds pass ---- */

#ifdef EBB_HAVE_SUBMIT_BIO_NOACCT
#define EBB_ENTRY_RETURN		void
#define EBB_ENTRY_RESULT
#else
/* A sender that polls does so with the cookie that the entry returns. */
#define EBB_ENTRY_RETURN		blk_qc_t
#define EBB_ENTRY_RESULT		BLK_QC_T_NONE
#endif

#ifdef EBB_HAVE_GENERIC_MAKE_REQUEST
#define submit_bio_noacct		generic_make_request
#endif

/* ---- bios ---- */

#ifdef EBB_HAVE_BI_BDEV
static inline struct gendisk *ebb_bio_gendisk(const struct bio *bio)
{
	return bio->bi_bdev->bd_disk;
}

/* The sector on the whole disk: a bio to a partition is remapped on its way, once. */
static inline u64 ebb_bio_sector(struct bio *bio)
{
	u64 sector = bio->bi_iter.bi_sector;

	return bio_flagged(bio, BIO_REMAPPED) ? sector : sector + bio->bi_bdev->bd_start_sect;
}
#else
static inline struct gendisk *ebb_bio_gendisk(const struct bio *bio)
{
	return bio->bi_disk;
}

/* The partition's number becomes 0 when the bio is remapped. */
static inline u64 ebb_bio_sector(struct bio *bio)
{
	u64 sector = bio->bi_iter.bi_sector;
	struct hd_struct *part;

	if (!bio->bi_partno)
		return sector;
	rcu_read_lock();
	part = rcu_dereference(rcu_dereference(bio->bi_disk->part_tbl)->part[bio->bi_partno]);
	if (part)
		sector += part->start_sect;
	rcu_read_unlock();
	return sector;
}
#endif

#ifdef CONFIG_BLK_INLINE_ENCRYPTION
#define ebb_bio_is_encrypted(bio)	(!!(bio)->bi_crypt_context)
#else
#define ebb_bio_is_encrypted(bio)	false
#endif

/*
 * A bio that is not polled any more may complete in an interrupt, where some kernels cannot give it
 * back to a cache of the CPU: their bio_clear_polled() takes that from it too.
 */
#ifdef EBB_HAVE_REQ_POLLED
#define EBB_REQ_POLLED			REQ_POLLED
#define ebb_bio_clear_polled(bio)	bio_clear_polled(bio)
#else
#define EBB_REQ_POLLED			REQ_HIPRI
#define ebb_bio_clear_polled(bio)	((void)((bio)->bi_opf &= ~REQ_HIPRI))
#endif

/*
 * Whether somebody is going to poll for the bio with the cookie that the entry returns. That cookie
 * would lead to an ordinary queue of the driver if the bio is not a polled one any more, which
 * drivers are not made for: such a bio has to be taken, so that none is returned.
 */
static inline bool ebb_bio_is_polled_by_cookie(const struct bio *bio)
{
#ifdef EBB_HAVE_SUBMIT_BIO_NOACCT
	return false;
#else
	return bio->bi_opf & EBB_REQ_POLLED &&
	       test_bit(QUEUE_FLAG_POLL, &ebb_bio_gendisk(bio)->queue->queue_flags);
#endif
}

#ifdef EBB_HAVE_BIO_ALLOC_BDEV
static inline void ebb_bio_init(struct bio *bio)
{
	bio_init(bio, NULL, NULL, 0, 0);
}

static inline struct bio *ebb_bio_alloc_read(struct block_device *bdev, unsigned short nr,
					     gfp_t gfp, struct bio_set *set)
{
	return bio_alloc_bioset(bdev, nr, REQ_OP_READ, gfp, set);
}

static inline struct bio *ebb_bio_clone(struct block_device *bdev, struct bio *bio, gfp_t gfp,
					struct bio_set *set)
{
	return bio_alloc_clone(bdev, bio, gfp, set);
}
#else
static inline void ebb_bio_init(struct bio *bio)
{
	bio_init(bio, NULL, 0);
}

static inline struct bio *ebb_bio_alloc_read(struct block_device *bdev, unsigned short nr,
					     gfp_t gfp, struct bio_set *set)
{
	struct bio *bio = bio_alloc_bioset(gfp, nr, set);

	bio_set_dev(bio, bdev);
	bio->bi_opf = REQ_OP_READ;
	return bio;
}

static inline struct bio *ebb_bio_clone(struct block_device *bdev, struct bio *bio, gfp_t gfp,
					struct bio_set *set)
{
	struct bio *clone = bio_clone_fast(bio, gfp, set);

	bio_set_dev(clone, bdev);
	return clone;
}
#endif

/* One of ours, used again and again, whose only vector lies beside it. */
#ifdef EBB_HAVE_BIO_ALLOC_BDEV
#define EBB_OPF				blk_opf_t
static inline void ebb_bio_init_own(struct bio *bio, struct block_device *bdev,
				    struct bio_vec *vec, EBB_OPF opf)
{
	bio_init(bio, bdev, vec, 1, opf);
}
#else
#define EBB_OPF				unsigned int
static inline void ebb_bio_init_own(struct bio *bio, struct block_device *bdev,
				    struct bio_vec *vec, EBB_OPF opf)
{
	bio_init(bio, vec, 1);
	bio_set_dev(bio, bdev);
	bio->bi_opf = opf;
}
#endif

/*
 * Whether the operation may change the disk, as all commands to zones do. Before 19de03b312d6
 * (6.18) some of them have even numbers, and op_is_write() says no to those.
 */
static __always_inline bool ebb_is_even_op(EBB_OPF op, EBB_OPF which)
{
	return !((__force unsigned int)which & 1) && op == which;
}

static __always_inline bool ebb_op_changes(EBB_OPF op)
{
	return op_is_write(op) || ebb_is_even_op(op, REQ_OP_ZONE_OPEN) ||
	       ebb_is_even_op(op, REQ_OP_ZONE_FINISH) || ebb_is_even_op(op, REQ_OP_ZONE_RESET) ||
	       ebb_is_even_op(op, REQ_OP_ZONE_RESET_ALL);
}

#ifdef EBB_HAVE_FLUSH_GFP
#define ebb_issue_flush(bdev)		blkdev_issue_flush(bdev, GFP_KERNEL)
#else
#define ebb_issue_flush(bdev)		blkdev_issue_flush(bdev)
#endif

#ifdef EBB_HAVE_NO_KMAP_LOCAL
/* 64 bit: all memory is mapped. */
#define kmap_local_page(page)		page_address(page)
#define kunmap_local(addr)		((void)(addr))
#endif

/* ---- block devices ---- */

struct ebb_bdev;

#ifdef EBB_HAVE_BDEV_FILE
static inline struct ebb_bdev *ebb_bdev_open(dev_t dev)
{
	return (struct ebb_bdev *)bdev_file_open_by_dev(dev, BLK_OPEN_READ, NULL, NULL);
}

static inline struct block_device *ebb_bdev_of(struct ebb_bdev *bdev)
{
	return file_bdev((struct file *)bdev);
}

static inline void ebb_bdev_close(struct ebb_bdev *bdev)
{
	fput((struct file *)bdev);
}

/* For reading and writing, for us alone. */
static inline struct ebb_bdev *ebb_bdev_open_owned(dev_t dev, void *owner)
{
	return (struct ebb_bdev *)bdev_file_open_by_dev(dev, BLK_OPEN_READ | BLK_OPEN_WRITE, owner,
							NULL);
}

static inline void ebb_bdev_close_owned(struct ebb_bdev *bdev, void *owner)
{
	ebb_bdev_close(bdev);
}
#else
static inline struct ebb_bdev *ebb_bdev_open(dev_t dev)
{
	return (struct ebb_bdev *)blkdev_get_by_dev(dev, FMODE_READ, NULL);
}

static inline struct block_device *ebb_bdev_of(struct ebb_bdev *bdev)
{
	return (struct block_device *)bdev;
}

static inline void ebb_bdev_close(struct ebb_bdev *bdev)
{
	blkdev_put((struct block_device *)bdev, FMODE_READ);
}

/* For reading and writing, for us alone. */
static inline struct ebb_bdev *ebb_bdev_open_owned(dev_t dev, void *owner)
{
	return (struct ebb_bdev *)blkdev_get_by_dev(dev, FMODE_READ | FMODE_WRITE | FMODE_EXCL,
						    owner);
}

static inline void ebb_bdev_close_owned(struct ebb_bdev *bdev, void *owner)
{
	blkdev_put((struct block_device *)bdev, FMODE_READ | FMODE_WRITE | FMODE_EXCL);
}
#endif

#ifdef EBB_HAVE_BDEV_NR_SECTORS
#define ebb_bdev_sectors(bdev)		((u64)bdev_nr_sectors(bdev))
#else
#define ebb_bdev_sectors(bdev)		((u64)i_size_read((bdev)->bd_inode) >> SECTOR_SHIFT)
#endif
#define ebb_bdev_is_read_only(bdev)	bdev_read_only(bdev)

/*
 * Requests that have changed the disk since the system knows it, by its statistics; all ones: there
 * are none. What is stacked counts whatever the switch says.
 */
static inline u64 ebb_disk_writes(struct gendisk *gd)
{
#ifdef EBB_HAVE_PART_STAT
	struct block_device *part0 = gd->part0;
#else
	struct hd_struct *part0 = &gd->part0;
#endif
	if (queue_is_mq(gd->queue) && !blk_queue_io_stat(gd->queue))
		return U64_MAX;
	return part_stat_read(part0, ios[STAT_WRITE]) + part_stat_read(part0, ios[STAT_DISCARD]);
}

#ifdef EBB_HAVE_DISK_LIVE
#define ebb_disk_is_live(gd)		disk_live(gd)
#else
#define ebb_disk_is_live(gd)		((gd)->flags & GENHD_FL_UP)
#endif

#ifdef EBB_HAVE_RW_PAGE
#define ebb_has_rw_page(gd)		(!!(gd)->fops->rw_page)
#else
#define ebb_has_rw_page(gd)		false
#endif

/* Waits until all requests that are in the queue now have completed. */
static inline void ebb_drain_queue(struct request_queue *q)
{
#ifdef EBB_HAVE_FREEZE_MEMFLAGS
	unsigned int memflags = blk_mq_freeze_queue(q);

	blk_mq_unfreeze_queue(q, memflags);
#else
	blk_mq_freeze_queue(q);
	blk_mq_unfreeze_queue(q);
#endif
}

/* ---- our own block device ---- */

/* It returns what the entry returns: one commit changed both. */
#ifdef EBB_HAVE_MAKE_REQUEST
#define EBB_SUBMIT_ARGUMENTS		struct request_queue *q, struct bio *bio
#define EBB_SUBMIT_TYPE			typeof(make_request_fn *)
#define EBB_SUBMIT_MEMBER(fn)
#else
#define EBB_SUBMIT_ARGUMENTS		struct bio *bio
#define EBB_SUBMIT_TYPE \
	typeof(((const struct block_device_operations *)NULL)->submit_bio)
#define EBB_SUBMIT_MEMBER(fn)		.submit_bio = (fn),
#endif

#ifdef EBB_HAVE_OPEN_GENDISK
#define EBB_OPEN_ARGUMENTS		struct gendisk *gd, blk_mode_t mode
#else
#define EBB_OPEN_ARGUMENTS		struct block_device *bdev, fmode_t mode
#endif

#ifdef EBB_HAVE_NO_PART
#define EBB_NO_PARTITIONS		GENHD_FL_NO_PART
#else
#define EBB_NO_PARTITIONS		GENHD_FL_NO_PART_SCAN
#endif

/* With the block sizes of @like. @submit is also to be a member of its operations. */
struct gendisk *ebb_alloc_disk(struct block_device *like, EBB_SUBMIT_TYPE submit);
void ebb_put_disk(struct gendisk *gd);
int ebb_add_disk(struct gendisk *gd);

/* ---- requests ---- */

#ifdef EBB_HAVE_RQ_ISSUE_QUEUE
#define EBB_RQ_ISSUE_ARGUMENTS		struct request_queue *q, struct request *rq
#else
#define EBB_RQ_ISSUE_ARGUMENTS		struct request *rq
#endif

/* The disk that the request is for, whoever sends it; only to be compared. NULL: it has no name. */
static inline const struct gendisk *ebb_request_gendisk(const struct request *rq)
{
#ifdef EBB_HAVE_QUEUE_DISK
	return rq->q->disk;
#else
	/* Not rq->rq_disk: passthrough commands have sg's disk in it, or none. */
	struct kobject *parent = READ_ONCE(rq->q->kobj.parent);

	return parent ? dev_to_disk(kobj_to_dev(parent)) : NULL;
#endif
}

#ifdef EBB_HAVE_SCSI_REQUEST
#define ebb_scsi_cdb(rq)		(scsi_req(rq)->cmd)
#else
#define ebb_scsi_cdb(rq)		(((struct scsi_cmnd *)blk_mq_rq_to_pdu(rq))->cmnd)
#endif

/* ---- ftrace ---- */

#ifdef EBB_HAVE_FTRACE_PT_REGS
#define EBB_FTRACE_REGS			struct pt_regs
#else
#define EBB_FTRACE_REGS			struct ftrace_regs
#endif

#ifdef CONFIG_DYNAMIC_FTRACE_WITH_ARGS
#define EBB_FTRACE_REGS_FLAG		0
#else
#define EBB_FTRACE_REGS_FLAG		FTRACE_OPS_FL_SAVE_REGS
#endif

/* Our callback does not come to the function that it is called from. */
#ifdef EBB_HAVE_RECURSION_SAFE
#define EBB_FTRACE_FLAGS		(EBB_FTRACE_REGS_FLAG | FTRACE_OPS_FL_RECURSION_SAFE)
#else
#define EBB_FTRACE_FLAGS		EBB_FTRACE_REGS_FLAG
#endif

#if defined(EBB_HAVE_FTRACE_ARGUMENT)
#define ebb_ftrace_argument(regs)	ftrace_regs_get_argument(regs, 0)
#define ebb_ftrace_redirect(regs, to)	ftrace_regs_set_instruction_pointer(regs, to)
#elif defined(EBB_HAVE_FTRACE_REGS)
#define ebb_ftrace_argument(fregs)	((fregs)->regs.di)
#define ebb_ftrace_redirect(fregs, to)	((fregs)->regs.ip = (to))
#else
#define ebb_ftrace_argument(regs)	((regs)->di)
#define ebb_ftrace_redirect(regs, to)	((regs)->ip = (to))
#endif

static inline void ebb_synchronize_tasks(void)
{
#ifdef CONFIG_TASKS_RCU
	synchronize_rcu_tasks();
#else
	synchronize_rcu();
#endif
}

#endif
