// SPDX-License-Identifier: MIT
/* venet.c - the part that all Ethernet back ends share: functions, regions, link. */
#include <stdlib.h>
#include <string.h>

#include "vbus_port.h"
#include "venet.h"

/* What whoever sends to the guest may leave to it from now on. */
static void use_offloads(struct venet *v, uint32_t bits)
{
	v->offloads = bits;
	if (v->backend->offloads && !v->dead)
		v->backend->offloads(v, bits);
}

static int attach(struct vbus_device *dev, const struct venet_backend *backend)
{
	struct venet *v = calloc(1, backend->size);

	if (!v)
		return -1;
	v->dev = dev;
	v->backend = backend;
	v->mtu = dev->mtu;
	v->dead = dev->klass->backend != VBUS_BACKEND_NONE && dev->fd < 0;
	dev->state = v;
	if (backend->lacks && !v->dead)
		v->lacks = backend->lacks(v);
	/* A worker before may have died with some in use. */
	use_offloads(v, 0);
	return 0;
}

static int attach_loopback(struct vbus_device *dev)
{
	return attach(dev, &venet_loopback);
}

static int attach_tap(struct vbus_device *dev)
{
	return attach(dev, &venet_tap);
}

static int attach_passt(struct vbus_device *dev)
{
	return attach(dev, &venet_passt);
}

static void detach(struct vbus_device *dev)
{
	free(dev->state);
	dev->state = NULL;
}

static void stop(struct venet *v)
{
	v->running = false;
	v->dev->page->running = 0;
	use_offloads(v, 0);
}

static void close_venet(struct vbus_device *dev)
{
	struct venet *v = dev->state;

	stop(v);
	memset(v->pair, 0, sizeof(v->pair));
	v->status_region = NULL;
	v->status = NULL;
	v->has_rxmode = false;
	v->in.is_there = false;
	if (v->backend->closed)
		v->backend->closed(v);
}

static enum vbus_status share_ring(struct venet *v, struct venet_ring *ring,
				   struct vbus_region *region)
{
	uint8_t *base = v->dev->bus->window.base;
	struct ioq_north *north = (void *)(base + region->north);
	struct ioq_south *south = (void *)(base + region->south);

	if (ioq_south_init(&ring->ioq, north, south, region->north_len, region->south_len))
		return VBUS_STATUS_INVALID;
	ring->region = region;
	return VBUS_STATUS_OK;
}

static void tell_link(struct venet *v)
{
	if (!v->status || !vbus_bus_is_ours(v->dev->bus))
		return;
	vbus_write32(&v->status->link, v->dev->link && !v->dead ? VENET_LINK_UP : VENET_LINK_DOWN);
}

static enum vbus_status share_status(struct venet *v, struct vbus_region *region)
{
	if (!vbus_features_have(&v->dev->features, VENET_GROUP_EVENTQ, VENET_EVENTQ_LINKSTATE))
		return VBUS_STATUS_UNSUPPORTED;
	if (region->south_len < sizeof(struct venet_status))
		return VBUS_STATUS_INVALID;
	v->status_region = region;
	v->status = (void *)(v->dev->bus->window.base + region->south);
	tell_link(v);
	return VBUS_STATUS_OK;
}

static bool has_config(const struct venet *v, uint32_t bit)
{
	return vbus_features_have(&v->dev->features, VENET_GROUP_CONFIG, bit);
}

static uint32_t pairs_most(const struct venet *v)
{
	return has_config(v, VENET_CONFIG_PAIRS) ? VENET_PAIRS_MAX : 1;
}

static enum vbus_status share(struct vbus_device *dev, struct vbus_region *region)
{
	struct venet *v = dev->state;
	struct venet_pair *pair;

	if (region->id == VENET_REGION_STATUS)
		return share_status(v, region);
	if (region->id >= VENET_REGION_RX(pairs_most(v)))
		return VBUS_STATUS_INVALID;
	pair = &v->pair[region->id / 2];
	return share_ring(v, region->id % 2 ? &pair->tx : &pair->rx, region);
}

static uint32_t active(const struct venet *v, uint32_t gid)
{
	const struct vbus_features *f = &v->dev->features;
	uint32_t i;

	for (i = 0; i < f->count; i++)
		if (f->group[i].gid == gid)
			return f->group[i].active;
	return 0;
}

static bool has_rings(const struct venet *v, uint32_t pairs)
{
	uint32_t i;

	for (i = 0; i < pairs; i++)
		if (!v->pair[i].rx.region || !v->pair[i].tx.region)
			return false;
	return pairs;
}

static enum vbus_status link_up(struct venet *v, uint32_t pairs)
{
	uint32_t i;

	if (pairs > pairs_most(v) || !has_rings(v, pairs))
		return VBUS_STATUS_INVALID;
	if (v->running)
		return VBUS_STATUS_BUSY;
	v->pairs = pairs;
	v->turn = 0;
	v->in.is_there = false;
	/* Flows that the guest has sent nothing of yet are spread. */
	for (i = 0; i < VENET_FLOWS; i++)
		v->flow[i] = (uint8_t)(i % pairs);
	v->sg = active(v, VENET_GROUP_SG);
	v->l4ro = active(v, VENET_GROUP_L4RO);
	v->mtu = has_config(v, VENET_CONFIG_MTU) ? v->dev->mtu : VENET_MTU_DEFAULT;
	v->running = true;
	v->dev->page->running = pairs;
	use_offloads(v, v->l4ro);
	v->backend->start(v);
	vbus_device_ready(v->dev);
	return VBUS_STATUS_OK;
}

