// SPDX-License-Identifier: GPL-2.0-only
/* Attributes of disks, passes and the module: see stats.h. */
#include <linux/bitmap.h>
#include <linux/module.h>
#include <linux/uuid.h>
#include <net/netlink.h>

#include "disk.h"
#include "group.h"
#include "image.h"
#include "log.h"
#include "pass.h"
#include "stats.h"
#include "write.h"

static u8 incarnation[EBB_UUID_LEN];

void ebb_stats_init(void)
{
	generate_random_uuid(incarnation);
}

static u64 dev_number(dev_t dev)
{
	return (u64)MAJOR(dev) << 32 | MINOR(dev);
}

int ebb_stats_put_module(struct sk_buff *skb)
{
	u64 features = EBB_FEATURE_SECOND_WITNESS | EBB_FEATURE_DISCARD_MASK |
		       EBB_FEATURE_WHOLE_PASS | EBB_FEATURE_GATE | EBB_FEATURE_LOG |
		       EBB_FEATURE_COMPARE | EBB_FEATURE_NOTE;

	return nla_put_string(skb, EBB_A_VERSION_STRING, THIS_MODULE->version) ||
	       nla_put_u64_64bit(skb, EBB_A_FEATURES, features, EBB_A_PAD) ||
	       nla_put(skb, EBB_A_INCARNATION, EBB_UUID_LEN, incarnation) ||
	       nla_put_u32(skb, EBB_A_BLOCK_SECTORS, EBB_BLOCK_SECTORS) ||
	       nla_put_u64_64bit(skb, EBB_A_POOL_BYTES, ebb_pool_bytes, EBB_A_PAD) ||
	       nla_put_u64_64bit(skb, EBB_A_POOL_USED_BYTES, ebb_group_pool_used(), EBB_A_PAD) ||
	       nla_put_u32(skb, EBB_A_HOLD_DEADLINE_MS, ebb_hold_deadline_ms) ||
	       nla_put_u32(skb, EBB_A_OWNER_TIMEOUT_MS, ebb_owner_timeout_ms) ||
	       nla_put_u32(skb, EBB_A_GATE_DEADLINE_MS, ebb_gate_deadline_max_ms) ? -EMSGSIZE : 0;
}

static int put_disk_u64(struct sk_buff *skb, int attr, u64 value)
{
	return nla_put_u64_64bit(skb, attr, value, EBB_DISK_A_PAD);
}

static int put_pass_u64(struct sk_buff *skb, int attr, u64 value)
{
	return nla_put_u64_64bit(skb, attr, value, EBB_PASS_A_PAD);
}

static int put_identity(struct sk_buff *skb, struct ebb_disk *disk)
{
	return nla_put_u32(skb, EBB_DISK_A_ID, disk->id) ||
	       nla_put_u32(skb, EBB_DISK_A_GROUP, disk->group->id) ||
	       put_disk_u64(skb, EBB_DISK_A_DEV, dev_number(disk_devt(disk->gd))) ||
	       nla_put_string(skb, EBB_DISK_A_NAME, disk->name) ||
	       nla_put_string(skb, EBB_DISK_A_STABLE_ID, disk->stable_id) ||
	       put_disk_u64(skb, EBB_DISK_A_SECTORS, disk->sectors) ||
	       put_disk_u64(skb, EBB_DISK_A_IMAGE_DEV, dev_number(ebb_image_dev(disk->image))) ||
	       nla_put_u32(skb, EBB_DISK_A_STATE,
			   disk->gone ? EBB_DISK_GONE : EBB_DISK_TRACKING) ||
	       nla_put_u32(skb, EBB_DISK_A_RESYNC_REASONS, atomic_read(&disk->resync));
}

