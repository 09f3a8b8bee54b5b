// SPDX-License-Identifier: MIT
/*
 * worker_io_pool.c - the engine where the kernel has no io_uring, or keeps it to itself.
 *
 * The threads start with the first operation, behind the sandbox: what a thread gave up before
 * others existed, those gave up as well.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "worker_io.h"

#define THREADS		4u
#define STACK		(256u << 10)

struct list {
	struct vbus_io *first;
	struct vbus_io **last;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static struct list todo = { .last = &todo.first }, ended = { .last = &ended.first };
static uint32_t threads;	/* the loop's */
static int event = -1;

static void append(struct list *list, struct vbus_io *io)
{
	io->next = NULL;
	*list->last = io;
	list->last = &io->next;
}

static struct vbus_io *shift(struct list *list)
{
	struct vbus_io *io = list->first;

	if (!io)
		return NULL;
	list->first = io->next;
	if (!list->first)
		list->last = &list->first;
	return io;
}

static int perform(const struct vbus_io *io)
{
	ssize_t rc = -1;

	switch (io->op) {
	case VBUS_IO_READ:
		rc = preadv(io->fd, io->iov, (int)io->iovs, (off_t)io->offset);
		break;
	case VBUS_IO_WRITE:
		rc = pwritev(io->fd, io->iov, (int)io->iovs, (off_t)io->offset);
		break;
	case VBUS_IO_SYNC:
		rc = fdatasync(io->fd);
		break;
	case VBUS_IO_ALLOCATE:
		rc = fallocate(io->fd, io->mode, (off_t)io->offset, (off_t)io->len);
		break;
	}
	return rc < 0 ? -errno : (int)rc;
}

static void *work(void *unused)
{
	const uint64_t one = 1;
	struct vbus_io *io;

	pthread_mutex_lock(&mutex);
	for (;;) {
		io = shift(&todo);
		if (!io) {
			pthread_cond_wait(&more, &mutex);
			continue;
		}
		pthread_mutex_unlock(&mutex);
		io->result = perform(io);
		pthread_mutex_lock(&mutex);
		append(&ended, io);
		/* EAGAIN: it is as full of news as can be. */
		if (write(event, &one, sizeof(one)) < 0 && errno != EAGAIN)
			break;
	}
	pthread_mutex_unlock(&mutex);
	return unused;
}

/* All at once, while there may still be new ones. */
static int open_pool(int fd)
{
	pthread_attr_t attr;
	pthread_t thread;

	event = fd;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK);
	while (threads < THREADS && !pthread_create(&thread, &attr, work, NULL))
		threads++;
	pthread_attr_destroy(&attr);
	return threads ? 0 : -1;
}

static bool take(struct vbus_io *io)
{
	pthread_mutex_lock(&mutex);
	append(&todo, io);
	pthread_cond_signal(&more);
	pthread_mutex_unlock(&mutex);
	return true;
}

static bool submit(void)
{
	return true;
}

static struct vbus_io *reap(void)
{
	struct vbus_io *io;

	pthread_mutex_lock(&mutex);
	io = shift(&ended);
	pthread_mutex_unlock(&mutex);
	return io;
}

const struct vbus_io_engine vbus_io_pool = {
	.open = open_pool,
	.take = take,
	.submit = submit,
	.reap = reap,
};
