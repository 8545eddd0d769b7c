// SPDX-License-Identifier: GPL-2.0-only
/*
 * At reboot the exact map is written: no region is hot while that is done, so new writes wait,
 * and the marks of all others are there. Afterwards writes are logged as ever, with greater
 * numbers.
 */
#include <linux/bitmap.h>
#include <linux/reboot.h>
#include <linux/slab.h>
#include <linux/suspend.h>

#include "compat/compat.h"
#include "group.h"
#include "log.h"

#define PART_WORDS	(EBB_FORMAT_FINE / BITS_PER_LONG)

struct seal {
	struct ebb_log	*log;
	u32		blocks;
	u32		crc;
	u64		bits;
	unsigned int	started;	/* blocks that are under way */
	bool		late;		/* somebody has waited for too long */
};

static unsigned long word_of(struct ebb_disk *disk, unsigned long word)
{
	return ebb_map_word(&disk->map[0], word) | ebb_map_word(&disk->map[1], word) |
	       ebb_map_word(&disk->released, word) | ebb_map_word(&disk->unconfirmed, word);
}

/* The first word from there on that may have a mark. */
static unsigned long next_word(struct ebb_disk *disk, unsigned long word)
{
	unsigned long next = ebb_map_skip_empty(&disk->map[0], word);

	next = min(next, ebb_map_skip_empty(&disk->map[1], word));
	next = min(next, ebb_map_skip_empty(&disk->released, word));
	return min(next, ebb_map_skip_empty(&disk->unconfirmed, word));
}

/* Fills the payload with a part of the map; returns the bits in it. */
static u64 fill_part(struct ebb_disk *disk, u32 part, u8 *payload)
{
	unsigned long *bits = (unsigned long *)(payload + EBB_FORMAT_FINE_HEAD);
	unsigned long base = (unsigned long)part * PART_WORDS, word;
	u64 nr = 0;

	memset(payload, 0, EBB_FORMAT_PAYLOAD);
	ebb_fine_set_part(payload, part);
	for (word = 0; word < PART_WORDS && base + word < disk->map[0].words; word++) {
		bits[word] = word_of(disk, base + word);
		nr += hweight_long(bits[word]);
	}
	return nr;
}

/* The last page holds payloads, the others are written from. */
static int write_part(struct seal *s, u32 part)
{
	struct ebb_log *log = s->log;
	struct ebb_store *store = &log->store;
	struct ebb_format_id id = ebb_log_id(log, EBB_FORMAT_FINE_BLOCK, s->blocks);
	u8 *payload = ebb_store_page(store, EBB_STORE_IOS - 1);
	u64 bits = fill_part(log->disk, part, payload);
	void *block = ebb_store_page(store, s->started);
	int err;

	if (!bits)
		return 0;
	ebb_format_encode(block, &id, log->super.seal_seq, payload);
	s->crc = ebb_format_seal_crc(s->crc, block);
	s->bits += bits;
	ebb_store_write(store, s->started++, ebb_log_block_of(log->super.log_blocks, 0) + s->blocks,
			false);
	s->blocks++;
	if (s->started < EBB_STORE_IOS - 1)
		return 0;
	s->started = 0;
	err = ebb_store_wait(store);
	s->late = ebb_log_is_late(log);
	return err;
}

static int write_fine(struct seal *s)
{
	struct ebb_disk *disk = s->log->disk;
	unsigned long word;
	int err;

	for (word = next_word(disk, 0); word < disk->map[0].words; word = next_word(disk, word)) {
		err = write_part(s, word / PART_WORDS);
		if (err)
			return err;
		if (s->late)
			return 0;
		word = rounddown(word, PART_WORDS) + PART_WORDS;
		cond_resched();
	}
	err = ebb_store_wait(&s->log->store);
	if (err)
		return err;
	ebb_store_flush(&s->log->store, 0);
	return ebb_store_wait(&s->log->store);
}

/*
 * No write can land any more until the seal is there: those that are under way are those that wait.
 * Who waits is counted first, since more may come to wait meanwhile.
 */
static bool is_quiet(struct ebb_log *log)
{
	struct list_head *at;
	u64 waiting = 0;

	spin_lock_irq(&log->lock);
	list_for_each(at, &log->waiting)
		waiting++;
	spin_unlock_irq(&log->lock);
	return ebb_write_in_flight(log->disk) == waiting;
}

/* All or none. Not quiet: a write may land in one of them after it was read. */
static int know_witnesses(struct ebb_log *log, bool *quiet)
{
	struct ebb_super *super = &log->super;
	struct ebb_super_witness *fresh;
	int err;

	fresh = kmemdup(super->witnesses, sizeof(super->witnesses), GFP_NOIO);
	if (!fresh)
		return -ENOMEM;
	*quiet = is_quiet(log);
	err = ebb_log_read_witnesses(log, fresh, super->nr_witnesses, ebb_log_deadline());
	if (!err)
		memcpy(super->witnesses, fresh, sizeof(super->witnesses));
	kfree(fresh);
	return err;
}

/* Nothing in the area says that there is a seal: the next boot goes by what is on disk. */
static void unseal(struct ebb_log *log, const char *why)
{
	pr_warn("ebb: %s: the exact map was not written, since %s: the next boot goes by the log\n",
		log->disk->name, why);
	bitmap_copy(log->hot, log->on_disk, log->nr_regions);
}

