// SPDX-License-Identifier: GPL-2.0-only
/*
 * d19ad0775dcd (5.11): callbacks get ftrace_regs; before 94d095ffa0e1 (6.3): without accessors,
 * neither as functions nor as macros. EL9.
 */
#include <linux/ftrace.h>

#ifdef ftrace_regs_get_argument
#error ftrace_regs_get_argument is there
#endif
#ifndef CONFIG_DYNAMIC_FTRACE_WITH_ARGS
#error the kernel has no DYNAMIC_FTRACE_WITH_ARGS
#endif

enum { ftrace_regs_get_argument };

static void callback(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		     struct ftrace_regs *fregs)
{
	fregs->regs.ip = fregs->regs.di;
}

struct ftrace_ops probe = { .func = callback };
