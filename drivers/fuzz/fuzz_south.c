// SPDX-License-Identifier: MIT
/*
 * fuzz_south.c - see fuzz_south.h.
 *
 * The engine of I/O touches each byte that it is given, so that a sanitizer sees where those lie.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fdmsg.h"
#include "fuzz.h"
#include "fuzz_south.h"
#include "image.h"
#include "venet.h"
#include "vblk.h"

#define IMAGE_SIZE	(64u << 10)

struct vbus_bus south;
uint8_t south_window[SOUTH_WINDOW] __attribute__((aligned(VBUS_PAGE_SIZE)));

static struct vbus_status_page page;
static struct vbus_io *first, **last = &first;
static bool ending;	/* the program is over: nothing is asked of it any more */

static const char *const classes[SOUTH_DEVICES] = {
	"venet-loopback", "vblk-file", "vblk-file", "venet-passt", "venet-tap",
};

/* ---- What lies around the sources of a worker ---- */

int vbus_watch(struct vbus_bus *bus, int fd, uint32_t events, uint64_t event)
{
	(void)bus;
	(void)fd;
	(void)events;
	(void)event;
	return 0;
}

_Noreturn void vbus_leave(const struct vbus_bus *bus, const char *why)
{
	(void)bus;
	fuzz_found(why ? why : "the worker ends");
}

int vbus_fdmsg_send(int sock, const void *msg, size_t len, const int *fds, unsigned int count)
{
	(void)sock;
	(void)msg;
	(void)len;
	(void)fds;
	(void)count;
	return fuzz_fails() ? -1 : 0;
}

const struct vbus_class_ops *vbus_class_ops_find(const char *name)
{
	if (!strcmp(name, "vblk-file"))
		return &vblk_file_class;
	if (!strcmp(name, "venet-tap"))
		return &venet_tap_class;
	return !strcmp(name, "venet-passt") ? &venet_passt_class : &venet_loopback_class;
}

/* ---- An image ---- */

int vbus_image_lock(int fd, bool read_only)
{
	(void)fd;
	(void)read_only;
	switch (fuzz_byte()) {
	case 1:
		errno = EAGAIN;
		return -1;
	case 2:
		errno = EIO;
		return -1;
	default:
		return 0;
	}
}

int vbus_image_look(int fd, uint32_t block_size, struct vbus_image_shape *out)
{
	uint32_t shrinks = fuzz_byte(), blocks = IMAGE_SIZE / block_size;

	(void)fd;
	*out = (struct vbus_image_shape){
		.size = (blocks - shrinks % blocks) * block_size, .logical = block_size,
		.physical = 4096,
	};
	errno = EIO;
	return shrinks == 0xff ? -1 : 0;
}

void vbus_io_start(struct vbus_io *io)
{
	io->next = NULL;
	*last = io;
	last = &io->next;
}

static void move(const struct vbus_io *io)
{
	static uint8_t image[IMAGE_SIZE];
	uint8_t *at = image + io->offset;
	uint64_t len = 0;
	uint32_t i;

	for (i = 0; i < io->iovs; i++)
		len += io->iov[i].iov_len;
	if (len != io->len)
		fuzz_found("an operation's parts are not its length");
	for (i = 0; i < io->iovs; at += io->iov[i++].iov_len)
		if (io->op == VBUS_IO_READ)
			memcpy(io->iov[i].iov_base, at, io->iov[i].iov_len);
		else
			memcpy(at, io->iov[i].iov_base, io->iov[i].iov_len);
}

static void end_first(int error)
{
	struct vbus_io *io = first;

	first = io->next;
	if (!first)
		last = &first;
	if (io->offset > IMAGE_SIZE || io->len > IMAGE_SIZE - io->offset)
		fuzz_found("an operation lies outside the image");
	if (!error && (io->op == VBUS_IO_READ || io->op == VBUS_IO_WRITE))
		move(io);
	io->done(io, error);
}

void south_io_end(void)
{
	static const int errors[] = { 0, 0, -EOPNOTSUPP, -EINVAL, -ENOSPC, -EIO };

	if (first)
		end_first(errors[fuzz_byte() % (sizeof(errors) / sizeof(errors[0]))]);
}

/* ---- A card whose other end does what the input says ---- */

static void nothing(struct venet *v)
{
	(void)v;
}

static enum venet_moved transmit(struct venet *v, const struct venet_header *head,
				 const void *frame, uint32_t len)
{
	static uint8_t wire[VENET_FRAME_MAX];

	if (len < VENET_FRAME_MIN || len > sizeof(wire))
		fuzz_found("a frame has an impossible length");
	if (venet_objection(v, head, len))
		fuzz_found("a header that is wrong came through");
	memcpy(wire, frame, len);
	return (enum venet_moved)(fuzz_byte() % 3);
}

static bool has_frame(const struct venet *v)
{
	(void)v;
	return !ending && fuzz_byte() % 4 == 1;
}

