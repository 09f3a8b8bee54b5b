// SPDX-License-Identifier: MIT
/*
 * liar.c - a class whose disks lie to the guest, each in its own way: the last byte of the UUID says
 * how.  Those up to LIES_OF_QUERY tell of a disk that cannot be; the others complete what they did
 * not get, or not like that.  0 is honest, and all zeroes.
 */
#include <stdlib.h>
#include <string.h>

#include "vblk_abi.h"
#include "vbus_class.h"
#include "vbus_port.h"

enum lie {
	HONEST,
	NO_LOGICAL_BLOCK,
	ODD_LOGICAL_BLOCK,
	LARGE_LOGICAL_BLOCK,
	SMALL_PHYSICAL_BLOCK,
	ODD_HINT,
	CAPACITY_OVERFLOWS,
	NO_SEGMENTS,
	MANY_SEGMENTS,
	SMALL_SEGMENTS,
	NO_BYTES,
	NO_ZEROES,
	NO_QUEUES,
	MANY_QUEUES,
	STRANGE_FLAGS,
	SERIAL_OF_BELLS,
	LIES_OF_QUERY = SERIAL_OF_BELLS,
	ID_OF_NOBODY,
	ID_OUT_OF_RANGE,
	TWICE,
	TOO_LONG,
	TOO_SHORT,
	STRANGE_STATUS,
};

struct liar {
	struct ioq ring;
	struct vbus_region *region;
	uint32_t former;	/* id */
	uint64_t completed;
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

static void tell(enum lie lie, struct vblk_query_reply *r)
{
	static const uint32_t blocks[] = {
		[ODD_LOGICAL_BLOCK] = 1536, [LARGE_LOGICAL_BLOCK] = 1u << 20,
	};

	if (lie >= NO_LOGICAL_BLOCK && lie <= LARGE_LOGICAL_BLOCK)
		r->logical_block = blocks[lie];
	if (lie == SMALL_PHYSICAL_BLOCK)
		r->physical_block = 256;
	if (lie == ODD_HINT)
		r->io_opt = 777;
	if (lie == CAPACITY_OVERFLOWS)
		r->capacity = 1ull << 55;
	if (lie == NO_SEGMENTS || lie == MANY_SEGMENTS)
		r->segments_max = lie == NO_SEGMENTS ? 0 : UINT32_MAX;
	if (lie == SMALL_SEGMENTS)
		r->segment_max = 512;
	if (lie == NO_BYTES)
		r->bytes_max = 0;
	if (lie == NO_ZEROES)
		r->zeroes_max = 0;
	if (lie == NO_QUEUES || lie == MANY_QUEUES)
		r->queues = lie == NO_QUEUES ? 0 : UINT16_MAX;
	if (lie == STRANGE_FLAGS)
		r->flags = 1u << 7;
	if (lie == SERIAL_OF_BELLS)
		memset(r->serial, '\a', sizeof(r->serial));
}

static enum vbus_status call(struct vbus_device *dev, uint32_t func, const uint8_t *in,
			     uint32_t len, uint8_t *out, uint16_t *out_len)
{
	struct vblk_query_reply reply = {
		.capacity = 2048, .logical_block = 512, .physical_block = 4096, .segments_max = 64,
		.segment_max = 1u << 18, .bytes_max = 1u << 20, .zeroes_max = 2048, .queues = 1,
		.serial = "liar",
	};

	(void)in;
	(void)len;
	if (func != VBLK_FUNC_QUERY)
		return VBUS_STATUS_UNSUPPORTED;
	tell(lie_of(dev), &reply);
	memcpy(out, &reply, sizeof(reply));
	*out_len = sizeof(reply);
	return VBUS_STATUS_OK;
}

static enum vbus_status share(struct vbus_device *dev, struct vbus_region *region)
{
	struct liar *liar = dev->state;

	if (region->id)
		return VBUS_STATUS_INVALID;
	liar->region = region;
	return vbus_device_ring(dev, region, &liar->ring);
}

static void heard(struct vbus_device *dev, struct vbus_region *region)
{
	vbus_device_disable(dev, region);
	vbus_device_ready(dev);
}

/* All zeroes; what was read. */
static uint32_t zero(const struct vbus_device *dev, const struct ioq_buffer *b)
{
	const struct vblk_request *request = vbus_device_memory(dev, b->addr, b->len);
	uint32_t bytes = 0, i;

	if (!request || request->op != VBLK_OP_READ)
		return 0;
	for (i = 0; i < request->segments; i++) {
		const struct vblk_segment *s = &request->segment[i];
		void *at = vbus_device_memory(dev, s->addr, s->len);

		if (at)
			memset(at, 0, s->len);
		bytes += s->len;
	}
	return bytes;
}

static void complete(struct vbus_device *dev, const struct ioq_buffer *b)
{
	struct liar *liar = dev->state;
	enum lie lie = lie_of(dev);
	uint32_t id = b->id, len = zero(dev, b), status = VBUS_STATUS_OK;

	if (lie == ID_OF_NOBODY)
		id ^= 1;
	if (lie == TWICE && liar->completed++)
		id = liar->former;
	liar->former = b->id;
	if (lie == ID_OUT_OF_RANGE)
		id = UINT32_MAX;
	if (lie == TOO_LONG)
		len += 512;
	if (lie == TOO_SHORT)
		len = 0;
	if (lie == STRANGE_STATUS)
		status = 99;
	ioq_give(&liar->ring, id, len, status);
}

static bool run(struct vbus_device *dev)
{
	struct liar *liar = dev->state;
	struct ioq_buffer b;

	if (!liar->region)
		return false;
	while (!ioq_take(&liar->ring, &b))
		complete(dev, &b);
	if (!vbus_device_has_window(dev))
		return false;
	ioq_give_publish(&liar->ring);
	vbus_device_inject(dev, liar->region);
	return vbus_device_enable(dev, liar->region);
}

static const struct vbus_class_ops ops = {
	.attach = attach, .detach = detach, .close = forget, .call = call, .share = share,
	.signal = heard, .run = run,
};

const struct vbus_class vbus_class = {
	.abi = VBUS_CLASS_ABI,
	.ops = &ops,
	.info = {
		.name = "liar", .type = VBLK_TYPE, .version = VBLK_VERSION,
		.backend = VBUS_BACKEND_NONE,
		.feature = { { VBLK_GROUP_COMMANDS, VBLK_COMMANDS_DISCARD | VBLK_COMMANDS_ZEROES } },
	},
};
