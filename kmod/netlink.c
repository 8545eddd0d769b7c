// SPDX-License-Identifier: GPL-2.0-only
/* The generic netlink family: commands and events. What they mean is said in the uapi header. */
#include <linux/module.h>
#include <linux/notifier.h>
#include <net/genetlink.h>

#include "compat/netlink.h"
#include "disk.h"
#include "gate.h"
#include "group.h"
#include "log.h"
#include "netlink.h"
#include "pass.h"
#include "preserve.h"
#include "stats.h"
#include "suspect.h"

static struct genl_family family;

static const struct nla_policy log_policy[EBB_LOG_A_MAX + 1] = {
	[EBB_LOG_A_DEV]		= { .type = NLA_U64 },
	[EBB_LOG_A_SECTOR]	= { .type = NLA_U64 },
	[EBB_LOG_A_SECTORS]	= { .type = NLA_U64 },
	[EBB_LOG_A_FLAGS]	= { .type = NLA_U32 },
	[EBB_LOG_A_BOOT_ID]	= { .type = NLA_BINARY, .len = EBB_UUID_LEN },
};

static const struct nla_policy policy[EBB_A_MAX + 1] = {
	[EBB_A_GROUP]		= { .type = NLA_U32 },
	[EBB_A_DEV]		= { .type = NLA_U64 },
	[EBB_A_DISK_ID]		= { .type = NLA_U32 },
	[EBB_A_STABLE_ID]	= { .type = NLA_NUL_STRING, .len = EBB_ID_MAX - 1 },
	[EBB_A_PASS_ID]		= { .type = NLA_U64 },
	[EBB_A_PASS_KIND]	= { .type = NLA_U32 },
	[EBB_A_PASS_FLAGS]	= { .type = NLA_U32 },
	[EBB_A_SECTOR]		= { .type = NLA_U64 },
	[EBB_A_EXTENTS]		= { .type = NLA_BINARY },
	[EBB_A_GATE_ID]		= { .type = NLA_U64 },
	[EBB_A_GATE_DEADLINE_MS] = { .type = NLA_U32 },
	[EBB_A_LOG]		= { .type = NLA_NESTED },
	[EBB_A_COOKIE]		= { .type = NLA_BINARY, .len = EBB_COOKIE_LEN },
	[EBB_A_MARK_FLAGS]	= { .type = NLA_U32 },
	[EBB_A_NOTE]		= { .type = NLA_BINARY, .len = EBB_NOTE_MAX },
};

static int refuse(struct genl_info *info, int err, const char *why)
{
	if (why)
		NL_SET_ERR_MSG(info->extack, "see dmesg");
	if (info->extack && why)
		info->extack->_msg = why;
	return err;
}

static bool has(struct genl_info *info, int attr)
{
	return info->attrs[attr];
}

/* ---- replies ---- */

static struct sk_buff *reply_new(struct genl_info *info, void **head, size_t size)
{
	struct sk_buff *skb = genlmsg_new(size, GFP_KERNEL);

	if (!skb)
		return NULL;
	*head = genlmsg_put_reply(skb, info, &family, 0, info->genlhdr->cmd);
	if (*head)
		return skb;
	nlmsg_free(skb);
	return NULL;
}

static int reply_send(struct genl_info *info, struct sk_buff *skb, void *head, int err)
{
	if (err) {
		nlmsg_free(skb);
		return err;
	}
	genlmsg_end(skb, head);
	return genlmsg_reply(skb, info);
}

static int reply_disk(struct genl_info *info, struct ebb_disk *disk)
{
	struct sk_buff *skb;
	void *head;

	skb = reply_new(info, &head, GENLMSG_DEFAULT_SIZE);
	return skb ? reply_send(info, skb, head, ebb_stats_put_disk(skb, disk)) : -ENOMEM;
}

static int reply_pass(struct genl_info *info, struct ebb_group *group)
{
	struct sk_buff *skb;
	void *head;

	skb = reply_new(info, &head, GENLMSG_DEFAULT_SIZE);
	return skb ? reply_send(info, skb, head, ebb_stats_put_pass(skb, group)) : -ENOMEM;
}

/* ---- what commands name; under ebb_mutex ---- */

static struct ebb_disk *get_disk(struct genl_info *info, int *err)
{
	struct ebb_disk *disk;

