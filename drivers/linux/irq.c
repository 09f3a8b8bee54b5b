// SPDX-License-Identifier: GPL-2.0-only
/*
 * irq.c - each signal is an irq: a line in /proc/interrupts with a name, an affinity and a switch.
 *
 * A signal's number is the host's and another one in each connection; the irq and its hwirq are
 * ours and last as long as the region.  What arrives is an edge: a signal that comes while its
 * handler runs, or while it is disabled, makes the handler run once more.
 */
#include "bridge.h"
#include "vbus_compat.h"

/* In an interrupt of the region's queue, or as its stand-in; interrupts are off. */
void vbus_irq_deliver(struct vbus_region *region)
{
	region->count++;
	if (region->irq)
		generic_handle_irq(region->irq);
	else
		region->fn(region->data);
}

/* Nobody rings for what has come already: the handler is called from here. */
static void deliver_again(struct irq_work *work)
{
	struct vbus_region *region = container_of(work, struct vbus_region, again);

	if (READ_ONCE(region->signal) != VBUS_SIGNAL_BUS)
		vbus_irq_deliver(region);
}

void vbus_irq_synchronize(struct vbus_region *region)
{
	irq_work_sync(&region->again);
	synchronize_irq(region->irq);
}

/* ---- The irq_chip ---- */

static void chip_mask(struct irq_data *data)
{
	struct vbus_region *region = irq_data_get_irq_chip_data(data);
	u32 signal = READ_ONCE(region->signal);

	WRITE_ONCE(region->masked, true);
	if (signal != VBUS_SIGNAL_BUS)
		shm_signal_disable(&region->bridge->signals, signal);
}

static void chip_unmask(struct irq_data *data)
{
	struct vbus_region *region = irq_data_get_irq_chip_data(data);
	u32 signal = READ_ONCE(region->signal);

	/* Pairs with the barrier in vbus_region_enable(). */
	smp_store_mb(region->masked, false);
	if (signal == VBUS_SIGNAL_BUS || !READ_ONCE(region->wanted))
		return;
	if (shm_signal_enable(&region->bridge->signals, signal))
		irq_work_queue(&region->again);
}

/* The scan that found the signal has acknowledged it. */
static void chip_ack(struct irq_data *data)
{
}

static int chip_retrigger(struct irq_data *data)
{
	struct vbus_region *region = irq_data_get_irq_chip_data(data);

	irq_work_queue(&region->again);
	return 1;
}

static struct irq_chip chip = {
	.name = "vbus",
	.irq_ack = chip_ack,
	.irq_mask = chip_mask,
	.irq_unmask = chip_unmask,
	.irq_retrigger = chip_retrigger,
	.irq_set_affinity = vbus_route_set_affinity,
	.flags = IRQCHIP_SKIP_SET_WAKE,
};

/* ---- Regions and irqs ---- */

/* Another queue needs no interrupt to take effect. */
static void allow_move(unsigned int irq)
{
	irq_set_status_flags(irq, IRQ_MOVE_PCNTXT);
}

static int domain_map(struct irq_domain *domain, unsigned int irq, irq_hw_number_t hwirq)
{
	struct vbus_bridge *bridge = domain->host_data;

	irq_set_chip_data(irq, bridge->line[hwirq]);
	irq_set_chip_and_handler(irq, &chip, handle_edge_irq);
	irq_set_noprobe(irq);
	allow_move(irq);
	return 0;
}

static void domain_unmap(struct irq_domain *domain, unsigned int irq)
{
	irq_set_chip_and_handler(irq, NULL, NULL);
	irq_set_chip_data(irq, NULL);
}

static const struct irq_domain_ops domain_ops = {
	.map = domain_map,
	.unmap = domain_unmap,
};

/* @hwirq is free; binding held, or nobody else is there yet. */
static int map_line(struct vbus_bridge *bridge, struct vbus_region *region, u32 hwirq)
{
	region->bridge = bridge;
	region->hwirq = hwirq;
	region->masked = true;
	region->again = IRQ_WORK_INIT_HARD(deliver_again);
	bridge->line[hwirq] = region;
	region->irq = irq_create_mapping(bridge->domain, hwirq);
	if (region->irq)
		return 0;
	bridge->line[hwirq] = NULL;
	return -ENOMEM;
}

static void unmap_line(struct vbus_region *region)
{
	vbus_irq_synchronize(region);
	irq_dispose_mapping(region->irq);
	region->bridge->line[region->hwirq] = NULL;
	region->irq = 0;
}

int vbus_region_map_irq(struct vbus_device *vdev, struct vbus_region *region)
{
	struct vbus_bridge *bridge = vdev->bridge;
	u32 hwirq;
	int err = -ENOSPC;

	mutex_lock(&bridge->binding);
	for (hwirq = VBUS_SIGNAL_BUS + 1; hwirq < VBUS_SIGNALS; hwirq++)
		if (!bridge->line[hwirq])
			break;
	if (hwirq < VBUS_SIGNALS) {
		vbus_route_take(bridge, region);
		err = map_line(bridge, region, hwirq);
		if (err)
			vbus_route_give(bridge, region);
	}
	mutex_unlock(&bridge->binding);
	return err;
}
EXPORT_SYMBOL_GPL(vbus_region_map_irq);

void vbus_region_unmap_irq(struct vbus_region *region)
{
	struct vbus_bridge *bridge = region->bridge;

	if (!region->irq)
		return;
	mutex_lock(&bridge->binding);
	unmap_line(region);
	vbus_route_give(bridge, region);
	mutex_unlock(&bridge->binding);
}
EXPORT_SYMBOL_GPL(vbus_region_unmap_irq);

/* ---- The bridge ---- */

/* Its own signal is an irq like the others, but stays on queue 0. */
int vbus_irq_init(struct vbus_bridge *bridge)
{
	struct vbus_region *bus = &bridge->bus;
	int err;

	raw_spin_lock_init(&bridge->routes);
	bridge->domain = irq_domain_create_linear(NULL, VBUS_SIGNALS, &domain_ops, bridge);
	if (!bridge->domain)
		return -ENOMEM;
	err = map_line(bridge, bus, VBUS_SIGNAL_BUS);
	if (err)
		goto err_domain;
	irq_set_status_flags(bus->irq, IRQ_NO_BALANCING);
	bridge->region[VBUS_SIGNAL_BUS] = bus;
	snprintf(bus->name, sizeof(bus->name), "vbus%u-bus", bridge->number);
	err = request_irq(bus->irq, vbus_bridge_bus_signal, 0, bus->name, bridge);
	if (err)
		goto err_line;
	return 0;

err_line:
	unmap_line(bus);
err_domain:
	irq_domain_remove(bridge->domain);
	return err;
}

void vbus_irq_exit(struct vbus_bridge *bridge)
{
	free_irq(bridge->bus.irq, bridge);
	unmap_line(&bridge->bus);
	irq_domain_remove(bridge->domain);
}
