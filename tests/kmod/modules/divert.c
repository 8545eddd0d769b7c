// SPDX-License-Identifier: GPL-2.0-only
/* Diverts submit_bio_noacct(), to nowhere else, as a live patch of it would. */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/ftrace.h>
#include <linux/module.h>

#include "compat.h"

static void notrace nothing(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			    EBB_FTRACE_REGS *regs)
{
}

static struct ftrace_ops divert_ops = {
	.func	= nothing,
	.flags	= FTRACE_OPS_FL_IPMODIFY | EBB_FTRACE_FLAGS,
};

static int __init divert_init(void)
{
	int err = ftrace_set_filter_ip(&divert_ops, (unsigned long)submit_bio_noacct, 0, 0);

	if (err)
		return err;
	err = register_ftrace_function(&divert_ops);
	if (err)
		ftrace_set_filter_ip(&divert_ops, (unsigned long)submit_bio_noacct, 1, 0);
	return err;
}

static void __exit divert_exit(void)
{
	unregister_ftrace_function(&divert_ops);
	ftrace_set_filter_ip(&divert_ops, (unsigned long)submit_bio_noacct, 1, 0);
}

module_init(divert_init);
module_exit(divert_exit);

MODULE_DESCRIPTION("Test: another one that diverts submit_bio_noacct");
MODULE_LICENSE("GPL");
