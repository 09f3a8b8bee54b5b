// SPDX-License-Identifier: MIT
/* vblk.c - the disk towards the guest: functions, regions, rings. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fail_point.h"
#include "log.h"
#include "vblk.h"
#include "vbus_port.h"

#define BATCH	32u	/* requests of a ring, then others have their turn */

static int attach(struct vbus_device *dev)
{
	struct vblk *v = calloc(1, sizeof(*v));
	uint32_t i;

	if (!v)
		return -1;
	v->bus = dev->bus;
	v->dev = dev;
	/* It is open for as long as anything moves, and longer than the device may be there. */
	v->fd = dev->fd;
	dev->fd = -1;
	for (i = 0; i < VBLK_IN_FLIGHT; i++) {
		v->slot[i].vblk = v;
		v->slot[i].next = v->free;
		v->free = &v->slot[i];
	}
	dev->page->counters.in_flight = 0;
	dev->state = v;
	return 0;
}

void vblk_free(struct vblk *v)
{
	if (v->fd >= 0)
		close(v->fd);
	free(v);
}

static void detach(struct vbus_device *dev)
{
	struct vblk *v = dev->state;

	dev->state = NULL;
	dev->page->counters.in_flight = 0;
	v->dev = NULL;
	if (!v->in_flight)
		vblk_free(v);
}

static int fence(struct vbus_device *dev)
{
	struct vblk *v = dev->state;

	if (v->fd < 0)
		return ENOENT;	/* vbusd could not open it, and said why */
	if (vbus_image_lock(v->fd, dev->read_only) < 0 ||
	    vbus_image_look(v->fd, dev->block_size, &v->shape) < 0)
		return errno;
	return 0;
}

static void close_vblk(struct vbus_device *dev)
{
	struct vblk *v = dev->state;

	memset(v->ring, 0, sizeof(v->ring));
	v->status_region = NULL;
	v->status = NULL;
	v->session++;
	vbus_fence_drain(v->bus, v->live);
	v->live = 0;
	dev->page->running = 0;
}

static bool has(const struct vblk *v, uint32_t gid, uint32_t bit)
{
	return vbus_features_have(&v->dev->features, gid, bit);
}

static uint32_t queues(const struct vblk *v)
{
	return has(v, VBLK_GROUP_CONFIG, VBLK_CONFIG_QUEUES) ? VBLK_QUEUES_MAX : 1;
}

static enum vbus_status call(struct vbus_device *dev, uint32_t func, const uint8_t *in,
			     uint32_t len, uint8_t *out, uint16_t *out_len)
{
	struct vblk *v = dev->state;
	struct vblk_query_reply reply = {
		.capacity = vbus_cpu_to_le64(vblk_capacity(v)),
		.logical_block = vbus_cpu_to_le32(v->shape.logical),
		.physical_block = vbus_cpu_to_le32(v->shape.physical),
		.io_min = vbus_cpu_to_le32(v->shape.physical),
		.io_opt = vbus_cpu_to_le32(v->shape.optimal),
		.segments_max = vbus_cpu_to_le32(VBLK_SEGMENTS_MAX),
		.segment_max = vbus_cpu_to_le32(VBLK_SEGMENT_MAX),
		.bytes_max = vbus_cpu_to_le32(VBLK_BYTES_MAX),
		.zeroes_max = vbus_cpu_to_le32(VBLK_ZEROES_MAX),
		.queues = vbus_cpu_to_le16((uint16_t)queues(v)),
		.flags = vbus_cpu_to_le16(dev->read_only ? VBLK_READ_ONLY : 0),
	};

	(void)in;
	(void)len;
	if (func != VBLK_FUNC_QUERY)
		return VBUS_STATUS_UNSUPPORTED;
	memcpy(reply.serial, dev->serial, sizeof(reply.serial));
	memcpy(out, &reply, sizeof(reply));
	*out_len = sizeof(reply);
	return VBUS_STATUS_OK;
}

static void tell_capacity(struct vblk *v)
{
	vbus_write64(&v->status->capacity, vblk_capacity(v));
	/* Who sees the generation sees its capacity. */
	vbus_wmb();
	vbus_write32(&v->status->generation, v->generation);
}

static enum vbus_status share_status(struct vblk *v, struct vbus_region *region)
{
	if (!has(v, VBLK_GROUP_CONFIG, VBLK_CONFIG_RESIZE))
		return VBUS_STATUS_UNSUPPORTED;
	if (region->south_len < sizeof(struct vblk_status))
		return VBUS_STATUS_INVALID;
	v->status_region = region;
	v->status = (void *)(v->bus->window.base + region->south);
	tell_capacity(v);
	return VBUS_STATUS_OK;
}

