// SPDX-License-Identifier: MIT
/*
 * liar_card.c - a class whose cards lie to the guest, each in its own way: the last byte of the UUID
 * says how.  Whatever the guest sends is taken, and a frame of ours comes back for it.
 */
#include <stdlib.h>
#include <string.h>

#include "vbus_class.h"
#include "vbus_port.h"
#include "venet_abi.h"

#ifndef LIAR_TYPE
#define LIAR_TYPE	VENET_TYPE
#endif

/* scenarios/cardlies.py has the same order. */
enum lie {
	HONEST,
	NO_MAC,
	MAC_OF_A_GROUP,
	RECEIVED_ID_OUT_OF_RANGE,
	RECEIVED_TOO_LONG,
	RECEIVED_TOO_SHORT,
	RECEIVED_IN_NO_BUFFERS,
	RECEIVED_IN_MANY_BUFFERS,
	RECEIVED_AHEAD,
	RECEIVED_BACKWARDS,
	SENT_ID_OUT_OF_RANGE,
	SENT_TWICE,
	SENT_AHEAD,
	FRAME_WITHOUT_HEADER,
	STRANGE_FLAGS,
	STRANGE_SEGMENTS,
	SEGMENTS_NOT_AGREED,
	CHECKSUM_BEYOND_THE_FRAME,
	EPOCH_JUMPS,
};

#define JUMPS	20u

struct liar {
	struct ioq rx;
	struct ioq tx;
	struct vbus_region *rx_region;
	struct vbus_region *tx_region;
	uint32_t former;	/* id */
	uint32_t frames;
};

static enum lie lie_of(const struct vbus_device *dev)
{
	return (enum lie)dev->uuid[VBUS_UUID_LEN - 1];
}

static int attach(struct vbus_device *dev)
{
	dev->state = calloc(1, sizeof(struct liar));
	return dev->state ? 0 : -1;
}

static void detach(struct vbus_device *dev)
{
	free(dev->state);
}

static void forget(struct vbus_device *dev)
{
	memset(dev->state, 0, sizeof(struct liar));
}

static enum vbus_status call(struct vbus_device *dev, uint32_t func, const uint8_t *in,
			     uint32_t len, uint8_t *out, uint16_t *out_len)
{
	uint8_t mac[6] = { 0x02, 'v', 'b', 'l', 'i', (uint8_t)lie_of(dev) };

	(void)in;
	(void)len;
	if (func == VENET_FUNC_LINKUP || func == VENET_FUNC_LINKDOWN ||
	    func == VENET_FUNC_OFFLOADS)
		return VBUS_STATUS_OK;
	if (func != VENET_FUNC_MACQUERY)
		return VBUS_STATUS_UNSUPPORTED;
	if (lie_of(dev) == NO_MAC)
		memset(mac, 0, sizeof(mac));
	if (lie_of(dev) == MAC_OF_A_GROUP)
		mac[0] |= 1;
	memcpy(out, mac, sizeof(mac));
	*out_len = sizeof(mac);
	return VBUS_STATUS_OK;
}

static enum vbus_status share(struct vbus_device *dev, struct vbus_region *region)
{
	struct liar *liar = dev->state;

	if (region->id == VENET_REGION_RX(0)) {
		liar->rx_region = region;
		return vbus_device_ring(dev, region, &liar->rx);
	}
	if (region->id != VENET_REGION_TX(0))
		return VBUS_STATUS_INVALID;
	liar->tx_region = region;
	return vbus_device_ring(dev, region, &liar->tx);
}

static void heard(struct vbus_device *dev, struct vbus_region *region)
{
	vbus_device_disable(dev, region);
	vbus_device_ready(dev);
}

static void head_of(enum lie lie, struct venet_header *head)
{
	head->buffers = lie == RECEIVED_IN_NO_BUFFERS ? 0 : 1;
	if (lie == RECEIVED_IN_MANY_BUFFERS)
		head->buffers = UINT16_MAX;
	if (lie == STRANGE_FLAGS)
		head->flags = 0x80;
	if (lie == STRANGE_SEGMENTS)
		head->gso_type = 0x7f;
	if (lie == SEGMENTS_NOT_AGREED) {
		head->gso_type = VENET_GSO_TCPV4;
		head->gso_size = 1000;
	}
	if (lie == CHECKSUM_BEYOND_THE_FRAME) {
		head->flags = VENET_NEEDS_CSUM;
		head->csum_start = 60000;
	}
}

