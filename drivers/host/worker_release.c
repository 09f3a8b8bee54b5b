// SPDX-License-Identifier: MIT
/*
 * worker_release.c - nobody serves the bus here any more: what was begun ends, and is on its disk.
 *
 * The guest does not run meanwhile, and nothing is published: what it did not get back it hands over
 * again, here or on another host.  An image that is not locked yet may be written by who was before.
 */
#include <errno.h>
#include <string.h>

#include "fail_point.h"
#include "fdmsg.h"
#include "log.h"
#include "worker.h"
#include "worker_io.h"

static struct vbus_io sync[VBUSD_DEVICES];
static struct vbus_worker_notice result = { .kind = VBUS_NOTICE_RELEASED };
static bool syncs;

void vbus_release(struct vbus_bus *bus)
{
	bus->finished = bus->releases = true;
	/* One that has no epoch yet draws none. */
	bus->goes = false;
	VBUS_FAIL_POINT(RELEASE_TAKEN);
}

static void fail(uint32_t slot, int error)
{
	if (result.error)
		return;
	result.slot = slot;
	result.error = (uint32_t)error;
}

static void synced(struct vbus_io *io, int error)
{
	if (error)
		fail((uint32_t)(io - sync), -error);
}

/* False while one may be locked soon. */
static bool sync_all(struct vbus_bus *bus)
{
	uint32_t i;

	for (i = 0; i < VBUSD_DEVICES; i++)
		if (bus->device[i].used && bus->device[i].fence == VBUS_FENCE_WAITS)
			return false;
	for (i = 0; i < VBUSD_DEVICES; i++) {
		const struct vbus_device *dev = &bus->device[i];

		if (!dev->used || dev->read_only || dev->klass->backend != VBUS_BACKEND_IMAGE)
			continue;
		if (bus->image[i] < 0 || dev->fence != VBUS_FENCE_NONE) {
			fail(i, bus->image[i] < 0 ? ENOENT : EBUSY);
			continue;
		}
		sync[i] = (struct vbus_io){
			.op = VBUS_IO_SYNC, .fd = bus->image[i], .done = synced,
		};
		vbus_io_start(&sync[i]);
	}
	return true;
}

void vbus_release_look(struct vbus_bus *bus)
{
	if (!bus->releases || !vbus_io_is_idle())
		return;
	if (!syncs) {
		syncs = sync_all(bus);
		if (!syncs || !vbus_io_is_idle())
			return;
	}
	VBUS_FAIL_POINT(RELEASE_SYNCED);
	bus->releases = false;
	/* One that is gone has given no receipt, and one that hears nothing gives none. */
	if (vbus_fdmsg_send(bus->control, &result, sizeof(result), NULL, 0) < 0)
		vbus_log(bus->name, "vbusd is not told of the release (%s)", strerror(errno));
}
