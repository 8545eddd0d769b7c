// SPDX-License-Identifier: GPL-2.0-only
/* before a54895fa057c (5.11) */
#include <linux/blkdev.h>
#include <trace/events/block.h>

static void issued(void *data, struct request_queue *q, struct request *rq)
{
}

int probe(void)
{
	return register_trace_block_rq_issue(issued, NULL);
}
