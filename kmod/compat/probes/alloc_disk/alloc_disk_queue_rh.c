// SPDX-License-Identifier: GPL-2.0-only
/* EL8: 3d745ea5b095 (5.7) under the name blk_alloc_queue_rh(), beside the older one */
#include <linux/blkdev.h>
#include <linux/genhd.h>

struct request_queue *(*probe_queue)(make_request_fn *, int) = blk_alloc_queue_rh;

struct gendisk *probe(void)
{
	return alloc_disk(1);
}
