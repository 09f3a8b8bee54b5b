// SPDX-License-Identifier: MIT
/*
 * vbusd_worker.c - one worker a bus: start it, tell it everything, replace it when it dies.
 *
 * The fence: the old one has ended before the new one exists, so two never serve one window.  And
 * what takes something away is acted upon within a second, or the worker is killed: the next one is
 * told how things stand.  A hostile QEMU can block a worker for good, by filling a doorbell that
 * both hold and making it blocking.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fail_point.h"
#include "fdmsg.h"
#include "listen.h"
#include "log.h"
#include "vbusd_record.h"

#define DELAY_FIRST_MS	10u
#define DELAY_LAST_MS	1000u
#define FENCE_MS	1000u

uint64_t vbusd_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void vbusd_arm(const struct vbusd_bus *bus, int timer, uint32_t ms)
{
	const struct itimerspec when = {
		.it_value = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 },
	};

	if (timerfd_settime(timer, 0, &when, NULL) < 0)
		vbus_log(bus->name, "a timer cannot be set (%s)", strerror(errno));
}

/* Where the worker will wait for the vbusd after us. */
static int open_meeting(const struct vbusd_bus *bus, char *text)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s.worker", vbusd.state, bus->name);
	return vbus_listen(path, SOCK_SEQPACKET, geteuid(), text);
}

