// SPDX-License-Identifier: GPL-2.0-only
/* c62b37d96b6e (5.9): make_request_fn of a queue became submit_bio of a driver */
#include <linux/blkdev.h>

static blk_qc_t submit(struct bio *bio)
{
	return BLK_QC_T_NONE;
}

const struct block_device_operations probe = { .submit_bio = submit };
