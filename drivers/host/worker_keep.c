// SPDX-License-Identifier: MIT
/*
 * worker_keep.c - without vbusd: go on serving, hold what it held, give that to the next one.
 *
 * What makes a session has two holders.  A worker without a session to hold, or whose QEMU hangs up,
 * ends.  QEMU's socket is not among it: whoever shares a listener can make the other one block in it.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fdmsg.h"
#include "log.h"
#include "worker.h"

/*
 * Ctrl-C is for vbusd, which this process may outlive.  vbusd bound the socket; the one who listens
 * is the one whose pid the next vbusd sees.
 */
int vbus_keep_alone(void)
{
	return setsid() < 0 ? -1 : listen(VBUS_WORKER_MEET_FD, 4);
}

static void unwatch(struct vbus_bus *bus, int fd)
{
	if (epoll_ctl(bus->epoll, EPOLL_CTL_DEL, fd, NULL) < 0)
		vbus_leave(bus, "a descriptor cannot be unwatched");
}

/* Nobody connects before: the old connection, dead, stays to tell whose successor may come. */
void vbus_keep_serving(struct vbus_bus *bus)
{
	if (bus->qemu < 0)
		vbus_leave(bus, NULL);	/* no guest would miss it */
	unwatch(bus, bus->control);
	if (vbus_watch(bus, VBUS_WORKER_MEET_FD, EPOLLIN, VBUS_EVENT(VBUS_EVENT_MEET, 0)) < 0 ||
	    vbus_watch(bus, bus->qemu, EPOLLRDHUP, VBUS_EVENT(VBUS_EVENT_QEMU, 0)) < 0)
		vbus_leave(bus, "the next vbusd cannot be waited for");
	vbus_log(bus->name, "vbusd is gone, its worker goes on");
}

static bool is_of_the_same_user(const struct vbus_bus *bus, int next)
{
	struct ucred before, now;
	socklen_t len = sizeof(now);

	return !getsockopt(bus->control, SOL_SOCKET, SO_PEERCRED, &before, &len) &&
	       !getsockopt(next, SOL_SOCKET, SO_PEERCRED, &now, &len) && before.uid == now.uid;
}

static int give_devices(const struct vbus_bus *bus, int next)
{
	uint32_t i;

	for (i = 0; i < VBUSD_DEVICES; i++) {
		const struct vbus_device *dev = &bus->device[i];
		struct vbus_worker_message m = {
			.kind = VBUS_WORKER_DEVICE,
			.slot = i,
			.instance = dev->instance,
			.link = dev->link,
		};
		/* Whatever else a device stands on is this process's alone. */
		bool kept = dev->used && dev->klass->backend == VBUS_BACKEND_TAP && dev->fd >= 0;

		memcpy(m.mask, dev->mask, sizeof(m.mask));
		if (dev->used && vbus_fdmsg_send(next, &m, sizeof(m), &dev->fd, kept))
			return -1;
	}
	return 0;
}

static int give_all(const struct vbus_bus *bus, int next)
{
	const struct vbus_worker_message start = { .kind = VBUS_WORKER_START },
		connected = { .kind = VBUS_WORKER_CONNECTED },
		go = { .kind = VBUS_WORKER_GO, .slot = bus->epoch && !bus->finished,
		       .number = bus->acted };
	const size_t bells = bus->vectors * sizeof(int);
	int fds[VBUS_WORKER_FDS] = {
		[VBUS_WORKER_WINDOW] = bus->window_fd,
		[VBUS_WORKER_PAGE] = bus->page_fd,
	};

	memcpy(&fds[VBUS_WORKER_BELLS], bus->from_guest, bells);
	memcpy(&fds[VBUS_WORKER_BELLS + bus->vectors], bus->to_guest, bells);
	if (vbus_fdmsg_send(next, &start, sizeof(start), fds,
			    VBUS_WORKER_BELLS + 2 * bus->vectors) ||
	    vbus_fdmsg_send(next, &connected, sizeof(connected), &bus->qemu, 1) ||
	    give_devices(bus, next))
		return -1;
	return vbus_fdmsg_send(next, &go, sizeof(go), NULL, 0);
}

/* Streams that ended while nobody could be told, or who was told is gone. */
static void tell_of_losses(struct vbus_bus *bus)
{
	uint32_t i;

	for (i = 0; i < VBUSD_DEVICES; i++)
		if (bus->device[i].used && bus->device[i].fd < 0 &&
		    bus->device[i].klass->backend == VBUS_BACKEND_SOCKET)
			vbus_device_tell_lost(&bus->device[i]);
}

/* Whoever has given up meanwhile is passed over; whoever goes later is followed by the next one. */
void vbus_keep_meet(struct vbus_bus *bus)
{
	int next = accept4(VBUS_WORKER_MEET_FD, NULL, NULL, SOCK_CLOEXEC);

	if (next < 0)
		return;
	if (!is_of_the_same_user(bus, next)) {
		vbus_log(bus->name, "a connection is refused (it is not of vbusd's user)");
		close(next);
		return;
	}
	if (give_all(bus, next) < 0) {
		close(next);
		return;
	}
	unwatch(bus, VBUS_WORKER_MEET_FD);
	unwatch(bus, bus->qemu);
	close(bus->control);
	bus->control = next;
	if (vbus_watch(bus, bus->control, EPOLLIN, VBUS_EVENT(VBUS_EVENT_CONTROL, 0)) < 0)
		vbus_leave(bus, "the next vbusd cannot be heard");
	tell_of_losses(bus);
}
