// SPDX-License-Identifier: GPL-2.0-only
/* bridge.c - signals and doorbells: from an interrupt to a driver, from a driver to the host. */
#include <linux/interrupt.h>
#include "bridge.h"

#define IVSHMEM_DOORBELL	12	/* BAR0: peer << 16 | vector */
#define VBUS_HOST_PEER		1	/* vbusd; the guest is peer 0 */

void vbus_bridge_ring(struct vbus_bridge *bridge, u32 queue)
{
	bridge->queue[queue].count.qinject++;
	/* What the doorbell tells of must be visible first. */
	vbus_wmb();
	iowrite32(VBUS_HOST_PEER << 16 | queue, bridge->registers + IVSHMEM_DOORBELL);
}

void vbus_bridge_inject(struct vbus_bridge *bridge, u32 signal)
{
	struct vbus_queue *queue;
	unsigned long flags;
	u32 index;

	/* It may be moved to another queue before that one is locked. */
	for (;;) {
		index = READ_ONCE(bridge->signals.queue[signal]);
		if (index >= bridge->queues)
			return;
		queue = &bridge->queue[index];
		spin_lock_irqsave(&queue->lock, flags);
		if (index == READ_ONCE(bridge->signals.queue[signal]))
			break;
		spin_unlock_irqrestore(&queue->lock, flags);
	}
	queue->count.inject++;
	if (shm_signal_inject(&bridge->signals, signal))
		vbus_bridge_ring(bridge, index);
	spin_unlock_irqrestore(&queue->lock, flags);
}

static void dispatch(void *ctx, u32 signal)
{
	struct vbus_queue *queue = ctx;
	struct vbus_bridge *bridge = queue->bridge;

	queue->count.events++;
	if (signal != VBUS_SIGNAL_BUS)
		queue->count.notify++;
	vbus_irq_deliver(bridge->region[signal]);
}

/* Calls are answered, the list has changed, or the host only knocks. */
irqreturn_t vbus_bridge_bus_signal(int irq, void *data)
{
	struct vbus_bridge *bridge = data;

	wake_up_all(&bridge->answered);
	if (READ_ONCE(bridge->live) && vbus_read32(&bridge->host->list_generation) !=
				       READ_ONCE(bridge->list_generation))
		vbus_session_schedule(bridge);
	return IRQ_HANDLED;
}

irqreturn_t vbus_bridge_interrupt(int irq, void *data)
{
	struct vbus_queue *queue = data;
	struct vbus_bridge *bridge = queue->bridge;

	queue->count.qnotify++;
	/* Who waits for an answer looks at the epoch as well: it may be over. */
	if (!READ_ONCE(bridge->live) || !vbus_bridge_is_current(bridge)) {
		if (READ_ONCE(bridge->live))
#ifdef VBUS_DEFECT_LATE	/* a planted defect: a new epoch is seen, and followed long after */
			queue_delayed_work(bridge->worker, &bridge->retry, 3 * HZ);
#else
			vbus_session_schedule(bridge);
#endif
		if (!queue->index)
			vbus_irq_deliver(&bridge->bus);
		return IRQ_HANDLED;
	}
	/*
	 * Until none is left, since no doorbell may come for what is.  A host that sends for ever
	 * keeps us here, but it can withhold the CPU anyway.
	 */
	while (shm_signal_wakeup(&bridge->signals, queue->index, dispatch, queue) &&
	       READ_ONCE(bridge->live))
		;
	return IRQ_HANDLED;
}

/* No handler runs when this returns; none looks at signals until the session is live again. */
void vbus_bridge_quiesce(struct vbus_bridge *bridge)
{
	u32 i;

	WRITE_ONCE(bridge->live, false);
	for (i = 0; i < bridge->queues; i++)
		synchronize_irq(bridge->queue[i].irq);
}
