// SPDX-License-Identifier: GPL-2.0-only
/* before ce70fd9a551a (5.18): they are in its scsi_request; EL8, EL9 */
#include <linux/blkdev.h>
#include <scsi/scsi_request.h>

unsigned char *probe(struct request *rq)
{
	return scsi_req(rq)->cmd;
}