static enum vbus_status share(struct vbus_device *dev, struct vbus_region *region)
{
	uint8_t *base = dev->bus->window.base;
	struct vblk *v = dev->state;
	struct vblk_ring *ring;

	if (region->id == VBLK_REGION_STATUS)
		return share_status(v, region);
	if (region->id >= queues(v))
		return VBUS_STATUS_INVALID;
	ring = &v->ring[region->id];
	if (ioq_south_init(&ring->ioq, (void *)(base + region->north),
			   (void *)(base + region->south), region->north_len, region->south_len))
		return VBUS_STATUS_INVALID;
	ring->region = region;
	dev->page->running++;
	return VBUS_STATUS_OK;
}

static void signal_vblk(struct vbus_device *dev, struct vbus_region *region)
{
	/* No more doorbells until the ring was found empty. */
	shm_signal_disable(&dev->bus->signals, region->signal);
	vbus_device_ready(dev);
}

static void resize(struct vbus_device *dev)
{
	struct vblk *v = dev->state;
	uint64_t before = v->shape.size;

	if (v->fd < 0 || vbus_image_look(v->fd, dev->block_size, &v->shape) < 0) {
		vbus_log(dev->bus->name, "image %s: tells no size (%s)", dev->name,
			 strerror(errno));
		return;
	}
	if (v->shape.size == before)
		return;
	vbus_log(dev->bus->name, "image %s: has %llu bytes now, not %llu", dev->name,
		 (unsigned long long)v->shape.size, (unsigned long long)before);
	v->generation++;
	if (!v->status || !vbus_bus_is_ours(dev->bus))
		return;
	tell_capacity(v);
	vbus_bus_inject(dev->bus, v->status_region->signal);
}

static void link_vblk(struct vbus_device *dev)
{
	(void)dev;
}

static void readable(struct vbus_device *dev)
{
	(void)dev;
}

/* The ring was empty: ask for its signal; true when something came in between. */
static bool await(struct vblk *v, struct vblk_ring *ring)
{
	struct shm_signal *signals = &v->bus->signals;

	if (!shm_signal_enable(signals, ring->region->signal))
		return false;
	shm_signal_disable(signals, ring->region->signal);
	return true;
}

/* True when there is more; when there is no room, an end makes the device ready. */
static bool serve(struct vblk *v, struct vblk_ring *ring)
{
	enum vblk_taken taken;
	enum vbus_rc rc;
	uint32_t i;

	for (i = 0; i < BATCH; i++) {
		if (i && vbus_bus_has_urgent(v->bus, v->dev->priority))
			return true;
		if (!ring->is_held) {
			rc = v->free ? ioq_take(&ring->ioq, &ring->held) : VBUS_FULL;
			if (rc == VBUS_FULL)
				return false;
			if (rc == VBUS_EMPTY)
				return await(v, ring);
			if (rc) {
				vbus_device_violation(v->dev, "an index of a ring lies");
				return false;
			}
			ring->is_held = true;
			VBUS_FAIL_POINT(DISK_TAKEN);
		}
		taken = vblk_take(v, ring, &ring->held);
		if (taken != VBLK_TAKEN)
			return false;
		ring->is_held = false;
	}
	return true;
}

static void publish(struct vblk *v, struct vblk_ring *ring)
{
	if (!ring->region || !ring->given)
		return;
	ring->given = 0;
	VBUS_FAIL_POINT(DISK_GIVEN);
	ioq_give_publish(&ring->ioq);
	VBUS_FAIL_POINT(DISK_PUBLISHED);
	vbus_bus_inject(v->bus, ring->region->signal);
	VBUS_FAIL_POINT(DISK_TOLD);
}

static bool run(struct vbus_device *dev)
{
	struct vblk *v = dev->state;
	bool more = false;
	uint32_t i;

	v->turn++;
	for (i = 0; i < VBLK_QUEUES_MAX; i++) {
		struct vblk_ring *ring = &v->ring[(v->turn + i) % VBLK_QUEUES_MAX];

		if (ring->region)
			more |= serve(v, ring);
		/* After a broken contract nothing is left to serve. */
		if (!dev->handle)
			return false;
		if (more && vbus_bus_has_urgent(dev->bus, dev->priority))
			break;
	}
	if (!vbus_bus_is_ours(dev->bus))
		return false;
	for (i = 0; i < VBLK_QUEUES_MAX; i++)
		publish(v, &v->ring[i]);
	return more;
}

const struct vbus_class_ops vblk_file_class = {
	.attach = attach,
	.detach = detach,
	.close = close_vblk,
	.call = call,
	.share = share,
	.signal = signal_vblk,
	.readable = readable,
	.run = run,
	.link = link_vblk,
	.fence = fence,
	.resize = resize,
};
