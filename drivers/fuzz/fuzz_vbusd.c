// SPDX-License-Identifier: MIT
/* fuzz_vbusd.c - see fuzz_vbusd.h: what lies around the sources that take messages. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fdmsg.h"
#include "fuzz.h"
#include "fuzz_vbusd.h"
#include "listen.h"
#include "vbusd_record.h"

struct vbusd vbusd;

static int refuse(char *text)
{
	snprintf(text, VBUSD_TEXT_LEN, "%s", strerror(errno));
	return -1;
}

static int open_or_refuse(char *text)
{
	int fd = fuzz_open();

	return fd < 0 ? refuse(text) : fd;
}

/* ---- Messages ---- */

static bool is_client(int fd)
{
	uint32_t i;

	for (i = 0; i < VBUSD_CLIENTS; i++)
		if (vbusd.client[i] == fd)
			return true;
	return false;
}

ssize_t recv(int fd, void *to, size_t len, int flags)
{
	struct vbus_worker_notice n;
	struct vbusd_request q;
	long got;

	(void)flags;
	if (fuzz_fails())
		return -1;
	if (is_client(fd)) {
		got = fuzz_request(&q);
		memcpy(to, &q, len < sizeof(q) ? len : sizeof(q));
	} else {
		got = fuzz_notice(&n);
		memcpy(to, &n, len < sizeof(n) ? len : sizeof(n));
	}
	errno = EAGAIN;
	return got;
}

static bool is_text(const char *text, size_t len)
{
	return memchr(text, 0, len);
}

/* What an administrator gets is whole and ends. */
ssize_t send(int fd, const void *from, size_t len, int flags)
{
	const struct vbusd_event_message *event = from;
	const struct vbusd_reply *reply = from;

	(void)flags;
	if (fd < 0 || fuzz_fails())
		return -1;
	if (reply->version != VBUSD_VERSION)
		fuzz_found("an answer of no version");
	if (reply->result == VBUSD_EVENT &&
	    (len != sizeof(*event) || !is_text(event->bus, VBUSD_NAME_LEN) ||
	     !is_text(event->text, VBUSD_ARGUMENT_LEN)))
		fuzz_found("an event that has no end");
	if (reply->result != VBUSD_EVENT && !is_text(reply->text, VBUSD_TEXT_LEN))
		fuzz_found("an answer that has no end");
	return (ssize_t)len;
}

int vbus_fdmsg_send(int sock, const void *msg, size_t len, const int *fds, unsigned int count)
{
	const struct vbus_worker_message *m = msg;
	unsigned int i;

	if (sock < 0 || len != sizeof(*m) || m->slot >= VBUSD_DEVICES)
		fuzz_found("a worker is told nonsense");
	for (i = 0; i < count; i++)
		if (fds[i] < 0)
			fuzz_found("a worker is sent what is no descriptor");
	return fuzz_fails() ? -1 : 0;
}

/* ---- The program ---- */

int vbusd_watch(int fd, enum vbusd_event kind, uint32_t index)
{
	(void)kind;
	(void)index;
	if (fd < 0)
		fuzz_found("what is no descriptor is watched");
	return fuzz_fails() ? -1 : 0;
}

void vbusd_unwatch(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

int vbusd_accept(int listener)
{
	(void)listener;
	vbusd.spare = fuzz_byte() == 1 ? -1 : 0;
	return fuzz_open();
}

void vbusd_refuse(int s)
{
	close(s);
}

int vbus_listen(const char *path, int type, uid_t owner, char *text)
{
	(void)path;
	(void)type;
	(void)owner;
	return open_or_refuse(text);
}

pid_t vbusd_spawn(const struct vbusd_bus *bus, int control, int meet)
{
	(void)bus;
	(void)control;
	(void)meet;
	return fuzz_fails() ? -1 : 1000;
}

/* ---- A session ---- */

int vbusd_session_open(struct vbusd_bus *bus, char *text)
{
	uint32_t i;

	bus->window = open_or_refuse(text);
	for (i = 0; bus->window >= 0 && i < bus->vectors; i++)
		bus->from_guest[i] = bus->to_guest[i] = bus->window;	/* closed once */
	bus->sessions++;
	return bus->window < 0 ? -1 : 0;
}

void vbusd_session_close(struct vbusd_bus *bus)
{
	vbusd_unwatch(&bus->qemu);
	vbusd_unwatch(&bus->window);
}

int vbusd_file_open_folder(struct vbusd_bus *bus, char *text)
{
	bus->folder = open_or_refuse(text);
	return bus->folder < 0 ? -1 : 0;
}

int vbusd_record_write(struct vbusd_bus *bus)
{
	(void)bus;
	return fuzz_fails() ? -1 : 0;
}

bool vbusd_record_exists(const char *name)
{
	(void)name;
	return fuzz_fails();
}

void vbusd_record_remove(const struct vbusd_bus *bus)
{
	(void)bus;
}

void vbusd_store_session(struct vbusd_bus *bus)
{
	(void)bus;
}

void vbusd_store_device(struct vbusd_bus *bus, uint32_t slot)
{
	(void)bus;
	(void)slot;
}

void vbusd_store_forget_session(const struct vbusd_bus *bus)
{
	(void)bus;
}

void vbusd_store_forget_device(const struct vbusd_bus *bus, uint32_t slot)
{
	(void)bus;
	(void)slot;
}

/* ---- Back ends and classes ---- */

int vbusd_tap_open(const char *interface, char *text)
{
	(void)interface;
	return open_or_refuse(text);
}

bool vbusd_tap_is(int fd, const char *interface)
{
	(void)fd;
	(void)interface;
	return true;
}

int vbusd_image_open(const struct vbusd_device *dev, char *text)
{
	(void)dev;
	return open_or_refuse(text);
}

int vbusd_image_lock(const struct vbusd_device *dev, int fd, char *text)
{
	(void)dev;
	(void)fd;
	return fuzz_fails() ? refuse(text) : 0;
}

enum vbusd_result vbusd_class_add(const struct vbusd_request *q, char *text)
{
	(void)q;
	snprintf(text, VBUSD_TEXT_LEN, "no module is loaded here");
	return VBUSD_SYSTEM;
}

enum vbusd_result vbusd_class_remove(const struct vbusd_request *q, char *text)
{
	return vbusd_class_add(q, text);
}

bool vbusd_class_status(uint32_t index, struct vbusd_class_status *out)
{
	memset(out, 0, sizeof(*out));
	return vbus_class_at(index);
}

/* A card of this address is of a class that the worker has not loaded. */
uint32_t vbusd_class_needed(const struct vbusd_bus *bus)
{
	uint32_t i;

	for (i = 0; i < VBUSD_DEVICES; i++)
		if (bus->device[i].used && bus->device[i].mac[5] == 7)
			return 1;
	return 0;
}

/* ---- One life ---- */

void vbusd_begin(void)
{
	uint32_t i;

	memset(&vbusd, 0, sizeof(vbusd));
	vbusd.control_user = 2;
	vbusd.state = "/nowhere";
	for (i = 0; i < VBUSD_CLIENTS; i++)
		vbusd.client[i] = -1;
}

void vbusd_finish(void)
{
	uint32_t i;

	for (i = 0; i < VBUSD_BUSES; i++) {
		if (vbusd.bus[i].used)
			vbusd_bus_end(&vbusd.bus[i]);
		vbusd_worker_ended(&vbusd.bus[i], 1);
	}
	for (i = 0; i < VBUSD_CLIENTS; i++) {
		vbusd_event_watch(i, false);
		vbusd_unwatch(&vbusd.client[i]);
	}
}