	if (!has(info, EBB_A_DISK_ID)) {
		*err = refuse(info, -EINVAL, "DISK_ID is missing");
		return NULL;
	}
	disk = ebb_disk_find(nla_get_u32(info->attrs[EBB_A_DISK_ID]));
	if (!disk)
		*err = refuse(info, -ENOENT, "no such disk");
	return disk;
}

static struct ebb_group *get_group(struct genl_info *info, int *err)
{
	struct ebb_group *group;

	if (!has(info, EBB_A_GROUP)) {
		*err = refuse(info, -EINVAL, "GROUP is missing");
		return NULL;
	}
	group = ebb_group_find(nla_get_u32(info->attrs[EBB_A_GROUP]));
	if (!group) {
		*err = refuse(info, -ENOENT, "no such group");
		return NULL;
	}
	ebb_pass_settle(group);
	ebb_pass_owner_seen(group, info->snd_portid);
	return group;
}

/* The group that has the pass; only its owner may do what changes it. */
static struct ebb_group *get_pass(struct genl_info *info, bool to_change, int *err)
{
	struct ebb_group *group;

	if (!has(info, EBB_A_PASS_ID)) {
		*err = refuse(info, -EINVAL, "PASS_ID is missing");
		return NULL;
	}
	group = ebb_pass_find(nla_get_u64(info->attrs[EBB_A_PASS_ID]), true);
	if (IS_ERR(group)) {
		*err = PTR_ERR(group);
		refuse(info, *err, *err == -ESTALE ? "the pass is void or over" :
		       *err == -EAGAIN ? "writes of the cut have yet to land" : "no such pass");
		return NULL;
	}
	if (to_change && group->pass.owner != info->snd_portid) {
		*err = refuse(info, -EPERM, "the pass belongs to another socket");
		return NULL;
	}
	ebb_pass_owner_seen(group, info->snd_portid);
	return group;
}

/* Checks the ranges of a command against a disk. */
static int get_extents(struct genl_info *info, struct ebb_disk *disk, bool aligned,
		       const struct ebb_extent **extents, unsigned int *nr)
{
	struct nlattr *attr = info->attrs[EBB_A_EXTENTS];
	const struct ebb_extent *e;
	unsigned int i;
	u64 end;

	if (!attr || nla_len(attr) % sizeof(*e))
		return refuse(info, -EINVAL, "EXTENTS is missing or has an odd length");
	*extents = nla_data(attr);
	*nr = nla_len(attr) / sizeof(*e);
	for (i = 0; i < *nr; i++) {
		e = &(*extents)[i];
		end = e->sector + e->nr_sectors;
		if (!e->nr_sectors || e->sector >= disk->sectors || end > disk->sectors)
			return refuse(info, -ERANGE, "a range is not on the disk");
		if (aligned && (e->sector % EBB_BLOCK_SECTORS ||
				(end % EBB_BLOCK_SECTORS && end != disk->sectors)))
			return refuse(info, -EINVAL, "a range is not aligned to blocks");
	}
	return 0;
}

/* ---- commands; under ebb_mutex ---- */

static int do_info(struct genl_info *info)
{
	struct sk_buff *skb;
	void *head;

	skb = reply_new(info, &head, GENLMSG_DEFAULT_SIZE);
	return skb ? reply_send(info, skb, head, ebb_stats_put_module(skb)) : -ENOMEM;
}

static int get_dev(struct genl_info *info, u64 number, dev_t *dev)
{
	if (number >> 32 > EBB_MAJOR_MAX || (u32)number > MINORMASK)
		return refuse(info, -ENODEV, "no device has such a number");
	*dev = MKDEV(number >> 32, (u32)number);
	return 0;
}

