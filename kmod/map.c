// SPDX-License-Identifier: GPL-2.0-only
/* The two-level map of blocks: see map.h. */
#include <linux/bitmap.h>
#include <linux/bitops.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include "disk.h"
#include "map.h"

/* Leaves that nobody finds any more, until nobody looks at them any more. */
struct old_leaves {
	struct rcu_head	rcu;
	unsigned int	nr;
	void		*leaf[61];
};

/* Bytes that an array takes: whole pages, or a power of two that slab caches have. */
static size_t array_bytes(unsigned long nr, size_t size)
{
	size_t bytes = size * nr;

	return bytes > PAGE_SIZE ? PAGE_ALIGN(bytes) : roundup_pow_of_two(bytes);
}

/* Large ones by the page: kvcalloc() may take nearly twice as much. */
static void *alloc_array(unsigned long nr, size_t size)
{
	size_t bytes = array_bytes(nr, size);

	return bytes > PAGE_SIZE ? vzalloc(bytes) : kzalloc(bytes, GFP_KERNEL);
}

static unsigned long coarse_words(const struct ebb_map *map)
{
	return BITS_TO_LONGS(DIV_ROUND_UP(map->words, EBB_CHUNK_WORDS));
}

int ebb_map_init(struct ebb_map *map, u64 blocks, bool with_mask)
{
	map->blocks = blocks;
	map->words = DIV_ROUND_UP_ULL(blocks, BITS_PER_LONG);
	map->nr_leaves = DIV_ROUND_UP(map->words, EBB_LEAF_WORDS);
	map->leaf = alloc_array(map->nr_leaves, sizeof(*map->leaf));
	if (with_mask)
		map->mask = alloc_array(map->nr_leaves, sizeof(*map->mask));
	map->coarse = alloc_array(coarse_words(map), sizeof(long));
	map->used = alloc_array(BITS_TO_LONGS(map->nr_leaves), sizeof(long));
	if (map->leaf && map->coarse && map->used && (map->mask || !with_mask))
		return 0;
	ebb_map_exit(map);
	return -ENOMEM;
}

static void free_leaves(unsigned long **leaf, unsigned long nr)
{
	unsigned long i;

	for (i = 0; leaf && i < nr; i++)
		free_page((unsigned long)leaf[i]);
	kvfree(leaf);
}

void ebb_map_exit(struct ebb_map *map)
{
	free_leaves(map->leaf, map->nr_leaves);
	free_leaves(map->mask, map->nr_leaves);
	kvfree(map->coarse);
	kvfree(map->used);
	memset(map, 0, sizeof(*map));
}

u64 ebb_map_bytes(const struct ebb_map *map)
{
	return atomic_long_read(&map->pages) * PAGE_SIZE +
	       array_bytes(map->nr_leaves, sizeof(*map->leaf)) * (map->mask ? 2 : 1) +
	       array_bytes(coarse_words(map), sizeof(long)) +
	       array_bytes(BITS_TO_LONGS(map->nr_leaves), sizeof(long));
}

static noinline unsigned long *new_leaf(struct ebb_map *map, unsigned long **slot, gfp_t gfp)
{
	unsigned long *leaf = (unsigned long *)get_zeroed_page(gfp | __GFP_NOWARN);
	unsigned long *old;

	if (!leaf)
		return NULL;
	old = cmpxchg(slot, NULL, leaf);
	if (old) {
		free_page((unsigned long)leaf);
		return old;
	}
	atomic_long_inc(&map->pages);
	return leaf;
}

/* The word of a leaf; a leaf that is missing is made, unless @gfp is 0. */
static inline unsigned long *leaf_word(struct ebb_map *map, unsigned long **leaves,
				       unsigned long word, gfp_t gfp)
{
	unsigned long **slot = &leaves[word / EBB_LEAF_WORDS];
	unsigned long *leaf = READ_ONCE(*slot);

	if (unlikely(!leaf)) {
		leaf = gfp ? new_leaf(map, slot, gfp) : NULL;
		if (!leaf)
			return NULL;
	}
	return leaf + word % EBB_LEAF_WORDS;
}

