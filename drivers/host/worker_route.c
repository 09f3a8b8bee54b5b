// SPDX-License-Identifier: MIT
/* worker_route.c - whose a signal is, and which queue it takes; SIGROUTE, which changes both. */
#include <string.h>

#include "vbus_port.h"
#include "worker.h"

/* After any change: the priorities of devices, and what vbusd may see of the queues. */
void vbus_route_settle(struct vbus_bus *bus)
{
	struct vbusd_queue_status status[VBUS_QUEUES] = { 0 };
	uint32_t i, queue;

	for (i = 0; i < VBUSD_DEVICES; i++)
		bus->device[i].priority = 0;
	for (i = 0; i < bus->queues; i++)
		status[i] = (struct vbusd_queue_status){
			.priority = bus->queue[i].priority,
			.coalesce_events = bus->queue[i].events,
			.coalesce_us = bus->queue[i].microseconds,
		};
	status[0].signals = bus->queues ? 1 : 0;
	for (i = VBUS_SIGNAL_BUS + 1; i < VBUS_SIGNALS; i++) {
		struct vbus_device *dev = bus->owner[i].dev;

		if (!dev)
			continue;
		queue = bus->signals.queue[i];
		status[queue].signals++;
		if (dev->priority < bus->queue[queue].priority)
			dev->priority = bus->queue[queue].priority;
	}
	memcpy(bus->page->queue, status, sizeof(status));
}

uint32_t vbus_route_take(struct vbus_device *dev, struct vbus_region *region, uint32_t queue)
{
	struct vbus_bus *bus = dev->bus;
	uint32_t signal;

	for (signal = VBUS_SIGNAL_BUS + 1; signal < VBUS_SIGNALS; signal++)
		if (!bus->owner[signal].dev)
			break;
	if (signal == VBUS_SIGNALS)
		return 0;
	bus->owner[signal] = (struct vbus_owner){ .dev = dev, .region = region };
	shm_signal_bind(&bus->signals, signal, queue);
	vbus_route_settle(bus);
	return signal;
}

void vbus_route_give(struct vbus_bus *bus, uint32_t signal)
{
	/* Unbinding clears a byte of the window; a window that is not ours is left alone. */
	if (!bus->foreign)
		shm_signal_unbind(&bus->signals, signal);
	bus->owner[signal] = (struct vbus_owner){ 0 };
	vbus_route_settle(bus);
}

/* A request in the machine's byte order. */
struct route {
	uint32_t op;
	uint32_t signal;
	uint32_t queue;
	uint32_t priority;
	uint32_t handle;
	uint32_t region;
	uint32_t events;
	uint32_t microseconds;
};

/*
 * NULL with a status: a number out of range is the guest's fault, while a device may have been
 * removed without its doing.
 */
static struct vbus_owner *owner_of(struct vbus_bus *bus, uint32_t signal, enum vbus_status *status)
{
	*status = VBUS_STATUS_INVALID;
	if (signal == VBUS_SIGNAL_BUS || signal >= VBUS_SIGNALS)
		return NULL;
	*status = VBUS_STATUS_NO_ENTRY;
	return bus->owner[signal].dev ? &bus->owner[signal] : NULL;
}

static enum vbus_status on_bind(struct vbus_bus *bus, const struct route *r, uint32_t *signal)
{
	enum vbus_status status;
	struct vbus_owner *owner = owner_of(bus, r->signal, &status);

	(void)signal;
	if (!owner)
		return status;
	shm_signal_rebind(&bus->signals, r->signal, r->queue);
	/* As if it had come: the last one may have been sent on the old queue and not been seen. */
	owner->dev->ops->signal(owner->dev, owner->region);
	return VBUS_STATUS_OK;
}

static enum vbus_status on_priority(struct vbus_bus *bus, const struct route *r, uint32_t *signal)
{
	(void)signal;
	if (r->priority > VBUS_PRIORITY_MAX)
		return VBUS_STATUS_INVALID;
	bus->queue[r->queue].priority = r->priority;
	return VBUS_STATUS_OK;
}

