// SPDX-License-Identifier: MIT
/*
 * vbusd_record.c - see vbusd_record.h.
 *
 * Written under another name and renamed, so that it is whole whenever vbusd is killed.  It need
 * not outlive the machine, whose guests would be gone: nothing is synced.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "vbusd_record.h"

int *vbusd_held(struct vbusd_bus *bus, uint32_t index)
{
	if (index >= VBUSD_HELD_TO_GUEST)
		return &bus->to_guest[index - VBUSD_HELD_TO_GUEST];
	if (index >= VBUSD_HELD_FROM_GUEST)
		return &bus->from_guest[index - VBUSD_HELD_FROM_GUEST];
	switch ((enum vbusd_held)index) {
	case VBUSD_HELD_PAGE:
		return &bus->page_fd;
	case VBUSD_HELD_LISTENER:
		return &bus->listener;
	case VBUSD_HELD_QEMU:
		return &bus->qemu;
	case VBUSD_HELD_WINDOW:
	default:
		return &bus->window;
	}
}

static uint64_t eventfd_of(int fd)
{
	unsigned long long id = 0;
	char path[64], line[128];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "eventfd-id: %llu", &id) == 1)
			break;
	fclose(f);
	return id;
}

int vbusd_identify(int fd, struct vbusd_identity *out)
{
	struct stat st;

	*out = (struct vbusd_identity){ 0 };
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return -1;
	*out = (struct vbusd_identity){
		.dev = st.st_dev,
		.ino = st.st_ino,
		.eventfd = eventfd_of(fd),
	};
	return 0;
}

bool vbusd_is_identical(const struct vbusd_identity *a, const struct vbusd_identity *b)
{
	return a->ino && a->dev == b->dev && a->ino == b->ino && a->eventfd == b->eventfd;
}

/* Field @number of /proc/PID/stat, from the fourth on. */
static uint64_t stat_of(pid_t pid, int number)
{
	char path[64], text[1024];
	const char *rest;
	int field;
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = 0;
	/* Behind the name, which may hold anything and is the second. */
	rest = strrchr(text, ')');
	for (field = 3; rest && field <= number; field++)
		rest = strchr(rest + 1, ' ');
	return rest ? strtoull(rest, NULL, 10) : 0;
}

uint64_t vbusd_start_of(pid_t pid)
{
	return stat_of(pid, 22);
}

/* From a signal that ends it to its end: pending, taken, acted upon. */
bool vbusd_is_dying(pid_t pid)
{
	const uint64_t exiting = 0x4, signaled = 0x400;	/* PF_ of the kernel */

	return !vbusd_start_of(pid) || (stat_of(pid, 31) & 1u << (SIGKILL - 1)) ||
	       (stat_of(pid, 9) & (exiting | signaled));
}

static uint64_t checksum(const struct vbusd_record *r)
{
	struct vbusd_record copy = *r;
	const uint8_t *at = (const uint8_t *)&copy;
	uint64_t sum = 0xcbf29ce484222325ull;
	size_t i;

	copy.checksum = 0;
	for (i = 0; i < r->size; i++)
		sum = (sum ^ at[i]) * 0x100000001b3ull;	/* FNV-1a */
	return sum;
}

static void describe_device(const struct vbusd_device *dev, struct vbusd_record_device *out)
{
	out->used = true;
	out->link = dev->link;
	out->read_only = dev->read_only;
	out->instance = dev->instance;
	out->mtu = dev->mtu;
	out->block_size = dev->block_size;
	memcpy(out->mac, dev->mac, sizeof(out->mac));
	memcpy(out->serial, dev->serial, sizeof(out->serial));
	memcpy(out->uuid, dev->uuid, sizeof(out->uuid));
	memcpy(out->klass, dev->klass->name, sizeof(out->klass));
	memcpy(out->argument, dev->argument, sizeof(out->argument));
	memcpy(out->mask, dev->mask, sizeof(out->mask));
}

