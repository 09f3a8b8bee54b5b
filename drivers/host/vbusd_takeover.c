// SPDX-License-Identifier: MIT
/*
 * vbusd_takeover.c - what a former vbusd left: its records, its workers, what systemd stored.
 *
 * A worker may have been taken over by its guest while nobody looked.  So it is known by the pid
 * and the start in the record, its descriptors are compared with the record, and nothing else that
 * it says is believed.  One that does not fit is killed, and ends before the next one is begun.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fail_point.h"
#include "fdmsg.h"
#include "log.h"
#include "vbusd_record.h"

#define MEET_MS		3000	/* for all that a worker has to say; it takes a few */

/**
 * struct meeting - what a worker says
 * @seen:   per slot the device that it serves
 * @number: of the last message that it took
 * @serves: it drew an epoch, and was not asked to make room
 */
struct meeting {
	struct vbusd_bus *bus;
	const struct vbusd_record *record;
	uint64_t end_ms;
	struct vbus_worker_message seen[VBUSD_DEVICES];
	uint32_t number;
	bool serves;
};

/* 0 when it is what the record says. */
static int take(struct meeting *m, uint32_t index, int fd)
{
	struct vbusd_identity is;
	int *place = vbusd_held(m->bus, index);

	if (*place >= 0 || vbusd_identify(fd, &is) < 0 ||
	    !vbusd_is_identical(&is, &m->record->held[index])) {
		close(fd);
		return -1;
	}
	*place = fd;
	return 0;
}

/* Either all are taken or closed; the first one that is wrong decides. */
static int take_all(struct meeting *m, const int *fds, unsigned int count, const uint32_t *index)
{
	unsigned int i;
	int err = 0;

	for (i = 0; i < count; i++) {
		if (err)
			close(fds[i]);
		else
			err = take(m, index[i], fds[i]);
	}
	return err;
}

static int refuse_all(const int *fds, unsigned int count)
{
	while (count)
		close(fds[--count]);
	return -1;
}

static int take_session(struct meeting *m, const int *fds, unsigned int count)
{
	static const uint32_t first[VBUS_WORKER_BELLS] = {
		[VBUS_WORKER_WINDOW] = VBUSD_HELD_WINDOW,
		[VBUS_WORKER_PAGE] = VBUSD_HELD_PAGE,
	};
	uint32_t vectors = m->bus->vectors, index[VBUS_WORKER_FDS], i;

	memcpy(index, first, sizeof(first));
	for (i = 0; i < vectors; i++) {
		index[VBUS_WORKER_BELLS + i] = VBUSD_HELD_FROM_GUEST + i;
		index[VBUS_WORKER_BELLS + vectors + i] = VBUSD_HELD_TO_GUEST + i;
	}
	if (count == VBUS_WORKER_BELLS + 2 * vectors)
		return take_all(m, fds, count, index);
	return refuse_all(fds, count);
}

/* A device that is not on record, or is no longer, is only noted: the worker will be told. */
static int take_device(struct meeting *m, const struct vbus_worker_message *said, const int *fds,
		       unsigned int count)
{
	struct vbusd_device *dev;

	if (said->slot >= VBUSD_DEVICES || count > 1)
		return refuse_all(fds, count);
	m->seen[said->slot] = *said;
	dev = &m->bus->device[said->slot];
	if (!count)
		return 0;
	if (!dev->used || said->instance != dev->instance) {
		close(fds[0]);
		return 0;
	}
	if (dev->fd >= 0 || !vbusd_backend_is(dev, fds[0])) {
		close(fds[0]);
		return -1;
	}
	dev->fd = fds[0];
	return 0;
}

/* One message; why it cannot be believed, or NULL. */
static const char *hear(struct meeting *m, int sock, bool *last)
{
	const uint32_t qemu = VBUSD_HELD_QEMU;
	struct vbus_worker_message said;
	int fds[VBUS_WORKER_FDS], err = 0;
	unsigned int count = 0;

	if (vbus_fdmsg_receive(sock, &said, sizeof(said), fds, VBUS_WORKER_FDS, &count) !=
	    (long)sizeof(said))
		return "it does not say what it holds";
	switch (said.kind) {
	case VBUS_WORKER_START:
		err = take_session(m, fds, count);
		break;
	case VBUS_WORKER_CONNECTED:
		err = count > 1 ? refuse_all(fds, count) : take_all(m, fds, count, &qemu);
		break;
	case VBUS_WORKER_DEVICE:
		err = take_device(m, &said, fds, count);
		break;
	case VBUS_WORKER_GO:
		err = count ? refuse_all(fds, count) : 0;
		m->number = said.number;
		m->serves = said.slot;
		*last = true;
		break;
	default:
		refuse_all(fds, count);
		return "it says what no worker says";
	}
	return err ? "it hands back another descriptor than it got" : NULL;
}