static enum vbus_status on_create(struct vbus_bus *bus, const struct route *r, uint32_t *signal)
{
	struct vbus_device *dev = vbus_device_of(bus, r->handle);
	struct vbus_region *region;

	if (!dev)
		return VBUS_STATUS_NO_ENTRY;
	for (region = dev->region; region < dev->region + VBUS_REGIONS; region++)
		if (region->used && region->id == r->region)
			break;
	if (region == dev->region + VBUS_REGIONS)
		return VBUS_STATUS_INVALID;
	if (region->path)
		return VBUS_STATUS_BUSY;
	region->path = vbus_route_take(dev, region, r->queue);
	*signal = region->path;
	return region->path ? VBUS_STATUS_OK : VBUS_STATUS_NO_SPACE;
}

static enum vbus_status on_drop(struct vbus_bus *bus, const struct route *r, uint32_t *signal)
{
	enum vbus_status status;
	struct vbus_owner *owner = owner_of(bus, r->signal, &status);

	(void)signal;
	if (!owner)
		return status;
	/* A region's own goes with the region. */
	if (owner->region->path != r->signal)
		return VBUS_STATUS_INVALID;
	owner->region->path = 0;
	vbus_route_give(bus, r->signal);
	return VBUS_STATUS_OK;
}

static enum vbus_status on_coalesce(struct vbus_bus *bus, const struct route *r, uint32_t *signal)
{
	struct vbus_queue *queue = &bus->queue[r->queue];

	(void)signal;
	if (r->events > VBUS_COALESCE_EVENTS || r->microseconds > VBUS_COALESCE_US)
		return VBUS_STATUS_INVALID;
	if ((r->events > 1) != (r->microseconds > 0))
		return VBUS_STATUS_INVALID;
	vbus_queue_flush(bus, r->queue);
	queue->events = r->events > 1 ? r->events : 0;
	queue->microseconds = r->microseconds;
	return VBUS_STATUS_OK;
}

typedef enum vbus_status route_fn(struct vbus_bus *bus, const struct route *r, uint32_t *signal);

#define USES(field)	(1u << offsetof(struct vbus_sigroute_request, field) / 4)

/* @uses: the fields that it reads, one bit a word; all others are 0. */
static const struct {
	route_fn *fn;
	uint32_t uses;
} routes[VBUS_NR_SIGROUTES] = {
	[VBUS_SIGROUTE_BIND]     = { on_bind, USES(signal) | USES(queue) },
	[VBUS_SIGROUTE_PRIORITY] = { on_priority, USES(queue) | USES(priority) },
	[VBUS_SIGROUTE_CREATE]   = { on_create, USES(handle) | USES(region) | USES(queue) },
	[VBUS_SIGROUTE_DROP]     = { on_drop, USES(signal) },
	[VBUS_SIGROUTE_COALESCE] = { on_coalesce, USES(queue) | USES(events) | USES(microseconds) },
};

enum vbus_status vbus_route_change(struct vbus_bus *bus, const struct vbus_sigroute_request *in,
				   uint32_t *signal)
{
	const struct route r = {
		.op = vbus_le32_to_cpu(in->op),
		.signal = vbus_le32_to_cpu(in->signal),
		.queue = vbus_le32_to_cpu(in->queue),
		.priority = vbus_le32_to_cpu(in->priority),
		.handle = vbus_le32_to_cpu(in->handle),
		.region = vbus_le32_to_cpu(in->region),
		.events = vbus_le32_to_cpu(in->events),
		.microseconds = vbus_le32_to_cpu(in->microseconds),
	};
	uint32_t word[sizeof(r) / 4], i;
	enum vbus_status status;

	if (r.op >= VBUS_NR_SIGROUTES)
		return VBUS_STATUS_UNSUPPORTED;
	memcpy(word, &r, sizeof(r));
	for (i = 1; i < sizeof(word) / sizeof(word[0]); i++)
		if (word[i] && !(routes[r.op].uses & 1u << i))
			return VBUS_STATUS_INVALID;
	if ((routes[r.op].uses & USES(queue)) && r.queue >= bus->queues)
		return VBUS_STATUS_INVALID;
	status = routes[r.op].fn(bus, &r, signal);
	vbus_route_settle(bus);
	return status;
}
