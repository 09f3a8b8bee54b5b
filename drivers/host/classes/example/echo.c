// SPDX-License-Identifier: MIT
/* echo.c - a class: one call that answers what it was asked, one ring given back as it came. */
#include <stdlib.h>
#include <string.h>
#include "vbus_class.h"

#define BATCH	64u	/* buffers; then others have their turn */
struct echo { struct ioq ring; struct vbus_region *region; };

static int attach(struct vbus_device *dev)
{
	dev->state = calloc(1, sizeof(struct echo));
	return dev->state ? 0 : -1;
}
static void detach(struct vbus_device *dev) { free(dev->state); }
static void forget(struct vbus_device *dev) { memset(dev->state, 0, sizeof(struct echo)); }

static enum vbus_status call(struct vbus_device *dev, uint32_t func, const uint8_t *in,
			     uint32_t len, uint8_t *out, uint16_t *out_len)
{
	memcpy(out, in, len);
	*out_len = (uint16_t)len;
	return VBUS_STATUS_OK;
}
static enum vbus_status share(struct vbus_device *dev, struct vbus_region *region)
{
	struct echo *echo = dev->state;

	if (region->id)		/* 0 is the ring; the worker refuses a second one */
		return VBUS_STATUS_INVALID;
	echo->region = region;
	return vbus_device_ring(dev, region, &echo->ring);
}
static void heard(struct vbus_device *dev, struct vbus_region *region)
{
	vbus_device_disable(dev, region);	/* no more doorbells until the ring is empty */
	vbus_device_ready(dev);
}
static bool run(struct vbus_device *dev)
{
	struct echo *echo = dev->state;
	struct ioq_buffer b; uint32_t i;

	for (i = 0; i < BATCH && !ioq_take(&echo->ring, &b); i++) {
		ioq_give(&echo->ring, b.id, b.len, VBUS_STATUS_OK);
		if (vbus_device_has_urgent(dev))
			i = BATCH;	/* the rest after that */
	}
	if (echo->ring.broken)
		vbus_device_violation(dev, "an index of the ring lies");
	if (!echo->region || !vbus_device_has_window(dev))
		return false;	/* closed just now, or another guest's */
	ioq_give_publish(&echo->ring);
	vbus_device_inject(dev, echo->region);
	return i >= BATCH || vbus_device_enable(dev, echo->region);
}
static const struct vbus_class_ops ops = { .attach = attach, .detach = detach, .close = forget,
	.call = call, .share = share, .signal = heard, .run = run };
const struct vbus_class vbus_class = { .abi = VBUS_CLASS_ABI, .ops = &ops,
	.info = { .name = "echo", .type = "echo", .version = 1, .backend = VBUS_BACKEND_NONE } };