static int put_maps(struct sk_buff *skb, struct ebb_disk *disk)
{
	struct ebb_map *current_map = &disk->map[disk->group->gen & 1];
	u64 bytes = ebb_map_bytes(&disk->map[0]) + ebb_map_bytes(&disk->map[1]) +
		    ebb_map_bytes(&disk->released) + ebb_map_bytes(&disk->unconfirmed) +
		    ebb_log_bytes(disk->log);
	u64 suspect = 0;

	if (disk->suspect) {
		bytes += ebb_map_bytes(disk->suspect);
		suspect = ebb_map_count(disk->suspect);
	}

	return put_disk_u64(skb, EBB_DISK_A_DIRTY_BLOCKS, ebb_map_count(current_map)) ||
	       put_disk_u64(skb, EBB_DISK_A_UNCONFIRMED_BLOCKS,
			    ebb_map_count(&disk->unconfirmed)) ||
	       put_disk_u64(skb, EBB_DISK_A_MAP_BYTES, bytes) ||
	       put_disk_u64(skb, EBB_DISK_A_SUSPECT_BLOCKS, suspect);
}

static int put_log(struct sk_buff *skb, struct ebb_disk *disk)
{
	struct ebb_log *log = disk->log;
	const struct ebb_super *super;

	if (!log)
		return nla_put_u32(skb, EBB_DISK_A_LOG_STATE, EBB_LOG_NONE);
	super = &log->super;
	return nla_put_u32(skb, EBB_DISK_A_LOG_STATE, READ_ONCE(log->state)) ||
	       nla_put(skb, EBB_DISK_A_MAP_UUID, EBB_UUID_LEN, super->uuid) ||
	       nla_put_u32(skb, EBB_DISK_A_RECOVERY, log->recovery) ||
	       put_disk_u64(skb, EBB_DISK_A_RECOVERED_BLOCKS, log->recovered) ||
	       put_disk_u64(skb, EBB_DISK_A_HOT_REGIONS,
			    bitmap_weight(log->hot, log->nr_regions)) ||
	       nla_put_u32(skb, EBB_DISK_A_REGION_SECTORS, super->region_sectors) ||
	       put_disk_u64(skb, EBB_DISK_A_LOG_WRITES, READ_ONCE(log->writes)) ||
	       put_disk_u64(skb, EBB_DISK_A_LOG_HELD, READ_ONCE(log->nr_held)) ||
	       put_disk_u64(skb, EBB_DISK_A_LOG_HELD_NS_MAX, READ_ONCE(log->held_ns_max)) ||
	       nla_put(skb, EBB_DISK_A_COOKIE, EBB_COOKIE_LEN, super->cookie) ||
	       nla_put(skb, EBB_DISK_A_BOOTS, super->nr_boots * EBB_UUID_LEN, super->boots) ||
	       nla_put_u32(skb, EBB_DISK_A_WITNESSES, super->nr_witnesses);
}

/* A figure of preservation. */
static u64 shown(const u64 *figure)
{
	/* Changed under hold_lock; who asks must not make writes wait for that. */
	return data_race(*figure);
}

static int put_counters(struct sk_buff *skb, struct ebb_disk *disk)
{
	struct ebb_disk_cpu sum = {};
	struct ebb_disk_cpu *c;
	int cpu;

	for_each_possible_cpu(cpu) {
		c = per_cpu_ptr(disk->cpu, cpu);
		sum.writes += READ_ONCE(c->writes);
		sum.sectors += READ_ONCE(c->sectors);
		sum.discards += READ_ONCE(c->discards);
		sum.errors += READ_ONCE(c->errors);
		sum.coarse += READ_ONCE(c->coarse);
		sum.untracked += READ_ONCE(c->untracked);
	}
	return put_disk_u64(skb, EBB_DISK_A_COARSE_MARKS, sum.coarse) ||
	       put_disk_u64(skb, EBB_DISK_A_WRITES, sum.writes) ||
	       put_disk_u64(skb, EBB_DISK_A_WRITTEN_SECTORS, sum.sectors) ||
	       put_disk_u64(skb, EBB_DISK_A_DISCARDS, sum.discards) ||
	       put_disk_u64(skb, EBB_DISK_A_IN_FLIGHT, ebb_write_in_flight(disk)) ||
	       put_disk_u64(skb, EBB_DISK_A_HELD, shown(&disk->nr_held)) ||
	       put_disk_u64(skb, EBB_DISK_A_HELD_NS_TOTAL, shown(&disk->held_ns)) ||
	       put_disk_u64(skb, EBB_DISK_A_HELD_NS_MAX, shown(&disk->held_ns_max)) ||
	       put_disk_u64(skb, EBB_DISK_A_PRESERVED, shown(&disk->nr_preserved)) ||
	       put_disk_u64(skb, EBB_DISK_A_WRITE_ERRORS, sum.errors) ||
	       put_disk_u64(skb, EBB_DISK_A_UNTRACKED_REQUESTS, sum.untracked) ||
	       put_disk_u64(skb, EBB_DISK_A_GATED, READ_ONCE(disk->nr_gated));
}