static void write_seal(struct ebb_log *log)
{
	struct ebb_super *super = &log->super;
	struct seal s = { .log = log };
	bool quiet = false;
	int err;

	super->seal_seq = ++log->seq;
	if (write_fine(&s)) {
		ebb_log_give_up(log);
		return;
	}
	err = s.late ? 0 : know_witnesses(log, &quiet);
	if (ebb_log_is_late(log)) {
		unseal(log, "writes waited for it too long");
		return;
	}
	if (err) {
		unseal(log, "a witness block could not be read");
		return;
	}
	super->flags = quiet ? EBB_SUPER_F_EXACT : 0;
	if (log->disk->suspect)
		super->flags |= EBB_SUPER_F_SUSPECT;
	super->seal_blocks = s.blocks;
	super->seal_bits = s.bits;
	super->seal_crc = s.crc;
	super->log_since = log->seq;
	super->state = EBB_SUPER_SEALED;
	/* It may be there whatever is said of the write. */
	spin_lock_irq(&log->lock);
	log->sealed = !ebb_log_failed(log);
	spin_unlock_irq(&log->lock);
	if (ebb_log_write_super(log))
		return;
	/* What the log says up to here is in the fine map. */
	memset(log->on_disk, 0, (size_t)super->log_blocks * EBB_FORMAT_PAYLOAD);
}

static void set_sealing(struct ebb_log *log, bool sealing)
{
	spin_lock_irq(&log->lock);
	log->sealing = sealing;
	spin_unlock_irq(&log->lock);
}

static void seal(struct ebb_log *log)
{
	bool flushed;

	lockdep_assert_held(&ebb_mutex);
	/*
	 * The seal makes all regions cold: what was confirmed, and is not marked any more, must
	 * not be taken back when the power goes. Nothing is confirmed meanwhile.
	 */
	flushed = ebb_log_flush_disk(log);
	mutex_lock(&log->io);
	if (ebb_log_failed(log)) {
		if (!ebb_store_is_stuck(&log->store))
			ebb_log_write_super(log);
	} else if (!log->closing && flushed) {
		/* Who was let go now, for being late, would be in no map. */
		set_sealing(log, true);
		bitmap_zero(log->hot, log->nr_regions);
		/* Pairs with a write: it marks, then looks whether the region is hot. */
		smp_mb();
		write_seal(log);
		set_sealing(log, false);
	}
	mutex_unlock(&log->io);
}

static int reboot(struct notifier_block *nb, unsigned long event, void *data)
{
	struct ebb_disk *disk;

	mutex_lock(&ebb_mutex);
	list_for_each_entry(disk, &ebb_disks, list)
		if (disk->log)
			seal(disk->log);
	mutex_unlock(&ebb_mutex);
	return NOTIFY_DONE;
}

/* The last of all, so that little is written after it; md says at its own that it is clean. */
static struct notifier_block reboot_notifier = {
	.notifier_call	= reboot,
	.priority	= INT_MIN,
};

/* ---- hibernation ---- */

#ifdef CONFIG_PM_SLEEP
/*
 * The image of memory was written after it was made, by a kernel whose marks are not in it; and
 * the log went on in the area after what is in memory now.
 */
static void came_back(struct ebb_disk *disk)
{
	struct ebb_log *log = disk->log;

	ebb_disk_flag(disk, EBB_RESYNC_HIBERNATED);
	if (!log)
		return;
	mutex_lock(&log->io);
	if (!ebb_log_failed(log)) {
		log->seq += 1ull << 32;
		bitmap_fill(log->due, log->super.log_blocks);
		if (!ebb_log_write_due(log)) {
			bitmap_fill(log->due, log->super.log_blocks);
			ebb_log_write_due(log);
		}
		if (!ebb_log_failed(log) && !ebb_log_write_super(log))
			ebb_log_write_super(log);
	}
	mutex_unlock(&log->io);
}

/* Tasks go on before it is said that we are back: the area says it from now on. */
static void about_to_go(struct ebb_disk *disk)
{
	struct ebb_log *log = disk->log;

	ebb_disk_flag(disk, EBB_RESYNC_HIBERNATED);
	if (!log)
		return;
	mutex_lock(&log->io);
	if (!ebb_store_is_stuck(&log->store))
		ebb_log_write_super(log);
	mutex_unlock(&log->io);
}

static int power(struct notifier_block *nb, unsigned long event, void *data)
{
	bool back = event == PM_POST_HIBERNATION || event == PM_POST_RESTORE;
	struct ebb_disk *disk;

	if (!back && event != PM_HIBERNATION_PREPARE)
		return NOTIFY_DONE;
	mutex_lock(&ebb_mutex);
	list_for_each_entry(disk, &ebb_disks, list)
		if (back)
			came_back(disk);
		else
			about_to_go(disk);
	mutex_unlock(&ebb_mutex);
	return NOTIFY_DONE;
}

static struct notifier_block power_notifier = {
	.notifier_call	= power,
};
#endif

int ebb_log_init(void)
{
	int err = ebb_log_wq_init();

	if (err)
		return err;
	err = register_reboot_notifier(&reboot_notifier);
	if (err)
		goto err_wq;
#ifdef CONFIG_PM_SLEEP
	err = register_pm_notifier(&power_notifier);
	if (err)
		goto err_reboot;
#endif
	return 0;

#ifdef CONFIG_PM_SLEEP
err_reboot:
	unregister_reboot_notifier(&reboot_notifier);
#endif
err_wq:
	ebb_log_wq_exit();
	return err;
}

void ebb_log_exit(void)
{
#ifdef CONFIG_PM_SLEEP
	unregister_pm_notifier(&power_notifier);
#endif
	unregister_reboot_notifier(&reboot_notifier);
	ebb_log_wq_exit();
}