static int get_log(struct genl_info *info, struct ebb_log_options *log)
{
	struct nlattr *a[EBB_LOG_A_MAX + 1];
	u32 flags;
	int err;

	err = nla_parse_nested_deprecated(a, EBB_LOG_A_MAX, info->attrs[EBB_A_LOG], log_policy,
					  info->extack);
	if (err)
		return err;
	if (!a[EBB_LOG_A_DEV] || !a[EBB_LOG_A_SECTOR] || !a[EBB_LOG_A_SECTORS] ||
	    !a[EBB_LOG_A_BOOT_ID] || nla_len(a[EBB_LOG_A_BOOT_ID]) != EBB_UUID_LEN)
		return refuse(info, -EINVAL, "LOG lacks DEV, SECTOR, SECTORS or BOOT_ID");
	flags = a[EBB_LOG_A_FLAGS] ? nla_get_u32(a[EBB_LOG_A_FLAGS]) : 0;
	if (flags & ~EBB_LOG_F_CREATE)
		return refuse(info, -EINVAL, "no such flag of a log");
	log->sector = nla_get_u64(a[EBB_LOG_A_SECTOR]);
	log->sectors = nla_get_u64(a[EBB_LOG_A_SECTORS]);
	log->create = flags & EBB_LOG_F_CREATE;
	memcpy(log->boot_id, nla_data(a[EBB_LOG_A_BOOT_ID]), EBB_UUID_LEN);
	return get_dev(info, nla_get_u64(a[EBB_LOG_A_DEV]), &log->dev);
}

static int do_attach(struct genl_info *info)
{
	struct ebb_log_options log;
	const char *why = NULL;
	struct ebb_disk *disk;
	dev_t dev;
	int err;

	if (!has(info, EBB_A_GROUP) || !has(info, EBB_A_DEV) || !has(info, EBB_A_STABLE_ID))
		return refuse(info, -EINVAL, "GROUP, DEV or STABLE_ID is missing");
	if (!nla_get_u32(info->attrs[EBB_A_GROUP]))
		return refuse(info, -EINVAL, "group 0 cannot be");
	if (nla_len(info->attrs[EBB_A_STABLE_ID]) < 2)
		return refuse(info, -EINVAL, "the stable id is empty");
	err = get_dev(info, nla_get_u64(info->attrs[EBB_A_DEV]), &dev);
	if (!err && has(info, EBB_A_LOG))
		err = get_log(info, &log);
	if (err)
		return err;
	disk = ebb_disk_attach(nla_get_u32(info->attrs[EBB_A_GROUP]), dev,
			       nla_data(info->attrs[EBB_A_STABLE_ID]),
			       has(info, EBB_A_LOG) ? &log : NULL, &why);
	if (IS_ERR(disk))
		return refuse(info, PTR_ERR(disk) == -ENXIO ? -ENODEV : PTR_ERR(disk), why);
	return reply_disk(info, disk);
}

static int do_detach(struct genl_info *info)
{
	int err = 0;
	struct ebb_disk *disk = get_disk(info, &err);

	return disk ? ebb_disk_detach(disk) : err;
}

static int do_disk_get(struct genl_info *info)
{
	int err = 0;
	struct ebb_disk *disk = get_disk(info, &err);

	if (!disk)
		return err;
	if (ebb_disk_refresh(disk))
		ebb_netlink_tell_disk(disk);
	ebb_pass_settle(disk->group);
	return reply_disk(info, disk);
}

static int get_mark_flags(struct genl_info *info, u32 *flags)
{
	*flags = has(info, EBB_A_MARK_FLAGS) ? nla_get_u32(info->attrs[EBB_A_MARK_FLAGS]) : 0;
	return *flags & ~EBB_MARK_F_COMPARE ? refuse(info, -EINVAL, "no such flag of a mark") : 0;
}

static int do_mark_all(struct genl_info *info)
{
	int err = 0;
	struct ebb_disk *disk = get_disk(info, &err);
	u32 flags;

	if (!disk)
		return err;
	err = get_mark_flags(info, &flags);
	if (!err)
		ebb_disk_mark_all(disk, flags);
	return err;
}

static int do_mark(struct genl_info *info)
{
	int err = 0;
	struct ebb_disk *disk = get_disk(info, &err);
	const struct ebb_extent *e;
	unsigned int nr;
	u32 flags;

	if (!disk)
		return err;
	err = get_extents(info, disk, false, &e, &nr);
	if (!err)
		err = get_mark_flags(info, &flags);
	if (!err)
		ebb_disk_mark(disk, e, nr, flags);
	return err;
}

static const char *why_no_witness(int err)
{
	switch (err) {
	case -EOPNOTSUPP:
		return "the disk has no log";
	case -E2BIG:
		return "too many blocks";
	case -EIO:
		return "one of the blocks cannot be read; the others are witnesses";
	case -ETIMEDOUT:
		return "the disk does not answer; the new ones say nothing until the next try";
	default:
		return NULL;
	}
}

