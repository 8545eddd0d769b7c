/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The area of a block device in which a disk's map is: opened for us alone, read and written
 * block by block, from pages and bios that are there from the beginning. One user at a time (the
 * log's io mutex). Our bios are known by their completion: the hook lets them pass untracked.
 */
#ifndef _EBB_LOG_STORE_H
#define _EBB_LOG_STORE_H

#include <linux/bio.h>
#include <linux/list.h>
#include <linux/wait.h>

#define EBB_STORE_IOS	4	/* blocks that are under way at once */

struct ebb_bdev;
struct ebb_store;

struct ebb_store_io {
	struct ebb_store	*store;
	struct page		*page;
	struct bio_vec		vec;
	struct bio		bio;	/* last: its own vectors, which are not used */
};

struct ebb_store {
	struct ebb_bdev		*bdev;
	u64			sector;		/* of the area on the device */
	u64			sectors;
	struct gendisk		*gd;		/* where the device is */
	u64			gd_sector;	/* ... and the area on it */
	struct list_head	list;		/* of all areas; readers by RCU */
	void			(*back)(struct ebb_store *store);
	u64			writes;		/* since it was opened */
	bool			late;		/* ->back is due */
	bool			failed;		/* a block that was under way */
	atomic_t		pending;
	wait_queue_head_t	wait;
	struct ebb_store_io	*io[EBB_STORE_IOS];
};

/*
 * @tracked: the disk whose map it is; @back is called when I/O that had been given
 * up has come to its end, from any context.
 */
int ebb_store_open(struct ebb_store *store, dev_t dev, u64 sector, u64 sectors,
		   const struct gendisk *tracked, void (*back)(struct ebb_store *store),
		   const char **why);
void ebb_store_settle(struct ebb_store *store);	/* waits for I/O that was given up */
void ebb_store_close(struct ebb_store *store);

static inline void *ebb_store_page(struct ebb_store *store, unsigned int io)
{
	return page_address(store->io[io]->page);
}

/* Sends one block on its way, of the area, by number. */
void ebb_store_read(struct ebb_store *store, unsigned int io, u64 block);
void ebb_store_write(struct ebb_store *store, unsigned int io, u64 block, bool durable);
void ebb_store_flush(struct ebb_store *store, unsigned int io);

/* Waits for them all; -EIO, or -ETIMEDOUT: some are still under way, start nothing else. */
int ebb_store_wait(struct ebb_store *store);

static inline bool ebb_store_is_stuck(struct ebb_store *store)
{
	return atomic_read(&store->pending);
}

/*
 * Nothing is under way: neither that something was late nor that it failed is told of what is
 * started next. Returns whether all of it is there.
 */
bool ebb_store_is_back(struct ebb_store *store);

void ebb_store_io_done(struct bio *bio);

static inline bool ebb_store_owns(const struct bio *bio)
{
	return bio->bi_end_io == ebb_store_io_done;
}

/* Write requests that areas on the disk have caused. */
u64 ebb_store_writes_on(const struct gendisk *gd);

/* Puts zeros wherever the buffers of a read (of the whole disk) hold a part of an area. */
void ebb_store_blank(const struct gendisk *gd, struct bio *bio);

#endif
