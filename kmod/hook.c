// SPDX-License-Identifier: GPL-2.0-only
/*
 * The interception: an ftrace callback at the entry of submit_bio_noacct(). A bio that is taken is
 * kept from it by returning to an empty function instead; nobody sleeps in module text for that.
 * Without PERMANENT, sysctl kernel.ftrace_enabled=0 would switch tracking off silently.
 *
 * submit_bio() ends in a call of that function, unless the compiler has made a copy of it there, as
 * GCC 12 does of the short generic_make_request() of EL8. A disk's probe finds that out; both are
 * entries then. A bio that comes by both is known at the second, as one is that comes back.
 */
#include <linux/bio.h>
#include <linux/build_bug.h>
#include <linux/ftrace.h>
#include <linux/module.h>

#include "compat/compat.h"
#include "disk.h"
#include "hook.h"
#include "write.h"

static noinline EBB_ENTRY_RETURN bio_was_taken(struct bio *bio)
{
	barrier();
	return EBB_ENTRY_RESULT;
}

static void notrace bio_submitted(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
				  EBB_FTRACE_REGS *regs)
{
	struct bio *bio = (struct bio *)ebb_ftrace_argument(regs);
	struct gendisk *gd;
	struct ebb_disk *disk;

	if (!ebb_op_changes(bio_op(bio)))
		return;
	gd = ebb_bio_gendisk(bio);
	if (likely(hlist_empty(ebb_disk_bucket(gd))))
		return;
	rcu_read_lock();
	disk = ebb_disk_of(gd);
	if (disk && ebb_write_seen(disk, bio) == EBB_TAKEN)
		ebb_ftrace_redirect(regs, (unsigned long)bio_was_taken);
	rcu_read_unlock();
}

static struct ftrace_ops hook_ops = {
	.func	= bio_submitted,
	.flags	= FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT | EBB_FTRACE_FLAGS,
};

static bool is_wide;	/* submit_bio() is an entry too; changed under ebb_mutex */

/* As ftrace_free_filter(), which older kernels do not export: with no function left, nothing is. */
static void free_filter(void)
{
	if (is_wide)
		ftrace_set_filter_ip(&hook_ops, (unsigned long)submit_bio, 1, 0);
	ftrace_set_filter_ip(&hook_ops, (unsigned long)submit_bio_noacct, 1, 0);
}

int ebb_hook_init(void)
{
	int err;

	err = ftrace_set_filter_ip(&hook_ops, (unsigned long)submit_bio_noacct, 0, 0);
	if (err) {
		pr_err("ebb: submit_bio_noacct cannot be traced (%d)\n", err);
		return err;
	}
	err = register_ftrace_function(&hook_ops);
	if (!err)
		return 0;
	if (err == -EBUSY)
		pr_err("ebb: submit_bio_noacct is already diverted, by a live patch for example, or ftrace is disabled\n");
	else
		pr_err("ebb: cannot intercept submit_bio_noacct (%d)\n", err);
	free_filter();
	return err;
}

int ebb_hook_widen(void)
{
	int err;

	/* What is taken returns from either in the same way. */
	BUILD_BUG_ON(!__same_type(submit_bio, submit_bio_noacct));
	lockdep_assert_held(&ebb_mutex);
	if (is_wide)
		return -EALREADY;
	err = ftrace_set_filter_ip(&hook_ops, (unsigned long)submit_bio, 0, 0);
	if (err) {
		pr_err("ebb: submit_bio cannot be intercepted (%d)\n", err);
		return err;
	}
	is_wide = true;
	pr_info("ebb: submit_bio is intercepted as well: not all of its bios come by submit_bio_noacct\n");
	return 0;
}

void ebb_hook_exit(void)
{
	unregister_ftrace_function(&hook_ops);
	free_filter();
	/* Tasks that were preempted in our functions, and interrupts that are in one. */
	ebb_synchronize_tasks();
	synchronize_rcu();
}
