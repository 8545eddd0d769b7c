// SPDX-License-Identifier: GPL-2.0-only
/* 94d095ffa0e1 (6.3): accessors of ftrace_regs */
#include <linux/ftrace.h>

unsigned long probe(struct ftrace_regs *regs)
{
	ftrace_regs_set_instruction_pointer(regs, 0);
	return ftrace_regs_get_argument(regs, 0);
}
