// SPDX-License-Identifier: MIT
/*
 * worker_fence.c - what one who served before may still be doing.
 *
 * Of a former worker: its I/O may go on after its death, and keeps the lock of its image until it
 * has ended.  So no epoch is raised before every image is locked, and nobody ever blocks on a lock.
 * Of a former session with the guest: its I/O may still move pages of the window.  So calls are
 * answered when it has ended, and the answer is what tells the guest that its pages are its own.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "log.h"
#include "worker.h"

#define RETRY_MS	5u
#define LATER_MS	1000u
#define PATIENCE_MS	30000u

static void give_up(struct vbus_device *dev, const char *why)
{
	dev->fence = VBUS_FENCE_GIVEN_UP;
	vbus_log(dev->bus->name, "device %02x%02x%02x%02x cannot be opened (%s: %s)", dev->uuid[0],
		 dev->uuid[1], dev->uuid[2], dev->uuid[3], dev->name, why);
}

static void try_once(struct vbus_device *dev)
{
	int err = dev->ops->fence(dev);

	if (!err) {
		if (dev->fence == VBUS_FENCE_GIVEN_UP)
			vbus_log(dev->bus->name, "device %02x%02x%02x%02x can be opened now",
				 dev->uuid[0], dev->uuid[1], dev->uuid[2], dev->uuid[3]);
		dev->fence = VBUS_FENCE_NONE;
	} else if (err != EAGAIN) {
		give_up(dev, strerror(err));
		dev->fence = VBUS_FENCE_FOR_GOOD;
	} else if (dev->fence == VBUS_FENCE_WAITS &&
		   vbus_now_ms() - dev->fenced_ms > dev->bus->patience_ms) {
		give_up(dev, "another program has it; tried again each second");
	}
}

void vbus_fence_look(struct vbus_bus *bus)
{
	uint32_t ms = bus->draining ? LATER_MS : 0, i;
	bool waits = false;

	for (i = 0; i < VBUSD_DEVICES; i++) {
		struct vbus_device *dev = &bus->device[i];

		if (!dev->used || dev->fence == VBUS_FENCE_NONE ||
		    dev->fence == VBUS_FENCE_FOR_GOOD)
			continue;
		try_once(dev);
		waits |= dev->fence == VBUS_FENCE_WAITS;
		if (dev->fence == VBUS_FENCE_GIVEN_UP)
			ms = LATER_MS;
	}
	vbus_arm(bus, bus->fence, waits ? RETRY_MS : ms);
	if (bus->draining && vbus_now_ms() - bus->drains_ms > bus->patience_ms) {
		errno = ETIMEDOUT;
		vbus_leave(bus, "I/O of a session that is over does not end; "
				"the next worker waits for it");
	}
	if (bus->goes && !waits && !bus->epoch && vbus_bus_start(bus) < 0)
		vbus_leave(bus, "no epoch");
}

void vbus_fence_tick(struct vbus_bus *bus)
{
	uint64_t times;

	if (read(bus->fence, &times, sizeof(times)) == (ssize_t)sizeof(times))
		vbus_fence_look(bus);
}

int vbus_fence_open(struct vbus_bus *bus)
{
	const char *word = getenv("VBUS_PATIENCE_MS");

	/* The variable is for tests. */
	bus->patience_ms = word ? (uint32_t)strtoul(word, NULL, 10) : PATIENCE_MS;
	bus->fence = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (bus->fence < 0)
		return -1;
	return vbus_watch(bus, bus->fence, EPOLLIN, VBUS_EVENT(VBUS_EVENT_FENCE, 0));
}

void vbus_fence_device(struct vbus_device *dev)
{
	if (!dev->ops->fence)
		return;
	dev->fence = VBUS_FENCE_WAITS;
	dev->fenced_ms = vbus_now_ms();
	vbus_fence_look(dev->bus);
}

void vbus_fence_drain(struct vbus_bus *bus, uint32_t count)
{
	if (!count)
		return;
	if (!bus->draining)
		bus->drains_ms = vbus_now_ms();
	bus->draining += count;
	vbus_fence_look(bus);
}

void vbus_fence_drained(struct vbus_bus *bus)
{
	/* Calls wait for the last one. */
	if (!--bus->draining)
		bus->calls = true;
}
