// SPDX-License-Identifier: MIT
/*
 * worker_device.c - devices: from vbusd, towards the guest, and the ranges the guest shares with
 * them.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "fail_point.h"
#include "fdmsg.h"
#include "log.h"
#include "state.h"
#include "vbus_port.h"
#include "worker.h"

#define HANDLE_INDEX_BITS	8

/* What vbusd may see. */
void vbus_device_publish(struct vbus_device *dev)
{
	struct vbus_device_page *page = dev->page;
	uint32_t i;

	page->state = dev->handle ? VBUS_OPEN : VBUS_CLOSED;
	page->groups = dev->features.count;
	for (i = 0; i < dev->features.count; i++) {
		const struct vbus_feature_group *g = &dev->features.group[i];

		page->group[i] = (struct vbusd_group_status){
			.gid = g->gid,
			.offered = vbus_features_offered(g),
			.active = g->active,
			.masked = g->masked,
		};
	}
}

static uint32_t able(struct vbus_device *dev, uint32_t gid, uint32_t bits)
{
	return dev->ops->able ? dev->ops->able(dev, gid, bits) : bits;
}

/* What the guest gets of what it wants. */
uint32_t vbus_device_able(struct vbus_device *dev, uint32_t gid, uint32_t wanted)
{
	const struct vbus_features *f = &dev->features;
	uint32_t i;

	for (i = 0; i < f->count; i++)
		if (f->group[i].gid == gid)
			return able(dev, gid, wanted & vbus_features_offered(&f->group[i]));
	return 0;
}

/* A bit that this host lacks may be masked as well. */
static void apply_mask(struct vbus_device *dev)
{
	struct vbus_features *f = &dev->features;
	uint32_t bits, i, k;

	for (k = 0; k < f->count; k++) {
		/* The rest of the list is zeroes, which mask nothing of group 0. */
		for (bits = 0, i = 0; i < VBUSD_GROUPS; i++)
			if (dev->mask[i].gid == f->group[k].gid)
				bits |= dev->mask[i].bits;
		vbus_features_mask(f, f->group[k].gid, bits & f->group[k].supported);
	}
}

static void support(struct vbus_device *dev)
{
	const struct vbus_mask *f;

	for (f = dev->klass->feature; f->bits; f++)
		vbus_features_support(&dev->features, f->gid, able(dev, f->gid, f->bits));
}

void vbus_device_mask(struct vbus_device *dev, const struct vbus_mask *mask)
{
	memcpy(dev->mask, mask, sizeof(dev->mask));
	/* What was offered at an open stays offered until the next. */
	if (!dev->handle)
		apply_mask(dev);
	vbus_device_publish(dev);
}

static int control_watch(struct vbus_device *dev, int op, uint32_t events)
{
	/*
	 * Watched only while the class asks for it; an error, which is told always, is told once.
	 */
	struct epoll_event event = {
		.events = events | EPOLLONESHOT,
		.data.u64 = VBUS_EVENT(VBUS_EVENT_DEVICE, dev->slot),
	};

	return epoll_ctl(dev->bus->epoll, op, dev->fd, &event);
}

void vbus_device_watch(struct vbus_device *dev, uint32_t events)
{
	if (control_watch(dev, EPOLL_CTL_MOD, events) < 0)
		vbus_log(dev->bus->name, "the back end %s cannot be watched (%s)", dev->name,
			 strerror(errno));
}

int vbus_device_add(struct vbus_bus *bus, const struct vbus_worker_message *m, int fd)
{
	struct vbus_device *dev = &bus->device[m->slot];

	*dev = (struct vbus_device){
		.bus = bus,
		.slot = m->slot,
		.klass = vbus_class_find(m->klass),
		.ops = vbus_class_ops_find(m->klass),
		.link = m->link,
		.read_only = m->read_only,
		.mtu = m->mtu,
		.block_size = m->block_size,
		.fd = fd,
		.generation = dev->generation,
		.page = &bus->page->device[m->slot],
	};
	dev->instance = m->instance;
	memcpy(dev->uuid, m->uuid, sizeof(dev->uuid));
	memcpy(dev->mac, m->mac, sizeof(dev->mac));
	memcpy(dev->serial, m->serial, sizeof(dev->serial));
	memcpy(dev->name, m->name, sizeof(dev->name) - 1);
	/* The worker before may have died while it ran. */
	dev->page->running = 0;
	if (dev->ops->attach(dev) < 0)
		return -1;
	support(dev);
	vbus_device_mask(dev, m->mask);
	if (dev->fd >= 0 && control_watch(dev, EPOLL_CTL_ADD, 0) < 0) {
		dev->ops->detach(dev);
		return -1;
	}
	dev->used = true;
	bus->image[m->slot] = dev->klass->backend == VBUS_BACKEND_IMAGE ? fd : -1;
	vbus_fence_device(dev);
	return 0;
}

