/* SPDX-License-Identifier: GPL-2.0-only */
/* The generic netlink family: see the uapi header. Telling is done under ebb_mutex. */
#ifndef _EBB_NETLINK_H
#define _EBB_NETLINK_H

#include <linux/types.h>

struct ebb_disk;
struct ebb_group;

void ebb_netlink_tell_disk(struct ebb_disk *disk);
/* Once for each state that a pass comes to by itself. */
void ebb_netlink_tell_pass(struct ebb_group *group);

int ebb_netlink_init(void);
void ebb_netlink_exit(void);

#endif
