// SPDX-License-Identifier: GPL-2.0-only
/* 3b0f31f2b8c9 (5.2): a family has one policy. EL8 took it over. */
#include <net/genetlink.h>

const struct nla_policy *probe(struct genl_family *family)
{
	return family->policy;
}