static inline bool is_coarse(const struct ebb_map *map, unsigned long word)
{
	return test_bit(word / EBB_CHUNK_WORDS, map->coarse);
}

/* The bits of a word that lie in the range. */
static inline unsigned long bits_of(unsigned long word, u64 first, u64 last)
{
	unsigned long bits = ~0UL;

	if (word == first / BITS_PER_LONG)
		bits &= BITMAP_FIRST_WORD_MASK(first);
	if (word == last / BITS_PER_LONG)
		bits &= BITMAP_LAST_WORD_MASK(last + 1);
	return bits;
}

/* The bits of a word that are blocks of the disk. */
static unsigned long valid_bits(const struct ebb_map *map, unsigned long word)
{
	return bits_of(word, 0, map->blocks - 1);
}

static unsigned long get_word(const struct ebb_map *map, unsigned long word)
{
	unsigned long *leaf;

	if (is_coarse(map, word))
		return valid_bits(map, word);
	/* Pairs with make_fine(): a coarse bit goes after its blocks are set one by one. */
	smp_rmb();
	leaf = READ_ONCE(map->leaf[word / EBB_LEAF_WORDS]);
	return leaf ? READ_ONCE(leaf[word % EBB_LEAF_WORDS]) : 0;
}

unsigned long ebb_map_word(const struct ebb_map *map, unsigned long word)
{
	return get_word(map, word);
}

static unsigned long get_mask(const struct ebb_map *map, unsigned long word)
{
	unsigned long *leaf;

	leaf = map->mask ? READ_ONCE(map->mask[word / EBB_LEAF_WORDS]) : NULL;
	return leaf ? READ_ONCE(leaf[word % EBB_LEAF_WORDS]) : 0;
}

static inline void clear_bits(unsigned long *p, unsigned long bits)
{
	if (READ_ONCE(*p) & bits)
		atomic_long_andnot(bits, (atomic_long_t *)p);
}

unsigned int ebb_map_set_range(struct ebb_map *map, u64 first, u64 last, gfp_t gfp)
{
	unsigned long word = first / BITS_PER_LONG, end = last / BITS_PER_LONG;
	unsigned int coarse = 0;
	unsigned long *p;

	while (word <= end) {
		p = leaf_word(map, map->leaf, word, gfp);
		if (likely(p)) {
			ebb_map_set_bits(p, bits_of(word, first, last));
			word++;
		} else {
			set_bit(word / EBB_CHUNK_WORDS, map->coarse);
			word = round_down(word, EBB_CHUNK_WORDS) + EBB_CHUNK_WORDS;
			coarse++;
		}
	}
	return coarse;
}

bool ebb_map_any(const struct ebb_map *map, u64 first, u64 last)
{
	unsigned long word;

	for (word = first / BITS_PER_LONG; word <= last / BITS_PER_LONG; word++)
		if (get_word(map, word) & bits_of(word, first, last))
			return true;
	return false;
}

u64 ebb_map_first(const struct ebb_map *map, u64 first, u64 last)
{
	unsigned long word, set;

	for (word = first / BITS_PER_LONG; word <= last / BITS_PER_LONG; word++) {
		set = get_word(map, word) & bits_of(word, first, last);
		if (set)
			return (u64)word * BITS_PER_LONG + __ffs(set);
	}
	return last + 1;
}

void ebb_map_set_discarded(struct ebb_map *map, u64 first, u64 last)
{
	unsigned long word, *p;

	for (word = first / BITS_PER_LONG; word <= last / BITS_PER_LONG; word++) {
		p = leaf_word(map, map->mask, word, GFP_NOWAIT);
		if (p)
			ebb_map_set_bits(p, bits_of(word, first, last));
	}
}

