// SPDX-License-Identifier: GPL-2.0-only
/* 3222d8c2a7f8 (6.3): no member rw_page, or this has it twice. EL9 took it over. */
#include <linux/blkdev.h>

struct probe {
	const struct block_device_operations;
	int rw_page;
};