static pid_t peer_of(int sock)
{
	struct ucred who = { 0 };
	socklen_t len = sizeof(who);

	return sock >= 0 && !getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &who, &len) ? who.pid : 0;
}

static int describe(struct vbusd_bus *bus, struct vbusd_record *r)
{
	uint32_t i;

	memset(r, 0, sizeof(*r));	/* padding is part of the checksum */
	r->magic = VBUSD_RECORD_MAGIC;
	r->version = VBUSD_RECORD_VERSION;
	r->size = sizeof(*r);
	memcpy(r->name, bus->name, sizeof(r->name));
	memcpy(r->path, bus->path, sizeof(r->path));
	r->window_mib = bus->window_mib;
	r->vectors = bus->vectors;
	r->list_generation = bus->list_generation;
	r->sessions = bus->sessions;
	r->restarts = bus->restarts;
	r->handovers = bus->handovers;
	r->modules = bus->modules;
	r->connector = bus->connector;
	r->slot = vbusd_bus_index(bus);
	r->takeovers = bus->takeovers;
	r->lost = bus->lost;
	r->hold = bus->hold;
	r->generation = bus->generation;
	memcpy(r->ticket, bus->ticket, sizeof(bus->ticket));
	r->worker = bus->worker;
	r->worker_start = bus->worker > 0 ? vbusd_start_of(bus->worker) : 0;
	r->guest = peer_of(bus->qemu);
	r->guest_start = r->guest > 0 ? vbusd_start_of(r->guest) : 0;
	memcpy(r->mask, bus->mask, sizeof(r->mask));
	for (i = 0; i < VBUSD_DEVICES; i++)
		if (bus->device[i].used)
			describe_device(&bus->device[i], &r->device[i]);
	for (i = 0; i < VBUSD_HELD_FDS; i++)
		if (vbusd_identify(*vbusd_held(bus, i), &r->held[i]) < 0)
			return -1;
	r->checksum = checksum(r);
	return 0;
}

void vbusd_state_path(const char *name, const char *tail, char *path)
{
	snprintf(path, PATH_MAX, "%s/%s%s", vbusd.state, name, tail);
}

static int write_whole(const char *path, const struct vbusd_record *r)
{
	int fd, err;

	/* Left by a vbusd that was killed here. */
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	errno = ENOSPC;
	err = write(fd, r, sizeof(*r)) != (ssize_t)sizeof(*r);
	return close(fd) || err ? -1 : 0;
}

int vbusd_record_write(struct vbusd_bus *bus)
{
	char path[PATH_MAX], fresh[PATH_MAX];
	struct vbusd_record r;

	if (bus->after == VBUSD_AFTER_BUS)
		return 0;
	vbusd_state_path(bus->name, ".bus", path);
	vbusd_state_path(bus->name, ".new", fresh);
	if (!describe(bus, &r) && !write_whole(fresh, &r) && !rename(fresh, path))
		return 0;
	vbus_log(bus->name, "is not recorded, and does not outlive vbusd (%s)", strerror(errno));
	unlink(fresh);
	return -1;
}

bool vbusd_record_exists(const char *name)
{
	char path[PATH_MAX];

	vbusd_state_path(name, ".bus", path);
	return !access(path, F_OK);
}

void vbusd_record_remove(const struct vbusd_bus *bus)
{
	char path[PATH_MAX];

	vbusd_state_path(bus->name, ".bus", path);
	unlink(path);
	vbusd_state_path(bus->name, ".worker", path);
	unlink(path);
}

static bool is_text(const char *s, size_t size)
{
	return memchr(s, 0, size);
}

