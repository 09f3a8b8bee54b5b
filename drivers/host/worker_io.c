// SPDX-License-Identifier: MIT
/* worker_io.c - see worker_io.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "worker.h"
#include "worker_io.h"

static const struct vbus_io_engine *engine;
static struct vbus_io *first, **last = &first;	/* started, not yet taken */
static int event = -1;
static uint32_t started;	/* and not ended */

int vbus_io_open(struct vbus_bus *bus)
{
	event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (event < 0 || vbus_watch(bus, event, EPOLLIN, VBUS_EVENT(VBUS_EVENT_IO, 0)) < 0)
		return -1;
	engine = &vbus_io_uring;
	/* The variable is for tests, and for who mistrusts his kernel. */
	if (!getenv("VBUS_IO_POOL") && !engine->open(event))
		return 0;
	engine = &vbus_io_pool;
	return engine->open(event);
}

bool vbus_io_is_idle(void)
{
	return !started;
}

void vbus_io_start(struct vbus_io *io)
{
	started++;
	io->next = NULL;
	*last = io;
	last = &io->next;
}

bool vbus_io_submit(void)
{
	struct vbus_io *next;

	while (first) {
		next = first->next;	/* once it is taken, it is the engine's */
		if (!engine->take(first))
			break;
		first = next;
		if (!first)
			last = &first;
	}
	return !engine->submit() || first;
}

/* What a short read or write has left: true when that is something. */
static bool is_left(struct vbus_io *io, uint64_t moved)
{
	io->offset += moved;
	io->len -= moved;
	while (moved && moved >= io->iov->iov_len) {
		moved -= io->iov->iov_len;
		io->iov++;
		io->iovs--;
	}
	if (moved) {
		io->iov->iov_base = (char *)io->iov->iov_base + moved;
		io->iov->iov_len -= moved;
	}
	return io->len;
}

static void end(struct vbus_io *io)
{
	bool moves = io->op == VBUS_IO_READ || io->op == VBUS_IO_WRITE;

	started--;
	if (io->result == -EINTR || (moves && io->result > 0 && is_left(io, (uint64_t)io->result)))
		vbus_io_start(io);
	else if (moves && !io->result)	/* the image ends before its capacity */
		io->done(io, -EIO);
	else
		io->done(io, io->result < 0 ? io->result : 0);
}

void vbus_io_reap(void)
{
	struct vbus_io *io;
	uint64_t times;

	/* Emptied before looking: what ends from here on is told again. */
	if (read(event, &times, sizeof(times)) < 0)
		return;
	while ((io = engine->reap()))
		end(io);
}
