// SPDX-License-Identifier: GPL-2.0-only
/*
 * Finding out, at attach, what is known of a disk. What is trusted is loaded into its current map;
 * whatever cannot be trusted has a reason, and its map is made anew.
 */
#include <linux/bitmap.h>
#include <linux/slab.h>
#include <linux/uuid.h>

#include "compat/compat.h"
#include "group.h"
#include "log.h"
#include "suspect.h"

struct load {
	struct ebb_log	*log;
	const u8	*boot_id;
	u8		*payload;	/* EBB_FORMAT_PAYLOAD bytes; aligned as pages are */
	u64		seq;		/* the greatest that was seen */
};

static struct ebb_map *current_map(struct ebb_disk *disk)
{
	return &disk->map[disk->group->gen & 1];
}

/* ---- pairs of slots ---- */

/*
 * Reads both slots of a pair into ->payload. -EUCLEAN: there is nothing valid, or what a power cut
 * does not explain. @seq and @newer: of the valid one.
 */
static int read_pair(struct load *l, u64 block, const struct ebb_format_id *id, u64 *seq,
		     unsigned int *newer)
{
	struct ebb_store *store = &l->log->store;
	enum ebb_format_verdict verdict;
	unsigned int slot, whole = 0;
	u64 n, first = 0;
	int err;

	ebb_store_read(store, 0, block);
	ebb_store_read(store, 1, block + 1);
	err = ebb_store_wait(store);
	if (err)
		return err == -EIO ? -EUCLEAN : err;
	*seq = 0;
	for (slot = 0; slot < 2; slot++) {
		/* Of two that are whole, the newer one is decoded last. */
		verdict = ebb_format_decode(ebb_store_page(store, slot), id, &n, l->payload);
		l->seq = max(l->seq, n);
		if (verdict == EBB_FORMAT_BAD)
			return -EUCLEAN;
		if (verdict == EBB_FORMAT_TORN)
			continue;
		if (!whole++) {
			first = n;
			*newer = slot;
		} else if (n > first) {
			*newer = slot;
		}
		*seq = max(*seq, n);
	}
	if (!whole)
		return -EUCLEAN;
	ebb_format_decode(ebb_store_page(store, *newer), id, &n, l->payload);
	return 0;
}

static int read_super(struct load *l)
{
	struct ebb_log *log = l->log;
	struct ebb_format_id id = ebb_log_id(log, EBB_FORMAT_SUPER, 0);
	u64 seq;
	int err;

	err = read_pair(l, 0, &id, &seq, &log->super_newer);
	if (err)
		return err;
	return ebb_super_decode(l->payload, &log->super) ? 0 : -EUCLEAN;
}

/* ---- the log ---- */

/* Marks all blocks of the regions of a log block. */
static void mark_regions(struct ebb_log *log, u32 index)
{
	unsigned long base = (unsigned long)index * EBB_FORMAT_REGIONS, r;
	unsigned long end = min(base + EBB_FORMAT_REGIONS, log->nr_regions);
	struct ebb_disk *disk = log->disk;
	u64 first, last;

	for (r = find_next_bit(log->on_disk, end, base); r < end;
	     r = find_next_bit(log->on_disk, end, r + 1)) {
		first = (u64)r << log->shift;
		last = min(first + (1ull << log->shift), disk->blocks) - 1;
		ebb_map_set(current_map(disk), first, last, GFP_KERNEL);
		ebb_disk_suspect(disk, first, last);
	}
}

static int load_log(struct load *l)
{
	struct ebb_log *log = l->log;
	struct ebb_format_id id;
	unsigned int newer;
	u64 seq;
	u32 i;
	int err;

	for (i = 0; i < log->super.log_blocks; i++) {
		id = ebb_log_id(log, EBB_FORMAT_LOG, i);
		err = read_pair(l, ebb_log_block_of(i, 0), &id, &seq, &newer);
		if (err)
			return err;
		__assign_bit(i, log->newer, newer);
		if (seq <= log->super.log_since)
			continue;
		memcpy((char *)log->on_disk + (size_t)i * EBB_FORMAT_PAYLOAD, l->payload,
		       EBB_FORMAT_PAYLOAD);
		mark_regions(log, i);
		cond_resched();
	}
	return 0;
}

/* ---- the fine map ---- */

/* Marks the blocks of a fine block's payload; returns how many. */
static u64 mark_part(struct ebb_log *log, const u8 *payload)
{
	const unsigned long *bits = (const unsigned long *)(payload + EBB_FORMAT_FINE_HEAD);
	u64 base = (u64)ebb_fine_part(payload) * EBB_FORMAT_FINE, nr = 0;
	struct ebb_disk *disk = log->disk;
	unsigned long first, end, limit;

	limit = min_t(u64, EBB_FORMAT_FINE, disk->blocks - base);
	for (first = find_first_bit(bits, limit); first < limit;
	     first = find_next_bit(bits, limit, end)) {
		end = find_next_zero_bit(bits, limit, first);
		ebb_map_set(current_map(disk), base + first, base + end - 1, GFP_KERNEL);
		if (log->super.flags & EBB_SUPER_F_SUSPECT)
			ebb_disk_suspect(disk, base + first, base + end - 1);
		nr += end - first;
	}
	return nr;
}

