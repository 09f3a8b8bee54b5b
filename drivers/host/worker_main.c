// SPDX-License-Identifier: MIT
/*
 * worker_main.c - start, and the one loop.
 *
 * Started by vbusd alone, with sockets as descriptors 3 and 4, the modules of its classes from
 * VBUS_WORKER_MODULE_FD on, and no other beyond the usual three.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "log.h"
#include "worker.h"
#include "worker_io.h"

#define EVENTS		64

static struct vbus_bus bus = {
	.control = VBUS_WORKER_FD, .window_fd = -1, .page_fd = -1, .qemu = -1
};

_Noreturn void vbus_leave(const struct vbus_bus *b, const char *why)
{
	if (why)
		vbus_log(b->name[0] ? b->name : NULL, "worker ends (%s: %s)", why, strerror(errno));
	/* No atexit work: nothing here outlives us. */
	_exit(why ? 1 : 0);
}

int vbus_watch(struct vbus_bus *b, int fd, uint32_t events, uint64_t event)
{
	struct epoll_event e = { .events = events, .data.u64 = event };

	return epoll_ctl(b->epoll, EPOLL_CTL_ADD, fd, &e);
}

static void drain(int timer)
{
	uint64_t times;

	if (read(timer, &times, sizeof(times)) < 0 && errno != EAGAIN && errno != EINTR)
		vbus_leave(&bus, "the timer cannot be read");
}

/* A look only, so that nobody who rings all the time keeps us here; what is left wakes us again. */
static void drain_fifo(int fd)
{
	char bytes[4096];

	if (read(fd, bytes, sizeof(bytes)) < 0 && errno != EAGAIN && errno != EINTR)
		vbus_leave(&bus, "a doorbell cannot be read");
}

static void note(uint64_t event)
{
	uint32_t index = (uint32_t)event;

	switch ((enum vbus_event)(event >> 32)) {
	case VBUS_EVENT_CONTROL:
		vbus_control_receive(&bus);
		break;
	case VBUS_EVENT_TIMER:
		drain(bus.timer);
		if (bus.finished)
			break;
		vbus_bus_look(&bus);
		vbus_bus_tick(&bus);
		break;
	case VBUS_EVENT_FLUSH:
		drain(bus.flush);
		vbus_queue_tick(&bus);
		break;
	case VBUS_EVENT_BELL:
		vbus_count(&bus.page->counters.queue[index].qnotify);
		if (bus.fifos)
			drain_fifo(bus.from_guest[index]);
		bus.rang |= 1u << index;
		vbus_bus_rung(&bus);
		break;
	case VBUS_EVENT_DEVICE:
		/*
		 * A slot that was emptied and filled again in this round only looks once in vain.
		 */
		if (bus.device[index].used && bus.device[index].ops->readable)
			bus.device[index].ops->readable(&bus.device[index]);
		break;
	case VBUS_EVENT_MEET:
		vbus_keep_meet(&bus);
		break;
	case VBUS_EVENT_QEMU:
		vbus_leave(&bus, NULL);	/* with the session, and nobody here to begin another */
	case VBUS_EVENT_IO:
		vbus_io_reap();
		break;
	case VBUS_EVENT_FENCE:
		vbus_fence_tick(&bus);
		break;
	}
}

/* A window that is another's is left alone until the timer or a doorbell has it looked at again. */
static bool has_work(void)
{
	return bus.epoch && !bus.finished && !bus.foreign && (bus.ready || bus.calls || bus.rang);
}

static _Noreturn void serve(void)
{
	struct epoll_event events[EVENTS];
	int i, n;

	for (;;) {
		n = epoll_wait(bus.epoll, events, EVENTS,
			       vbus_io_submit() || has_work() ? 0 : -1);
		if (n < 0 && errno != EINTR)
			vbus_leave(&bus, "waiting for events failed");
		for (i = 0; i < n; i++)
			note(events[i].data.u64);
		/* Before that it is still being told what there is, and after FINISH it makes room. */
		if (bus.epoch && !bus.finished)
			vbus_bus_serve(&bus);
		vbus_release_look(&bus);
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "--describe"))
		vbus_class_describe();
	if (argc != 3 || fcntl(VBUS_WORKER_FD, F_GETFD) < 0 || vbus_keep_alone() < 0) {
		vbus_log(NULL, "is started by vbusd only");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	bus.epoll = epoll_create1(EPOLL_CLOEXEC);
	bus.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	bus.flush = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (bus.epoll < 0 || bus.timer < 0 || bus.flush < 0 ||
	    vbus_watch(&bus, bus.control, EPOLLIN, VBUS_EVENT(VBUS_EVENT_CONTROL, 0)) < 0 ||
	    vbus_watch(&bus, bus.timer, EPOLLIN, VBUS_EVENT(VBUS_EVENT_TIMER, 0)) < 0 ||
	    vbus_watch(&bus, bus.flush, EPOLLIN, VBUS_EVENT(VBUS_EVENT_FLUSH, 0)) < 0)
		vbus_leave(&bus, "no event loop");
	/* A sandbox opens no files. */
	vbus_classes_load(&bus);
	vbus_sandbox(&bus, (uid_t)strtoul(argv[1], NULL, 10));
	/* What needs threads or a ring is made here: later is refused, earlier is left outside. */
	if (vbus_fence_open(&bus) < 0 || vbus_io_open(&bus) < 0)
		vbus_leave(&bus, "no I/O engine");
	vbus_seccomp(&bus);
	vbus_sandbox_judge(&bus, !strcmp(argv[2], "required"));
	serve();
}
