// SPDX-License-Identifier: GPL-2.0-only
/* before d19ad0775dcd (5.11): callbacks get pt_regs, and all registers are saved for that; EL8 */
#include <linux/ftrace.h>

#ifndef CONFIG_DYNAMIC_FTRACE_WITH_REGS
#error the kernel has no DYNAMIC_FTRACE_WITH_REGS
#endif

static void callback(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		     struct pt_regs *regs)
{
	regs->ip = regs->di;
}

struct ftrace_ops probe = { .func = callback };
