// SPDX-License-Identifier: MIT
/* ioq.c - see ioq.h. */
#include "ioq.h"
#include "vbus_port.h"

enum vbus_rc ioq_north_init(struct ioq *q, struct ioq_north *north, struct ioq_south *south,
			    uint32_t count)
{
	if (!ioq_count_is_ok(count))
		return VBUS_INVALID;

	*q = (struct ioq){ .north = north, .south = south, .count = count };
	vbus_write32(&north->magic, IOQ_MAGIC);
	vbus_write32(&north->version, IOQ_VERSION);
	vbus_write32(&north->count, count);
	vbus_write32(&north->valid, 0);
	return VBUS_OK;
}

enum vbus_rc ioq_push(struct ioq *q, uint64_t addr, uint32_t len, uint32_t id)
{
	struct ioq_desc *desc;

	if (q->broken)
		return VBUS_CORRUPT;
	if (!ioq_room(q))
		return VBUS_FULL;

	/*
	 * The slot is free: the south takes descriptors in order, and has given back at least as
	 * many as would make it the oldest one.
	 */
	desc = &q->north->ring[q->valid & (q->count - 1)];
	vbus_write64(&desc->addr, addr);
	vbus_write32(&desc->len, len);
	vbus_write32(&desc->id, id);
	q->valid++;
	return VBUS_OK;
}

void ioq_push_publish(struct ioq *q)
{
	/* Descriptors and payload before the index that hands them over. */
	vbus_wmb();
	vbus_write32(&q->north->valid, q->valid);
}

/* The peer's index is @ahead of ours; more than @most is a lie. */
static enum vbus_rc judge(struct ioq *q, uint32_t ahead, uint32_t most)
{
	if (ahead > most) {
		q->broken = true;
		return VBUS_CORRUPT;
	}
	if (!ahead)
		return VBUS_EMPTY;
	/* The index before what it hands over. */
	vbus_rmb();
	return VBUS_OK;
}

enum vbus_rc ioq_pop(struct ioq *q, struct ioq_buffer *out)
{
	const struct ioq_completion *done;
	enum vbus_rc rc;

	if (q->broken)
		return VBUS_CORRUPT;
	rc = judge(q, vbus_read32(&q->south->inuse) - q->inuse, q->valid - q->inuse);
	if (rc)
		return rc;

	done = &q->south->ring[q->inuse & (q->count - 1)];
	*out = (struct ioq_buffer){
		.id = vbus_read32(&done->id),
		.len = vbus_read32(&done->len),
		.status = vbus_read32(&done->status),
	};
	q->inuse++;
	return VBUS_OK;
}

enum vbus_rc ioq_south_init(struct ioq *q, struct ioq_north *north, struct ioq_south *south,
			    uint32_t north_len, uint32_t south_len)
{
	uint32_t count;

	if (north_len < IOQ_PART_SIZE(1) || south_len < IOQ_PART_SIZE(1))
		return VBUS_INVALID;
	count = vbus_read32(&north->count);
	if (!ioq_count_is_ok(count) || north_len != IOQ_PART_SIZE(count) || south_len != north_len)
		return VBUS_INVALID;
	if (vbus_read32(&north->magic) != IOQ_MAGIC || vbus_read32(&north->version) != IOQ_VERSION)
		return VBUS_INVALID;

	*q = (struct ioq){ .north = north, .south = south, .count = count };
	vbus_write32(&south->inuse, 0);
	return VBUS_OK;
}

enum vbus_rc ioq_take(struct ioq *q, struct ioq_buffer *out)
{
	const struct ioq_desc *desc;
	enum vbus_rc rc;

	if (q->broken)
		return VBUS_CORRUPT;
	rc = judge(q, vbus_read32(&q->north->valid) - q->valid, q->count - (q->valid - q->inuse));
	if (rc)
		return rc;

	desc = &q->north->ring[q->valid & (q->count - 1)];
	*out = (struct ioq_buffer){
		.addr = vbus_read64(&desc->addr),
		.len = vbus_read32(&desc->len),
		.id = vbus_read32(&desc->id),
	};
	q->valid++;
	return VBUS_OK;
}

enum vbus_rc ioq_give(struct ioq *q, uint32_t id, uint32_t len, uint32_t status)
{
	struct ioq_completion *done;

	if (q->broken)
		return VBUS_CORRUPT;
	if (q->inuse == q->valid)
		return VBUS_INVALID;

	done = &q->south->ring[q->inuse & (q->count - 1)];
	vbus_write32(&done->id, id);
	vbus_write32(&done->len, len);
	vbus_write32(&done->status, status);
	vbus_write32(&done->reserved, 0);
	q->inuse++;
	return VBUS_OK;
}

void ioq_give_publish(struct ioq *q)
{
	/* Completions and payload before the index that gives them back. */
	vbus_wmb();
	vbus_write32(&q->south->inuse, q->inuse);
}
