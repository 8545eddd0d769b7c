// SPDX-License-Identifier: GPL-2.0-only
/* before 1e1a9cecfab3 (6.14) */
#include <linux/blk-mq.h>
#include <linux/blkdev.h>

void (*probe)(struct request_queue *) = blk_mq_freeze_queue;
void (*probe_un)(struct request_queue *) = blk_mq_unfreeze_queue;
