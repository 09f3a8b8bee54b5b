// SPDX-License-Identifier: GPL-2.0-only
/* vblk_pool.c - pages of the window for data, and the copies into them and out of them. */
#include <linux/bitmap.h>
#include <linux/highmem.h>
#include "vblk.h"

#define VBLK_POOL_MIN	8u	/* pages; with fewer it is not worth having a disk */

/* As many pages as there are, up to @pages; the window may be another device's already. */
int vblk_pool_alloc(struct vblk_pool *pool, struct vbus_device *vdev, u32 pages)
{
	for (; pages >= VBLK_POOL_MIN; pages /= 2) {
		pool->memory = vbus_device_alloc(vdev, pages * VBUS_PAGE_SIZE, &pool->at);
		if (pool->memory)
			break;
	}
	pool->free = bitmap_zalloc(pages, GFP_KERNEL);
	pool->pages = pages;
	if (!pool->memory || !pool->free) {
		vblk_pool_free(pool, vdev);
		return -ENOMEM;
	}
	spin_lock_init(&pool->lock);
	vblk_pool_reset(pool);
	return 0;
}

void vblk_pool_free(struct vblk_pool *pool, struct vbus_device *vdev)
{
	bitmap_free(pool->free);
	vbus_device_free(vdev, pool->memory, pool->pages * VBUS_PAGE_SIZE);
	pool->free = NULL;
	pool->memory = NULL;
}

void vblk_pool_reset(struct vblk_pool *pool)
{
	bitmap_fill(pool->free, pool->pages);
	pool->left = pool->pages;
	pool->wanted = 0;
}

/* Lock held; there are enough. */
static void take_runs(struct vblk_pool *pool, u32 pages, struct vblk_command *command)
{
	u32 page = 0, end, len;

	command->runs = 0;
	pool->left -= pages;
	while (pages) {
		page = find_next_bit(pool->free, pool->pages, page);
		end = find_next_zero_bit(pool->free, pool->pages, page);
		len = min3(end - page, pages, pool->run_pages);
		bitmap_clear(pool->free, page, len);
		command->run[command->runs++] = (struct vblk_run){ .page = page, .pages = len };
		pages -= len;
	}
}

/*
 * While somebody waits nobody else is served: small requests would keep a large one out for ever.
 * Stopping under the lock, since the pages may come back at once.
 */
bool vblk_pool_take(struct vblk_pool *pool, u32 pages, struct vblk_command *command,
		    struct blk_mq_hw_ctx *hctx)
{
	unsigned long flags;
	bool taken;

	command->runs = 0;
	if (!pages)
		return true;
	spin_lock_irqsave(&pool->lock, flags);
	taken = !pool->wanted && pages <= pool->left;
	if (taken) {
		take_runs(pool, pages, command);
	} else {
		if (!pool->wanted)
			pool->wanted = pages;
		blk_mq_stop_hw_queue(hctx);
	}
	spin_unlock_irqrestore(&pool->lock, flags);
	return taken;
}

bool vblk_pool_give(struct vblk_pool *pool, struct vblk_command *command)
{
	unsigned long flags;
	bool enough;
	u32 i;

	if (!command->runs)
		return false;
	spin_lock_irqsave(&pool->lock, flags);
	for (i = 0; i < command->runs; i++) {
		bitmap_set(pool->free, command->run[i].page, command->run[i].pages);
		pool->left += command->run[i].pages;
	}
	enough = pool->wanted && pool->left >= pool->wanted;
	if (enough)
		pool->wanted = 0;
	spin_unlock_irqrestore(&pool->lock, flags);
	command->runs = 0;
	return enough;
}

void vblk_pool_copy(struct vblk_pool *pool, struct request *rq, bool to_window)
{
	struct vblk_command *command = blk_mq_rq_to_pdu(rq);
	const struct vblk_run *run = command->run;
	struct req_iterator iter;
	struct bio_vec part;
	u32 at = 0;	/* in the run */

	rq_for_each_segment(part, rq, iter) {
		u8 *mapped = kmap_local_page(part.bv_page);
		u8 *page = mapped + part.bv_offset;
		u32 left = part.bv_len;

		while (left) {
			u32 len = min(left, run->pages * VBUS_PAGE_SIZE - at);
			u8 *window = pool->memory + run->page * VBUS_PAGE_SIZE + at;

			if (to_window)
				memcpy(window, page, len);
			else
				memcpy(page, window, len);
			page += len;
			left -= len;
			at += len;
			if (at == run->pages * VBUS_PAGE_SIZE) {
				run++;
				at = 0;
			}
		}
		if (!to_window)
			flush_dcache_page(part.bv_page);
		kunmap_local(mapped);
	}
}
