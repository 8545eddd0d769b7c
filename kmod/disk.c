// SPDX-License-Identifier: GPL-2.0-only
/* Attaching and detaching disks: see disk.h. */
#include <linux/blk-mq.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "compat/compat.h"
#include "disk.h"
#include "gate.h"
#include "group.h"
#include "hook.h"
#include "image.h"
#include "log.h"
#include "netlink.h"
#include "pass.h"
#include "preserve.h"
#include "suspect.h"
#include "write.h"

/* See the order of locks in main.c. */
DEFINE_MUTEX(ebb_mutex);
LIST_HEAD(ebb_disks);
struct hlist_head ebb_disk_table[1 << EBB_DISK_HASH_BITS];
unsigned int ebb_nr_stacked;
static u32 next_disk_id = 1;

struct block_device *ebb_disk_bdev(const struct ebb_disk *disk)
{
	return ebb_bdev_of(disk->bdev);
}

struct ebb_disk *ebb_disk_find(u32 id)
{
	struct ebb_disk *disk;

	lockdep_assert_held(&ebb_mutex);
	list_for_each_entry(disk, &ebb_disks, list)
		if (disk->id == id && !disk->detaching)
			return disk;
	return NULL;
}

void ebb_disk_flag(struct ebb_disk *disk, enum ebb_resync_reason reason)
{
	int bit = 1 << reason;

	if ((atomic_read(&disk->resync) & bit) || (atomic_fetch_or(bit, &disk->resync) & bit))
		return;
	ebb_group_look(disk->group);
	if (disk->log)
		ebb_log_note_soon(disk->log);
}

bool ebb_disk_refresh(struct ebb_disk *disk)
{
	int before = disk->resync_told;

	lockdep_assert_held(&ebb_mutex);
	if (!disk->gone && !ebb_disk_is_live(disk->gd)) {
		disk->gone = true;
		ebb_disk_flag(disk, EBB_RESYNC_GONE);
		ebb_gate_break(disk->group, EBB_VOID_DISK_GONE);
		ebb_pass_void(disk->group, 0, EBB_VOID_DISK_GONE);
	} else if (!disk->gone && get_capacity(disk->gd) != disk->sectors) {
		ebb_disk_flag(disk, EBB_RESYNC_RESIZED);
	}
	disk->resync_told = atomic_read(&disk->resync);
	return disk->resync_told != before;
}

static void set_suspect(struct ebb_disk *disk, u64 first, u64 last, u32 flags)
{
	if (flags & EBB_MARK_F_COMPARE)
		ebb_disk_suspect(disk, first, last);
	else
		ebb_disk_unsuspect(disk, first, last);
}

void ebb_disk_mark_all(struct ebb_disk *disk, u32 flags)
{
	const int passed_by = 1 << EBB_RESYNC_UNTRACKED_WRITE | 1 << EBB_RESYNC_PASSTHROUGH;
	int keep = disk->gone ? 1 << EBB_RESYNC_GONE : 0;

	lockdep_assert_held(&ebb_mutex);
	if (get_capacity(disk->gd) != disk->sectors)
		keep |= 1 << EBB_RESYNC_RESIZED;
	/* The log says itself when that is over. */
	if (disk->log)
		keep |= 1 << EBB_RESYNC_MAP_FAILED;
	/* First: what is seen untracked from now on must be flagged anew (fully ordered). */
	if (atomic_fetch_and(keep, &disk->resync) & passed_by && queue_is_mq(disk->gd->queue))
		/* What was seen before may still be on its way: no pass must read before it. */
		ebb_drain_queue(disk->gd->queue);
	set_suspect(disk, 0, disk->blocks - 1, flags);
	ebb_map_set(&disk->map[disk->group->gen & 1], 0, disk->blocks - 1, GFP_KERNEL);
	ebb_log_mark_all(disk);
}

