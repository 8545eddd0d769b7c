// SPDX-License-Identifier: GPL-2.0-only
/* c6a564ffadc9 (5.8): linux/part_stat.h */
#include <linux/part_stat.h>
