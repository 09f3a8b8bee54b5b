// SPDX-License-Identifier: MIT
/* connect.c - the window and the doorbells: how a client gets them, hears them, rings them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "vbus_port.h"

#define LINK	VBUS_VECTORS_MAX	/* among the events, beside the vectors */

static const struct vbus_host_header *header(const struct vbus_client *c)
{
	return (const void *)(c->base + VBUS_HOST_HEADER);
}

uint64_t vbus_client_epoch(const struct vbus_client *c)
{
	return vbus_read64(&header(c)->epoch);
}

uint32_t vbus_client_generation(const struct vbus_client *c)
{
	return vbus_read32(&header(c)->list_generation);
}

uint64_t vbus_client_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* What the south could cut would make us fault one day; of a plain file that is so. */
static int map(struct vbus_client *c)
{
	int seals = fcntl(c->window, F_GET_SEALS);
	struct stat st;

	if (fstat(c->window, &st) < 0)
		return VBUS_CLIENT_SYSTEM;
	if (!c->drains && (seals < 0 || !(seals & F_SEAL_SHRINK)))
		return VBUS_CLIENT_CORRUPT;
	if (st.st_size < (off_t)VBUS_WINDOW_MIN || st.st_size > (off_t)VBUS_WINDOW_MAX)
		return VBUS_CLIENT_CORRUPT;
	c->size = (uint64_t)st.st_size;
	c->base = mmap(NULL, c->size, PROT_READ | PROT_WRITE, MAP_SHARED, c->window, 0);
	if (c->base != MAP_FAILED)
		return 0;
	c->base = NULL;
	return VBUS_CLIENT_SYSTEM;
}

static int watch(struct vbus_client *c, int fd, uint32_t events, uint32_t what)
{
	struct epoll_event e = { .events = events, .data.u32 = what };

	return epoll_ctl(c->epoll, EPOLL_CTL_ADD, fd, &e);
}

static int watch_all(struct vbus_client *c)
{
	uint32_t i;

	c->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (c->epoll < 0 || watch(c, c->link, EPOLLIN | EPOLLRDHUP, LINK) < 0)
		return VBUS_CLIENT_SYSTEM;
	for (i = 0; i < c->vectors; i++)
		if (watch(c, c->to_guest[i], c->drains ? EPOLLIN : EPOLLIN | EPOLLET, i) < 0)
			return VBUS_CLIENT_SYSTEM;
	return 0;
}

/* The magic comes last; the rest is there with it. */
static int await_header(struct vbus_client *c)
{
	uint64_t end = vbus_client_now_ms() + VBUS_CLIENT_TIMEOUT_MS;
	uint32_t rang;
	int rc;

	/* A worker that starts rings when it has written it. */
	while (vbus_read32(&header(c)->magic) != VBUS_MAGIC) {
		rc = vbus_client_take_bells(c, VBUS_CLIENT_LOOK_MS, &rang);
		if (rc && rc != VBUS_CLIENT_AGAIN)
			return rc;
		if (vbus_client_now_ms() > end)
			return VBUS_CLIENT_SILENT;
	}
	vbus_rmb();
	if (vbus_read32(&header(c)->version) != VBUS_VERSION)
		return VBUS_STATUS_VERSION;
	if (vbus_read64(&header(c)->window_size) != c->size ||
	    vbus_read32(&header(c)->vectors) != c->vectors)
		return VBUS_CLIENT_CORRUPT;
	return 0;
}

static void clear(struct vbus_client *c)
{
	uint32_t i;

	*c = (struct vbus_client){
		.link = -1, .window = -1, .epoll = -1, .timeout_ms = VBUS_CLIENT_TIMEOUT_MS,
		.queues = { .count = 4, .priority = { 7, 3, 5, 0 } },
	};
	for (i = 0; i < VBUS_VECTORS_MAX; i++)
		c->to_south[i] = c->to_guest[i] = -1;
}

/* A socket is QEMU's, a folder is that of the file connector. */
static int find(struct vbus_client *c, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return VBUS_CLIENT_SYSTEM;
	return S_ISDIR(st.st_mode) ? vbus_client_find_files(c, path) :
	       vbus_client_find_ivshmem(c, path);
}

int vbus_client_connect(struct vbus_client *c, const char *path)
{
	int rc, err;

	clear(c);
	rc = find(c, path);
	if (!rc)
		rc = map(c);
	if (!rc)
		rc = watch_all(c);
	if (!rc)
		rc = await_header(c);
	if (!rc) {
		vbus_client_reset(c);
		return 0;
	}
	err = errno;
	vbus_client_close(c);
	errno = err;
	return rc;
}

static void shut(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void vbus_client_close(struct vbus_client *c)
{
	uint32_t i;

	if (c->base)
		munmap(c->base, c->size);
	c->base = NULL;
	for (i = 0; i < c->vectors; i++) {
		shut(&c->to_south[i]);
		shut(&c->to_guest[i]);
	}
	c->vectors = 0;
	shut(&c->epoll);
	shut(&c->window);
	/* Last: with this vbusd gives the place to the next. */
	shut(&c->link);
}

int vbus_client_fd(const struct vbus_client *c)
{
	return c->epoll;
}

void vbus_client_ring(struct vbus_client *c, uint32_t vector)
{
	const uint64_t one = 1;

	/* A doorbell that is full, or whose owner is gone, wakes nobody a second time. */
	if (vector < c->vectors && write(c->to_south[vector], &one, sizeof(one)) < 0)
		return;
}

/* One look at a FIFO; what is left makes it readable again. */
static void drain(int fd)
{
	char bytes[512];

	if (read(fd, bytes, sizeof(bytes)) < 0)
		return;
}

int vbus_client_take_bells(struct vbus_client *c, int ms, uint32_t *rang)
{
	struct epoll_event e[VBUS_VECTORS_MAX + 1];
	int n = epoll_wait(c->epoll, e, VBUS_VECTORS_MAX + 1, ms), i;
	bool ended = false;

	*rang = 0;
	if (n < 0 && errno != EINTR)
		return VBUS_CLIENT_SYSTEM;
	for (i = 0; i < n; i++) {
		ended |= e[i].data.u32 == LINK;
		if (e[i].data.u32 == LINK)
			continue;
		if (c->drains)
			drain(c->to_guest[e[i].data.u32]);
		*rang |= 1u << e[i].data.u32;
	}
	return ended ? VBUS_CLIENT_ENDED : *rang ? 0 : VBUS_CLIENT_AGAIN;
}
