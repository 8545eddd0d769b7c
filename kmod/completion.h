/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _EBB_COMPLETION_H
#define _EBB_COMPLETION_H

#include <linux/bio.h>

extern bio_end_io_t *ebb_chain_end_io;	/* constant after ebb_completion_init() */

/* Whether the bio is a child made by bio_chain(); its bi_private is the parent then. */
static inline bool ebb_is_chained(const struct bio *bio)
{
	return bio->bi_end_io == ebb_chain_end_io;
}

void ebb_complete_chained(struct bio *bio);

/* Goes on with the completion of a bio whose own bi_end_io and bi_private are back. Any context. */
static inline void ebb_complete(struct bio *bio)
{
	if (unlikely(ebb_is_chained(bio)))
		ebb_complete_chained(bio);
	else if (likely(bio->bi_end_io))
		bio->bi_end_io(bio);
}

void ebb_completion_init(void);

#endif
