// SPDX-License-Identifier: GPL-2.0-only
/*
 * A module that loads, and complains (as a broken one would) when it is told to.
 */
#include <linux/module.h>

static bool complain;
module_param(complain, bool, 0444);
MODULE_PARM_DESC(complain, "warn at load");

static int __init selftest_init(void)
{
	WARN_ON(complain);
	return 0;
}

static void __exit selftest_exit(void)
{
}

module_init(selftest_init);
module_exit(selftest_exit);
MODULE_DESCRIPTION("Self-test of the lab");
MODULE_LICENSE("GPL");
