// SPDX-License-Identifier: GPL-2.0-only
/*
 * venet_irq.c - what the host's signals set off; each is an irq under the interface's name, while
 * that is up.
 *
 * Pairs that are not in use have theirs as well: their lines count nothing.
 */
#include <linux/interrupt.h>
#include "venet.h"

static irqreturn_t venet_rx_irq(int irq, void *data)
{
	struct venet_pair *pair = data;

	vbus_region_disable(pair->venet->vdev, &pair->rx.ring.region);
	napi_schedule(&pair->napi);
	return IRQ_HANDLED;
}

static irqreturn_t venet_tx_irq(int irq, void *data)
{
	struct venet_pair *pair = data;

	vbus_region_disable(pair->venet->vdev, &pair->tx.ring.region);
	napi_schedule(&pair->napi);
	return IRQ_HANDLED;
}

static irqreturn_t venet_status_irq(int irq, void *data)
{
	venet_update_carrier(data);
	return IRQ_HANDLED;
}

static int venet_request_pair(struct venet_pair *pair)
{
	const char *name = pair->venet->netdev->name;
	struct vbus_region *rx = &pair->rx.ring.region, *tx = &pair->tx.ring.region;
	int err;

	snprintf(rx->name, sizeof(rx->name), "%s-rx%u", name, pair->index);
	err = request_irq(rx->irq, venet_rx_irq, 0, rx->name, pair);
	if (err)
		return err;
	snprintf(tx->name, sizeof(tx->name), "%s-tx%u", name, pair->index);
	err = request_irq(tx->irq, venet_tx_irq, 0, tx->name, pair);
	if (err)
		free_irq(rx->irq, pair);
	return err;
}

static void venet_free_pairs(struct venet *venet, u32 count)
{
	while (count--) {
		free_irq(venet->pair[count].tx.ring.region.irq, &venet->pair[count]);
		free_irq(venet->pair[count].rx.ring.region.irq, &venet->pair[count]);
	}
}

int venet_request_irqs(struct venet *venet)
{
	struct vbus_region *status = &venet->status_region;
	int err = 0;
	u32 i;

	for (i = 0; i < venet->pairs_max; i++) {
		err = venet_request_pair(&venet->pair[i]);
		if (err)
			goto err_pairs;
	}
	if (!venet->status)
		return 0;
	snprintf(status->name, sizeof(status->name), "%s-status", venet->netdev->name);
	err = request_irq(status->irq, venet_status_irq, 0, status->name, venet);
	if (!err)
		return 0;

err_pairs:
	venet_free_pairs(venet, i);
	return err;
}

void venet_free_irqs(struct venet *venet)
{
	if (venet->status)
		free_irq(venet->status_region.irq, venet);
	venet_free_pairs(venet, venet->pairs_max);
}
