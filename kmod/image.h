/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The image device of a tracked disk: read-only, gives the disk as of the cut of the pass that is
 * going on, and I/O errors when there is none that is ready.
 */
#ifndef _EBB_IMAGE_H
#define _EBB_IMAGE_H

#include <linux/types.h>

struct ebb_disk;
struct gendisk;
struct ebb_image;

struct ebb_image *ebb_image_add(struct ebb_disk *disk);	/* or ERR_PTR(); under ebb_mutex */
/* The disk must not go before. Waits for readers: not under ebb_mutex. */
void ebb_image_del(struct ebb_image *image);
dev_t ebb_image_dev(const struct ebb_image *image);
bool ebb_image_is(const struct gendisk *gd);

int ebb_image_init(void);
void ebb_image_exit(void);

#endif
