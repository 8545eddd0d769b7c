// SPDX-License-Identifier: GPL-2.0-only
/* 49add4966d79 (5.18): bio_init() takes the device and the operation */
#include <linux/bio.h>

void probe(struct bio *bio)
{
	bio_init(bio, NULL, NULL, 0, 0);
}
