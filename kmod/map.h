/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A map of blocks in two levels: leaves of one bit per block, a page each, allocated when a block
 * of theirs is first set; and a coarse map, allocated with the map, whose bit says that all blocks
 * of a chunk are set. No memory for a leaf means a coarse bit: correct, and sends more.
 *
 * Setting and looking are atomic, from any context, and may run beside everything but
 * ebb_map_exit(): under RCU in any of its forms, or under ebb_mutex. Taking bits away is for one
 * task at a time (ebb_mutex). A leaf in which nothing was set from one emptying of the map to the
 * next is freed after a grace period, so that the memory follows what is dirty.
 */
#ifndef _EBB_MAP_H
#define _EBB_MAP_H

#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/mm.h>
#include <linux/types.h>

#define EBB_BLOCK_SHIFT		3	/* sectors of a block, as a shift: 4 KiB */
#define EBB_BLOCK_BYTES		(512u << EBB_BLOCK_SHIFT)
#define EBB_LEAF_WORDS		(PAGE_SIZE / sizeof(long))
#define EBB_CHUNK_WORDS		16	/* 1,024 blocks, 4 MiB: 32 KiB of coarse map per TiB */

struct ebb_map {
	u64		blocks;
	unsigned long	words;
	unsigned long	nr_leaves;
	unsigned long	**leaf;		/* a bit: the block is set */
	unsigned long	**mask;		/* a bit: and was discarded last; NULL: not kept */
	unsigned long	*coarse;	/* a bit: all blocks of the chunk are set */
	unsigned long	*used;		/* a bit: the leaf had a block since the map was emptied */
	atomic_long_t	pages;
};

/* A run of blocks that are set and agree in whether they were discarded. */
struct ebb_run {
	u64	block;
	u64	nr;
	bool	discarded;
};

int ebb_map_init(struct ebb_map *map, u64 blocks, bool with_mask);
void ebb_map_exit(struct ebb_map *map);
u64 ebb_map_bytes(const struct ebb_map *map);

/* No locked operation for bits that are set already: most writes go where others went. */
static inline void ebb_map_set_bits(unsigned long *p, unsigned long bits)
{
	if ((READ_ONCE(*p) & bits) != bits)
		atomic_long_or(bits, (atomic_long_t *)p);
}

/* Ranges are from first to last, both included, and within the map. */
unsigned int ebb_map_set_range(struct ebb_map *map, u64 first, u64 last, gfp_t gfp);

/* Returns how many chunks had to be set whole. Every write comes here, most have one block. */
static inline unsigned int ebb_map_set(struct ebb_map *map, u64 first, u64 last, gfp_t gfp)
{
	unsigned long word = first / BITS_PER_LONG;
	unsigned long *leaf = READ_ONCE(map->leaf[word / EBB_LEAF_WORDS]);
	unsigned long bits = BIT(first % BITS_PER_LONG);

	if (unlikely(!leaf || first != last)) {
		if (!leaf || word != last / BITS_PER_LONG)
			return ebb_map_set_range(map, first, last, gfp);
		bits = GENMASK(last % BITS_PER_LONG, first % BITS_PER_LONG);
	}
	ebb_map_set_bits(leaf + word % EBB_LEAF_WORDS, bits);
	return 0;
}

/* Bits of a word of blocks, and the first word from @word on that may have any. */
unsigned long ebb_map_word(const struct ebb_map *map, unsigned long word);
unsigned long ebb_map_skip_empty(const struct ebb_map *map, unsigned long word);

bool ebb_map_any(const struct ebb_map *map, u64 first, u64 last);
/* The first block that is set; beyond @last: none is. */
u64 ebb_map_first(const struct ebb_map *map, u64 first, u64 last);
void ebb_map_set_discarded(struct ebb_map *map, u64 first, u64 last);
void ebb_map_clear_discarded(struct ebb_map *map, u64 first, u64 last);
u64 ebb_map_count(const struct ebb_map *map);
bool ebb_map_next(const struct ebb_map *map, u64 from, struct ebb_run *run);

/* Moves what is set in the range from one map to the other; -ENOMEM: moved in part or not. */
int ebb_map_move(struct ebb_map *to, struct ebb_map *from, u64 first, u64 last, u64 *moved);
/* Takes bits away; a chunk that is set whole is left if there is no memory to split it. */
void ebb_map_unset(struct ebb_map *map, u64 first, u64 last);
/* ORs all of a map into another and empties it. Forgets what had been discarded. */
void ebb_map_merge(struct ebb_map *to, struct ebb_map *from);
/* Empties the map. One that is current, or that a pass reads, must not be. */
void ebb_map_clear(struct ebb_map *map);

#endif
