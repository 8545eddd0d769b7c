/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _EBB_COMPLETION_H
#define _EBB_COMPLETION_H

#include <linux/bio.h>

/* Goes on with the completion of a bio whose own bi_end_io and bi_private are back. Any context. */
void ebb_complete(struct bio *bio);

/* Whether the bio is a child made by bio_chain(); its bi_private is the parent then. */
bool ebb_is_chained(const struct bio *bio);

void ebb_completion_init(void);

#endif
