// SPDX-License-Identifier: GPL-2.0-only
/* ce70fd9a551a (5.18): the command of a SCSI request moved to scsi_cmnd */
#include <scsi/scsi_request.h>

unsigned char *probe(struct scsi_request *req)
{
	return req->cmd;
}
