// SPDX-License-Identifier: GPL-2.0-only
/* a54895fa057c (5.11): block_rq_issue lost its queue. EL8 and Debian's 5.10 took it over. */
#include <linux/blkdev.h>
#include <trace/events/block.h>

static void issued(void *data, struct request *rq)
{
}

int probe(void)
{
	return register_trace_block_rq_issue(issued, NULL);
}
