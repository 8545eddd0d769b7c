// SPDX-License-Identifier: GPL-2.0-only
/* Encoding and decoding of a map area: see log_format.h. */
#ifdef __KERNEL__
#include <linux/math64.h>
#include <linux/string.h>
#else
#include <string.h>
#endif

#include "log_format.h"

#define GIB_SECTORS	((__u64)1 << 21)

static const char magic[8] = "EBBMAP";

static void put32(__u8 *p, __u32 value)
{
	unsigned int i;

	for (i = 0; i < 4; i++)
		p[i] = value >> (8 * i);
}

static void put64(__u8 *p, __u64 value)
{
	put32(p, (__u32)value);
	put32(p + 4, value >> 32);
}

static __u32 get32(const __u8 *p)
{
	return p[0] | (__u32)p[1] << 8 | (__u32)p[2] << 16 | (__u32)p[3] << 24;
}

static __u64 get64(const __u8 *p)
{
	return get32(p) | (__u64)get32(p + 4) << 32;
}

/* CRC-32C by half bytes: the kernel's own is a module of its own on many kernels. */
__u32 ebb_format_crc(__u32 crc, const void *data, unsigned int len)
{
	static const __u32 table[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
		0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
		0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
		0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	const __u8 *p = data;

	crc = ~crc;
	while (len--) {
		crc ^= *p++;
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return ~crc;
}

static __u32 div_up(__u64 a, __u32 b)
{
#ifdef __KERNEL__
	return div_u64(a + b - 1, b);
#else
	return (__u32)((a + b - 1) / b);
#endif
}

void ebb_format_geometry(__u64 disk_sectors, struct ebb_format_geometry *geometry)
{
	__u64 blocks = (disk_sectors + EBB_BLOCK_SECTORS - 1) / EBB_BLOCK_SECTORS;
	unsigned int shift = 13;

	if (disk_sectors <= 256 * GIB_SECTORS)
		shift = 11;
	else if (disk_sectors <= 512 * GIB_SECTORS)
		shift = 12;
	geometry->region_sectors = 1u << shift;
	geometry->regions = (disk_sectors + geometry->region_sectors - 1) >> shift;
	geometry->log_blocks = div_up(geometry->regions, EBB_FORMAT_REGIONS);
	geometry->fine_blocks = div_up(blocks, EBB_FORMAT_FINE);
	geometry->area_sectors = EBB_BLOCK_SECTORS *
				 (2 + 2 * (__u64)geometry->log_blocks + geometry->fine_blocks);
}

/* ---- blocks ---- */

static __u32 sector_crc(const __u8 *sector, const struct ebb_format_id *id, __u32 number)
{
	static const __u8 none[EBB_UUID_LEN];
	__u8 place[8], zero[4] = { 0 };
	__u32 crc;

	put32(place, id->index);
	put32(place + 4, number);
	crc = ebb_format_crc(0, place, sizeof(place));
	crc = ebb_format_crc(crc, id->uuid ? id->uuid : none, EBB_UUID_LEN);
	crc = ebb_format_crc(crc, sector, 4);
	crc = ebb_format_crc(crc, zero, sizeof(zero));
	return ebb_format_crc(crc, sector + 8, EBB_FORMAT_SECTOR - 8);
}

void ebb_format_encode(void *block, const struct ebb_format_id *id, __u64 seq, const void *payload)
{
	const __u8 *from = payload;
	__u8 *sector = block;
	__u32 i;

	for (i = 0; i < EBB_FORMAT_SECTORS; i++) {
		put32(sector, id->kind);
		put64(sector + 8, seq);
		memcpy(sector + EBB_FORMAT_HEAD, from, EBB_FORMAT_PIECE);
		put32(sector + 4, sector_crc(sector, id, i));
		sector += EBB_FORMAT_SECTOR;
		from += EBB_FORMAT_PIECE;
	}
}

enum ebb_format_verdict ebb_format_decode(const void *block, const struct ebb_format_id *id,
					  __u64 *seq, void *payload)
{
	enum ebb_format_verdict verdict = EBB_FORMAT_WHOLE;
	const __u8 *sector = block;
	__u8 *to = payload;
	__u64 first = 0, n;
	__u32 i;

	*seq = 0;
	for (i = 0; i < EBB_FORMAT_SECTORS; i++, sector += EBB_FORMAT_SECTOR) {
		if (get32(sector) != id->kind || get32(sector + 4) != sector_crc(sector, id, i)) {
			verdict = EBB_FORMAT_BAD;
			continue;
		}
		n = get64(sector + 8);
		if (n > *seq)
			*seq = n;
		if (!i)
			first = n;
		else if (n != first && verdict == EBB_FORMAT_WHOLE)
			verdict = EBB_FORMAT_TORN;
	}
	if (verdict != EBB_FORMAT_WHOLE)
		return verdict;
	sector = block;
	for (i = 0; i < EBB_FORMAT_SECTORS; i++)
		memcpy(to + i * EBB_FORMAT_PIECE, sector + i * EBB_FORMAT_SECTOR + EBB_FORMAT_HEAD,
		       EBB_FORMAT_PIECE);
	return verdict;
}

__u32 ebb_format_seal_crc(__u32 crc, const void *block)
{
	const __u8 *sector = block;
	__u32 i;

	for (i = 0; i < EBB_FORMAT_SECTORS; i++, sector += EBB_FORMAT_SECTOR)
		crc = ebb_format_crc(crc, sector + 4, 4);
	return crc;
}

/* ---- the superblock's payload ---- */

enum {
	AT_VERSION = 8, AT_STATE = 12, AT_UUID = 16, AT_STABLE_ID = 32, AT_DISK_SECTORS = 160,
	AT_REGION_SECTORS = 168, AT_REASONS = 172, AT_LOG_SINCE = 176, AT_LOG_BLOCKS = 184,
	AT_FINE_BLOCKS = 188, AT_SEAL_SEQ = 192, AT_SEAL_BITS = 200, AT_SEAL_BLOCKS = 208,
	AT_SEAL_CRC = 212, AT_FLAGS = 216, AT_NR_BOOTS = 220, AT_NR_WITNESSES = 224,
	AT_COOKIE = 232, AT_BOOTS = 296, AT_WITNESSES = 552, WITNESS_SIZE = 16,
};

void ebb_super_encode(const struct ebb_super *super, void *payload)
{
	__u8 *p = payload, *w;
	__u32 i;

	memset(p, 0, EBB_FORMAT_PAYLOAD);
	memcpy(p, magic, sizeof(magic));
	put32(p + AT_VERSION, EBB_FORMAT_VERSION);
	put32(p + AT_STATE, super->state);
	memcpy(p + AT_UUID, super->uuid, EBB_UUID_LEN);
	memcpy(p + AT_STABLE_ID, super->stable_id, EBB_ID_MAX);
	put64(p + AT_DISK_SECTORS, super->disk_sectors);
	put32(p + AT_REGION_SECTORS, super->region_sectors);
	put32(p + AT_REASONS, super->reasons);
	put64(p + AT_LOG_SINCE, super->log_since);
	put32(p + AT_LOG_BLOCKS, super->log_blocks);
	put32(p + AT_FINE_BLOCKS, super->fine_blocks);
	put64(p + AT_SEAL_SEQ, super->seal_seq);
	put64(p + AT_SEAL_BITS, super->seal_bits);
	put32(p + AT_SEAL_BLOCKS, super->seal_blocks);
	put32(p + AT_SEAL_CRC, super->seal_crc);
	put32(p + AT_FLAGS, super->flags);
	put32(p + AT_NR_BOOTS, super->nr_boots);
	put32(p + AT_NR_WITNESSES, super->nr_witnesses);
	memcpy(p + AT_COOKIE, super->cookie, EBB_COOKIE_LEN);
	memcpy(p + AT_BOOTS, super->boots, sizeof(super->boots));
	for (i = 0; i < EBB_WITNESSES_MAX; i++) {
		w = p + AT_WITNESSES + i * WITNESS_SIZE;
		put64(w, super->witnesses[i].block);
		put32(w + 8, super->witnesses[i].crc);
		put32(w + 12, super->witnesses[i].known);
	}
}

static bool witnesses_are_possible(const struct ebb_super *super)
{
	__u32 i;

	if (super->nr_witnesses > EBB_WITNESSES_MAX)
		return false;
	for (i = 0; i < super->nr_witnesses; i++)
		if (super->witnesses[i].block > (super->disk_sectors - 1) / EBB_BLOCK_SECTORS)
			return false;
	return true;
}

static bool super_is_possible(const struct ebb_super *super)
{
	struct ebb_format_geometry g;

	if (!super->disk_sectors || super->disk_sectors >> 48)
		return false;
	ebb_format_geometry(super->disk_sectors, &g);
	return super->state >= EBB_SUPER_ACTIVE && super->state <= EBB_SUPER_FAILED &&
	       super->stable_id[0] && !super->stable_id[EBB_ID_MAX - 1] &&
	       super->region_sectors == g.region_sectors && super->log_blocks == g.log_blocks &&
	       super->fine_blocks == g.fine_blocks && super->seal_blocks <= g.fine_blocks &&
	       super->nr_boots <= EBB_BOOTS_MAX && witnesses_are_possible(super);
}

bool ebb_super_decode(const void *payload, struct ebb_super *super)
{
	const __u8 *p = payload, *w;
	__u32 i;

	if (memcmp(p, magic, sizeof(magic)) || get32(p + AT_VERSION) != EBB_FORMAT_VERSION)
		return false;
	super->state = get32(p + AT_STATE);
	memcpy(super->uuid, p + AT_UUID, EBB_UUID_LEN);
	memcpy(super->stable_id, p + AT_STABLE_ID, EBB_ID_MAX);
	super->disk_sectors = get64(p + AT_DISK_SECTORS);
	super->region_sectors = get32(p + AT_REGION_SECTORS);
	super->reasons = get32(p + AT_REASONS);
	super->log_since = get64(p + AT_LOG_SINCE);
	super->log_blocks = get32(p + AT_LOG_BLOCKS);
	super->fine_blocks = get32(p + AT_FINE_BLOCKS);
	super->seal_seq = get64(p + AT_SEAL_SEQ);
	super->seal_bits = get64(p + AT_SEAL_BITS);
	super->seal_blocks = get32(p + AT_SEAL_BLOCKS);
	super->seal_crc = get32(p + AT_SEAL_CRC);
	super->flags = get32(p + AT_FLAGS);
	super->nr_boots = get32(p + AT_NR_BOOTS);
	super->nr_witnesses = get32(p + AT_NR_WITNESSES);
	memcpy(super->cookie, p + AT_COOKIE, EBB_COOKIE_LEN);
	memcpy(super->boots, p + AT_BOOTS, sizeof(super->boots));
	for (i = 0; i < EBB_WITNESSES_MAX; i++) {
		w = p + AT_WITNESSES + i * WITNESS_SIZE;
		super->witnesses[i].block = get64(w);
		super->witnesses[i].crc = get32(w + 8);
		super->witnesses[i].known = get32(w + 12);
	}
	return super_is_possible(super);
}

/* ---- fine blocks ---- */

void ebb_fine_set_part(void *payload, __u32 part)
{
	put32(payload, part);
	put32((__u8 *)payload + 4, 0);
}

__u32 ebb_fine_part(const void *payload)
{
	return get32(payload);
}
