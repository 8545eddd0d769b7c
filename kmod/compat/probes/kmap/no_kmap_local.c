// SPDX-License-Identifier: GPL-2.0-only
/* before f3ba3c710ac5 (5.11): no function kmap_local_page() */
#include <linux/highmem.h>

enum { kmap_local_page };
