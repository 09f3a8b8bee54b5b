// SPDX-License-Identifier: GPL-2.0-only
/*
 * venet_pair.c - pairs of rings: their memory, and the NAPI of each.
 *
 * A region is shared once per open, so every pair that may ever be used has its rings and its
 * memory from the start; ethtool -L and -G only change how much of that is in use.
 */
#include <linux/log2.h>
#include <linux/slab.h>
#include "vbus_compat.h"
#include "venet.h"

#define VENET_SHARE		(512u << 10)	/* bytes that a pair is worth having for */
#define VENET_SHARE_BUFFER	4096u		/* of a share, for each receive buffer */

/* ---- Poll ---- */

int venet_poll(struct napi_struct *napi, int budget)
{
	struct venet_pair *pair = container_of(napi, struct venet_pair, napi);
	struct vbus_region *region = &pair->rx.ring.region;
	struct vbus_device *vdev = pair->venet->vdev;
	int done;

	/* Netpoll, which only wants to send. */
	if (!budget) {
		venet_tx_clean(&pair->tx);
		return 0;
	}
	done = venet_rx(pair, budget);
	if (!venet_tx_clean(&pair->tx))
		return budget;
	if (done < budget && napi_complete_done(napi, done)) {
		/* Something came between the last look and the asking. */
		if (vbus_region_enable(vdev, region)) {
			vbus_region_disable(vdev, region);
			napi_schedule(napi);
		}
	}
	return done;
}

/* ---- Memory ---- */

u32 venet_pairs_paid(const struct vbus_device *vdev)
{
	return clamp(vdev->budget / VENET_SHARE, 1u, VENET_PAIRS_MAX);
}

/* @bytes of the window for one pair: half for receive buffers, what is left for the arena. */
static int venet_pair_alloc(struct venet_pair *pair, u32 bytes)
{
	/* The page that the status region took is not to halve the rings. */
	u32 count = clamp(rounddown_pow_of_two(bytes / VENET_SHARE_BUFFER + 1), VENET_RING_MIN,
			  VENET_RING_MAX);
	u32 others = 4 * PAGE_ALIGN(IOQ_PART_SIZE(count)) + count * VENET_BUFFER_MIN;
	u32 arena;
	int err;

	if (bytes < others + VENET_ARENA_MIN)
		return -ENOSPC;
	arena = min_t(u32, round_down(bytes - others, PAGE_SIZE), VENET_ARENA_MAX);
	err = venet_rx_alloc(&pair->rx, count);
	return err ? err : venet_tx_alloc(&pair->tx, count, arena);
}

static void venet_pair_init(struct venet *venet, u32 index)
{
	struct venet_pair *pair = &venet->pair[index];

	pair->venet = venet;
	pair->index = index;
	pair->rx.ring.vdev = venet->vdev;
	pair->rx.ring.region.number = VENET_REGION_RX(index);
	pair->tx.ring.vdev = venet->vdev;
	pair->tx.ring.region.number = VENET_REGION_TX(index);
	pair->tx.queue = netdev_get_tx_queue(venet->netdev, index);
	u64_stats_init(&pair->rx.stats.sync);
	u64_stats_init(&pair->tx.stats.sync);
	vbus_napi_add(venet->netdev, &pair->napi, venet_poll);
}

int venet_pairs_alloc(struct venet *venet, u32 pairs)
{
	/* A page is the status region's. */
	u32 bytes = round_down((venet->vdev->budget - PAGE_SIZE) / pairs, PAGE_SIZE);
	int err = 0;
	u32 i;

	venet->pair = kvcalloc(pairs, sizeof(*venet->pair), GFP_KERNEL);
	if (!venet->pair)
		return -ENOMEM;
	venet->pairs_max = pairs;
	for (i = 0; i < pairs; i++)
		venet_pair_init(venet, i);
	for (i = 0; i < pairs && !err; i++)
		err = venet_pair_alloc(&venet->pair[i], bytes);
	if (!err)
		return 0;
	venet_pairs_free(venet);
	dev_err(&venet->vdev->dev,
		"%u bytes of the window are not to be had: %pe; give the bus a larger window or fewer devices\n",
		venet->vdev->budget, ERR_PTR(err));
	return err;
}

void venet_pairs_free(struct venet *venet)
{
	u32 i;

	for (i = 0; i < venet->pairs_max; i++) {
		netif_napi_del(&venet->pair[i].napi);
		venet_tx_free(&venet->pair[i].tx);
		venet_rx_free(&venet->pair[i].rx);
	}
	venet->pairs_max = 0;
	kvfree(venet->pair);
	venet->pair = NULL;
}

int venet_pairs_share(struct venet *venet)
{
	int err = 0;
	u32 i;

	for (i = 0; i < venet->pairs_max && !err; i++) {
		err = venet_rx_share(&venet->pair[i].rx);
		if (!err)
			err = venet_tx_share(&venet->pair[i].tx);
	}
	return err;
}

void venet_pairs_unshare(struct venet *venet)
{
	u32 i;

	for (i = 0; i < venet->pairs_max; i++) {
		vbus_device_unshare(venet->vdev, &venet->pair[i].tx.ring.region);
		vbus_device_unshare(venet->vdev, &venet->pair[i].rx.ring.region);
	}
}