static enum vbus_status take_offloads(struct venet *v, uint32_t bits)
{
	if (!v->running || bits & ~v->l4ro || venet_depend(VENET_GROUP_L4RO, bits) != bits)
		return VBUS_STATUS_INVALID;
	/* The host's kernel tells everybody of a change. */
	if (bits != v->offloads)
		use_offloads(v, bits);
	/* One that waits for buffers was taken under the old ones. */
	if (v->in.is_there && !venet_takes(v, &v->in.head, v->in.len)) {
		v->in.is_there = false;
		vbus_count(&v->dev->page->counters.drops);
	}
	return VBUS_STATUS_OK;
}

static enum vbus_status take_rxmode(struct venet *v, const uint8_t *in, uint32_t len)
{
	struct venet_rxmode mode;

	if (!has_config(v, VENET_CONFIG_RXMODE))
		return VBUS_STATUS_UNSUPPORTED;
	if (len != sizeof(mode))
		return VBUS_STATUS_INVALID;
	memcpy(&mode, in, sizeof(mode));
	if (vbus_le32_to_cpu(mode.flags) & ~(VENET_PROMISC | VENET_ALLMULTI) ||
	    vbus_le16_to_cpu(mode.groups) > VENET_GROUPS_MAX)
		return VBUS_STATUS_INVALID;
	v->rxmode = mode;
	v->has_rxmode = true;
	return VBUS_STATUS_OK;
}

static enum vbus_status answer(const void *data, uint16_t len, uint8_t *out, uint16_t *out_len)
{
	memcpy(out, data, len);
	*out_len = len;
	return VBUS_STATUS_OK;
}

/* A number that the guest may ask for when @bit is active. */
static enum vbus_status tell(const struct venet *v, uint32_t bit, uint32_t number, uint8_t *out,
			     uint16_t *out_len)
{
	const vbus_le32 value = vbus_cpu_to_le32(number);

	if (!has_config(v, bit))
		return VBUS_STATUS_UNSUPPORTED;
	return answer(&value, sizeof(value), out, out_len);
}

static enum vbus_status call(struct vbus_device *dev, uint32_t func, const uint8_t *in,
			     uint32_t len, uint8_t *out, uint16_t *out_len)
{
	struct venet *v = dev->state;
	vbus_le32 number = 0;

	if (len == sizeof(number))
		memcpy(&number, in, sizeof(number));
	switch (func) {
	case VENET_FUNC_LINKUP:
		return len == sizeof(number) ? link_up(v, vbus_le32_to_cpu(number)) :
					       VBUS_STATUS_INVALID;
	case VENET_FUNC_LINKDOWN:
		stop(v);
		return VBUS_STATUS_OK;
	case VENET_FUNC_MACQUERY:
		return answer(dev->mac, sizeof(dev->mac), out, out_len);
	case VENET_FUNC_MTUQUERY:
		return tell(v, VENET_CONFIG_MTU, dev->mtu, out, out_len);
	case VENET_FUNC_PAIRSQUERY:
		return tell(v, VENET_CONFIG_PAIRS, VENET_PAIRS_MAX, out, out_len);
	case VENET_FUNC_RXMODE:
		return take_rxmode(v, in, len);
	case VENET_FUNC_OFFLOADS:
		return len == sizeof(number) ? take_offloads(v, vbus_le32_to_cpu(number)) :
					       VBUS_STATUS_INVALID;
	default:
		return VBUS_STATUS_UNSUPPORTED;
	}
}

static uint32_t able(struct vbus_device *dev, uint32_t gid, uint32_t bits)
{
	const struct venet *v = dev->state;

	if (gid == VENET_GROUP_SG || gid == VENET_GROUP_L4RO)
		bits &= ~v->lacks;
	return venet_depend(gid, bits);
}

static void signal_venet(struct vbus_device *dev, struct vbus_region *region)
{
	/* No more doorbells until the pump has found the ring empty. */
	shm_signal_disable(&dev->bus->signals, region->signal);
	vbus_device_ready(dev);
}

static void readable(struct vbus_device *dev)
{
	struct venet *v = dev->state;

	v->readable = !v->dead;
	if (v->backend->woken && !v->dead)
		v->backend->woken(v);
	if (v->running)
		vbus_device_ready(dev);
}

static void link_venet(struct vbus_device *dev)
{
	struct venet *v = dev->state;

	tell_link(v);
	if (v->status_region && vbus_bus_is_ours(dev->bus))
		vbus_bus_inject(dev->bus, v->status_region->signal);
	if (v->running)
		vbus_device_ready(dev);
}

static void renewed(struct vbus_device *dev)
{
	struct venet *v = dev->state;

	v->dead = false;
	v->readable = true;
	v->backend->renewed(v);
	link_venet(dev);
}

#define VENET_CLASS(attach_fn, backend_fn) { \
	.attach = attach_fn, \
	.detach = detach, \
	.close = close_venet, \
	.call = call, \
	.share = share, \
	.signal = signal_venet, \
	.readable = readable, \
	.run = venet_run, \
	.link = link_venet, \
	.able = able, \
	.backend = backend_fn, \
}

const struct vbus_class_ops venet_loopback_class = VENET_CLASS(attach_loopback, NULL);
const struct vbus_class_ops venet_tap_class = VENET_CLASS(attach_tap, NULL);
const struct vbus_class_ops venet_passt_class = VENET_CLASS(attach_passt, renewed);
