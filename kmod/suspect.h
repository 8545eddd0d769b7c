/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Suspect blocks of a disk: dirty, but perhaps equal to what the target has. The map of them is
 * there only while there are some; without memory for it blocks are sent and not compared. All
 * under ebb_mutex.
 */
#ifndef _EBB_SUSPECT_H
#define _EBB_SUSPECT_H

#include <linux/types.h>

struct ebb_disk;

/* Blocks from first to last, both included. */
void ebb_disk_suspect(struct ebb_disk *disk, u64 first, u64 last);
void ebb_disk_unsuspect(struct ebb_disk *disk, u64 first, u64 last);
void ebb_disk_unsuspect_all(struct ebb_disk *disk);

/* How many blocks from @first on, up to @last, are as that one is; and how it is. */
u64 ebb_disk_suspect_run(struct ebb_disk *disk, u64 first, u64 last, bool *suspect);

#endif
