// SPDX-License-Identifier: MIT
/*
 * vbusd_stream.c - back ends that are connections, made anew for each worker and when one is lost.
 *
 * Only the worker sees that its peer is gone.  What it says of that is taken a few messages a
 * second at most: one that a guest took over can cost a connection a second to the path set up.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"
#include "vbusd.h"

#define AGAIN_MS	1000

int vbusd_stream_open(const char *path, char *text)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int s;

	if (path[0] != '/' || strlen(path) >= sizeof(at.sun_path)) {
		snprintf(text, VBUSD_TEXT_LEN, "a back end needs the absolute path of its socket");
		return -1;
	}
	strcpy(at.sun_path, path);
	/* Never blocks: a listener whose queue is full is as good as none. */
	s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s >= 0 && !connect(s, (const struct sockaddr *)&at, sizeof(at)))
		return s;
	snprintf(text, VBUSD_TEXT_LEN, "%.100s: %s", path, strerror(errno));
	if (s >= 0)
		close(s);
	return -1;
}

void vbusd_stream_lost(struct vbusd_bus *bus, uint32_t slot)
{
	struct vbusd_device *dev = &bus->device[slot];

	if (!dev->used || dev->klass->backend != VBUS_BACKEND_SOCKET)
		return;
	dev->lost = true;
	vbusd_arm(bus, bus->reopen, AGAIN_MS);
}

/* Descriptors that come along are dropped by the kernel: there is no room for them. */
static bool hear(struct vbusd_bus *bus, struct vbus_worker_notice *n)
{
	return recv(bus->control, n, sizeof(*n), MSG_DONTWAIT | MSG_TRUNC) == (ssize_t)sizeof(*n);
}

void vbusd_stream_notice(struct vbusd_bus *bus)
{
	struct vbus_worker_notice n;
	uint32_t i;

	for (i = 0; i < VBUSD_DEVICES && hear(bus, &n); i++)
		if (n.kind == VBUS_NOTICE_FINISHED)
			vbusd_worker_finished(bus);
		else if (n.kind == VBUS_NOTICE_RELEASED)
			vbusd_release_heard(bus, &n);
		else if (n.kind == VBUS_NOTICE_LOST && n.slot < VBUSD_DEVICES &&
			 n.instance == bus->device[n.slot].instance)
			vbusd_stream_lost(bus, n.slot);
	/* Whatever else it has to say waits, its end too: that one is told by its pidfd. */
	if (epoll_ctl(vbusd.epoll, EPOLL_CTL_DEL, bus->control, NULL) < 0)
		vbus_log(bus->name, "a worker cannot be silenced (%s)", strerror(errno));
	vbusd_arm(bus, bus->reopen, AGAIN_MS);
}

static void reopen(struct vbusd_bus *bus, uint32_t slot)
{
	char text[VBUSD_TEXT_LEN];
	int fd = vbusd_backend_open(&bus->device[slot], text);

	if (fd < 0) {
		vbusd_arm(bus, bus->reopen, AGAIN_MS);
		return;
	}
	bus->device[slot].lost = false;
	vbusd_worker_tell_backend(bus, slot, fd);
	close(fd);
}

void vbusd_stream_reopen(struct vbusd_bus *bus)
{
	uint64_t times;
	uint32_t i;

	/* A worker that is still to come opens everything in any case. */
	if (read(bus->reopen, &times, sizeof(times)) < 0 || bus->control < 0)
		return;
	for (i = 0; i < VBUSD_DEVICES; i++)
		if (bus->device[i].used && bus->device[i].lost)
			reopen(bus, i);
	if (vbusd_watch(bus->control, VBUSD_EVENT_NOTICE, vbusd_bus_index(bus)) < 0 &&
	    errno != EEXIST)
		vbus_log(bus->name, "a worker is not heard any more (%s)", strerror(errno));
}