/* Against another version's, a half one, a mistaken one: nobody else could have forged it. */
static const char *objection(const struct vbusd_record *r, size_t size, const char *file)
{
	size_t len = strlen(file) - strlen(".bus");
	uint32_t i;

	if (r->magic != VBUSD_RECORD_MAGIC)
		return "it is no record";
	if (r->size != size || r->version != (size == sizeof(*r) ? VBUSD_RECORD_VERSION :
					      VBUSD_RECORD_BEFORE))
		return "another version of vbusd wrote it";
	if (r->checksum != checksum(r))
		return "its checksum is wrong";
	if (!is_text(r->name, sizeof(r->name)) || strlen(r->name) != len ||
	    strncmp(r->name, file, len) || !is_text(r->path, sizeof(r->path)))
		return "it is another bus's";
	if (r->vectors < VBUS_VECTORS_MIN || r->vectors > VBUS_VECTORS_MAX || !r->window_mib ||
	    r->window_mib > VBUS_WINDOW_MAX >> 20 || !is_text(r->ticket, VBUSD_TICKET_LEN + 1))
		return "its numbers are out of range";
	for (i = 0; i < VBUSD_DEVICES; i++)
		if (r->device[i].used && (!is_text(r->device[i].klass, VBUSD_CLASS_LEN) ||
					  !is_text(r->device[i].argument, VBUSD_ARGUMENT_LEN) ||
					  !vbus_class_find(r->device[i].klass)))
			return "a device of it is of no known class";
	return NULL;
}

int vbusd_record_read(const char *file, struct vbusd_record *out, char *text)
{
	const size_t before = offsetof(struct vbusd_record, generation);
	char path[PATH_MAX];
	const char *why = NULL;
	struct stat st;
	ssize_t n;
	int fd;

	vbusd_state_path(file, "", path);
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		why = strerror(errno);
	} else if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 077) {
		why = "it is not only ours";
	} else {
		memset(out, 0, sizeof(*out));
		n = read(fd, out, sizeof(*out));
		if ((n != (ssize_t)sizeof(*out) && n != (ssize_t)before) || st.st_size != n)
			why = "it has another size";
		else
			why = objection(out, (size_t)n, file);
	}
	if (fd >= 0)
		close(fd);
	snprintf(text, VBUSD_TEXT_LEN, "%s", why ? why : "");
	return why ? -1 : 0;
}

static void apply_device(const struct vbusd_record_device *r, struct vbusd_device *dev)
{
	dev->used = true;
	dev->link = r->link;
	dev->read_only = r->read_only;
	dev->instance = r->instance;
	dev->mtu = r->mtu;
	dev->block_size = r->block_size;
	dev->klass = vbus_class_find(r->klass);
	memcpy(dev->mac, r->mac, sizeof(dev->mac));
	memcpy(dev->serial, r->serial, sizeof(dev->serial));
	memcpy(dev->uuid, r->uuid, sizeof(dev->uuid));
	memcpy(dev->argument, r->argument, sizeof(dev->argument));
	memcpy(dev->mask, r->mask, sizeof(dev->mask));
}

void vbusd_record_apply(const struct vbusd_record *r, struct vbusd_bus *bus)
{
	uint32_t i;

	vbusd_bus_clear(bus);
	memcpy(bus->name, r->name, sizeof(bus->name));
	memcpy(bus->path, r->path, sizeof(bus->path));
	bus->window_mib = r->window_mib;
	bus->vectors = r->vectors;
	bus->list_generation = r->list_generation;
	bus->sessions = r->sessions;
	bus->restarts = r->restarts;
	bus->handovers = r->handovers;
	bus->modules = r->modules;
	bus->connector = r->connector;
	bus->takeovers = r->takeovers;
	bus->lost = r->lost;
	bus->hold = r->hold;
	bus->generation = r->generation;
	memcpy(bus->ticket, r->ticket, sizeof(bus->ticket));
	memcpy(bus->mask, r->mask, sizeof(bus->mask));
	for (i = 0; i < VBUSD_DEVICES; i++)
		if (r->device[i].used)
			apply_device(&r->device[i], &bus->device[i]);
}
