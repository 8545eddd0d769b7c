// SPDX-License-Identifier: GPL-2.0-only
/* 1e1a9cecfab3 (6.14): freezing a queue returns flags of allocation */
#include <linux/blk-mq.h>

void probe(struct request_queue *q)
{
	unsigned int memflags = blk_mq_freeze_queue(q);

	blk_mq_unfreeze_queue(q, memflags);
}
