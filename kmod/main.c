// SPDX-License-Identifier: GPL-2.0-only
/*
 * ebb: change tracking and consistent images of live block devices.
 *
 *	hook		interception of submit_bio_noacct()
 *	write		a write on its way: membership in a cut, marks, completion
 *	completion	going on with the sender's completion, chains of bios unrolled
 *	witness		requests to drivers that did not come through the hook
 *	map		which blocks, in two levels
 *	disk		attach, detach, flags
 *	group		disks that are cut together
 *	pass		cut, drain, release, end, void
 *	gate		holding all writes of a group back, for a cut over several machines
 *	preserve	holding writes until the old content is read
 *	image		block devices that give the content as of a cut
 *	log		which regions may be written to, durably (log_store: the area it is in,
 *			log_format: what is there, log_load: at attach, log_seal: at reboot,
 *			log_cool: regions that are not written to any more)
 *	suspect		dirty blocks that may be equal on the target
 *	stats, netlink	what user space sees; include/uapi/linux/ebb.h is the manual
 *	compat/		what differs between kernels
 *
 * Locks, outer first:
 *	ebb_mutex		attach, detach, passes, everything that user space asks for.
 *				Never waited for by anything that a held write depends on.
 *	log->io			what is in the area of a disk's map; waits for the map device, for a
 *				block no longer than the log's deadline, and for the disk itself
 *				only at a seal, for that long, and before it is tracked
 *	log->lock		writes that wait for the log (irqsave), alone
 *	disk->hold_lock		held writes and preserved blocks of a disk (irqsave)
 *	group->pass_lock	state of the pass and of the gate (irqsave)
 *	pool->lock		free pages of a group
 *	disk->to_admit_lock	alone
 * A write takes none of them unless its block is frozen or the gate is closed: RCU finds the disk,
 * counters are per CPU.
 */
#include <linux/module.h>

#include "completion.h"
#include "disk.h"
#include "gate.h"
#include "group.h"
#include "hook.h"
#include "image.h"
#include "log.h"
#include "netlink.h"
#include "preserve.h"
#include "stats.h"
#include "witness.h"
#include "write.h"

ulong ebb_pool_bytes = 64ul << 20;
uint ebb_hold_deadline_ms = 50;
uint ebb_owner_timeout_ms = 30000;
uint ebb_gate_deadline_max_ms = 1000;
uint ebb_log_deadline_ms = 5000;
uint ebb_log_cool_s = 30;

module_param_named(pool_bytes, ebb_pool_bytes, ulong, 0644);
MODULE_PARM_DESC(pool_bytes, "Memory of a group for preserved blocks, taken with its first disk");
module_param_named(hold_deadline_ms, ebb_hold_deadline_ms, uint, 0644);
MODULE_PARM_DESC(hold_deadline_ms, "How long a write may be held before the cut is given up");
module_param_named(owner_timeout_ms, ebb_owner_timeout_ms, uint, 0644);
MODULE_PARM_DESC(owner_timeout_ms, "Silence of its owner after which a pass is given up");
module_param_named(gate_deadline_max_ms, ebb_gate_deadline_max_ms, uint, 0644);
MODULE_PARM_DESC(gate_deadline_max_ms, "How long a gate may be closed at most");
module_param_named(log_deadline_ms, ebb_log_deadline_ms, uint, 0644);
MODULE_PARM_DESC(log_deadline_ms, "How long writing the log may take before it is given up");
module_param_named(log_cool_s, ebb_log_cool_s, uint, 0644);
MODULE_PARM_DESC(log_cool_s, "Least time between two looks for regions that went cold");

static int __init ebb_init(void)
{
	int err;

	ebb_completion_init();
	ebb_stats_init();
	err = ebb_write_init();
	if (err)
		return err;
	err = ebb_preserve_init();
	if (err)
		goto err_write;
	err = ebb_gate_init();
	if (err)
		goto err_preserve;
	err = ebb_image_init();
	if (err)
		goto err_gate;
	err = ebb_hook_init();
	if (err)
		goto err_image;
	err = ebb_witness_init();
	if (err)
		goto err_hook;
	err = ebb_log_init();
	if (err)
		goto err_witness;
	err = ebb_netlink_init();
	if (err)
		goto err_log;
	return 0;

err_log:
	ebb_log_exit();
err_witness:
	ebb_witness_exit();
err_hook:
	ebb_hook_exit();
err_image:
	ebb_image_exit();
err_gate:
	ebb_gate_exit();
err_preserve:
	ebb_preserve_exit();
err_write:
	ebb_write_exit();
	return err;
}

static void __exit ebb_exit(void)
{
	ebb_netlink_exit();
	ebb_log_exit();
	ebb_witness_exit();
	ebb_hook_exit();
	ebb_image_exit();
	ebb_gate_exit();
	ebb_preserve_exit();
	rcu_barrier();
	ebb_write_exit();
}

module_init(ebb_init);
module_exit(ebb_exit);

MODULE_DESCRIPTION("Change tracking and consistent images of live block devices");
MODULE_AUTHOR("Project Ebb");
MODULE_VERSION("0.1.0");
MODULE_LICENSE("GPL");