static int spawn(struct vbusd_bus *bus, char *text)
{
	int meet = open_meeting(bus, text), pair[2];

	if (meet < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		goto err;
	bus->modules = vbusd_class_needed(bus);
	bus->worker = vbusd_spawn(bus, pair[1], meet);
	bus->control = pair[0];
	close(pair[1]);
	if (bus->worker > 0)
		bus->pidfd = pidfd_open(bus->worker, 0);
	if (bus->pidfd < 0 ||
	    vbusd_watch(bus->pidfd, VBUSD_EVENT_WORKER_END, vbusd_bus_index(bus)) < 0 ||
	    vbusd_watch(bus->control, VBUSD_EVENT_NOTICE, vbusd_bus_index(bus)) < 0)
		goto err;
	close(meet);
	vbusd_event_tell(VBUSD_WORKER_STARTED, bus->name, NULL, 0, (uint32_t)bus->worker, "");
	return 0;

err:
	snprintf(text, VBUSD_TEXT_LEN, "%s", strerror(errno));
	if (bus->worker > 0) {
		kill(bus->worker, SIGKILL);
		waitpid(bus->worker, NULL, 0);
	}
	bus->worker = 0;
	vbusd_unwatch(&bus->pidfd);
	vbusd_unwatch(&bus->control);
	close(meet);
	return -1;
}

/* By its descriptor: the number of one that is no child of ours may be another's by now. */
void vbusd_worker_signal(const struct vbusd_bus *bus, int number)
{
	if (bus->pidfd >= 0 && pidfd_send_signal(bus->pidfd, number, NULL, 0) < 0 && errno != ESRCH)
		vbus_log(bus->name, "worker %d gets no signal (%s)", (int)bus->worker,
			 strerror(errno));
}

/* A worker that does not take its messages is stuck, and is replaced like a dead one. */
static void send_message(struct vbusd_bus *bus, struct vbus_worker_message *m, const int *fds,
			 unsigned int count)
{
	if (bus->control < 0)
		return;
	m->number = ++bus->told;
	if (!vbus_fdmsg_send(bus->control, m, sizeof(*m), fds, count))
		return;
	if (errno != EPIPE && errno != ECONNRESET && bus->worker > 0) {
		vbus_log(bus->name, "worker %d is killed (it takes no messages: %s)",
			 (int)bus->worker, strerror(errno));
		vbusd_worker_signal(bus, SIGKILL);
	}
}

static uint32_t bits_of(const struct vbus_mask *mask, uint32_t gid)
{
	uint32_t bits = 0, i;

	for (i = 0; i < VBUSD_GROUPS; i++)
		if (mask[i].gid == gid)
			bits |= mask[i].bits;
	return bits;
}

static void describe(struct vbusd_bus *bus, uint32_t slot, struct vbus_worker_message *m)
{
	const struct vbusd_device *dev = &bus->device[slot];
	const struct vbus_mask *f = dev->klass ? dev->klass->feature : NULL;
	uint32_t i;

	m->slot = slot;
	m->list_generation = bus->list_generation;
	m->instance = dev->instance;
	memcpy(m->uuid, dev->uuid, sizeof(m->uuid));
	memcpy(m->mac, dev->mac, sizeof(m->mac));
	m->read_only = dev->read_only;
	m->mtu = dev->mtu;
	m->block_size = dev->block_size;
	memcpy(m->serial, dev->serial, sizeof(m->serial));
	if (dev->klass)
		memcpy(m->klass, dev->klass->name, sizeof(m->klass));
	/* The name of an interface fits; whatever else stands there is only shown. */
	memcpy(m->name, dev->argument, sizeof(m->name) - 1);
	m->link = dev->link;
	for (i = 0; f && i < VBUSD_GROUPS && f[i].bits; i++)
		m->mask[i] = (struct vbus_mask){
			.gid = f[i].gid,
			.bits = f[i].bits &
				(bits_of(dev->mask, f[i].gid) | bits_of(bus->mask, f[i].gid)),
		};
}

void vbusd_worker_tell_device(struct vbusd_bus *bus, uint32_t slot, int fd)
{
	struct vbus_worker_message m = { .kind = VBUS_WORKER_DEVICE };

	describe(bus, slot, &m);
	send_message(bus, &m, &fd, fd >= 0);
}

void vbusd_worker_tell_backend(struct vbusd_bus *bus, uint32_t slot, int fd)
{
	struct vbus_worker_message m = { .kind = VBUS_WORKER_BACKEND, .slot = slot };

	send_message(bus, &m, &fd, 1);
}

/* For a new worker: what vbusd has, or what it opens for this one. */
static void tell_again(struct vbusd_bus *bus, uint32_t slot)
{
	struct vbusd_device *dev = &bus->device[slot];
	char text[VBUSD_TEXT_LEN];
	int fd = dev->fd;

	if (fd < 0 && dev->klass->backend != VBUS_BACKEND_NONE) {
		fd = vbusd_backend_open(dev, text);
		dev->lost = false;
		if (fd < 0)
			vbusd_stream_lost(bus, slot);
		if (fd < 0)
			vbus_log(bus->name, "device %02x%02x%02x%02x has no back end (%s)",
				 dev->uuid[0], dev->uuid[1], dev->uuid[2], dev->uuid[3], text);
		if (vbusd_backend_is_kept(dev))
			dev->fd = fd;
	}
	vbusd_worker_tell_device(bus, slot, fd);
	if (fd >= 0 && fd != dev->fd)
		close(fd);
}

/* One at a time: a message that follows must not give more time to the one before. */
static void raise_fence(struct vbusd_bus *bus)
{
	struct itimerspec left;

	if (bus->control < 0)
		return;
	if (timerfd_gettime(bus->fence, &left) < 0)
		return;
	if (left.it_value.tv_sec || left.it_value.tv_nsec)
		return;
	bus->fenced = bus->told_fence;
	vbusd_arm(bus, bus->fence, FENCE_MS);
}

void vbusd_worker_tell(struct vbusd_bus *bus, enum vbus_worker_kind kind, uint32_t slot)
{
	struct vbus_worker_message m = { .kind = kind };

	describe(bus, slot, &m);
	/* Who shares a FIFO that vbusd reads could make it wait there; a socket is asked not to. */
	send_message(bus, &m, &bus->qemu,
		     kind == VBUS_WORKER_CONNECTED && bus->connector == VBUSD_IVSHMEM);
	if (kind == VBUS_WORKER_REMOVE || kind == VBUS_WORKER_LINK || kind == VBUS_WORKER_FINISH) {
		bus->told_fence = bus->told;
		raise_fence(bus);
	}
}

void vbusd_worker_fence(struct vbusd_bus *bus)
{
	uint64_t times;

	if (read(bus->fence, &times, sizeof(times)) < 0 || bus->worker <= 0)
		return;
	if (bus->after == VBUSD_AFTER_RELEASE) {
		vbusd_release_fail(bus, "its I/O does not end: a disk holds it up");
		return;
	}
	if (bus->after > VBUSD_AFTER_HANDOVER) {
		vbus_log(bus->name, "worker %d is killed and does not end yet (a disk holds it up)",
			 (int)bus->worker);
		vbusd_admin_answer(bus, VBUSD_BUSY, NULL);
		return;
	}
	/* One that was to make room is to go, whatever it says it did. */
	if (bus->after || (int32_t)(bus->page->acted - bus->fenced) < 0) {
		vbus_log(bus->name, "worker %d is killed (it did not act for %u ms)",
			 (int)bus->worker, FENCE_MS);
		vbusd_worker_signal(bus, SIGKILL);
	} else if (bus->fenced != bus->told_fence) {
		raise_fence(bus);
	}
}

static void tell_all(struct vbusd_bus *bus)
{
	struct vbus_worker_message start = {
		.kind = VBUS_WORKER_START,
		.vectors = bus->vectors,
		.list_generation = bus->list_generation,
		.window_size = (uint64_t)bus->window_mib << 20,
	};
	int fds[VBUS_WORKER_FDS];
	uint32_t i;

	memcpy(start.name, bus->name, sizeof(start.name));
	fds[VBUS_WORKER_WINDOW] = bus->window;
	fds[VBUS_WORKER_PAGE] = bus->page_fd;
	memcpy(&fds[VBUS_WORKER_BELLS], bus->from_guest, bus->vectors * sizeof(int));
	memcpy(&fds[VBUS_WORKER_BELLS + bus->vectors], bus->to_guest, bus->vectors * sizeof(int));
	send_message(bus, &start, fds, VBUS_WORKER_BELLS + 2 * bus->vectors);
	/* Early: from here on all that makes the session has two holders. */
	if (bus->qemu >= 0)
		vbusd_worker_tell(bus, VBUS_WORKER_CONNECTED, 0);
	for (i = 0; i < VBUSD_DEVICES; i++)
		if (bus->device[i].used)
			tell_again(bus, i);
	vbusd_worker_tell(bus, VBUS_WORKER_GO, 0);
}

void vbusd_worker_reconcile(struct vbusd_bus *bus, const struct vbus_worker_message *seen)
{
	struct vbus_worker_message want;
	bool has, same;
	uint32_t i;

	for (i = 0; i < VBUSD_DEVICES; i++) {
		want = (struct vbus_worker_message){ 0 };
		describe(bus, i, &want);
		has = seen[i].kind == VBUS_WORKER_DEVICE;
		same = has && bus->device[i].used && seen[i].instance == want.instance;
		if (has && !same)
			vbusd_worker_tell(bus, VBUS_WORKER_REMOVE, i);
		if (bus->device[i].used && !same)
			tell_again(bus, i);
		if (same && seen[i].link != want.link)
			vbusd_worker_tell(bus, VBUS_WORKER_LINK, i);
		if (same && memcmp(seen[i].mask, want.mask, sizeof(want.mask)))
			vbusd_worker_tell(bus, VBUS_WORKER_MASK, i);
	}
}

static void retry(struct vbusd_bus *bus, const char *what, const char *why)
{
	vbus_log(bus->name, "%s, tried again in %u ms (%s)", what, DELAY_LAST_MS, why);
	bus->delay_ms = DELAY_LAST_MS;
	vbusd_arm(bus, bus->respawn, bus->delay_ms);
}

/* Connections are taken, or wait in the queue. */
static void listen_to(struct vbusd_bus *bus, bool on)
{
	struct epoll_event e = {
		.events = on ? EPOLLIN : 0,
		.data.u64 = (uint64_t)VBUSD_EVENT_LISTENER << 32 | vbusd_bus_index(bus),
	};

	bus->waits = !on;
	if (bus->listener >= 0 && epoll_ctl(vbusd.epoll, EPOLL_CTL_MOD, bus->listener, &e) < 0)
		vbus_log(bus->name, "the socket cannot be watched (%s)", strerror(errno));
}

void vbusd_worker_start(struct vbusd_bus *bus)
{
	char text[VBUSD_TEXT_LEN];

	if (bus->waits)
		listen_to(bus, true);
	if (bus->listener < 0 && vbusd_bus_listen(bus, text) < 0) {
		retry(bus, "QEMU cannot connect", text);
		return;
	}
	if (bus->window < 0 && vbusd_session_open(bus, text) < 0) {
		retry(bus, "no session can be opened", text);
		return;
	}
	if (bus->hold) {
		vbusd_record_write(bus);
		vbusd_store_session(bus);
		return;
	}
	if (spawn(bus, text) < 0) {
		retry(bus, "no worker can be started", text);
		return;
	}
	VBUS_FAIL_POINT(WORKER_SPAWNED);
	vbusd_record_write(bus);
	VBUS_FAIL_POINT(WORKER_RECORDED);
	tell_all(bus);
	VBUS_FAIL_POINT(WORKER_TOLD);
	vbusd_store_session(bus);
}

static void forget_worker(struct vbusd_bus *bus)
{
	vbusd_unwatch(&bus->pidfd);
	vbusd_unwatch(&bus->control);
	bus->worker = 0;
	bus->told = bus->told_fence = bus->page->acted = 0;
	vbusd_arm(bus, bus->fence, 0);
	bus->page->negotiated = 0;
	bus->page->confirmed = 0;
	bus->page->sandbox = 0;
}

void vbusd_worker_kill(struct vbusd_bus *bus, enum vbusd_after after)
{
	if (bus->after == VBUSD_AFTER_RELEASE)
		vbusd_release_fail(bus, "it ends, or its QEMU is gone");
	bus->after = after;
	vbusd_arm(bus, bus->respawn, 0);
	if (bus->worker <= 0)
		return;
	vbusd_worker_signal(bus, SIGKILL);
	/* It takes nothing that it is told from here on. */
	vbusd_unwatch(&bus->control);
	vbusd_arm(bus, bus->fence, FENCE_MS);
}

/* How long to wait: not at all, until too many have died within a second. */
static uint32_t delay_after(struct vbusd_bus *bus)
{
	uint64_t now = vbusd_now_ms(), oldest = bus->died[0];

	memmove(&bus->died[0], &bus->died[1], sizeof(bus->died) - sizeof(bus->died[0]));
	bus->died[VBUSD_CRASHES - 1] = now;
	if (!oldest || now - oldest > DELAY_LAST_MS + bus->delay_ms * VBUSD_CRASHES)
		return 0;
	if (!bus->delay_ms)
		return DELAY_FIRST_MS;
	return bus->delay_ms * 2 < DELAY_LAST_MS ? bus->delay_ms * 2 : DELAY_LAST_MS;
}

/*
 * Its end, and in words how it came: it has given back all memory and descriptors by then.  A child
 * is reaped; one that a former vbusd had started has a parent that does so.
 */
static bool has_ended(const struct vbusd_bus *bus, int ms, char *how)
{
	struct pollfd end = { .fd = bus->pidfd, .events = POLLIN };
	int status;

	if (poll(&end, 1, ms) <= 0)
		return false;
	if (waitpid(bus->worker, &status, WNOHANG) != bus->worker)
		snprintf(how, VBUSD_TEXT_LEN, "a former vbusd had started it");
	else if (WIFSIGNALED(status))
		snprintf(how, VBUSD_TEXT_LEN, "signal %d%s", WTERMSIG(status),
			 WTERMSIG(status) == SIGSYS ? ": a system call was refused" : "");
	else
		snprintf(how, VBUSD_TEXT_LEN, "exit code %d", WEXITSTATUS(status));
	return true;
}

/* One session after another is as expensive as crashes, and slowed down alike. */
static void go_on(struct vbusd_bus *bus)
{
	if (bus->after == VBUSD_AFTER_BUS) {
		vbusd_bus_gone(bus);
		return;
	}
	if (bus->after == VBUSD_AFTER_SESSION)
		bus->delay_ms = delay_after(bus);
	bus->after = VBUSD_AFTER_CRASH;
	if (bus->delay_ms)
		vbusd_arm(bus, bus->respawn, bus->delay_ms);
	else
		vbusd_worker_start(bus);
}

void vbusd_worker_ended(struct vbusd_bus *bus, int ms)
{
	char how[VBUSD_TEXT_LEN];
	pid_t pid = bus->worker;

	if (pid <= 0 || !has_ended(bus, ms, how))
		return;
	forget_worker(bus);
	VBUS_FAIL_POINT(WORKER_GONE);
	if (bus->after == VBUSD_AFTER_RELEASE)
		vbusd_release_ended(bus);
	if (bus->hold)
		return;
	if (bus->after == VBUSD_AFTER_HANDOVER) {
		bus->handovers++;
		bus->delay_ms = 0;
		vbus_log(bus->name, "worker %d made room for the next", (int)pid);
	} else if (bus->after == VBUSD_AFTER_CRASH) {
		bus->restarts++;
		bus->delay_ms = delay_after(bus);
		vbus_log(bus->name, "worker %d died (%s), the next starts in %u ms", (int)pid, how,
			 bus->delay_ms);
		vbusd_event_tell(VBUSD_WORKER_DIED, bus->name, NULL, 0, (uint32_t)pid, "");
	}
	go_on(bus);
}

void vbusd_worker_respawn(struct vbusd_bus *bus)
{
	uint64_t times;

	if (read(bus->respawn, &times, sizeof(times)) < 0)
		return;
	if (!bus->worker)
		vbusd_worker_start(bus);
}

void vbusd_worker_ask_for_end(struct vbusd_bus *bus, enum vbusd_after after,
			      enum vbus_worker_kind kind)
{
	bus->after = after;
	/* What it said before may have silenced it for a second. */
	if (vbusd_watch(bus->control, VBUSD_EVENT_NOTICE, vbusd_bus_index(bus)) < 0 &&
	    errno != EEXIST)
		vbus_log(bus->name, "a worker is not heard any more (%s)", strerror(errno));
	vbusd_worker_tell(bus, kind, 0);
}

/* Without a worker there is nothing to do: the next one is a fresh one in any case. */
void vbusd_worker_handover(struct vbusd_bus *bus, const char *why)
{
	if (bus->worker <= 0 || bus->after)
		return;
	vbus_log(bus->name, "worker %d is to make room (%s)", (int)bus->worker, why);
	vbusd_worker_ask_for_end(bus, VBUSD_AFTER_HANDOVER, VBUS_WORKER_FINISH);
}

/* It holds everything still: killed only now, it is never missed when we are killed meanwhile. */
void vbusd_worker_finished(struct vbusd_bus *bus)
{
	VBUS_FAIL_POINT(WORKER_FINISHED);
	if (bus->after)
		vbusd_worker_signal(bus, SIGKILL);
}

/* A session is over: its memory is the worker's alone now.  The next comes when that has ended. */
void vbusd_worker_renew(struct vbusd_bus *bus)
{
	vbusd_worker_kill(bus, VBUSD_AFTER_SESSION);
	vbusd_store_forget_session(bus);
	vbusd_session_close(bus);
	vbusd_record_write(bus);
	listen_to(bus, false);
	if (bus->worker <= 0)
		go_on(bus);
}
