// SPDX-License-Identifier: GPL-2.0-only
/* f525464a8000 (5.14): blk_alloc_disk() */
#include <linux/blkdev.h>

struct gendisk *probe(void)
{
#ifdef blk_alloc_disk
	return NULL;
#else
#error not there
#endif
}