/* All lengths that there are, and all that a header may ask for. */
static enum venet_moved receive(struct venet *v, struct venet_header *head,
				const struct iovec *parts, uint32_t count, uint32_t *len)
{
	static uint8_t wire[VENET_FRAME_MAX];
	uint32_t room = 0, i;

	(void)v;
	for (i = 0; i < count; i++)
		room += (uint32_t)parts[i].iov_len;
	if (room != VENET_FRAME_MAX)
		fuzz_found("there is no room for a frame, or too much");
	*len = fuzz_number() % (VENET_FRAME_MAX + 1);
	memset(wire, 0xa5, sizeof(wire));
	fuzz_bytes(wire, 24);
	venet_scatter(parts, wire, *len);
	head->flags = fuzz_byte() % 4;
	head->gso_type = fuzz_byte();
	return (enum venet_moved)(fuzz_byte() % 3);
}

static void rest(struct venet *v)
{
	if (v->dev->fd >= 0)
		vbus_device_watch(v->dev, 0);
}

/* Its peer may be gone. */
static void woken(struct venet *v)
{
	if (fuzz_byte() != 1)
		return;
	v->dead = true;
	vbus_device_lost(v->dev);
}

#define FUZZED_BACKEND(woken_) { \
	.size = sizeof(struct venet), \
	.start = nothing, \
	.transmit = transmit, \
	.has_frame = has_frame, \
	.receive = receive, \
	.rest = rest, \
	.woken = woken_, \
	.renewed = nothing, \
}

const struct venet_backend venet_tap = FUZZED_BACKEND(NULL);
const struct venet_backend venet_passt = FUZZED_BACKEND(woken);

/* ---- vbusd ---- */

static void add(uint32_t slot)
{
	struct vbus_worker_message m = {
		.slot = slot,
		.instance = 1,
		.link = 1,
		.read_only = slot == 2,
		.mtu = slot == 4 ? 9000 : VENET_MTU_DEFAULT,
		.block_size = slot == 2 ? 4096 : 512,
		.name = "fuzzed",
	};

	strcpy(m.klass, classes[slot]);
	memset(m.uuid, (int)slot + 1, sizeof(m.uuid));
	if (vbus_device_add(&south, &m, slot ? fuzz_open() : -1) < 0)
		fuzz_found("a device cannot be added");
}

void south_begin(void)
{
	uint32_t i;

	ending = false;
	memset(south_window, 0, sizeof(south_window));
	memset(&page, 0, sizeof(page));
	memset(&south, 0, sizeof(south));
	strcpy(south.name, "fuzzed");
	south.window = (struct vbus_memctx){ .base = south_window, .size = SOUTH_WINDOW };
	south.vectors = SOUTH_VECTORS;
	south.page = &page;
	south.patience_ms = UINT32_MAX;
	south.goes = true;
	/* Disks are big: those that want one have it added. */
	for (i = 0; i < SOUTH_DEVICES; i++)
		if (strcmp(classes[i], "vblk-file"))
			add(i);
	vbus_fence_look(&south);
	vbus_bus_connected(&south);
}

void south_end(void)
{
	uint32_t i;

	ending = true;
	for (i = 0; i < SOUTH_DEVICES; i++)
		if (south.device[i].used)
			vbus_device_remove(&south, i);
	while (first)
		end_first(0);
	if (south.draining)
		fuzz_found("I/O of former sessions is counted that has ended");
}

static void renew(struct vbus_device *dev)
{
	int fd = dev->ops->backend ? fuzz_open() : -1;

	if (fd >= 0)
		vbus_device_backend(dev, fd);
}

static void hear_of_device(struct vbus_device *dev)
{
	struct vbus_mask mask[VBUSD_GROUPS] = {
		{ .gid = fuzz_byte() % 4, .bits = fuzz_number() },
	};

	switch (fuzz_byte() % 5) {
	case 0:
		vbus_device_mask(dev, mask);
		break;
	case 1:
		vbus_device_link(dev, fuzz_byte() & 1);
		break;
	case 2:
		renew(dev);
		break;
	case 3:
		if (dev->ops->resize)
			dev->ops->resize(dev);
		break;
	case 4:
		vbus_device_remove(&south, dev->slot);
		vbus_bus_list_changed(&south, south.list_generation + 1);
	}
}

void south_hear(void)
{
	uint32_t slot = fuzz_byte() % SOUTH_DEVICES;

	if (south.device[slot].used) {
		hear_of_device(&south.device[slot]);
		return;
	}
	add(slot);
	vbus_bus_list_changed(&south, south.list_generation + 1);
}

void south_event(void)
{
	uint32_t what = fuzz_byte();
	struct vbus_device *dev = &south.device[what % SOUTH_DEVICES];

	fuzz_clock_forward(fuzz_byte());
	switch (what % 4) {
	case 0:
		vbus_bus_look(&south);
		vbus_bus_tick(&south);
		break;
	case 1:
		vbus_queue_tick(&south);
		break;
	case 2:
		vbus_fence_look(&south);
		break;
	case 3:
		if (dev->used && dev->fd >= 0)
			dev->ops->readable(dev);
	}
}