static int put_note(struct sk_buff *skb, struct ebb_group *group)
{
	if (!group->note_bytes)
		return 0;
	return nla_put(skb, EBB_DISK_A_NOTE, group->note_bytes, group->note);
}

int ebb_stats_put_disk(struct sk_buff *skb, struct ebb_disk *disk)
{
	struct nlattr *nest = nla_nest_start(skb, EBB_A_DISK);

	lockdep_assert_held(&ebb_mutex);
	if (!nest)
		return -EMSGSIZE;
	if (put_identity(skb, disk) || put_maps(skb, disk) || put_counters(skb, disk) ||
	    put_log(skb, disk) || put_note(skb, disk->group)) {
		nla_nest_cancel(skb, nest);
		return -EMSGSIZE;
	}
	nla_nest_end(skb, nest);
	return 0;
}

static int put_pass(struct sk_buff *skb, struct ebb_group *group)
{
	struct ebb_pass *pass = &group->pass;
	u64 left = ebb_pass_blocks_left(group);
	/* Changed under the lock of the pool; who asks must not make writes wait for that. */
	u64 peak = data_race(group->pool.peak);

	return put_pass_u64(skb, EBB_PASS_A_ID, pass->id) ||
	       nla_put_u32(skb, EBB_PASS_A_GROUP, group->id) ||
	       nla_put_u32(skb, EBB_PASS_A_KIND, pass->kind) ||
	       /* Pairs with ebb_pass_void(). */
	       nla_put_u32(skb, EBB_PASS_A_STATE, smp_load_acquire(&pass->state)) ||
	       nla_put_u32(skb, EBB_PASS_A_VOID_REASON, READ_ONCE(pass->reason)) ||
	       put_pass_u64(skb, EBB_PASS_A_GENERATION, pass->generation) ||
	       put_pass_u64(skb, EBB_PASS_A_CUT_REALTIME_NS, pass->realtime_ns) ||
	       put_pass_u64(skb, EBB_PASS_A_CUT_BOOTTIME_NS, pass->boottime_ns) ||
	       put_pass_u64(skb, EBB_PASS_A_CUT_DURATION_NS, pass->duration_ns) ||
	       put_pass_u64(skb, EBB_PASS_A_BLOCKS, pass->released + left) ||
	       put_pass_u64(skb, EBB_PASS_A_BLOCKS_LEFT, left) ||
	       put_pass_u64(skb, EBB_PASS_A_PRESERVED, atomic64_read(&pass->preserved)) ||
	       put_pass_u64(skb, EBB_PASS_A_HELD, atomic64_read(&pass->held)) ||
	       put_pass_u64(skb, EBB_PASS_A_HELD_NS_MAX, atomic64_read(&pass->held_ns_max)) ||
	       put_pass_u64(skb, EBB_PASS_A_POOL_PEAK_BYTES, peak * PAGE_SIZE);
}

int ebb_stats_put_pass(struct sk_buff *skb, struct ebb_group *group)
{
	struct nlattr *nest = nla_nest_start(skb, EBB_A_PASS);

	lockdep_assert_held(&ebb_mutex);
	if (!nest)
		return -EMSGSIZE;
	if (put_pass(skb, group)) {
		nla_nest_cancel(skb, nest);
		return -EMSGSIZE;
	}
	nla_nest_end(skb, nest);
	return 0;
}
