// SPDX-License-Identifier: MIT
/* vbusd_admin.c - the administrator's socket: one message in, one message out. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fail_point.h"
#include "log.h"
#include "vbusd_record.h"

/* What changes nothing has no function. */
static const struct {
	enum vbusd_result (*act)(const struct vbusd_request *q, char *text);
	uint32_t flags;		/* that it may have */
	enum { OF_ANY, OF_A_BUS, OF_A_STILL_BUS } of;	/* one that is there; and is not being moved */
} ops[VBUSD_START + 1] = {
	[VBUSD_BUS_ADD]	      = { vbusd_bus_add, VBUSD_HELD, OF_ANY },
	[VBUSD_BUS_REMOVE]    = { vbusd_bus_remove, 0, OF_A_BUS },
	[VBUSD_DEVICE_ADD]    = { vbusd_device_add, VBUSD_LINK_DOWN | VBUSD_READ_ONLY,
				  OF_A_STILL_BUS },
	[VBUSD_DEVICE_REMOVE] = { vbusd_device_remove, 0, OF_A_STILL_BUS },
	[VBUSD_MASK]	      = { vbusd_mask, VBUSD_ALL_DEVICES, OF_A_STILL_BUS },
	[VBUSD_LINK]	      = { vbusd_link, VBUSD_LINK_DOWN, OF_A_STILL_BUS },
	[VBUSD_RESIZE]	      = { vbusd_resize, 0, OF_A_STILL_BUS },
	[VBUSD_CLASS_ADD]     = { vbusd_class_add, 0, OF_ANY },
	[VBUSD_CLASS_REMOVE]  = { vbusd_class_remove, 0, OF_ANY },
	[VBUSD_RENEW]	      = { vbusd_renew, 0, OF_A_STILL_BUS },
	[VBUSD_END]	      = { vbusd_end, 0, OF_ANY },
	[VBUSD_RELEASE]	      = { vbusd_release, 0, OF_A_BUS },
	[VBUSD_START]	      = { vbusd_start, VBUSD_FENCED, OF_A_BUS },
};

struct answer {
	struct vbusd_reply head;
	union {
		struct vbusd_bus_status bus;
		struct vbusd_device_status device;
		struct vbusd_class_status klass;
	};
};

/* The socket's mode keeps them away already, unless somebody changed it. */
static bool is_stranger(int fd)
{
	struct ucred who = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(who);

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len);
	if (!who.uid || who.uid == geteuid() || who.uid == vbusd.control_user)
		return false;
	if (!vbusd.told_stranger)
		vbus_log(NULL, "an administrator is refused (uid %d is not allowed; told once)",
			 (int)who.uid);
	vbusd.told_stranger = true;
	return true;
}

void vbusd_admin_accept(void)
{
	int fd = vbusd_accept(vbusd.admin);
	uint32_t i;

	if (fd < 0)
		return;
	if (vbusd.spare < 0 || is_stranger(fd)) {
		vbusd_refuse(fd);
		return;
	}
	for (i = 0; i < VBUSD_CLIENTS && vbusd.client[i] >= 0; i++)
		;
	if (i == VBUSD_CLIENTS) {
		if (!vbusd.told_crowd)
			vbus_log(NULL, "an administrator is refused (%u are connected; told once)",
				 VBUSD_CLIENTS);
		vbusd.told_crowd = true;
		close(fd);
		return;
	}
	vbusd.told_crowd = false;
	if (vbusd_watch(fd, VBUSD_EVENT_CLIENT, i) < 0) {
		vbus_log(NULL, "an administrator is refused (%s)", strerror(errno));
		close(fd);
		return;
	}
	vbusd.client[i] = fd;
}

static bool is_text(const char *s, size_t len)
{
	return memchr(s, 0, len);
}

static void say_that_it_ends(const struct vbusd_bus *bus, char *text)
{
	snprintf(text, VBUSD_TEXT_LEN,
		 "bus %s: goes when its worker has ended, which a disk holds up; try again then",
		 bus->name);
}

