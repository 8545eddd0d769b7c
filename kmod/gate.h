/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The gate of a group: while it is closed no write to its disks is admitted, so that machines
 * whose gates are closed at a common moment can be cut one after the other. It opens by itself at
 * a deadline; a pass that was begun behind it is void then.
 */
#ifndef _EBB_GATE_H
#define _EBB_GATE_H

#include "disk.h"
#include "group.h"

/* Under ebb_mutex, may sleep. When it returns 0, no write is being admitted any more. */
int ebb_gate_close(struct ebb_group *group, u32 deadline_ms, u32 owner);
int ebb_gate_open(struct ebb_group *group, u64 id, u32 owner);
/* Write bios that came to the gate since it was closed last. */
u64 ebb_gate_held(struct ebb_group *group);

/* Opens it, whoever closed it, and gives up the pass that was begun behind it. Any context. */
void ebb_gate_break(struct ebb_group *group, enum ebb_void_reason reason);

/* Whether a pass may be begun behind this gate (0: behind none). Under pass_lock. */
int ebb_gate_allows(struct ebb_group *group, u64 gate, u32 owner);

void ebb_gate_group_init(struct ebb_group *group);
void ebb_gate_group_exit(struct ebb_group *group);

int ebb_gate_init(void);
void ebb_gate_exit(void);

#endif
