// SPDX-License-Identifier: GPL-2.0-only
/* a25d036d939a (5.11): who can be called recursively says nothing, who cannot says RECURSION */
#include <linux/ftrace.h>

int probe(void)
{
	return FTRACE_OPS_FL_RECURSION;
}
