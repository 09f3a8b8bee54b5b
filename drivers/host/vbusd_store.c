// SPDX-License-Identifier: MIT
/*
 * vbusd_store.c - systemd's descriptor store: the holder that is left when vbusd and a worker are
 * lost at once.
 *
 * One datagram a change over $NOTIFY_SOCKET; the same descriptor stored again is one.  A session's
 * are named after the bus, a device's "BUS/SLOT"; which is which, the record knows.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fdmsg.h"
#include "log.h"
#include "vbusd_record.h"

#define FIRST	3	/* SD_LISTEN_FDS_START */
#define FDS_MAX	8192u	/* 64 buses of 68 and 16 devices each are fewer */
#define NAMED	(VBUSD_NAME_LEN + 8u)
#define ROOM_MS	1000

static int notify = -1;

static struct {
	int fd;
	char name[NAMED];
} stored[FDS_MAX];

static uint32_t stored_count;

static void connect_to(const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	size_t len = strlen(path);

	if ((path[0] != '/' && path[0] != '@') || len >= sizeof(at.sun_path))
		return;
	memcpy(at.sun_path, path, len);
	if (path[0] == '@')
		at.sun_path[0] = 0;
	notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (notify >= 0 && connect(notify, (struct sockaddr *)&at,
				   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0) {
		vbus_log(NULL, "systemd cannot be told anything (%s)", strerror(errno));
		close(notify);
		notify = -1;
	}
}

/* "b:b:b/3:...": one name for each descriptor. */
static void take_over(uint32_t count, const char *names)
{
	size_t len;
	uint32_t i;

	for (i = 0; i < count && i < FDS_MAX; i++) {
		len = strcspn(names, ":");
		stored[i].fd = FIRST + (int)i;
		if (fcntl(stored[i].fd, F_SETFD, FD_CLOEXEC) < 0)
			stored[i].fd = -1;
		if (len < sizeof(stored[i].name))
			memcpy(stored[i].name, names, len);
		names += len + (names[len] == ':');
	}
	stored_count = i;
}

/* The words are for us alone: no worker inherits them. */
void vbusd_store_open(void)
{
	const char *path = getenv("NOTIFY_SOCKET"), *pid = getenv("LISTEN_PID"),
		   *count = getenv("LISTEN_FDS"), *names = getenv("LISTEN_FDNAMES");

	if (pid && count && names && strtol(pid, NULL, 10) == getpid())
		take_over((uint32_t)strtoul(count, NULL, 10), names);
	if (path)
		connect_to(path);
	unsetenv("NOTIFY_SOCKET");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}

static void tell(const char *text, const int *fds, unsigned int count)
{
	struct pollfd room = { .fd = notify, .events = POLLOUT };
	int err;

	if (notify < 0)
		return;
	/* Its queue is short. */
	do {
		err = vbus_fdmsg_send(notify, text, strlen(text), fds, count);
	} while (err < 0 && errno == EAGAIN && poll(&room, 1, ROOM_MS) > 0);
	if (err < 0)
		vbus_log(NULL, "systemd does not take %u descriptors (%s)", count, strerror(errno));
}

void vbusd_store_ready(void)
{
	tell("READY=1", NULL, 0);
}

void vbusd_store_session(struct vbusd_bus *bus)
{
	char text[NAMED + 32];
	int fds[VBUSD_HELD_FDS];
	unsigned int count = 0;
	uint32_t i;

	for (i = 0; i < VBUSD_HELD_FDS; i++)
		if (*vbusd_held(bus, i) >= 0)
			fds[count++] = *vbusd_held(bus, i);
	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s", bus->name);
	tell(text, fds, count);
	for (i = 0; i < VBUSD_DEVICES; i++)
		vbusd_store_device(bus, i);
}

void vbusd_store_device(struct vbusd_bus *bus, uint32_t slot)
{
	char text[NAMED + 32];

	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s/%u", bus->name, slot);
	if (bus->device[slot].fd >= 0)
		tell(text, &bus->device[slot].fd, 1);
}

static void forget(const char *name)
{
	char text[NAMED + 32];

	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	tell(text, NULL, 0);
}

void vbusd_store_forget_session(const struct vbusd_bus *bus)
{
	forget(bus->name);
}

void vbusd_store_forget_device(const struct vbusd_bus *bus, uint32_t slot)
{
	char name[NAMED];

	snprintf(name, sizeof(name), "%s/%u", bus->name, slot);
	forget(name);
}

int vbusd_store_take(const char *name)
{
	uint32_t i;
	int fd;

	for (i = 0; i < stored_count; i++) {
		if (stored[i].fd < 0 || strcmp(stored[i].name, name))
			continue;
		fd = stored[i].fd;
		stored[i].fd = -1;
		return fd;
	}
	return -1;
}

void vbusd_store_close(void)
{
	char name[NAMED];
	uint32_t i;

	for (i = 0; i < stored_count; i++) {
		if (stored[i].fd < 0)
			continue;
		close(stored[i].fd);
		memcpy(name, stored[i].name, sizeof(name));
		name[strcspn(name, "/")] = 0;
		if (!vbusd_bus_find(name) && !vbusd_record_exists(name))
			forget(stored[i].name);
	}
	stored_count = 0;
}
