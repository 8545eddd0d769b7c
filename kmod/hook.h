/* SPDX-License-Identifier: GPL-2.0-only */
/* The interception of submit_bio_noacct(). */
#ifndef _EBB_HOOK_H
#define _EBB_HOOK_H

int ebb_hook_init(void);
/* Takes submit_bio() for an entry too, until the module goes; under ebb_mutex. -EALREADY: it is. */
int ebb_hook_widen(void);
void ebb_hook_exit(void);	/* no disk may be attached; nobody is in module text afterwards */

#endif