/*
 * All that the record names.  QEMU may have gone before the worker was told of it, and its socket can
 * be made anew.
 */
static bool is_whole(struct vbusd_bus *bus, const struct vbusd_record *r)
{
	uint32_t i;

	for (i = 0; i < VBUSD_HELD_FDS; i++)
		if (i != VBUSD_HELD_QEMU && i != VBUSD_HELD_LISTENER && r->held[i].ino &&
		    *vbusd_held(bus, i) < 0)
			return false;
	return bus->window >= 0 && bus->page_fd >= 0;
}

/*
 * Back to the bare configuration, and a worker that is to end; QEMU's socket stays: another holder
 * may serve it.
 */
static void drop(struct vbusd_bus *bus, const struct vbusd_record *r)
{
	pid_t worker = bus->worker;
	int pidfd = bus->pidfd;

	bus->pidfd = -1;
	vbusd_unwatch(&bus->listener);
	vbusd_bus_close(bus);
	vbusd_record_apply(r, bus);
	bus->used = true;
	bus->worker = worker;
	bus->pidfd = pidfd;
}

/* What systemd stored for the bus, each in its place; a second copy is one too many. */
static void take_stored(struct meeting *m)
{
	struct vbusd_bus *bus = m->bus;
	struct vbusd_identity is;
	char name[VBUSD_NAME_LEN + 16];
	uint32_t i;
	int fd;

	while ((fd = vbusd_store_take(bus->name)) >= 0) {
		for (i = 0; i < VBUSD_HELD_FDS; i++)
			if (!vbusd_identify(fd, &is) && *vbusd_held(bus, i) < 0 &&
			    vbusd_is_identical(&is, &m->record->held[i]))
				break;
		if (i == VBUSD_HELD_FDS)
			close(fd);
		else
			*vbusd_held(bus, i) = fd;
	}
	for (i = 0; i < VBUSD_DEVICES; i++) {
		snprintf(name, sizeof(name), "%s/%u", bus->name, i);
		while ((fd = vbusd_store_take(name)) >= 0) {
			if (bus->device[i].fd < 0 && bus->device[i].used &&
			    vbusd_backend_is(&bus->device[i], fd))
				bus->device[i].fd = fd;
			else
				close(fd);
		}
	}
}

/* The worker of the record, unless it has ended, which the number alone does not tell. */
static void find_worker(struct vbusd_bus *bus, const struct vbusd_record *r)
{
	struct pollfd end = { .events = POLLIN };

	end.fd = bus->pidfd = r->worker > 0 ? pidfd_open(r->worker, 0) : -1;
	if (end.fd < 0)
		return;
	if (vbusd_start_of(r->worker) == r->worker_start && poll(&end, 1, 0) == 0) {
		bus->worker = r->worker;
		if (vbusd_watch(bus->pidfd, VBUSD_EVENT_WORKER_END, vbusd_bus_index(bus)) < 0)
			vbus_log(bus->name, "the end of worker %d will not be seen (%s)",
				 (int)bus->worker, strerror(errno));
		return;
	}
	close(bus->pidfd);
	bus->pidfd = -1;
}

/* -1 while it does not listen; that it does not is no fault of one that was just started. */
static int dial(const struct vbusd_record *r)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct ucred who;
	socklen_t len = sizeof(who);
	int s;

	if (snprintf(at.sun_path, sizeof(at.sun_path), "%s/%s.worker", vbusd.state, r->name) >=
	    (int)sizeof(at.sun_path))
		return -1;
	s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0)
		return -1;
	if (!connect(s, (struct sockaddr *)&at, sizeof(at)) &&
	    !getsockopt(s, SOL_SOCKET, SO_PEERCRED, &who, &len) && who.pid == r->worker)
		return s;
	close(s);
	return -1;
}

