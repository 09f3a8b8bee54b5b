// SPDX-License-Identifier: GPL-2.0-only
/* vblk_memory.c - all that requests will ever need, allocated once; and how it is divided. */
#include <linux/slab.h>
#include "vblk.h"

#define VBLK_DEPTH_MIN		8u
#define VBLK_POOL_PAGES_MAX	4096u

/* Rings have a quarter of the budget, or half of it when one is all there can be. */
static void divide(struct vblk *vblk, u32 pages)
{
	vblk->rings = min(vblk->limits.queues, nr_cpu_ids);
	vblk->depth = VBLK_DEPTH;
	while (vblk->rings > 1 && vblk->rings * vblk_ring_pages(vblk->depth) > pages / 4)
		vblk->rings--;
	while (vblk->depth > VBLK_DEPTH_MIN && vblk_ring_pages(vblk->depth) > pages / 2)
		vblk->depth /= 2;
}

static int alloc_rings(struct vblk *vblk)
{
	int err;
	u32 i;

	vblk->ring = kcalloc(vblk->rings, sizeof(*vblk->ring), GFP_KERNEL);
	if (!vblk->ring)
		return -ENOMEM;
	for (i = 0; i < vblk->rings; i++) {
		err = vblk_ring_alloc(&vblk->ring[i], vblk, i);
		if (err)
			goto err_rings;
	}
	return 0;

err_rings:
	while (i--)
		vblk_ring_free(&vblk->ring[i]);
	kfree(vblk->ring);
	return err;
}

static void free_rings(struct vblk *vblk)
{
	u32 i;

	for (i = 0; i < vblk->rings; i++)
		vblk_ring_free(&vblk->ring[i]);
	kfree(vblk->ring);
}

static int alloc_status(struct vblk *vblk)
{
	void *page;

	if (!(vblk->config & VBLK_CONFIG_RESIZE))
		return 0;
	vblk->status_region = (struct vbus_region){
		.number = VBLK_REGION_STATUS,
		.queue = vblk->ring[0].region.queue,
		.south_len = sizeof(struct vblk_status),
		.fn = vblk_status_signal,
		.data = vblk,
	};
	page = vbus_device_alloc(vblk->vdev, PAGE_SIZE, &vblk->status_region.south);
	vblk->status = page;
	return page ? 0 : -ENOMEM;
}

int vblk_alloc(struct vblk *vblk)
{
	u32 left;
	int err;

	divide(vblk, vblk->vdev->budget / VBUS_PAGE_SIZE);
	err = alloc_rings(vblk);
	if (err)
		return err;
	err = alloc_status(vblk);
	if (err)
		goto err_rings;
	left = (vblk->vdev->budget - vblk->vdev->used) / PAGE_SIZE * (PAGE_SIZE / VBUS_PAGE_SIZE);
	err = vblk_pool_alloc(&vblk->pool, vblk->vdev, min(left, VBLK_POOL_PAGES_MAX));
	if (err)
		goto err_status;
	vblk->pool.run_pages = vblk->limits.run_pages;
	/* Two of the largest at once, or one would always wait for the other. */
	vblk->limits.request_pages = min(vblk->limits.request_pages, vblk->pool.pages / 2);
	return 0;

err_status:
	vbus_device_free(vblk->vdev, (void *)vblk->status, PAGE_SIZE);
err_rings:
	free_rings(vblk);
	return err;
}

void vblk_free(struct vblk *vblk)
{
	vblk_pool_free(&vblk->pool, vblk->vdev);
	vbus_device_free(vblk->vdev, (void *)vblk->status, PAGE_SIZE);
	free_rings(vblk);
}
