// SPDX-License-Identifier: MIT
/*
 * vbusd_file.c - the `file` connector: what ivshmem hands over has names in a folder here.
 *
 *	window		the window, a plain file
 *	to-host-N	doorbell N of the host, a FIFO; any byte rings
 *	to-guest-N	doorbell N of the client
 *	alive		named last; the client opens it for writing when it has opened the rest, and
 *			writes one byte; its end is the client's
 *
 * Once a client is there `alive` loses its name, so there is no second one.  The next session has
 * new files.  Each side has descriptions of its own: no flag that the client sets reaches a worker.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "vbusd_record.h"

/* Why the folder cannot be served, or NULL; from then on it is locked. */
static const char *objection(int folder)
{
	struct stat st;

	if (folder < 0 || fstat(folder, &st) < 0)
		return strerror(errno);
	if ((st.st_uid && st.st_uid != geteuid()) || (st.st_mode & (S_IWGRP | S_IWOTH)))
		return "can be changed by others; use a folder that root owns";
	if (flock(folder, LOCK_EX | LOCK_NB) < 0)
		return "somebody serves it already";
	return NULL;
}

int vbusd_file_open_folder(struct vbusd_bus *bus, char *text)
{
	int folder = open(bus->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *why = objection(folder);

	if (bus->path[0] != '/')
		why = "a folder needs an absolute path";
	if (!why) {
		bus->folder = folder;
		return 0;
	}
	snprintf(text, VBUSD_TEXT_LEN, "%.90s: %s", bus->path, why);
	if (folder >= 0)
		close(folder);
	return -1;
}

/* For whoever may connect; the folder is nobody else's, so the name still means what was made. */
static int give(int fd)
{
	if (fd >= 0 && vbusd.qemu_user != geteuid() && fchown(fd, vbusd.qemu_user, (gid_t)-1) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static int make_window(struct vbusd_bus *bus)
{
	bus->window = give(openat(bus->folder, "window", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
				  0600));
	return bus->window < 0 ? -1 : ftruncate(bus->window, (off_t)bus->window_mib << 20);
}

static int make_fifo(struct vbusd_bus *bus, const char *name, int access)
{
	if (mkfifoat(bus->folder, name, 0600) < 0)
		return -1;
	return give(openat(bus->folder, name, access | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC));
}

static int make_doorbells(struct vbusd_bus *bus)
{
	char name[24];
	uint32_t i;

	for (i = 0; i < bus->vectors; i++) {
		/* Open both ways: a doorbell has no end that anybody could see. */
		snprintf(name, sizeof(name), "to-host-%u", i);
		bus->from_guest[i] = make_fifo(bus, name, O_RDWR);
		snprintf(name, sizeof(name), "to-guest-%u", i);
		bus->to_guest[i] = make_fifo(bus, name, O_RDWR);
		if (bus->from_guest[i] < 0 || bus->to_guest[i] < 0)
			return -1;
	}
	return 0;
}

void vbusd_file_forget(struct vbusd_bus *bus)
{
	char name[24];
	uint32_t i;

	if (bus->folder < 0)
		return;
	vbusd_unwatch(&bus->alive);
	unlinkat(bus->folder, "alive", 0);
	unlinkat(bus->folder, "alive.new", 0);
	for (i = 0; i < VBUS_VECTORS_MAX; i++) {
		snprintf(name, sizeof(name), "to-host-%u", i);
		unlinkat(bus->folder, name, 0);
		snprintf(name, sizeof(name), "to-guest-%u", i);
		unlinkat(bus->folder, name, 0);
	}
	unlinkat(bus->folder, "window", 0);
}

int vbusd_file_make(struct vbusd_bus *bus)
{
	/* What a vbusd that was killed left behind. */
	vbusd_file_forget(bus);
	if (make_window(bus) < 0 || make_doorbells(bus) < 0)
		return -1;
	/* Whoever finds the name finds a reader. */
	bus->alive = make_fifo(bus, "alive.new", O_RDONLY);
	if (bus->alive < 0 || renameat(bus->folder, "alive.new", bus->folder, "alive") < 0)
		return -1;
	return vbusd_watch(bus->alive, VBUSD_EVENT_QEMU, vbusd_bus_index(bus));
}

static void connected(struct vbusd_bus *bus)
{
	unlinkat(bus->folder, "alive", 0);
	bus->qemu = bus->alive;
	bus->alive = -1;
	bus->sessions++;
	vbus_log(bus->name, "a client is connected (session %u)", bus->sessions);
	vbusd_event_tell(VBUSD_QEMU_CONNECTED, bus->name, NULL, 0, bus->sessions, "");
	vbusd_record_write(bus);
	vbusd_worker_tell(bus, VBUS_WORKER_CONNECTED, 0);
}

/* One byte opens the session; two of them came from two clients, and any more are too many. */
void vbusd_file_readable(struct vbusd_bus *bus)
{
	char bytes[8];
	ssize_t n = read(bus->qemu >= 0 ? bus->qemu : bus->alive, bytes, sizeof(bytes));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == 1 && bus->qemu < 0) {
		connected(bus);
		return;
	}
	vbus_log(bus->name, "the client is gone (%s)",
		 n > 0 ? "more was said than one word" : n ? strerror(errno) : "end of file");
	if (bus->qemu >= 0)
		vbusd_event_tell(VBUSD_QEMU_GONE, bus->name, NULL, 0, bus->sessions, "");
	vbusd_worker_renew(bus);
}