void ebb_map_clear_discarded(struct ebb_map *map, u64 first, u64 last)
{
	unsigned long word, *p;

	for (word = first / BITS_PER_LONG; word <= last / BITS_PER_LONG; word++) {
		p = leaf_word(map, map->mask, word, 0);
		if (p)
			clear_bits(p, bits_of(word, first, last));
	}
}

/* The first word at or after @word that may have a bit set, whole empty leaves being skipped. */
unsigned long ebb_map_skip_empty(const struct ebb_map *map, unsigned long word)
{
	const unsigned long chunks = EBB_LEAF_WORDS / EBB_CHUNK_WORDS;
	unsigned long leaf, end;

	while (word < map->words) {
		leaf = word / EBB_LEAF_WORDS;
		if (READ_ONCE(map->leaf[leaf]))
			break;
		end = min((leaf + 1) * chunks, DIV_ROUND_UP(map->words, EBB_CHUNK_WORDS));
		if (find_next_bit(map->coarse, end, leaf * chunks) < end)
			break;
		word = (leaf + 1) * EBB_LEAF_WORDS;
	}
	return word;
}

u64 ebb_map_count(const struct ebb_map *map)
{
	unsigned long word;
	u64 nr = 0;

	for (word = ebb_map_skip_empty(map, 0); word < map->words;
	     word = ebb_map_skip_empty(map, word + 1))
		nr += hweight_long(get_word(map, word));
	return nr;
}

/* Lengthens the run by what follows it in the word; false: the run ends in it. */
static bool extend_run(const struct ebb_map *map, unsigned long word, struct ebb_run *run)
{
	unsigned long set = get_word(map, word), mask = get_mask(map, word);
	u64 at = run->block + run->nr;
	unsigned int bit = at % BITS_PER_LONG;

	set &= run->discarded ? mask : ~mask;
	if (!bit && set == ~0UL) {
		run->nr += BITS_PER_LONG;
		return true;
	}
	for (; bit < BITS_PER_LONG; bit++, run->nr++)
		if (!(set & BIT(bit)))
			return false;
	return true;
}

/* The first run at or after a block. */
bool ebb_map_next(const struct ebb_map *map, u64 from, struct ebb_run *run)
{
	unsigned long word = from / BITS_PER_LONG, set, bits;
	unsigned int bit;

	if (from >= map->blocks)
		return false;
	bits = BITMAP_FIRST_WORD_MASK(from);
	for (;;) {
		set = get_word(map, word) & bits;
		if (set)
			break;
		bits = ~0UL;
		word = ebb_map_skip_empty(map, word + 1);
		if (word >= map->words)
			return false;
	}
	bit = __ffs(set);
	run->block = (u64)word * BITS_PER_LONG + bit;
	run->nr = 1;
	run->discarded = get_mask(map, word) & BIT(bit);
	while ((run->block + run->nr) / BITS_PER_LONG < map->words)
		if (!extend_run(map, (run->block + run->nr) / BITS_PER_LONG, run))
			break;
	return true;
}

/* Says block by block what a coarse bit says at once. */
static int make_fine(struct ebb_map *map, unsigned long word)
{
	unsigned long w = round_down(word, EBB_CHUNK_WORDS);
	unsigned long end = min(w + EBB_CHUNK_WORDS, map->words);
	unsigned long *p;

	for (; w < end; w++) {
		p = leaf_word(map, map->leaf, w, GFP_NOIO);
		if (!p)
			return -ENOMEM;
		ebb_map_set_bits(p, valid_bits(map, w));
	}
	/* Pairs with get_word(). */
	smp_wmb();
	clear_bit(word / EBB_CHUNK_WORDS, map->coarse);
	return 0;
}