bool vbusd_admin_answer(struct vbusd_bus *bus, enum vbusd_result result, const char *text)
{
	struct vbusd_reply a = { .version = VBUSD_VERSION, .result = result };
	bool told;

	if (bus->asker < 0)
		return false;
	if (text)
		snprintf(a.text, sizeof(a.text), "%s", text);
	else if (result)
		say_that_it_ends(bus, a.text);
	told = send(bus->asker, &a, sizeof(a), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
	if (!told)
		vbus_log(bus->name, "who asked is not told (%s)", strerror(errno));
	close(bus->asker);
	bus->asker = -1;
	return told;
}

/* The payload's length. */
static size_t status(const struct vbusd_request *q, struct answer *a)
{
	const struct vbusd_bus *bus;

	if (q->op == VBUSD_BUS_STATUS) {
		if (vbusd_bus_status(q->index, &a->bus))
			return sizeof(a->bus);
	} else if (q->op == VBUSD_CLASS_STATUS) {
		if (vbusd_class_status(q->index, &a->klass))
			return sizeof(a->klass);
	} else {
		bus = vbusd_bus_find(q->bus);
		if (bus && vbusd_device_status(bus, q->index, &a->device))
			return sizeof(a->device);
	}
	a->head.result = VBUSD_NO_ENTRY;
	snprintf(a->head.text, sizeof(a->head.text), "nothing has this index");
	return 0;
}

static bool is_request(const struct vbusd_request *q, size_t len, char *text)
{
	if (len != sizeof(*q) || q->version != VBUSD_VERSION || !is_text(q->bus, sizeof(q->bus)) ||
	    !is_text(q->klass, sizeof(q->klass)) || !is_text(q->argument, sizeof(q->argument)))
		snprintf(text, VBUSD_TEXT_LEN, "not a request of version %u", VBUSD_VERSION);
	else if (!q->op || q->op > VBUSD_START)
		snprintf(text, VBUSD_TEXT_LEN, "request %u: is not known", q->op);
	else if (q->flags & ~ops[q->op].flags)
		snprintf(text, VBUSD_TEXT_LEN, "request %u: flags %#x are not known to it", q->op,
			 q->flags & ~ops[q->op].flags);
	else if (q->mac[6] || q->mac[7])
		snprintf(text, VBUSD_TEXT_LEN, "mac: is longer than 6 bytes");
	else
		return true;
	return false;
}

static size_t handle(const struct vbusd_request *q, size_t len, struct answer *a)
{
	struct vbusd_bus *bus;

	if (!is_request(q, len, a->head.text)) {
		a->head.result = VBUSD_MALFORMED;
		return 0;
	}
	if (q->op == VBUSD_WATCH)
		return 0;
	if (!ops[q->op].act)
		return status(q, a);
	bus = vbusd_bus_find(q->bus);
	if (!bus && ops[q->op].of) {
		a->head.result = vbusd_deny(a->head.text, VBUSD_NO_ENTRY, "bus %s: is not there",
					    q->bus);
		return 0;
	}
	if (bus && bus->after == VBUSD_AFTER_BUS) {
		a->head.result = VBUSD_BUSY;
		say_that_it_ends(bus, a->head.text);
		return 0;
	}
	if (ops[q->op].of == OF_A_STILL_BUS && vbusd_hold_freezes(bus)) {
		a->head.result = vbusd_deny(a->head.text, VBUSD_BUSY, "bus %s: is being moved; "
					    "start it, or remove it", q->bus);
		return 0;
	}
	a->head.result = ops[q->op].act(q, a->head.text);
	VBUS_FAIL_POINT(REQUEST_DONE);
	bus = vbusd_bus_find(q->bus);
	if (!a->head.result && bus && vbusd_record_write(bus) < 0) {
		a->head.result = VBUSD_SYSTEM;
		snprintf(a->head.text, sizeof(a->head.text),
			 "bus %s: it is done, but not recorded: the log says why", bus->name);
	}
	VBUS_FAIL_POINT(REQUEST_RECORDED);
	return 0;
}

/* A copy, whatever becomes of the client; false: it is to be answered now. */
static bool answers_later(const struct vbusd_request *q, int client, struct answer *a)
{
	struct vbusd_bus *bus;

	if (a->head.result != VBUSD_LATER)
		return false;
	bus = vbusd_bus_find(q->bus);
	bus->asker = fcntl(client, F_DUPFD_CLOEXEC, 0);
	a->head.result = VBUSD_BUSY;
	snprintf(a->head.text, sizeof(a->head.text), "bus %s: who asks cannot be told later (%s)",
		 bus->name, strerror(errno));
	return bus->asker >= 0;
}

void vbusd_admin_serve(uint32_t client)
{
	struct answer a = { .head.version = VBUSD_VERSION };
	int fd = vbusd.client[client];
	struct vbusd_request q;
	size_t payload;
	ssize_t len;

	if (fd < 0)
		return;
	/* MSG_TRUNC: the message's own length, so that a longer one is not taken for a good one. */
	len = recv(fd, &q, sizeof(q), MSG_DONTWAIT | MSG_TRUNC);
	if (len < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (len > 0) {
		payload = handle(&q, (size_t)len, &a);
		if (answers_later(&q, fd, &a))
			return;
		if (a.head.result == VBUSD_OK && q.op == VBUSD_WATCH)
			vbusd_event_watch(client, true);
		/* Not @fd: an event of its own making may have dropped this client. */
		if (send(vbusd.client[client], &a, sizeof(a.head) + payload,
			 MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return;
	}
	vbusd_event_watch(client, false);
	vbusd_unwatch(&vbusd.client[client]);
}
