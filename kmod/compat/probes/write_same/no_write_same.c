// SPDX-License-Identifier: GPL-2.0-only
/* 73bd66d9c834 (5.18): no operation REQ_OP_WRITE_SAME. EL9 took it over. */
#include <linux/blk_types.h>

enum { REQ_OP_WRITE_SAME };