void vbus_device_remove(struct vbus_bus *bus, uint32_t slot)
{
	struct vbus_device *dev = &bus->device[slot];

	vbus_device_close(dev);
	dev->ops->detach(dev);
	if (dev->fd >= 0)
		close(dev->fd);
	dev->fd = -1;
	dev->used = false;
	bus->ready &= ~(1u << slot);
}

void vbus_device_link(struct vbus_device *dev, bool up)
{
	dev->link = up;
	if (dev->ops->link)
		dev->ops->link(dev);
}

void vbus_device_ready(struct vbus_device *dev)
{
	dev->bus->ready |= 1u << dev->slot;
}

void vbus_device_tell_lost(struct vbus_device *dev)
{
	const struct vbus_worker_notice notice = {
		.kind = VBUS_NOTICE_LOST,
		.slot = dev->slot,
		.instance = dev->instance,
	};

	if (vbus_fdmsg_send(dev->bus->control, &notice, sizeof(notice), NULL, 0) < 0)
		vbus_log(dev->bus->name, "vbusd is not told of a lost back end (%s)",
			 strerror(errno));
}

void vbus_device_lost(struct vbus_device *dev)
{
	close(dev->fd);
	dev->fd = -1;
	vbus_device_tell_lost(dev);
}

void vbus_device_backend(struct vbus_device *dev, int fd)
{
	if (dev->fd >= 0)
		close(dev->fd);
	dev->fd = fd;
	if (control_watch(dev, EPOLL_CTL_ADD, 0) < 0)
		vbus_leave(dev->bus, "a back end cannot be watched");
	dev->ops->backend(dev);
}

struct vbus_device *vbus_device_of(struct vbus_bus *bus, uint32_t handle)
{
	uint32_t slot = handle & ((1u << HANDLE_INDEX_BITS) - 1);

	if (!handle || slot >= VBUSD_DEVICES)
		return NULL;
	if (!bus->device[slot].used || bus->device[slot].handle != handle)
		return NULL;
	return &bus->device[slot];
}

enum vbus_status vbus_device_open(struct vbus_bus *bus, const struct vbus_devopen_request *r,
				  struct vbus_device **out)
{
	struct vbus_device *dev;
	uint32_t i;

	for (i = 0; i < VBUSD_DEVICES; i++)
		if (bus->device[i].used && !memcmp(bus->device[i].uuid, r->uuid, VBUS_UUID_LEN))
			break;
	if (i == VBUSD_DEVICES)
		return VBUS_STATUS_NO_ENTRY;
	dev = &bus->device[i];
	if (vbus_le32_to_cpu(r->version) != dev->klass->version)
		return VBUS_STATUS_VERSION;
	if (dev->handle)
		return VBUS_STATUS_BUSY;
	if (dev->fence != VBUS_FENCE_NONE)
		return VBUS_STATUS_IO;

	vbus_features_reset(&dev->features);
	apply_mask(dev);
	dev->generation = (dev->generation + 1) & ((1u << (32 - HANDLE_INDEX_BITS)) - 1);
	if (!dev->generation)
		dev->generation = 1;
	dev->handle = dev->slot | dev->generation << HANDLE_INDEX_BITS;
	vbus_count(&dev->page->counters.opens);
	vbus_device_publish(dev);
	VBUS_FAIL_POINT(DEVOPEN);
	*out = dev;
	return VBUS_STATUS_OK;
}

