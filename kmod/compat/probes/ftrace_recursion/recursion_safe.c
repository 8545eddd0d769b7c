// SPDX-License-Identifier: GPL-2.0-only
/* before a25d036d939a (5.11): who can be called recursively says RECURSION_SAFE; EL8 */
#include <linux/ftrace.h>

int probe(void)
{
	return FTRACE_OPS_FL_RECURSION_SAFE;
}