/* A broadcast of an experimental protocol (IEEE 802, 0x88b5). */
static uint32_t write_frame(uint8_t *at, enum lie lie)
{
	uint8_t frame[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 'l', [12] = 0x88, 0xb5 };
	struct venet_header head = { 0 };
	uint32_t len = sizeof(frame);

	head_of(lie, &head);
	if (lie == FRAME_WITHOUT_HEADER)
		len = VENET_FRAME_MIN - 1;
	memcpy(at, &head, sizeof(head));
	memcpy(at + sizeof(head), frame, len);
	return sizeof(head) + len;
}

static void receive(struct vbus_device *dev, enum lie lie)
{
	struct liar *liar = dev->state;
	struct ioq_buffer b;
	uint32_t len;
	uint8_t *at;

	if (ioq_take(&liar->rx, &b))
		return;
	at = vbus_device_memory(dev, b.addr, b.len);
	len = at ? write_frame(at, lie) : 0;
	if (lie == RECEIVED_TOO_LONG)
		len = b.len + 1;
	if (lie == RECEIVED_TOO_SHORT)
		len = 1;
	ioq_give(&liar->rx, lie == RECEIVED_ID_OUT_OF_RANGE ? UINT32_MAX : b.id, len, 0);
}

static void complete(struct liar *liar, const struct ioq_buffer *b, enum lie lie)
{
	uint32_t id = b->id;

	if (lie == SENT_TWICE && liar->frames)
		id = liar->former;
	if (lie == SENT_ID_OUT_OF_RANGE)
		id = UINT32_MAX;
	liar->former = b->id;
	ioq_give(&liar->tx, id, 0, 0);
}

static void publish(struct liar *liar, enum lie lie)
{
	ioq_give_publish(&liar->rx);
	ioq_give_publish(&liar->tx);
	if (lie == RECEIVED_AHEAD)
		vbus_write32(&liar->rx.south->inuse, liar->rx.inuse + liar->rx.count);
	/* Behind what was published for the frame before. */
	if (lie == RECEIVED_BACKWARDS && liar->frames > 1)
		vbus_write32(&liar->rx.south->inuse, liar->rx.inuse - 2);
	if (lie == SENT_AHEAD)
		vbus_write32(&liar->tx.south->inuse, liar->tx.inuse + liar->tx.count);
}

/* Whoever reads the window finds another host's, again and again. */
static void jump(const struct vbus_device *dev, const struct liar *liar)
{
	struct vbus_host_header *h = (void *)(dev->bus->window.base + VBUS_HOST_HEADER);

	if (liar->frames < JUMPS)
		vbus_write64(&h->epoch, dev->bus->epoch + 1 + liar->frames);
}

static bool run(struct vbus_device *dev)
{
	struct liar *liar = dev->state;
	enum lie lie = lie_of(dev);
	struct ioq_buffer b;

	if (!liar->rx_region || !liar->tx_region)
		return false;
	while (!ioq_take(&liar->tx, &b)) {
		complete(liar, &b, lie);
		receive(dev, lie);
		if (!vbus_device_has_window(dev))
			return false;
		liar->frames++;
		publish(liar, lie);
		if (lie == EPOCH_JUMPS)
			jump(dev, liar);
	}
	vbus_device_inject(dev, liar->rx_region);
	vbus_device_inject(dev, liar->tx_region);
	return vbus_device_enable(dev, liar->tx_region);
}

static const struct vbus_class_ops ops = {
	.attach = attach, .detach = detach, .close = forget, .call = call, .share = share,
	.signal = heard, .run = run,
};

const struct vbus_class vbus_class = {
	.abi = VBUS_CLASS_ABI,
	.ops = &ops,
	.info = {
		.name = "liar-" LIAR_TYPE, .type = LIAR_TYPE, .version = VENET_VERSION,
		.backend = VBUS_BACKEND_NONE,
		.feature = { { VENET_GROUP_L4RO, VENET_SG } },
	},
};