static int dial_in_time(const struct meeting *m, int pidfd)
{
	struct pollfd end = { .fd = pidfd, .events = POLLIN };
	int s;

	while ((s = dial(m->record)) < 0 && vbusd_now_ms() < m->end_ms)
		if (poll(&end, 1, 1) != 0)
			break;
	return s;
}

/* Why it cannot be believed, or NULL. */
static const char *listen_to(struct meeting *m, int sock)
{
	struct pollfd word = { .fd = sock, .events = POLLIN };
	const char *why = NULL;
	bool last = false;
	uint64_t now;

	while (!why && !last) {
		now = vbusd_now_ms();
		if (now >= m->end_ms || poll(&word, 1, (int)(m->end_ms - now)) <= 0)
			return "it does not answer";
		why = hear(m, sock, &last);
	}
	if (!why && !is_whole(m->bus, m->record))
		why = "it does not hand back all that it got";
	return why;
}

/* The connection, or -1: then @killed says whether we ended the worker, or something before us. */
static int meet(struct meeting *m, bool *killed)
{
	struct vbusd_bus *bus = m->bus;
	const char *why = "it cannot be reached";
	char text[VBUSD_TEXT_LEN];
	int s;

	m->end_ms = vbusd_now_ms() + MEET_MS;
	s = dial_in_time(m, bus->pidfd);
	if (s >= 0)
		why = listen_to(m, s);
	VBUS_FAIL_POINT(TAKEOVER_HEARD);
	if (!why) {
		take_stored(m);		/* QEMU's socket, if systemd has it */
		if (vbusd_bus_adopt(bus, text) < 0)
			why = text;
	}
	if (!why && vbusd_watch(s, VBUSD_EVENT_NOTICE, vbusd_bus_index(bus)) < 0)
		why = strerror(errno);
	if (!why)
		return s;

	*killed = !vbusd_is_dying(bus->worker);
	if (*killed)
		vbus_log(bus->name, "worker %d is killed (%s)", (int)bus->worker, why);
	vbusd_worker_signal(bus, SIGKILL);
	if (s >= 0)
		close(s);
	return -1;
}

/* It hung up before its connection had a second holder: the next one gets new memory. */
static bool has_lost_qemu(struct vbusd_bus *bus, const struct vbusd_record *r)
{
	if (!r->held[VBUSD_HELD_QEMU].ino || bus->qemu >= 0)
		return false;
	vbus_log(bus->name, "QEMU is gone (nobody holds its connection)");
	vbusd_worker_renew(bus);
	return true;
}

static bool take_worker(struct vbusd_bus *bus, const struct vbusd_record *r, bool *killed)
{
	struct meeting m = { .bus = bus, .record = r };
	char text[VBUSD_TEXT_LEN];

	/* One that is dying would not answer. */
	if (bus->worker <= 0 || vbusd_is_dying(bus->worker))
		return false;
	VBUS_FAIL_POINT(TAKEOVER_FOUND);
	bus->control = meet(&m, killed);
	if (bus->control < 0)
		return false;
	bus->told = bus->told_fence = bus->fenced = m.number;
	bus->takeovers++;
	VBUS_FAIL_POINT(TAKEOVER_ADOPTED);
	vbus_log(bus->name, "worker %d is taken over", (int)bus->worker);
	if (bus->listener < 0 && vbusd_bus_listen(bus, text) < 0)
		vbus_log(bus->name, "the next QEMU cannot connect yet (%s)", text);
	if (has_lost_qemu(bus, r))
		return true;
	vbusd_worker_reconcile(bus, m.seen);
	VBUS_FAIL_POINT(TAKEOVER_RECONCILED);
	if (!m.serves) {
		/* It was to make room, or had not begun. */
		bus->after = VBUSD_AFTER_HANDOVER;
		vbusd_worker_signal(bus, SIGKILL);
	} else if (vbusd.require_sandbox) {
		/* A former vbusd may not have asked for it; what the worker says of it counts for nothing. */
		vbusd_worker_handover(bus, "a sandbox is required");
	}
	vbusd_record_write(bus);
	VBUS_FAIL_POINT(TAKEOVER_RECORDED);
	return true;
}