static int load_fine(struct load *l)
{
	struct ebb_log *log = l->log;
	struct ebb_super *super = &log->super;
	u64 base = ebb_log_block_of(super->log_blocks, 0), seq, bits = 0;
	u32 i, n, nr, crc = 0;
	int err;

	for (i = 0; i < super->seal_blocks; i += nr) {
		nr = min_t(u32, EBB_STORE_IOS, super->seal_blocks - i);
		for (n = 0; n < nr; n++)
			ebb_store_read(&log->store, n, base + i + n);
		err = ebb_store_wait(&log->store);
		if (err)
			return err == -EIO ? -EUCLEAN : err;
		for (n = 0; n < nr; n++) {
			struct ebb_format_id id = ebb_log_id(log, EBB_FORMAT_FINE_BLOCK, i + n);
			const void *block = ebb_store_page(&log->store, n);

			if (ebb_format_decode(block, &id, &seq, l->payload) != EBB_FORMAT_WHOLE ||
			    seq != super->seal_seq ||
			    ebb_fine_part(l->payload) >= super->fine_blocks)
				return -EUCLEAN;
			crc = ebb_format_seal_crc(crc, block);
			bits += mark_part(log, l->payload);
		}
		cond_resched();
	}
	return crc == super->seal_crc && bits == super->seal_bits ? 0 : -EUCLEAN;
}

/* ---- whether it is to be trusted ---- */

static bool is_this_boot(const struct load *l)
{
	const struct ebb_super *super = &l->log->super;

	return super->nr_boots && !memcmp(super->boots[super->nr_boots - 1], l->boot_id,
					  EBB_UUID_LEN);
}

/* The reasons that the superblock alone gives; 0: what it says of the disk counts. */
static u32 distrust(const struct load *l)
{
	const struct ebb_super *super = &l->log->super;
	struct ebb_disk *disk = l->log->disk;

	if (strcmp(super->stable_id, disk->stable_id) || super->disk_sectors != disk->sectors)
		return 1 << EBB_RESYNC_MAP_FOREIGN;
	if (super->state == EBB_SUPER_FAILED)
		return 1 << EBB_RESYNC_MAP_FAILED;
	if (super->state == EBB_SUPER_DETACHED || is_this_boot(l))
		return 1 << EBB_RESYNC_DETACHED;
	if (ebb_disk_writes(disk->gd) > ebb_store_writes_on(disk->gd))
		return 1 << EBB_RESYNC_UNTRACKED_WRITE;
	return 0;
}

/* -ESTALE: somebody wrote to one, or it cannot be read. */
static int compare_witnesses(struct ebb_log *log)
{
	struct ebb_super_witness found[EBB_WITNESSES_MAX];
	const struct ebb_super_witness *w;
	u32 crcs[EBB_WITNESSES_MAX];
	unsigned int nr = 0, i;

	for (i = 0; i < log->super.nr_witnesses; i++) {
		w = &log->super.witnesses[i];
		if (!w->known || ebb_map_any(current_map(log->disk), w->block, w->block))
			continue;
		crcs[nr] = w->crc;
		found[nr++].block = w->block;
	}
	if (ebb_log_read_witnesses(log, found, nr, 0) == -ENOMEM)
		return -ENOMEM;
	for (i = 0; i < nr; i++)
		if (!found[i].known || found[i].crc != crcs[i])
			return -ESTALE;
	return 0;
}

static int read_map(struct load *l)
{
	const struct ebb_super *super = &l->log->super;
	bool sealed = super->state == EBB_SUPER_SEALED;
	bool exact = sealed && super->flags & EBB_SUPER_F_EXACT;
	int err = load_log(l);

	/* Before what was dirty is marked: file systems write last of all where witnesses are. */
	if (!err && exact)
		err = compare_witnesses(l->log);
	if (!err && sealed)
		err = load_fine(l);
	if (!err && !exact)
		err = compare_witnesses(l->log);
	return err;
}

/* Fills the map; the reasons why what was found does not count. Negative: the area is dead. */
static int load(struct load *l)
{
	u32 reasons;
	int err = read_super(l);

	if (!err) {
		reasons = distrust(l);
		if (reasons)
			return reasons;
		err = read_map(l);
	}
	switch (err) {
	case -EUCLEAN:
		return 1 << EBB_RESYNC_MAP_LOST;
	case -ESTALE:
		return 1 << EBB_RESYNC_MAP_STALE;
	default:
		return err;
	}
}