void ebb_disk_mark(struct ebb_disk *disk, const struct ebb_extent *extents, unsigned int nr,
		   u32 flags)
{
	u64 first, last;

	lockdep_assert_held(&ebb_mutex);
	for (; nr; nr--, extents++) {
		first = extents->sector >> EBB_BLOCK_SHIFT;
		last = (extents->sector + extents->nr_sectors - 1) >> EBB_BLOCK_SHIFT;
		set_suspect(disk, first, last, flags);
		ebb_map_set(&disk->map[disk->group->gen & 1], first, last, GFP_KERNEL);
		ebb_log_heat(disk, first, last);
	}
}

static const char *why_not(struct block_device *bdev)
{
	struct gendisk *gd = bdev->bd_disk;

	if (ebb_image_is(gd))
		return "an image device of ebb";
	if (blk_queue_dax(bdev_get_queue(bdev)))
		return "the disk is accessed directly (DAX)";
	if (bdev_is_zoned(bdev))
		return "the disk is zoned";
	if (ebb_has_rw_page(gd))
		return "its driver has rw_page, which bypasses bios";
	return NULL;
}

enum ebb_bus ebb_disk_bus(const struct gendisk *gd)
{
	const struct device *parent = disk_to_dev((struct gendisk *)gd)->parent;
	const char *bus = parent && parent->bus ? parent->bus->name : "";

	if (!strcmp(bus, "scsi"))
		return EBB_BUS_SCSI;
	return strcmp(bus, "virtio") ? EBB_BUS_OTHER : EBB_BUS_VIRTIO;
}

static void free_disk(struct ebb_disk *disk)
{
	ebb_map_exit(&disk->map[0]);
	ebb_map_exit(&disk->map[1]);
	ebb_map_exit(&disk->released);
	ebb_map_exit(&disk->unconfirmed);
	ebb_disk_unsuspect_all(disk);
	mempool_destroy(disk->writes);
	free_percpu(disk->cpu);
	if (disk->release_wq)
		destroy_workqueue(disk->release_wq);
	if (disk->admit_wq)
		destroy_workqueue(disk->admit_wq);
	kfree(disk);
}

static struct ebb_disk *new_disk(struct ebb_bdev *bdev, const char *stable_id)
{
	struct ebb_disk *disk = kzalloc(sizeof(*disk), GFP_KERNEL);

	if (!disk)
		return NULL;
	disk->bdev = bdev;
	disk->gd = ebb_bdev_of(bdev)->bd_disk;
	disk->sectors = get_capacity(disk->gd);
	disk->blocks = DIV_ROUND_UP_ULL(disk->sectors, EBB_BLOCK_SECTORS);
	strscpy(disk->name, disk->gd->disk_name, sizeof(disk->name));
	strscpy(disk->stable_id, stable_id, sizeof(disk->stable_id));
	atomic_set(&disk->resync, 1 << EBB_RESYNC_NEW);
	disk->resync_told = 1 << EBB_RESYNC_NEW;
	init_waitqueue_head(&disk->idle);
	spin_lock_init(&disk->to_admit_lock);
	bio_list_init(&disk->to_admit);
	INIT_WORK(&disk->admit_work, ebb_write_admit_work);
	ebb_preserve_disk_init(disk);
	disk->bus = ebb_disk_bus(disk->gd);
	disk->is_stacked = !queue_is_mq(disk->gd->queue) || !disk_to_dev(disk->gd)->parent;
	disk->cpu = alloc_percpu(struct ebb_disk_cpu);
	disk->writes = mempool_create_slab_pool(EBB_WRITES_RESERVE, ebb_write_cache);
	disk->release_wq = alloc_workqueue("ebb_release/%s", EBB_WQ_FLAGS, 0, disk->name);
	disk->admit_wq = alloc_workqueue("ebb_admit/%s", EBB_WQ_FLAGS, 0, disk->name);
	if (!disk->cpu || !disk->writes || !disk->release_wq || !disk->admit_wq ||
	    ebb_map_init(&disk->map[0], disk->blocks, true) ||
	    ebb_map_init(&disk->map[1], disk->blocks, true) ||
	    ebb_map_init(&disk->released, disk->blocks, false) ||
	    ebb_map_init(&disk->unconfirmed, disk->blocks, false)) {
		free_disk(disk);
		return NULL;
	}
	return disk;
}