static int do_witness(struct genl_info *info)
{
	int err = 0;
	struct ebb_disk *disk = get_disk(info, &err);
	const struct ebb_extent *e;
	unsigned int nr;

	if (!disk)
		return err;
	err = get_extents(info, disk, false, &e, &nr);
	if (err)
		return err;
	err = ebb_log_witness(disk, e, nr);
	return refuse(info, err, why_no_witness(err));
}

static const char *why_no_pass(int err)
{
	switch (err) {
	case -EBUSY:
		return "the group has a pass, or its gate is closed and was not named";
	case -ENODEV:
		return "a disk of the group is gone";
	case -EAGAIN:
		return "writes of an earlier generation are still in flight";
	case -ESTALE:
		return "the gate is not closed any more";
	case -EPERM:
		return "the gate belongs to another socket";
	default:
		return NULL;
	}
}

static int do_begin(struct genl_info *info)
{
	u64 gate = has(info, EBB_A_GATE_ID) ? nla_get_u64(info->attrs[EBB_A_GATE_ID]) : 0;
	u32 flags = has(info, EBB_A_PASS_FLAGS) ? nla_get_u32(info->attrs[EBB_A_PASS_FLAGS]) : 0;
	struct ebb_group *group;
	int err = 0;
	u32 kind;

	if (!has(info, EBB_A_PASS_KIND))
		return refuse(info, -EINVAL, "PASS_KIND is missing");
	kind = nla_get_u32(info->attrs[EBB_A_PASS_KIND]);
	if (kind > EBB_PASS_LIVE || flags & ~EBB_PASS_F_WHOLE || (flags && kind == EBB_PASS_LIVE))
		return refuse(info, -EINVAL, "no such kind of pass");
	group = get_group(info, &err);
	if (!group)
		return err;
	err = ebb_pass_begin(group, kind, flags, gate, info->snd_portid);
	return err ? refuse(info, err, why_no_pass(err)) : reply_pass(info, group);
}

static int do_pass_get(struct genl_info *info)
{
	int err = 0;
	struct ebb_group *group = get_group(info, &err);

	if (!group)
		return err;
	if (!group->pass.id || (has(info, EBB_A_PASS_ID) &&
				nla_get_u64(info->attrs[EBB_A_PASS_ID]) != group->pass.id))
		return refuse(info, -ENOENT, "no such pass");
	return reply_pass(info, group);
}

/* Fills in up to a reply of ranges; returns where the next one begins, or 0. */
static u64 fill_extents(struct ebb_disk *disk, u64 block, struct ebb_extent *e, unsigned int *nr)
{
	const struct ebb_map *map = ebb_pass_map(disk);
	struct ebb_run run;
	u64 sector, left, end, block_end;
	bool suspect;

	*nr = 0;
	while (ebb_map_next(map, block, &run)) {
		end = min((run.block + run.nr) << EBB_BLOCK_SHIFT, disk->sectors);
		sector = run.block << EBB_BLOCK_SHIFT;
		while (sector < end) {
			if (*nr == EBB_EXTENTS_PER_REPLY)
				return sector;
			block_end = sector >> EBB_BLOCK_SHIFT;
			block_end += ebb_disk_suspect_run(disk, block_end,
							  run.block + run.nr - 1, &suspect);
			left = min3(end - sector, 1ull << 31,
				    (block_end << EBB_BLOCK_SHIFT) - sector);
			e[*nr].sector = sector;
			e[*nr].nr_sectors = left;
			e[*nr].flags = run.discarded ? EBB_EXTENT_DISCARDED :
				       suspect ? EBB_EXTENT_COMPARE : 0;
			++*nr;
			sector += left;
		}
		block = run.block + run.nr;
		cond_resched();
	}
	return 0;
}

static int reply_extents(struct genl_info *info, struct ebb_disk *disk, struct ebb_extent *e,
			 u64 sector)
{
	struct sk_buff *skb;
	unsigned int nr;
	void *head;
	u64 next;
	int err;

	skb = reply_new(info, &head, EBB_EXTENTS_PER_REPLY * sizeof(*e) + 256);
	if (!skb)
		return -ENOMEM;
	next = fill_extents(disk, sector >> EBB_BLOCK_SHIFT, e, &nr);
	err = nla_put(skb, EBB_A_EXTENTS, nr * sizeof(*e), e);
	if (!err && next)
		err = nla_put_u64_64bit(skb, EBB_A_NEXT_SECTOR, next, EBB_A_PAD);
	return reply_send(info, skb, head, err);
}