void vbus_device_close(struct vbus_device *dev)
{
	uint32_t i;

	if (!dev->handle)
		return;
	dev->ops->close(dev);
	for (i = 0; i < VBUS_REGIONS; i++) {
		struct vbus_region *region = &dev->region[i];

		if (!region->used)
			continue;
		vbus_route_give(dev->bus, region->signal);
		if (region->path)
			vbus_route_give(dev->bus, region->path);
		region->used = false;
	}
	dev->handle = 0;
	dev->bus->ready &= ~(1u << dev->slot);
	vbus_features_reset(&dev->features);
	apply_mask(dev);
	vbus_device_publish(dev);
}

void vbus_device_violation(struct vbus_device *dev, const char *what)
{
	vbus_count(&dev->bus->page->counters.violations);
	vbus_count(&dev->page->counters.violations);
	if (!dev->told)
		vbus_log(dev->bus->name, "device %02x%02x%02x%02x is closed (%s; told once)",
			 dev->uuid[0], dev->uuid[1], dev->uuid[2], dev->uuid[3], what);
	dev->told = true;
	vbus_device_close(dev);
}

/* A part is empty, or page aligned and whole in the pool. */
static bool part_is_ok(struct vbus_bus *bus, uint64_t at, uint32_t len)
{
	if (!len)
		return true;
	return !(at % VBUS_PAGE_SIZE) && vbus_memctx_at(&bus->window, VBUS_POOL, at, len);
}

/* Both were judged, so no sum wraps.  Whole pages: none may have two writers. */
static bool overlap(uint64_t a, uint32_t a_len, uint64_t b, uint32_t b_len)
{
	uint64_t mask = VBUS_PAGE_SIZE - 1;

	return a_len && b_len && a < ((b + b_len + mask) & ~mask) &&
	       b < ((a + a_len + mask) & ~mask);
}

static bool is_taken(struct vbus_bus *bus, uint64_t at, uint32_t len)
{
	uint32_t i, k;

	for (i = 0; i < VBUSD_DEVICES; i++)
		for (k = 0; k < VBUS_REGIONS; k++) {
			const struct vbus_region *r = &bus->device[i].region[k];

			if (bus->device[i].used && r->used &&
			    (overlap(at, len, r->north, r->north_len) ||
			     overlap(at, len, r->south, r->south_len)))
				return true;
		}
	return false;
}

enum vbus_status vbus_device_share(struct vbus_device *dev, const struct vbus_devshm_request *r,
				   uint32_t *signal)
{
	struct vbus_region *region = NULL;
	struct vbus_bus *bus = dev->bus;
	struct vbus_region want = {
		.id = vbus_le32_to_cpu(r->region),
		.north = vbus_le64_to_cpu(r->north),
		.south = vbus_le64_to_cpu(r->south),
		.north_len = vbus_le32_to_cpu(r->north_len),
		.south_len = vbus_le32_to_cpu(r->south_len),
	};
	uint32_t queue = vbus_le32_to_cpu(r->queue), i;
	enum vbus_status status;

	if (queue >= bus->queues)
		return VBUS_STATUS_INVALID;
	if (!part_is_ok(bus, want.north, want.north_len) ||
	    !part_is_ok(bus, want.south, want.south_len))
		return VBUS_STATUS_INVALID;
	for (i = 0; i < VBUS_REGIONS; i++) {
		if (!dev->region[i].used)
			region = &dev->region[i];
		else if (dev->region[i].id == want.id)
			return VBUS_STATUS_BUSY;
	}
	if (overlap(want.north, want.north_len, want.south, want.south_len) ||
	    is_taken(bus, want.north, want.north_len) || is_taken(bus, want.south, want.south_len))
		return VBUS_STATUS_INVALID;
	if (region)
		want.signal = vbus_route_take(dev, region, queue);
	if (!want.signal)
		return VBUS_STATUS_NO_SPACE;

	*region = want;
	status = dev->ops->share(dev, region);
	if (status) {
		vbus_route_give(bus, want.signal);
		return status;
	}
	region->used = true;
	VBUS_FAIL_POINT(DEVSHM);
	/* Scanned once now: what was published before is not signalled again. */
	vbus_device_ready(dev);
	*signal = region->signal;
	return VBUS_STATUS_OK;
}
