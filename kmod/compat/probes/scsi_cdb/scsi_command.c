// SPDX-License-Identifier: GPL-2.0-only
/* ce70fd9a551a (5.18): a SCSI command holds its bytes. */
#include <linux/build_bug.h>
#include <scsi/scsi_cmnd.h>

void probe(struct scsi_cmnd *cmd)
{
	BUILD_BUG_ON(sizeof(cmd->cmnd) < 16);
}