/* Writes that had passed the hook before the disk was known are over when this returns. */
static void let_older_writes_land(struct ebb_disk *disk)
{
	synchronize_rcu();
	if (queue_is_mq(disk->gd->queue))
		ebb_drain_queue(disk->gd->queue);
}

/* An empty flush must come by, or nothing will. Changes no data. */
static int send_probe(struct ebb_disk *disk)
{
	int err;

	atomic_set(&disk->probe_seen, 0);
	WRITE_ONCE(disk->probing, true);
	err = ebb_issue_flush(ebb_disk_bdev(disk));
	WRITE_ONCE(disk->probing, false);
	return err == -EOPNOTSUPP ? 0 : err;
}

static int probe(struct ebb_disk *disk)
{
	int err = send_probe(disk);

	lockdep_assert_held(&ebb_mutex);
	if (err || atomic_read(&disk->probe_seen))
		return err;
	/* It may have gone by the other entry; what did so until now has to land as well. */
	if (ebb_hook_widen())
		return -EIO;
	let_older_writes_land(disk);
	err = send_probe(disk);
	if (err || atomic_read(&disk->probe_seen))
		return err;
	return -EIO;
}

static void make_known(struct ebb_disk *disk)
{
	lockdep_assert_held(&ebb_mutex);
	if (disk->is_stacked)
		WRITE_ONCE(ebb_nr_stacked, ebb_nr_stacked + 1);
	hlist_add_head_rcu(&disk->node, ebb_disk_bucket(disk->gd));
}

static void unpublish(struct ebb_disk *disk)
{
	lockdep_assert_held(&ebb_mutex);
	hlist_del_rcu(&disk->node);
	if (disk->is_stacked)
		WRITE_ONCE(ebb_nr_stacked, ebb_nr_stacked - 1);
	synchronize_rcu();
}

/* Everything that may still refer to the disk has come to its end. */
static bool is_idle(struct ebb_disk *disk)
{
	return !atomic_read(&disk->nr_to_admit) && !atomic_read(&disk->busy) &&
	       ebb_write_landed(disk, EBB_SLOTS);
}

static void leave_group(struct ebb_disk *disk)
{
	struct ebb_group *group = disk->group;

	lockdep_assert_held(&ebb_mutex);
	list_del(&disk->list);
	list_del_rcu(&disk->member);
	group->nr_disks--;
	synchronize_rcu();
}

/* Lockdep knows the order of main.c before anything goes by it, in whichever order that comes. */
static void tell_lock_order(struct ebb_disk *disk)
{
	lockdep_assert_held(&ebb_mutex);
	spin_lock_irq(&disk->hold_lock);
	might_lock(&disk->group->pass_lock);
	might_lock(&disk->group->pool.lock);
	spin_unlock_irq(&disk->hold_lock);
}

static int publish(struct ebb_disk *disk, struct ebb_group *group, const char **why)
{
	int err;

	lockdep_assert_held(&ebb_mutex);
	disk->id = next_disk_id++;
	disk->cut_gen = group->gen - 1;
	tell_lock_order(disk);
	list_add_tail(&disk->list, &ebb_disks);
	list_add_tail_rcu(&disk->member, &group->disks);
	group->nr_disks++;
	group->refs++;
	make_known(disk);
	let_older_writes_land(disk);
	err = probe(disk);
	if (err) {
		*why = "the probe write was not seen";
		unpublish(disk);
		goto leave;
	}
	disk->image = ebb_image_add(disk);
	if (!IS_ERR(disk->image))
		return 0;
	err = PTR_ERR(disk->image);
	unpublish(disk);
leave:
	WRITE_ONCE(disk->detaching, true);
	WRITE_ONCE(disk->draining, true);
	/* Pairs with count_landed(). */
	smp_mb();
	wait_event(disk->idle, is_idle(disk));
	leave_group(disk);
	ebb_preserve_disk_exit(disk);
	cancel_work_sync(&disk->admit_work);
	group->refs--;
	return err;
}

static struct ebb_disk *find_by_gendisk(struct gendisk *gd)
{
	struct ebb_disk *disk;

