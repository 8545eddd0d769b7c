// SPDX-License-Identifier: GPL-2.0-only
/*
 * Completion of bios that we had wrapped.
 *
 * A child of bio_chain() has a completion function that is private to the kernel and must not be
 * called (it recurses on older kernels, and is a trap on newer ones): bio_endio() knows it by its
 * address. So do we, and give the bio back to bio_endio(). Each parent that is wrapped too would
 * then come back here from within; a discard can be a chain of thousands. Those wait in a list of
 * this CPU until the outermost has returned.
 */
#include <linux/percpu.h>
#include <linux/preempt.h>

#include "compat/compat.h"
#include "completion.h"

bio_end_io_t *ebb_chain_end_io;

struct unchain {
	struct bio_list	list;
	bool		running;
};

static DEFINE_PER_CPU(struct unchain, unchain);

/* The next one of this CPU; if there is none, the outermost call is over. */
static struct bio *next_chained(struct unchain *u)
{
	struct bio *bio;
	unsigned long flags;

	local_irq_save(flags);
	bio = bio_list_pop(&u->list);
	if (!bio)
		u->running = false;
	local_irq_restore(flags);
	return bio;
}

void ebb_complete_chained(struct bio *bio)
{
	struct unchain *u;
	unsigned long flags;
	bool outermost;

	/* An interrupt in between finds ->running set and leaves its bio to us. */
	preempt_disable();
	u = this_cpu_ptr(&unchain);
	local_irq_save(flags);
	bio_list_add(&u->list, bio);
	outermost = !u->running;
	u->running = true;
	local_irq_restore(flags);
	if (outermost)
		while ((bio = next_chained(u)))
			bio_endio(bio);
	preempt_enable();
}

void ebb_completion_init(void)
{
	static struct bio child, parent;

	ebb_bio_init(&child);
	ebb_bio_init(&parent);
	bio_chain(&child, &parent);
	ebb_chain_end_io = child.bi_end_io;
}
