// SPDX-License-Identifier: GPL-2.0-only
/* ed00aabd5eb9 (5.9): generic_make_request() became submit_bio_noacct() */
#include <linux/blkdev.h>

blk_qc_t (*probe)(struct bio *) = submit_bio_noacct;
