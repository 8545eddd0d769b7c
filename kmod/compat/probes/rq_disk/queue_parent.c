// SPDX-License-Identifier: GPL-2.0-only
/* before d152c682f03c (5.15): no member disk, or this has it twice; EL8 */
#include <linux/blkdev.h>
#include <linux/genhd.h>

struct probe {
	struct request_queue;
	int disk;
};

struct gendisk *probe(struct request_queue *q)
{
	return dev_to_disk(kobj_to_dev(q->kobj.parent));
}