/* ---- making it one's own ---- */

static void add_boot(struct ebb_super *super, const u8 *boot_id)
{
	if (super->nr_boots == EBB_BOOTS_MAX) {
		memmove(super->boots[0], super->boots[1], sizeof(super->boots) - EBB_UUID_LEN);
		super->nr_boots--;
	}
	memcpy(super->boots[super->nr_boots++], boot_id, EBB_UUID_LEN);
}

int ebb_log_create(struct ebb_log *log, const u8 *boot_id)
{
	struct ebb_super *super = &log->super;
	struct ebb_format_geometry g;
	unsigned int slot, nr;
	int err;

	lockdep_assert_held(&log->io);
	ebb_format_geometry(log->disk->sectors, &g);
	nr = super->nr_witnesses;
	memset(super, 0, offsetof(struct ebb_super, witnesses));
	super->nr_witnesses = nr;
	while (nr--)
		super->witnesses[nr].known = 0;
	super->state = EBB_SUPER_ACTIVE;
	super->disk_sectors = log->disk->sectors;
	super->region_sectors = g.region_sectors;
	super->log_blocks = g.log_blocks;
	super->fine_blocks = g.fine_blocks;
	generate_random_uuid(super->uuid);
	strscpy(super->stable_id, log->disk->stable_id, sizeof(super->stable_id));
	add_boot(super, boot_id);
	memset(log->on_disk, 0, (size_t)g.log_blocks * EBB_FORMAT_PAYLOAD);
	for (slot = 0; slot < 2; slot++) {
		bitmap_fill(log->due, g.log_blocks);
		err = ebb_log_write_due(log);
		if (err)
			return err;
	}
	err = ebb_log_write_super(log);
	return err ? err : ebb_log_write_super(log);
}

/* Regions of all that is marked are hot, on disk first. */
static int heat_marked(struct ebb_log *log)
{
	struct ebb_run run;
	unsigned long r;
	u64 block = 0;
	int err;

	while (ebb_map_next(current_map(log->disk), block, &run)) {
		block = run.block + run.nr;
		ebb_log_want(log, run.block >> log->shift, (block - 1) >> log->shift);
		cond_resched();
	}
	err = ebb_log_write_due(log);
	if (err)
		return err;
	for (r = 0; r < BITS_TO_LONGS(log->nr_regions); r++)
		log->hot[r] = log->on_disk[r];
	return 0;
}

static int go_on(struct ebb_log *log, const u8 *boot_id)
{
	struct ebb_disk *disk = log->disk;
	int err;

	log->recovery = log->super.state == EBB_SUPER_SEALED ? EBB_RECOVERY_CLEAN :
			EBB_RECOVERY_CRASH;
	log->recovered = ebb_map_count(current_map(disk));
	atomic_set(&disk->resync, log->super.reasons);
	err = heat_marked(log);
	if (err)
		return err;
	log->super.state = EBB_SUPER_ACTIVE;
	add_boot(&log->super, boot_id);
	return ebb_log_write_super(log);
}

static int start_anew(struct ebb_log *log, u32 reasons, const u8 *boot_id)
{
	struct ebb_disk *disk = log->disk;

	ebb_map_clear(current_map(disk));
	ebb_disk_unsuspect_all(disk);
	atomic_set(&disk->resync, reasons);
	/* What was found is perhaps another disk's, its witnesses too. */
	memset(&log->super, 0, sizeof(log->super));
	return ebb_log_create(log, boot_id);
}

static int load_or_create(struct ebb_log *log, const struct ebb_log_options *options)
{
	struct load l = { .log = log, .boot_id = options->boot_id };
	int reasons = 1 << EBB_RESYNC_NEW;

	if (!options->create) {
		l.payload = (u8 *)__get_free_page(GFP_KERNEL);
		if (!l.payload)
			return -ENOMEM;
		reasons = load(&l);
		free_page((unsigned long)l.payload);
	}
	log->seq = l.seq;
	if (reasons < 0)
		return reasons;
	return reasons ? start_anew(log, reasons, options->boot_id) :
			 go_on(log, options->boot_id);
}

int ebb_log_attach(struct ebb_disk *disk, const struct ebb_log_options *options, const char **why)
{
	struct ebb_log *log = ebb_log_new(disk, options, why);
	int err;

	lockdep_assert_held(&ebb_mutex);
	if (IS_ERR(log))
		return PTR_ERR(log);
	mutex_lock(&log->io);
	log->state = EBB_LOG_ACTIVE;
	err = load_or_create(log, options);
	mutex_unlock(&log->io);
	if (err) {
		*why = "the map area cannot be read or written";
		ebb_log_free(disk);
		return err == -ENOMEM ? err : -EIO;
	}
	disk->resync_told = atomic_read(&disk->resync);
	disk->region_shift = log->shift;
	disk->hot = log->hot;
	return 0;
}
