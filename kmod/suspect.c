// SPDX-License-Identifier: GPL-2.0-only
/* Suspect blocks: see suspect.h. */
#include <linux/slab.h>

#include "disk.h"
#include "suspect.h"

static struct ebb_map *new_map(struct ebb_disk *disk)
{
	struct ebb_map *map = kzalloc(sizeof(*map), GFP_KERNEL);

	if (!map || !ebb_map_init(map, disk->blocks, false))
		return map;
	kfree(map);
	return NULL;
}

void ebb_disk_suspect(struct ebb_disk *disk, u64 first, u64 last)
{
	lockdep_assert_held(&ebb_mutex);
	if (!disk->suspect)
		disk->suspect = new_map(disk);
	if (disk->suspect)
		ebb_map_set(disk->suspect, first, last, GFP_KERNEL);
}

void ebb_disk_unsuspect_all(struct ebb_disk *disk)
{
	if (!disk->suspect)
		return;
	ebb_map_exit(disk->suspect);
	kfree(disk->suspect);
	disk->suspect = NULL;
}

void ebb_disk_unsuspect(struct ebb_disk *disk, u64 first, u64 last)
{
	lockdep_assert_held(&ebb_mutex);
	if (!disk->suspect)
		return;
	/* A chunk that is set whole and cannot be split stays: compared in vain, that is all. */
	ebb_map_unset(disk->suspect, first, last);
	if (ebb_map_first(disk->suspect, 0, disk->blocks - 1) >= disk->blocks)
		ebb_disk_unsuspect_all(disk);
}

u64 ebb_disk_suspect_run(struct ebb_disk *disk, u64 first, u64 last, bool *suspect)
{
	struct ebb_run run;

	*suspect = false;
	if (!disk->suspect || !ebb_map_next(disk->suspect, first, &run) || run.block > last)
		return last - first + 1;
	if (run.block > first)
		return run.block - first;
	*suspect = true;
	return min(run.nr, last - first + 1);
}
