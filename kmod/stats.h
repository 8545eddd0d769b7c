/* SPDX-License-Identifier: GPL-2.0-only */
/* What a disk, a pass and the module say of themselves, as netlink attributes. Under ebb_mutex. */
#ifndef _EBB_STATS_H
#define _EBB_STATS_H

struct ebb_disk;
struct ebb_group;
struct sk_buff;

int ebb_stats_put_module(struct sk_buff *skb);
int ebb_stats_put_disk(struct sk_buff *skb, struct ebb_disk *disk);
int ebb_stats_put_pass(struct sk_buff *skb, struct ebb_group *group);

void ebb_stats_init(void);

#endif