int ebb_map_move(struct ebb_map *to, struct ebb_map *from, u64 first, u64 last, u64 *moved)
{
	unsigned long word, set, *src, *dst;

	lockdep_assert_held(&ebb_mutex);
	for (word = first / BITS_PER_LONG; word <= last / BITS_PER_LONG; word++) {
		if (is_coarse(from, word) && make_fine(from, word))
			return -ENOMEM;
		src = leaf_word(from, from->leaf, word, 0);
		set = src ? READ_ONCE(*src) & bits_of(word, first, last) : 0;
		if (!set)
			continue;
		dst = leaf_word(to, to->leaf, word, GFP_NOIO);
		if (dst)
			ebb_map_set_bits(dst, set);
		else
			set_bit(word / EBB_CHUNK_WORDS, to->coarse);
		clear_bits(src, set);
		__set_bit(word / EBB_LEAF_WORDS, from->used);
		*moved += hweight_long(set);
	}
	ebb_map_clear_discarded(from, first, last);
	return 0;
}

void ebb_map_unset(struct ebb_map *map, u64 first, u64 last)
{
	unsigned long word, *p;

	for (word = ebb_map_skip_empty(map, first / BITS_PER_LONG); word <= last / BITS_PER_LONG;
	     word = ebb_map_skip_empty(map, word + 1)) {
		if (is_coarse(map, word) && make_fine(map, word))
			continue;
		p = leaf_word(map, map->leaf, word, 0);
		if (p)
			clear_bits(p, bits_of(word, first, last));
	}
}

void ebb_map_merge(struct ebb_map *to, struct ebb_map *from)
{
	unsigned long word, set, *dst;

	lockdep_assert_held(&ebb_mutex);
	for (word = ebb_map_skip_empty(from, 0); word < from->words;
	     word = ebb_map_skip_empty(from, word + 1)) {
		set = get_word(from, word);
		if (!set)
			continue;
		dst = leaf_word(to, to->leaf, word, GFP_NOIO);
		if (dst)
			ebb_map_set_bits(dst, set);
		else
			set_bit(word / EBB_CHUNK_WORDS, to->coarse);
	}
	ebb_map_clear(from);
}

static void free_old_leaves(struct rcu_head *rcu)
{
	struct old_leaves *old = container_of(rcu, struct old_leaves, rcu);

	while (old->nr)
		free_page((unsigned long)old->leaf[--old->nr]);
	kfree(old);
}

/* Without memory to remember it by, the leaf stays for this time. */
static struct old_leaves *let_go(struct ebb_map *map, unsigned long **slot, struct old_leaves *old)
{
	if (!READ_ONCE(*slot))
		return old;
	if (old && old->nr == ARRAY_SIZE(old->leaf)) {
		call_rcu(&old->rcu, free_old_leaves);
		old = NULL;
	}
	if (!old) {
		old = kmalloc(sizeof(*old), GFP_NOIO | __GFP_NOWARN);
		if (!old)
			return NULL;
		old->nr = 0;
	}
	old->leaf[old->nr++] = xchg(slot, NULL);
	atomic_long_dec(&map->pages);
	return old;
}

/* False: nothing was set in it. */
static bool clear_leaf(unsigned long *leaf)
{
	if (!leaf || !memchr_inv(leaf, 0, PAGE_SIZE))
		return false;
	memset(leaf, 0, PAGE_SIZE);
	return true;
}

/*
 * A bit that is set meanwhile may be taken away with the rest: who sets one in a map that is not
 * the current one finds the generation changed, and sets it in the current one too.
 */
void ebb_map_clear(struct ebb_map *map)
{
	struct old_leaves *old = NULL;
	unsigned long i;
	bool used;

	lockdep_assert_held(&ebb_mutex);
	for (i = 0; i < map->nr_leaves; i++) {
		used = __test_and_clear_bit(i, map->used);
		used |= map->mask && clear_leaf(READ_ONCE(map->mask[i]));
		used |= clear_leaf(READ_ONCE(map->leaf[i]));
		if (used)
			continue;
		old = let_go(map, &map->leaf[i], old);
		if (map->mask)
			old = let_go(map, &map->mask[i], old);
		if (i % 256 == 0)
			cond_resched();
	}
	if (old)
		call_rcu(&old->rcu, free_old_leaves);
	bitmap_zero(map->coarse, DIV_ROUND_UP(map->words, EBB_CHUNK_WORDS));
}
