// SPDX-License-Identifier: MIT
/* vbusd_status.c - what is configured, and what the workers say they did. */
#include <string.h>

#include "vbusd.h"

bool vbusd_bus_status(uint32_t index, struct vbusd_bus_status *out)
{
	const struct vbusd_bus *bus = vbusd.bus;
	uint32_t i;

	for (; bus < vbusd.bus + VBUSD_BUSES; bus++)
		if (bus->used && !index--)
			break;
	if (bus == vbusd.bus + VBUSD_BUSES)
		return false;

	*out = (struct vbusd_bus_status){
		.window_mib = bus->window_mib,
		.vectors = bus->vectors,
		.connected = bus->qemu >= 0,
		.negotiated = bus->page->negotiated,
		.confirmed = bus->page->confirmed,
		.worker = bus->worker,
		.restarts = bus->restarts,
		.sessions = bus->sessions,
		.handovers = bus->handovers,
		.epoch = bus->page->epoch,
		.nonce = bus->page->nonce,
		.counters = bus->page->counters,
		.sandbox = bus->page->sandbox,
		.takeovers = bus->takeovers,
		.lost = bus->lost,
		.connector = bus->connector,
		.held = bus->hold != VBUSD_HOLD_NONE,
	};
	memcpy(out->queue, bus->page->queue, sizeof(out->queue));
	memcpy(out->name, bus->name, sizeof(out->name));
	memcpy(out->path, bus->path, sizeof(out->path));
	for (i = 0; i < VBUSD_DEVICES; i++)
		out->devices += bus->device[i].used;
	return true;
}

bool vbusd_device_status(const struct vbusd_bus *bus, uint32_t index,
			 struct vbusd_device_status *out)
{
	const struct vbus_device_page *page;
	const struct vbusd_device *dev;
	uint32_t i;

	for (i = 0; i < VBUSD_DEVICES; i++)
		if (bus->device[i].used && !index--)
			break;
	if (i == VBUSD_DEVICES)
		return false;

	dev = &bus->device[i];
	page = &bus->page->device[i];
	*out = (struct vbusd_device_status){
		.state = page->state,
		.link = dev->link,
		.running = page->running,
		.mtu = vbus_class_is_net(dev->klass) ? dev->mtu : 0,
		.flags = dev->read_only ? VBUSD_READ_ONLY : 0,
		.block_size = dev->block_size,
		.groups = page->groups < VBUSD_GROUPS ? page->groups : VBUSD_GROUPS,
		.counters = page->counters,
	};
	memcpy(out->uuid, dev->uuid, sizeof(dev->uuid));
	memcpy(out->mac, dev->mac, sizeof(dev->mac));
	memcpy(out->argument, dev->argument, sizeof(out->argument));
	memcpy(out->klass, dev->klass->name, sizeof(out->klass));
	memcpy(out->serial, dev->serial, sizeof(out->serial));
	memcpy(out->group, page->group, sizeof(out->group));
	return true;
}
