// SPDX-License-Identifier: GPL-2.0-only
/* 94d095ffa0e1 (6.3): accessors of ftrace_regs */
#include <linux/ftrace.h>

static void callback(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		     struct ftrace_regs *regs)
{
	ftrace_regs_set_instruction_pointer(regs, ftrace_regs_get_argument(regs, 0));
}

struct ftrace_ops probe = { .func = callback };
