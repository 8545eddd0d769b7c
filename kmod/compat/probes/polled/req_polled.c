// SPDX-License-Identifier: GPL-2.0-only
/* 6ce913fe3eee (5.16): REQ_HIPRI became REQ_POLLED. EL9 took it over. */
#include <linux/blk_types.h>

unsigned int probe(void)
{
	return (__force unsigned int)REQ_POLLED;
}
