// SPDX-License-Identifier: GPL-2.0-only
/* vblk_ring.c - a ring of requests: handed over, taken back, handed over again. */
#include <linux/nospec.h>
#include "vblk.h"
#include "vbus_port.h"

#define VBLK_BLOCK	VBLK_REQUEST_SIZE(VBLK_SEGMENTS_MAX)

static u32 requests_size(u32 depth)
{
	return PAGE_ALIGN(depth * VBLK_BLOCK);
}

static u32 part_size(u32 depth)
{
	return IOQ_PART_SIZE(depth);
}

u32 vblk_ring_pages(u32 depth)
{
	return (requests_size(depth) + 2 * PAGE_ALIGN(part_size(depth))) / VBUS_PAGE_SIZE;
}

/* ---- Take back ---- */

/* What an honest host cannot get wrong; fills in how the request ended. */
static const char *judge(const struct request *rq, const struct ioq_buffer *done,
			 blk_status_t *status)
{
	u32 expected = 0;

	if (!rq)
		return "completes what it does not have";
	switch (done->status) {
	case VBUS_STATUS_OK:
		*status = BLK_STS_OK;
		if (req_op(rq) == REQ_OP_READ)
			expected = blk_rq_bytes(rq);
		break;
	case VBUS_STATUS_NO_SPACE:
		*status = BLK_STS_NOSPC;
		break;
	case VBUS_STATUS_UNSUPPORTED:
		*status = BLK_STS_NOTSUPP;
		break;
	case VBUS_STATUS_INVALID:
	case VBUS_STATUS_IO:
		*status = BLK_STS_IOERR;
		break;
	default:
		return "completes with a status that there is not";
	}
	return done->len == expected ? NULL : "completes another length than was asked for";
}

/* True when a completion was there, and believed. */
static bool take(struct vblk_ring *ring)
{
	struct vblk *vblk = ring->vblk;
	struct request *rq = NULL;
	struct ioq_buffer done;
	blk_status_t status;
	const char *wrong;
	unsigned long flags;
	enum vbus_rc rc;

	spin_lock_irqsave(&ring->lock, flags);
	rc = ioq_pop(&ring->q, &done);
	if (!rc && done.id < vblk->depth)
		rq = ring->posted[array_index_nospec(done.id, VBLK_DEPTH)];
	spin_unlock_irqrestore(&ring->lock, flags);
	if (rc == VBUS_EMPTY)
		return false;

	wrong = rc ? "an index of a ring lies" : judge(rq, &done, &status);
	if (wrong) {
		vbus_device_broken(vblk->vdev, wrong);
		return false;
	}
	if (req_op(rq) == REQ_OP_READ && status == BLK_STS_OK)
		vblk_pool_copy(&vblk->pool, rq, false);
	/* Otherwise it is another connection's, and that one will get this request. */
	if (!vbus_device_is_current(vblk->vdev))
		return false;

	/* Its tag may be another request's as soon as this one ends. */
	ring->posted[rq->tag] = NULL;
	if (vblk_pool_give(&vblk->pool, blk_mq_rq_to_pdu(rq)))
		blk_mq_start_stopped_hw_queues(vblk->disk->queue, true);
	vblk_request_end(rq, status);
	return true;
}

static void reap(struct tasklet_struct *tasklet)
{
	struct vblk_ring *ring = container_of(tasklet, struct vblk_ring, reap);
	struct vbus_device *vdev = ring->vblk->vdev;

	while (take(ring))
		;
	/* Something came between the last look and the asking. */
	if (vbus_region_enable(vdev, &ring->region)) {
		vbus_region_disable(vdev, &ring->region);
		tasklet_schedule(&ring->reap);
	}
}

static void ring_signal(void *data)
{
	struct vblk_ring *ring = data;

	vbus_region_disable(ring->vblk->vdev, &ring->region);
	tasklet_schedule(&ring->reap);
}

/* ---- Hand over ---- */

/* From what we remember, not from what stands in the window. */
static u32 describe(struct vblk_ring *ring, struct request *rq)
{
	struct vblk_request *block = (void *)(ring->requests + rq->tag * VBLK_BLOCK);
	const struct vblk_command *command = blk_mq_rq_to_pdu(rq);
	u32 left = blk_rq_bytes(rq), i;

	vbus_write8(&block->op, command->op);
	vbus_write8(&block->flags, command->flags);
	vbus_write16(&block->segments, command->runs);
	vbus_write32(&block->sectors, command->runs ? 0 : blk_rq_sectors(rq));
	vbus_write64(&block->sector, command->op == VBLK_OP_FLUSH ? 0 : blk_rq_pos(rq));
	for (i = 0; i < command->runs; i++) {
		const struct vblk_run *run = &command->run[i];
		u32 len = min(left, run->pages * VBUS_PAGE_SIZE);
		u64 at = ring->vblk->pool.at + (u64)run->page * VBUS_PAGE_SIZE;

		vbus_write64(&block->segment[i].addr, at);
		vbus_write32(&block->segment[i].len, len);
		vbus_write32(&block->segment[i].reserved, 0);
		left -= len;
	}
	return VBLK_REQUEST_SIZE(command->runs);
}

