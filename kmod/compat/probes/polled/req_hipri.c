// SPDX-License-Identifier: GPL-2.0-only
/* before 6ce913fe3eee (5.16); EL8 */
#include <linux/blk_types.h>

unsigned int probe(void)
{
	return (__force unsigned int)REQ_HIPRI;
}