static int do_pass_map(struct genl_info *info)
{
	int err = 0;
	struct ebb_group *group = get_pass(info, false, &err);
	struct ebb_disk *disk = group ? get_disk(info, &err) : NULL;
	struct ebb_extent *e;

	if (!disk)
		return err;
	if (disk->group != group || !has(info, EBB_A_SECTOR))
		return refuse(info, -EINVAL, "SECTOR is missing, or the disk is not in the pass");
	e = kvmalloc_array(EBB_EXTENTS_PER_REPLY, sizeof(*e), GFP_KERNEL);
	if (!e)
		return -ENOMEM;
	err = reply_extents(info, disk, e, nla_get_u64(info->attrs[EBB_A_SECTOR]));
	kvfree(e);
	return err;
}

static int do_release(struct genl_info *info)
{
	int err = 0;
	struct ebb_group *group = get_pass(info, true, &err);
	struct ebb_disk *disk = group ? get_disk(info, &err) : NULL;
	const struct ebb_extent *e;
	unsigned int nr;

	if (!disk)
		return err;
	if (disk->group != group)
		return refuse(info, -EINVAL, "the disk is not in the pass");
	err = get_extents(info, disk, true, &e, &nr);
	return err ? err : ebb_pass_release(disk, e, nr);
}

static int do_end(struct genl_info *info)
{
	int err = 0;
	struct ebb_group *group = get_pass(info, true, &err);

	if (!group)
		return err;
	if (group->pass.gate == group->gate.id && READ_ONCE(group->gate.closed))
		return refuse(info, -EBUSY, "the gate is still closed");
	err = ebb_pass_end(group);
	return refuse(info, err, err == -EBUSY ? "ranges are left to release" :
		      err == -ESTALE ? "the pass is void" : NULL);
}

static int reply_gate(struct genl_info *info, struct ebb_group *group, bool opened)
{
	const struct ebb_gate *gate = &group->gate;
	struct sk_buff *skb;
	void *head;
	int err;

	skb = reply_new(info, &head, GENLMSG_DEFAULT_SIZE);
	if (!skb)
		return -ENOMEM;
	err = nla_put_u64_64bit(skb, EBB_A_GATE_ID, gate->id, EBB_A_PAD);
	if (!err && opened)
		err = nla_put_u64_64bit(skb, EBB_A_GATE_HELD, ebb_gate_held(group), EBB_A_PAD) ||
		      nla_put_u64_64bit(skb, EBB_A_GATE_NS, ktime_get_ns() - gate->since,
					EBB_A_PAD);
	return reply_send(info, skb, head, err ? -EMSGSIZE : 0);
}

static int do_gate_close(struct genl_info *info)
{
	struct ebb_group *group;
	int err = 0;
	u32 ms;

	if (!has(info, EBB_A_GATE_DEADLINE_MS))
		return refuse(info, -EINVAL, "GATE_DEADLINE_MS is missing");
	ms = nla_get_u32(info->attrs[EBB_A_GATE_DEADLINE_MS]);
	if (!ms || ms > READ_ONCE(ebb_gate_deadline_max_ms))
		return refuse(info, -ERANGE, "the deadline is 0, or beyond gate_deadline_max_ms");
	group = get_group(info, &err);
	if (!group)
		return err;
	err = ebb_gate_close(group, ms, info->snd_portid);
	if (err == -EAGAIN)
		return refuse(info, err, "writes are still in flight that must be over first");
	if (err)
		return refuse(info, err, err == -ETIMEDOUT ? "it opened before all had seen it" :
			      err == -ENODEV ? "a disk of the group is gone" :
			      "the group has a pass, or its gate is closed");
	return reply_gate(info, group, false);
}

static int do_gate_open(struct genl_info *info)
{
	struct ebb_group *group;
	int err = 0;

	if (!has(info, EBB_A_GATE_ID))
		return refuse(info, -EINVAL, "GATE_ID is missing");
	group = get_group(info, &err);
	if (!group)
		return err;
	err = ebb_gate_open(group, nla_get_u64(info->attrs[EBB_A_GATE_ID]), info->snd_portid);
	if (err)
		return refuse(info, err, err == -EPERM ? "the gate belongs to another socket" :
			      "the gate is not closed any more");
	return reply_gate(info, group, true);
}

