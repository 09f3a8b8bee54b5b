// SPDX-License-Identifier: MIT
/*
 * vbusd_ivshmem.c - the ivshmem server of one bus.
 *
 * QEMU is peer 0, because master=on demands it, and the south is peer 1.  QEMU reads the first
 * messages synchronously while it starts, so the session is ready before it connects.  It never
 * says a word; its end of file ends the session.  A peer that went away is never announced again:
 * QEMU frees it and keeps the pointer.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fail_point.h"
#include "fdmsg.h"
#include "log.h"
#include "vbusd_record.h"

#define IVSHMEM_VERSION	0
#define IVSHMEM_REFUSED	(-1)	/* a version that no QEMU takes */
#define PEER_GUEST	0
#define PEER_SOUTH	1

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int make(struct vbusd_bus *bus)
{
	uint32_t i;

	bus->window = memfd_create("vbus-window", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (bus->window < 0 || ftruncate(bus->window, (off_t)bus->window_mib << 20) < 0)
		return -1;
	/* Neither side can make the other fault by changing the size. */
	if (fcntl(bus->window, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -1;
	for (i = 0; i < bus->vectors; i++) {
		bus->from_guest[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		bus->to_guest[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (bus->from_guest[i] < 0 || bus->to_guest[i] < 0)
			return -1;
	}
	return 0;
}

int vbusd_session_open(struct vbusd_bus *bus, char *text)
{
	int rc = bus->connector == VBUSD_FILE ? vbusd_file_make(bus) : make(bus);

	bus->refused = false;
	if (!rc)
		return 0;
	snprintf(text, VBUSD_TEXT_LEN, "no window or doorbells: %s", strerror(errno));
	vbusd_session_close(bus);
	return -1;
}

void vbusd_session_close(struct vbusd_bus *bus)
{
	uint32_t i;

	vbusd_file_forget(bus);
	vbusd_unwatch(&bus->qemu);
	close_fd(&bus->window);
	for (i = 0; i < VBUS_VECTORS_MAX; i++) {
		close_fd(&bus->from_guest[i]);
		close_fd(&bus->to_guest[i]);
	}
}

static int say(int qemu, int64_t what, const int *fd)
{
	/* x86 hosts only: the wire is little endian. */
	return vbus_fdmsg_send(qemu, &what, sizeof(what), fd, fd ? 1 : 0);
}

static int hello(const struct vbusd_bus *bus, int qemu)
{
	uint32_t i;

	if (say(qemu, IVSHMEM_VERSION, NULL) || say(qemu, PEER_GUEST, NULL) ||
	    say(qemu, -1, &bus->window))
		return -1;
	for (i = 0; i < bus->vectors; i++)
		if (say(qemu, PEER_SOUTH, &bus->from_guest[i]))
			return -1;
	for (i = 0; i < bus->vectors; i++)
		if (say(qemu, PEER_GUEST, &bus->to_guest[i]))
			return -1;
	return 0;
}

static const char *objection(const struct vbusd_bus *bus, int qemu, uid_t *uid)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	*uid = (uid_t)-1;
	if (vbusd.spare < 0)
		return "no descriptor is left";
	if (bus->qemu >= 0)
		return "another one lives";
	if (bus->window < 0)
		return "no window could be made";
	if (getsockopt(qemu, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
		return "its user is unknown";
	*uid = who.uid;
	if (who.uid && who.uid != geteuid() && who.uid != vbusd.qemu_user)
		return "its user is not allowed";
	return NULL;
}

void vbusd_ivshmem_accept(struct vbusd_bus *bus)
{
	const char *why;
	uid_t uid;
	int qemu;

	/* The end of the one before may be known only by the event behind this one. */
	vbusd_ivshmem_readable(bus);
	if (bus->waits)
		return;
	qemu = vbusd_accept(bus->listener);
	if (qemu < 0) {
		if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
			vbus_log(bus->name, "a connection cannot be taken (%s)", strerror(errno));
		return;
	}
	why = objection(bus, qemu, &uid);
	if (why) {
		if (!bus->refused)
			vbus_log(bus->name,
				 "a connection is refused (%s, uid %d; told once a session)", why,
				 (int)uid);
		bus->refused = true;
		/*
		 * QEMU spins for ever on a bare end of file; at a wrong version it ends and says
		 * so.
		 */
		say(qemu, IVSHMEM_REFUSED, NULL);
		vbusd_refuse(qemu);
		return;
	}
	/*
	 * On record first: killed now, we tell the next vbusd that the window may be out.  And the
	 * worker holds the connection before QEMU holds the window: from its first word on, the guest
	 * has a session that survives us.
	 */
	bus->qemu = qemu;
	bus->sessions++;
	vbusd_record_write(bus);
	vbusd_store_session(bus);
	vbusd_worker_tell(bus, VBUS_WORKER_CONNECTED, 0);
	if (hello(bus, qemu) < 0 || vbusd_watch(qemu, VBUSD_EVENT_QEMU, vbusd_bus_index(bus)) < 0) {
		vbus_log(bus->name, "a connection is given up (%s)", strerror(errno));
		bus->sessions--;
		/* It may have got the window, which the next one must not share with it. */
		vbusd_worker_renew(bus);
		return;
	}
	VBUS_FAIL_POINT(QEMU_GREETED);
	vbus_log(bus->name, "QEMU is connected (session %u)", bus->sessions);
	vbusd_event_tell(VBUSD_QEMU_CONNECTED, bus->name, NULL, 0, bus->sessions, "");
}

/*
 * Its end, or words that no ivshmem ever says: the session is over, the next one gets new memory.
 */
void vbusd_ivshmem_readable(struct vbusd_bus *bus)
{
	char word;
	ssize_t n;

	if (bus->qemu < 0)
		return;
	n = recv(bus->qemu, &word, sizeof(word), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	vbus_log(bus->name, "QEMU is gone (%s)",
		 n > 0 ? "it spoke" : n ? strerror(errno) : "end of file");
	vbusd_event_tell(VBUSD_QEMU_GONE, bus->name, NULL, 0, bus->sessions, "");
	vbusd_worker_renew(bus);
}
