/* SPDX-License-Identifier: GPL-2.0-only */
/* What differs between kernels in generic netlink. */
#ifndef _EBB_COMPAT_NETLINK_H
#define _EBB_COMPAT_NETLINK_H

#include <net/genetlink.h>

/* Who may listen to events; older kernels have no such limit. */
#ifdef GENL_MCAST_CAP_SYS_ADMIN
#define EBB_GENL_EVENTS_FLAGS	.flags = GENL_MCAST_CAP_SYS_ADMIN
#else
#define EBB_GENL_EVENTS_FLAGS
#endif

#define EBB_MAJOR_MAX		((1u << (32 - MINORBITS)) - 1)

#endif