static const void *get_cookie(struct genl_info *info, int *err)
{
	if (!has(info, EBB_A_COOKIE))
		return NULL;
	if (nla_len(info->attrs[EBB_A_COOKIE]) == EBB_COOKIE_LEN)
		return nla_data(info->attrs[EBB_A_COOKIE]);
	*err = refuse(info, -EINVAL, "the cookie has another length");
	return NULL;
}

static int do_confirm(struct genl_info *info)
{
	int err = 0;
	struct ebb_group *group = get_group(info, &err);
	const void *cookie = group ? get_cookie(info, &err) : NULL;

	if (err)
		return err;
	err = ebb_pass_confirm(group, cookie);
	return refuse(info, err, err ? "the group has a pass" : NULL);
}

static int do_cookie(struct genl_info *info)
{
	int err = 0;
	struct ebb_group *group = get_group(info, &err);
	const void *cookie = group ? get_cookie(info, &err) : NULL;
	const struct nlattr *note = info->attrs[EBB_A_NOTE];
	struct ebb_disk *disk;

	if (err)
		return err;
	if (!cookie && !note)
		return refuse(info, -EINVAL, "COOKIE and NOTE are missing");
	if (note) {
		group->note_bytes = nla_len(note);
		memcpy(group->note, nla_data(note), group->note_bytes);
	}
	if (!cookie)
		return 0;
	list_for_each_entry(disk, &group->disks, member)
		ebb_log_cookie(disk, cookie);
	return 0;
}

static int do_abandon(struct genl_info *info)
{
	int err = 0;
	struct ebb_group *group = get_group(info, &err);

	if (group)
		ebb_pass_abandon(group);
	return err;
}

static int (*const commands[])(struct genl_info *info) = {
	[EBB_CMD_INFO]			= do_info,
	[EBB_CMD_DISK_ATTACH]		= do_attach,
	[EBB_CMD_DISK_DETACH]		= do_detach,
	[EBB_CMD_DISK_GET]		= do_disk_get,
	[EBB_CMD_DISK_MARK_ALL]		= do_mark_all,
	[EBB_CMD_DISK_MARK]		= do_mark,
	[EBB_CMD_PASS_BEGIN]		= do_begin,
	[EBB_CMD_PASS_GET]		= do_pass_get,
	[EBB_CMD_PASS_MAP]		= do_pass_map,
	[EBB_CMD_PASS_RELEASE]		= do_release,
	[EBB_CMD_PASS_END]		= do_end,
	[EBB_CMD_EPOCH_CONFIRM]		= do_confirm,
	[EBB_CMD_EPOCH_ABANDON]		= do_abandon,
	[EBB_CMD_GATE_CLOSE]		= do_gate_close,
	[EBB_CMD_GATE_OPEN]		= do_gate_open,
	[EBB_CMD_DISK_WITNESS]		= do_witness,
	[EBB_CMD_COOKIE_SET]		= do_cookie,
};

/* Not CAP_NET_ADMIN, which whoever configures networks has: a confirmation drops dirty bits. */
static int doit(struct sk_buff *skb, struct genl_info *info)
{
	int err;

	if (!netlink_capable(skb, CAP_SYS_ADMIN))
		return refuse(info, -EPERM, "CAP_SYS_ADMIN is needed");
	mutex_lock(&ebb_mutex);
	err = commands[info->genlhdr->cmd](info);
	mutex_unlock(&ebb_mutex);
	return err;
}

/* As doit(). */
static int dump_start(struct netlink_callback *cb)
{
	return netlink_capable(cb->skb, CAP_SYS_ADMIN) ? 0 : -EPERM;
}

/* Disks in the order of their ids, which only grow. */
static int dump_disks(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct ebb_disk *disk;
	void *head;

	mutex_lock(&ebb_mutex);
	list_for_each_entry(disk, &ebb_disks, list) {
		if (disk->id <= cb->args[0] || disk->detaching)
			continue;
		if (ebb_disk_refresh(disk))
			ebb_netlink_tell_disk(disk);
		head = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &family,
				   NLM_F_MULTI, EBB_CMD_DISK_GET);
		if (!head)
			break;
		if (ebb_stats_put_disk(skb, disk)) {
			genlmsg_cancel(skb, head);
			break;
		}
		genlmsg_end(skb, head);
		cb->args[0] = disk->id;
	}
	mutex_unlock(&ebb_mutex);
	return skb->len;
}

