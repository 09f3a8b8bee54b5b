// SPDX-License-Identifier: GPL-2.0-only
/* vblk_queue.c - requests between the block layer and the rings. */
#include "vblk.h"

/* False for what was never announced. */
static bool translate(const struct request *rq, struct vblk_command *command)
{
	command->overdue = 0;
	command->flags = rq->cmd_flags & REQ_FUA ? VBLK_FUA : 0;
	switch (req_op(rq)) {
	case REQ_OP_READ:
		command->op = VBLK_OP_READ;
		command->flags = 0;
		return true;
	case REQ_OP_WRITE:
		command->op = VBLK_OP_WRITE;
		return true;
	case REQ_OP_FLUSH:
		command->op = VBLK_OP_FLUSH;
		command->flags = 0;
		return true;
	case REQ_OP_DISCARD:
		command->op = VBLK_OP_DISCARD;
		command->flags = 0;
		return true;
	case REQ_OP_WRITE_ZEROES:
		command->op = VBLK_OP_ZEROES;
		if (!(rq->cmd_flags & REQ_NOUNMAP))
			command->flags |= VBLK_UNMAP;
		return true;
	default:
		return false;
	}
}

static blk_status_t queue_rq(struct blk_mq_hw_ctx *hctx, const struct blk_mq_queue_data *data)
{
	struct request *rq = data->rq;
	struct vblk_command *command = blk_mq_rq_to_pdu(rq);
	struct vblk_ring *ring = hctx->driver_data;
	struct vblk *vblk = ring->vblk;
	u32 pages = 0;

	if (vblk->failed)
		return BLK_STS_IOERR;
	if (!translate(rq, command))
		return BLK_STS_NOTSUPP;
	if (command->op == VBLK_OP_READ || command->op == VBLK_OP_WRITE)
		pages = DIV_ROUND_UP(blk_rq_bytes(rq), VBUS_PAGE_SIZE);
	/*
	 * Not BLK_STS_DEV_RESOURCE: the pages may be another queue's, whose completion may come
	 * before this request is back on our list.
	 */
	if (!vblk_pool_take(&vblk->pool, pages, command, hctx))
		return BLK_STS_RESOURCE;
	if (command->op == VBLK_OP_WRITE)
		vblk_pool_copy(&vblk->pool, rq, true);

	/* It may be completed before the post returns. */
	blk_mq_start_request(rq);
	vblk_ring_post(ring, rq, data->last);
	return BLK_STS_OK;
}

/* One doorbell a batch: the batch ended without its last request. */
static void commit_rqs(struct blk_mq_hw_ctx *hctx)
{
	vblk_ring_publish(hctx->driver_data);
}

/* On the CPU that the block layer likes. */
static void complete_rq(struct request *rq)
{
	struct vblk_command *command = blk_mq_rq_to_pdu(rq);

	blk_mq_end_request(rq, command->status);
}

void vblk_request_end(struct request *rq, blk_status_t status)
{
	struct vblk_command *command = blk_mq_rq_to_pdu(rq);

	command->status = status;
	blk_mq_complete_request(rq);
}

/*
 * The host is slow, or it is gone; the request waits in either case.  When the host has been silent
 * for too long the bus fails the device, and that ends it.  A device that is being removed has no
 * bus to do that.
 */
static enum blk_eh_timer_return timed_out(struct request *rq)
{
	struct vblk_command *command = blk_mq_rq_to_pdu(rq);
	struct vblk_ring *ring = rq->mq_hctx->driver_data;
	struct vblk *vblk = ring->vblk;

	if (!READ_ONCE(vblk->removing)) {
		vbus_device_suspect(vblk->vdev);
		return BLK_EH_RESET_TIMER;
	}
	if (++command->overdue == VBLK_PATIENCE)
		WRITE_ONCE(vblk->hopeless, true);
	schedule_work(&vblk->doubt);
	return BLK_EH_RESET_TIMER;
}

static int init_hctx(struct blk_mq_hw_ctx *hctx, void *data, unsigned int index)
{
	struct vblk *vblk = data;

	hctx->driver_data = &vblk->ring[index];
	return 0;
}

const struct blk_mq_ops vblk_queue_ops = {
	.queue_rq = queue_rq,
	.commit_rqs = commit_rqs,
	.complete = complete_rq,
	.timeout = timed_out,
	.init_hctx = init_hctx,
};
