// SPDX-License-Identifier: MIT
/* worker_control.c - what vbusd says, taken one message at a time. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fail_point.h"
#include "fdmsg.h"
#include "worker.h"

/* Checks of what vbusd says are against its mistakes: it is trusted. */
static _Noreturn void nonsense(const struct vbus_bus *bus)
{
	errno = EPROTO;
	vbus_leave(bus, "vbusd sent nonsense");
}

static void *map(const struct vbus_bus *bus, int fd, size_t size)
{
	struct stat st;
	void *at;

	if (fstat(fd, &st) < 0 || st.st_size < 0 || (size_t)st.st_size < size)
		vbus_leave(bus, "a shared memory object is too small");
	at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		vbus_leave(bus, "a shared memory object cannot be mapped");
	return at;
}

static bool is_fifo(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISFIFO(st.st_mode);
}

static void on_start(struct vbus_bus *bus, const struct vbus_worker_message *m, const int *fds,
		     unsigned int count)
{
	uint32_t i;

	if (bus->window.base || m->vectors > VBUS_VECTORS_MAX ||
	    count != VBUS_WORKER_BELLS + 2 * m->vectors)
		nonsense(bus);
	memcpy(bus->name, m->name, sizeof(bus->name) - 1);
	bus->vectors = m->vectors;
	bus->list_generation = m->list_generation;
	bus->window_fd = fds[VBUS_WORKER_WINDOW];
	bus->window.base = map(bus, bus->window_fd, m->window_size);
	bus->window.size = m->window_size;
	bus->page_fd = fds[VBUS_WORKER_PAGE];
	bus->page = map(bus, bus->page_fd, sizeof(*bus->page));
	bus->page->sandbox = bus->sandbox;
	bus->fifos = is_fifo(fds[VBUS_WORKER_BELLS]);
	for (i = 0; i < m->vectors; i++) {
		bus->from_guest[i] = fds[VBUS_WORKER_BELLS + i];
		bus->to_guest[i] = fds[VBUS_WORKER_BELLS + m->vectors + i];
		/*
		 * Each ring of an eventfd is an edge.  A read could block: QEMU has the descriptor
		 * too, and may empty it.  A FIFO fills up, and is read.
		 */
		if (vbus_watch(bus, bus->from_guest[i], bus->fifos ? EPOLLIN : EPOLLIN | EPOLLET,
			       VBUS_EVENT(VBUS_EVENT_BELL, i)) < 0)
			vbus_leave(bus, "a doorbell cannot be watched");
	}
}

static void on_connected(struct vbus_bus *bus, const int *fds, unsigned int count)
{
	if (bus->connected || count != (bus->fifos ? 0 : 1))
		nonsense(bus);
	/* A client of FIFOs is not handed on: its session ends with vbusd. */
	if (count)
		bus->qemu = fds[0];
	vbus_bus_connected(bus);
}

/* What the guest handed over and did not get back yet, it hands over again under the next epoch. */
static void on_finish(struct vbus_bus *bus)
{
	const struct vbus_worker_notice done = { .kind = VBUS_NOTICE_FINISHED };

	bus->finished = true;
	VBUS_FAIL_POINT(FINISH_TAKEN);
	if (vbus_fdmsg_send(bus->control, &done, sizeof(done), NULL, 0) < 0 && errno != EPIPE)
		vbus_leave(bus, "vbusd cannot be told");
}

static void on_device(struct vbus_bus *bus, const struct vbus_worker_message *m, const int *fds,
		      unsigned int count)
{
	if (bus->device[m->slot].used || count > 1 || !vbus_class_ops_find(m->klass))
		nonsense(bus);
	if (vbus_device_add(bus, m, count ? fds[0] : -1) < 0)
		vbus_leave(bus, "a device cannot be added");
}

static void on_backend(struct vbus_bus *bus, struct vbus_device *dev, const int *fds,
		       unsigned int count)
{
	if (count != 1 || !dev->used || !dev->ops->backend)
		nonsense(bus);
	vbus_device_backend(dev, fds[0]);
}

static void on_message(struct vbus_bus *bus, const struct vbus_worker_message *m, const int *fds,
		       unsigned int count)
{
	struct vbus_device *dev;

	if (m->kind == VBUS_WORKER_START) {
		on_start(bus, m, fds, count);
		return;
	}
	if (!bus->window.base || m->slot >= VBUSD_DEVICES)
		nonsense(bus);
	dev = &bus->device[m->slot];

	switch ((enum vbus_worker_kind)m->kind) {
	case VBUS_WORKER_GO:
		bus->goes = true;
		vbus_fence_look(bus);
		break;
	case VBUS_WORKER_CONNECTED:
		on_connected(bus, fds, count);
		break;
	case VBUS_WORKER_DEVICE:
		on_device(bus, m, fds, count);
		VBUS_FAIL_POINT(DEVICE_ADDED);
		vbus_bus_list_changed(bus, m->list_generation);
		break;
	case VBUS_WORKER_REMOVE:
		if (dev->used)
			vbus_device_remove(bus, m->slot);
		VBUS_FAIL_POINT(DEVICE_REMOVED);
		vbus_bus_list_changed(bus, m->list_generation);
		break;
	case VBUS_WORKER_MASK:
		if (dev->used)
			vbus_device_mask(dev, m->mask);
		break;
	case VBUS_WORKER_LINK:
		if (dev->used)
			vbus_device_link(dev, m->link);
		break;
	case VBUS_WORKER_BACKEND:
		on_backend(bus, dev, fds, count);
		break;
	case VBUS_WORKER_FINISH:
		on_finish(bus);
		break;
	case VBUS_WORKER_RELEASE:
		vbus_release(bus);
		break;
	case VBUS_WORKER_RESIZE:
		if (dev->used && dev->ops->resize)
			dev->ops->resize(dev);
		break;
	case VBUS_WORKER_START:
	default:
		nonsense(bus);
	}
}

void vbus_control_receive(struct vbus_bus *bus)
{
	struct vbus_worker_message m;
	int fds[VBUS_WORKER_FDS];
	unsigned int count;
	long len;

	len = vbus_fdmsg_receive(bus->control, &m, sizeof(m), fds, VBUS_WORKER_FDS, &count);
	/* It went without reading all that we said; what it said still stands in the queue. */
	if (len < 0 && errno == ECONNRESET)
		return;
	if (!len) {
		vbus_keep_serving(bus);
		return;
	}
	if (len != (long)sizeof(m))
		vbus_leave(bus, "a message of vbusd is unreadable");
	on_message(bus, &m, fds, count);
	bus->acted = m.number;
	bus->page->acted = m.number;
}
