// SPDX-License-Identifier: GPL-2.0-only
/* 7162431dcf72 (5.5): a callback that a sysctl cannot switch off. EL8 took it over. */
#include <linux/ftrace.h>

int probe(void)
{
	return FTRACE_OPS_FL_PERMANENT;
}
