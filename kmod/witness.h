/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The second witness: looks at each request that goes to a driver, and flags the disk when it may
 * write what did not pass through the hook.
 */
#ifndef _EBB_WITNESS_H
#define _EBB_WITNESS_H

int ebb_witness_init(void);
void ebb_witness_exit(void);

#endif
