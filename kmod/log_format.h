/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is in a map area: docs/map-format.md. Pure encoding and decoding; compiles in user space
 * too.
 */
#ifndef _EBB_LOG_FORMAT_H
#define _EBB_LOG_FORMAT_H

#include <linux/types.h>
#ifdef __KERNEL__
#include <uapi/linux/ebb.h>
#else
#include <linux/ebb.h>
#include <stdbool.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define EBB_FORMAT_VERSION	1
#define EBB_FORMAT_BLOCK	4096u	/* bytes */
#define EBB_FORMAT_SECTOR	512u
#define EBB_FORMAT_SECTORS	(EBB_FORMAT_BLOCK / EBB_FORMAT_SECTOR)
#define EBB_FORMAT_HEAD		16u
#define EBB_FORMAT_PIECE	(EBB_FORMAT_SECTOR - EBB_FORMAT_HEAD)
#define EBB_FORMAT_PAYLOAD	(EBB_FORMAT_SECTORS * EBB_FORMAT_PIECE)
#define EBB_FORMAT_REGIONS	(EBB_FORMAT_PAYLOAD * 8)	/* of a log block */
#define EBB_FORMAT_FINE_HEAD	8u
#define EBB_FORMAT_FINE		((EBB_FORMAT_PAYLOAD - EBB_FORMAT_FINE_HEAD) * 8)	/* blocks */

enum ebb_format_kind {
	EBB_FORMAT_SUPER	= 0x53626245,	/* "EbbS" */
	EBB_FORMAT_LOG		= 0x4c626245,
	EBB_FORMAT_FINE_BLOCK	= 0x46626245,
};

enum ebb_format_verdict {
	EBB_FORMAT_WHOLE,
	EBB_FORMAT_TORN,
	EBB_FORMAT_BAD,
};

/* What a block must be to count. */
struct ebb_format_id {
	enum ebb_format_kind	kind;
	__u32			index;
	const __u8		*uuid;
};

/* Sizes that follow from the size of the disk, in sectors of 512 bytes. */
struct ebb_format_geometry {
	__u32	region_sectors;
	__u32	log_blocks;
	__u32	fine_blocks;
	__u64	regions;
	__u64	area_sectors;
};

enum ebb_super_state {
	EBB_SUPER_ACTIVE = 1,
	EBB_SUPER_SEALED = 2,
	EBB_SUPER_DETACHED = 3,
	EBB_SUPER_FAILED = 4,
};

#define EBB_SUPER_F_SUSPECT	1u	/* the blocks of the seal are suspect */
#define EBB_SUPER_F_EXACT	2u	/* the seal's witnesses count in dirty blocks, too */

struct ebb_super_witness {
	__u64	block;
	__u32	crc;
	__u32	known;
};

struct ebb_super {
	__u32	state;
	__u32	reasons;
	__u32	flags;
	__u8	uuid[EBB_UUID_LEN];
	char	stable_id[EBB_ID_MAX];
	__u64	disk_sectors;
	__u32	region_sectors;
	__u32	log_blocks;
	__u32	fine_blocks;
	__u64	log_since;
	__u64	seal_seq;
	__u64	seal_bits;
	__u32	seal_blocks;
	__u32	seal_crc;
	__u32	nr_boots;
	__u32	nr_witnesses;
	__u8	cookie[EBB_COOKIE_LEN];
	__u8	boots[EBB_BOOTS_MAX][EBB_UUID_LEN];
	struct ebb_super_witness witnesses[EBB_WITNESSES_MAX];
};

__u32 ebb_format_crc(__u32 crc, const void *data, unsigned int len);

void ebb_format_geometry(__u64 disk_sectors, struct ebb_format_geometry *geometry);

/* Fills a block of EBB_FORMAT_BLOCK bytes from EBB_FORMAT_PAYLOAD ones. */
void ebb_format_encode(void *block, const struct ebb_format_id *id, __u64 seq, const void *payload);

/*
 * The other way. @seq is the greatest number of any sector that verifies, 0 if none does; the
 * payload is filled only if the block is whole.
 */
enum ebb_format_verdict ebb_format_decode(const void *block, const struct ebb_format_id *id,
					  __u64 *seq, void *payload);

/* Goes on with the checksum of a seal, over an encoded block. */
__u32 ebb_format_seal_crc(__u32 crc, const void *block);

void ebb_super_encode(const struct ebb_super *super, void *payload);
/* False: not of this version, or with numbers that cannot be. */
bool ebb_super_decode(const void *payload, struct ebb_super *super);

/* The head of a fine block's payload: the number of its part. */
void ebb_fine_set_part(void *payload, __u32 part);
__u32 ebb_fine_part(const void *payload);

#ifdef __cplusplus
}
#endif

#endif