	lockdep_assert_held(&ebb_mutex);
	list_for_each_entry(disk, &ebb_disks, list)
		if (disk->gd == gd)
			return disk;
	return NULL;
}

static int check(struct ebb_bdev *bdev, u32 group, const char **why)
{
	struct block_device *b = ebb_bdev_of(bdev);
	struct ebb_group *g = ebb_group_find(group);

	if (bdev_is_partition(b)) {
		*why = "a partition: attach the whole disk";
		return -EINVAL;
	}
	if (find_by_gendisk(b->bd_disk)) {
		*why = "attached already";
		return -EEXIST;
	}
	if (!get_capacity(b->bd_disk)) {
		*why = "the disk has no size";
		return -ENODEV;
	}
	*why = why_not(b);
	if (*why)
		return -EOPNOTSUPP;
	if (g && (ebb_pass_is_live(g) || READ_ONCE(g->gate.closed))) {
		*why = "the group has a pass, or its gate is closed";
		return -EBUSY;
	}
	return 0;
}

struct ebb_disk *ebb_disk_attach(u32 group, dev_t dev, const char *stable_id,
				 const struct ebb_log_options *log, const char **why)
{
	struct ebb_group *g = NULL;
	struct ebb_disk *disk = NULL;
	struct ebb_bdev *bdev;
	int err;

	lockdep_assert_held(&ebb_mutex);
	bdev = ebb_bdev_open(dev);
	if (IS_ERR(bdev))
		return ERR_CAST(bdev);
	err = check(bdev, group, why);
	if (err)
		goto close;
	err = -ENOMEM;
	g = ebb_group_get(group);
	if (!g)
		goto close;
	ebb_pass_settle(g);
	disk = new_disk(bdev, stable_id);
	if (!disk)
		goto put;
	disk->group = g;
	err = log ? ebb_log_attach(disk, log, why) : 0;
	if (err)
		goto free;
	err = publish(disk, g, why);
	if (err)
		goto free_log;
	__module_get(THIS_MODULE);
	return disk;
free_log:
	ebb_log_detach(disk);
	ebb_log_free(disk);
free:
	free_disk(disk);
put:
	ebb_group_put_empty(g);
close:
	ebb_bdev_close(bdev);
	return ERR_PTR(err);
}

/* Tracked again; what was written meanwhile is not known, and has landed before that is said. */
static void undo_detach(struct ebb_disk *disk)
{
	lockdep_assert_held(&ebb_mutex);
	WRITE_ONCE(disk->detaching, false);
	WRITE_ONCE(disk->draining, false);
	make_known(disk);
	let_older_writes_land(disk);
	ebb_disk_flag(disk, EBB_RESYNC_UNTRACKED_WRITE);
	ebb_log_resume(disk);
}

int ebb_disk_detach(struct ebb_disk *disk)
{
	struct ebb_group *group = disk->group;
	int err;

	lockdep_assert_held(&ebb_mutex);
	ebb_gate_break(group, EBB_VOID_DETACHED);
	ebb_pass_void(group, 0, EBB_VOID_DETACHED);
	ebb_pass_settle(group);
	ebb_log_detach(disk);
	WRITE_ONCE(disk->detaching, true);
	unpublish(disk);
	WRITE_ONCE(disk->draining, true);
	/* Pairs with count_landed(). */
	smp_mb();
	mutex_unlock(&ebb_mutex);
	err = wait_event_interruptible(disk->idle, is_idle(disk));
	mutex_lock(&ebb_mutex);
	if (err) {
		undo_detach(disk);
		return -EINTR;
	}
	leave_group(disk);
	mutex_unlock(&ebb_mutex);
	ebb_image_del(disk->image);
	wait_event(disk->idle, is_idle(disk));
	synchronize_rcu();
	ebb_preserve_disk_exit(disk);
	cancel_work_sync(&disk->admit_work);
	ebb_log_stop(disk);
	ebb_log_free(disk);
	mutex_lock(&ebb_mutex);
	group->refs--;
	ebb_group_put_empty(group);
	ebb_bdev_close(disk->bdev);
	free_disk(disk);
	module_put(THIS_MODULE);
	return 0;
}