/* Lock held.  A ring that broke takes no more; whoever is in it ends when the device fails. */
static void push(struct vblk_ring *ring, struct request *rq)
{
	u32 len = describe(ring, rq);

	ring->posted[rq->tag] = rq;
	ioq_push(&ring->q, ring->requests_at + rq->tag * VBLK_BLOCK, len, rq->tag);
}

void vblk_ring_post(struct vblk_ring *ring, struct request *rq, bool publish)
{
	unsigned long flags;

	spin_lock_irqsave(&ring->lock, flags);
	push(ring, rq);
	if (publish)
		ioq_push_publish(&ring->q);
	spin_unlock_irqrestore(&ring->lock, flags);
	if (publish)
		vbus_region_inject(ring->vblk->vdev, &ring->region);
}

void vblk_ring_publish(struct vblk_ring *ring)
{
	unsigned long flags;

	spin_lock_irqsave(&ring->lock, flags);
	ioq_push_publish(&ring->q);
	spin_unlock_irqrestore(&ring->lock, flags);
	vbus_region_inject(ring->vblk->vdev, &ring->region);
}

/*
 * Any order will do.  The block layer hands a flush over after the writes that it is for have
 * completed, and those are not here any more; a flush that comes later than it was asked for makes
 * no less durable.
 */
void vblk_ring_start(struct vblk_ring *ring)
{
	unsigned long flags;
	u32 tag;

	spin_lock_irqsave(&ring->lock, flags);
	for (tag = 0; tag < ring->vblk->depth; tag++)
		if (ring->posted[tag])
			push(ring, ring->posted[tag]);
	ioq_push_publish(&ring->q);
	spin_unlock_irqrestore(&ring->lock, flags);
	vbus_region_inject(ring->vblk->vdev, &ring->region);
	/* A ring is scanned once when it is registered, whatever was signalled. */
	tasklet_schedule(&ring->reap);
}

/* ---- Bring up and down ---- */

int vblk_ring_share(struct vblk_ring *ring)
{
	ioq_north_init(&ring->q, ring->north, ring->south, ring->vblk->depth);
	return vbus_device_share(ring->vblk->vdev, &ring->region);
}

void vblk_ring_halt(struct vblk_ring *ring)
{
	vbus_region_disable(ring->vblk->vdev, &ring->region);
	vbus_device_unshare(ring->vblk->vdev, &ring->region);
	tasklet_kill(&ring->reap);
}

void vblk_ring_abandon(struct vblk_ring *ring)
{
	u32 tag;

	for (tag = 0; tag < ring->vblk->depth; tag++) {
		struct request *rq = ring->posted[tag];

		if (!rq)
			continue;
		ring->posted[tag] = NULL;
		vblk_request_end(rq, BLK_STS_IOERR);
	}
}

int vblk_ring_alloc(struct vblk_ring *ring, struct vblk *vblk, u32 number)
{
	struct vbus_device *vdev = vblk->vdev;
	u32 part = part_size(vblk->depth);

	ring->vblk = vblk;
	spin_lock_init(&ring->lock);
	tasklet_setup(&ring->reap, reap);
	ring->region = (struct vbus_region){
		.number = VBLK_REGION_RING + number,
		.queue = vbus_device_queue(vdev),
		.north_len = part,
		.south_len = part,
		.fn = ring_signal,
		.data = ring,
	};
	ring->north = vbus_device_alloc(vdev, part, &ring->region.north);
	ring->south = vbus_device_alloc(vdev, part, &ring->region.south);
	ring->requests = vbus_device_alloc(vdev, requests_size(vblk->depth), &ring->requests_at);
	if (ring->north && ring->south && ring->requests)
		return 0;
	vblk_ring_free(ring);
	return -ENOMEM;
}

void vblk_ring_free(struct vblk_ring *ring)
{
	u32 part = part_size(ring->vblk->depth);

	vbus_device_free(ring->vblk->vdev, ring->requests, requests_size(ring->vblk->depth));
	vbus_device_free(ring->vblk->vdev, ring->south, part);
	vbus_device_free(ring->vblk->vdev, ring->north, part);
	ring->requests = NULL;
	ring->south = NULL;
	ring->north = NULL;
}
