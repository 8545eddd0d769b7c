// SPDX-License-Identifier: GPL-2.0-only
/* before ed00aabd5eb9 (5.9); EL8 */
#include <linux/blkdev.h>

blk_qc_t (*probe)(struct bio *) = generic_make_request;