/* ---- events ---- */

static const struct genl_multicast_group groups[] = {
	{ .name = EBB_GENL_EVENTS, EBB_GENL_EVENTS_FLAGS },
};

static void tell(struct ebb_group *group, struct ebb_disk *disk)
{
	struct sk_buff *skb;
	void *head;
	int err;

	skb = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	head = skb ? genlmsg_put(skb, 0, 0, &family, 0, EBB_CMD_EVENT) : NULL;
	if (!head) {
		nlmsg_free(skb);
		return;
	}
	err = nla_put_u32(skb, EBB_A_EVENT_KIND, disk ? EBB_EVENT_DISK : EBB_EVENT_PASS) ||
	      nla_put_u32(skb, EBB_A_GROUP, group->id) ||
	      (disk ? ebb_stats_put_disk(skb, disk) : ebb_stats_put_pass(skb, group));
	if (err) {
		nlmsg_free(skb);
		return;
	}
	genlmsg_end(skb, head);
	genlmsg_multicast(&family, skb, 0, 0, GFP_KERNEL);
}

void ebb_netlink_tell_disk(struct ebb_disk *disk)
{
	lockdep_assert_held(&ebb_mutex);
	/* Not yet, or no more, a disk that others know of. */
	if (!IS_ERR_OR_NULL(disk->image) && !disk->detaching)
		tell(disk->group, disk);
}

void ebb_netlink_tell_pass(struct ebb_group *group)
{
	struct ebb_pass *pass = &group->pass;
	bool due;

	lockdep_assert_held(&ebb_mutex);
	spin_lock_irq(&group->pass_lock);
	due = !pass->told;
	pass->told = true;
	spin_unlock_irq(&group->pass_lock);
	if (due)
		tell(group, NULL);
}

/* ---- the family ---- */

static int socket_changed(struct notifier_block *nb, unsigned long event, void *data)
{
	struct netlink_notify *n = data;

	if (event == NETLINK_URELEASE && n->protocol == NETLINK_GENERIC && n->net == &init_net)
		ebb_pass_owner_gone(n->portid);
	return NOTIFY_DONE;
}

static struct notifier_block socket_notifier = {
	.notifier_call = socket_changed,
};

#define COMMAND(c) { .cmd = (c), .doit = doit }

static const struct genl_ops ops[] = {
	COMMAND(EBB_CMD_INFO),
	COMMAND(EBB_CMD_DISK_ATTACH),
	COMMAND(EBB_CMD_DISK_DETACH),
	{
		.cmd	= EBB_CMD_DISK_GET,
		.doit	= doit,
		.start	= dump_start,
		.dumpit	= dump_disks,
	},
	COMMAND(EBB_CMD_DISK_MARK_ALL),
	COMMAND(EBB_CMD_DISK_MARK),
	COMMAND(EBB_CMD_PASS_BEGIN),
	COMMAND(EBB_CMD_PASS_GET),
	COMMAND(EBB_CMD_PASS_MAP),
	COMMAND(EBB_CMD_PASS_RELEASE),
	COMMAND(EBB_CMD_PASS_END),
	COMMAND(EBB_CMD_EPOCH_CONFIRM),
	COMMAND(EBB_CMD_EPOCH_ABANDON),
	COMMAND(EBB_CMD_GATE_CLOSE),
	COMMAND(EBB_CMD_GATE_OPEN),
	COMMAND(EBB_CMD_DISK_WITNESS),
	COMMAND(EBB_CMD_COOKIE_SET),
};

static struct genl_family family __ro_after_init = {
	.name		= EBB_GENL_NAME,
	.version	= EBB_GENL_VERSION,
	.maxattr	= EBB_A_MAX,
	.policy		= policy,
	.module		= THIS_MODULE,
	.parallel_ops	= true,
	.ops		= ops,
	.n_ops		= ARRAY_SIZE(ops),
	.mcgrps		= groups,
	.n_mcgrps	= ARRAY_SIZE(groups),
};

int ebb_netlink_init(void)
{
	int err = netlink_register_notifier(&socket_notifier);

	if (err)
		return err;
	err = genl_register_family(&family);
	if (err)
		netlink_unregister_notifier(&socket_notifier);
	return err;
}

void ebb_netlink_exit(void)
{
	genl_unregister_family(&family);
	netlink_unregister_notifier(&socket_notifier);
}
