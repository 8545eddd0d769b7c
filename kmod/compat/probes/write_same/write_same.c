// SPDX-License-Identifier: GPL-2.0-only
/* before 73bd66d9c834 (5.18); EL8 */
#include <linux/blk_types.h>

int probe(void)
{
	return REQ_OP_WRITE_SAME;
}