/* Another worker, when the one before has ended. */
static void begin(struct vbusd_bus *bus)
{
	if (bus->worker <= 0) {
		vbusd_worker_start(bus);
		return;
	}
	vbusd_worker_kill(bus, VBUSD_AFTER_SESSION);
	vbusd_record_write(bus);
}

static bool take_store(struct vbusd_bus *bus, const struct vbusd_record *r)
{
	struct meeting m = { .bus = bus, .record = r };
	char text[VBUSD_TEXT_LEN];

	take_stored(&m);
	if (!is_whole(bus, r) || vbusd_bus_adopt(bus, text) < 0)
		return false;
	vbus_log(bus->name, "the session is taken over from the descriptor store");
	if (!has_lost_qemu(bus, r))
		begin(bus);
	return true;
}

/* A QEMU that ended meanwhile took its guest along, and nobody misses the devices. */
static bool is_missed(const struct vbusd_record *r)
{
	return r->held[VBUSD_HELD_QEMU].ino &&
	       (!r->guest || vbusd_start_of(r->guest) == r->guest_start);
}

static void start_afresh(struct vbusd_bus *bus, const struct vbusd_record *r, const char *how)
{
	char text[VBUSD_TEXT_LEN];

	vbusd_store_forget_session(bus);
	if (is_missed(r)) {
		bus->lost++;
		vbus_log(bus->name, "%s: the guest's devices fail; restart or migrate the guest",
			 how);
	}
	if (vbusd_bus_open(bus, text) < 0) {
		vbus_log(bus->name, "cannot be restored, its record is left (%s)", text);
		vbusd_bus_close(bus);
		return;
	}
	begin(bus);
}

static void restore(struct vbusd_bus *bus, const struct vbusd_record *r)
{
	bool killed = false;

	vbusd_record_apply(r, bus);
	bus->used = true;
	find_worker(bus, r);
	if (bus->connector == VBUSD_FILE) {
		/* What lies in a folder has no second holder. */
		vbusd_worker_signal(bus, SIGKILL);
		start_afresh(bus, r, "its session has ended with vbusd");
		return;
	}
	if (take_worker(bus, r, &killed))
		return;
	/* What was taken so far may be in part, or of a worker that lied. */
	drop(bus, r);
	if (take_store(bus, r))
		return;
	drop(bus, r);
	start_afresh(bus, r, killed ? "its session is lost with its worker" :
			     "vbusd and its worker were lost at once");
}

/* Its own place, as long as nobody else has it. */
static struct vbusd_bus *place_of(const struct vbusd_record *r)
{
	uint32_t i;

	if (r->slot < VBUSD_BUSES && !vbusd.bus[r->slot].used)
		return &vbusd.bus[r->slot];

	for (i = 0; i < VBUSD_BUSES; i++)
		if (!vbusd.bus[i].used)
			return &vbusd.bus[i];
	return NULL;
}

static bool is_record(const char *file)
{
	const char *tail = strrchr(file, '.');

	return tail && tail != file && !strcmp(tail, ".bus");
}

bool vbusd_takeover_left(void)
{
	DIR *d = opendir(vbusd.state);
	const struct dirent *e;
	bool left = false;

	while (d && (e = readdir(d))) {
		if (!is_record(e->d_name))
			continue;
		left = true;
		vbus_log(NULL, "record %s/%s is left, and its worker goes on, if it has one",
			 vbusd.state, e->d_name);
	}
	if (d)
		closedir(d);
	return left;
}

void vbusd_takeover(void)
{
	struct vbusd_record r;
	char text[VBUSD_TEXT_LEN];
	struct vbusd_bus *bus;
	const struct dirent *e;
	DIR *d = opendir(vbusd.state);

	while (d && (e = readdir(d))) {
		if (!is_record(e->d_name))
			continue;
		bus = NULL;
		snprintf(text, sizeof(text), "there are too many");
		if (!vbusd_record_read(e->d_name, &r, text))
			bus = place_of(&r);
		if (bus)
			restore(bus, &r);
		else
			vbus_log(NULL, "record %s/%s is left alone (%s)", vbusd.state, e->d_name,
				 text);
	}
	if (d)
		closedir(d);
	vbusd_store_close();
}
