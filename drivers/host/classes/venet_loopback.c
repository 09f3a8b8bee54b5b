// SPDX-License-Identifier: MIT
/* venet_loopback.c - every frame that the guest sends comes back, through a private copy. */
#include <string.h>

#include "venet.h"

/**
 * struct venet_loopback
 * @len: of the frame that waits, or 0
 */
struct venet_loopback {
	struct venet venet;
	struct venet_header head;
	uint32_t len;
	uint8_t frame[VENET_FRAME_MAX];
};

static struct venet_loopback *loopback_of(const struct venet *v)
{
	return (struct venet_loopback *)v;
}

static enum venet_moved transmit(struct venet *v, const struct venet_header *head,
				 const void *frame, uint32_t len)
{
	struct venet_loopback *l = loopback_of(v);

	/* Until the guest has room for the frame before, this one waits in its ring. */
	if (l->len)
		return VENET_NOTHING;
	memcpy(l->frame, frame, len);
	l->head = *head;
	l->len = len;
	return VENET_MOVED;
}

static bool has_frame(const struct venet *v)
{
	return loopback_of(v)->len;
}

static enum venet_moved receive(struct venet *v, struct venet_header *head,
				const struct iovec *parts, uint32_t count, uint32_t *len)
{
	struct venet_loopback *l = loopback_of(v);

	(void)count;
	venet_scatter(parts, l->frame, l->len);
	*head = l->head;
	*len = l->len;
	l->len = 0;
	return VENET_MOVED;
}

static void nothing(struct venet *v)
{
	(void)v;
}

static void closed(struct venet *v)
{
	loopback_of(v)->len = 0;
}

const struct venet_backend venet_loopback = {
	.size = sizeof(struct venet_loopback),
	.start = nothing,
	.transmit = transmit,
	.has_frame = has_frame,
	.receive = receive,
	.rest = nothing,
	.closed = closed,
};
