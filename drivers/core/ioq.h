/* SPDX-License-Identifier: MIT */
/*
 * ioq.h - a ring of buffers between north and south.
 *
 * The north hands descriptors over (push, publish) and takes completions back (pop); the south
 * takes descriptors (take) and gives them back in any order (give, publish).  Own indices are
 * private; the peer's index is read once and judged: a peer that lies breaks the ring for good.
 */
#ifndef VBUS_IOQ_H
#define VBUS_IOQ_H

#include "vbus_abi.h"
#include "vbus_rc.h"

/* One buffer, as a side sees it after the copy out of the window. */
struct ioq_buffer {
	uint64_t addr;		/* north to south only */
	uint32_t len;
	uint32_t id;
	uint32_t status;	/* south to north only */
};

/**
 * struct ioq - one side's private view of a ring
 * @valid: north: descriptors pushed; south: descriptors taken
 * @inuse: north: completions popped; south: completions given
 */
struct ioq {
	struct ioq_north *north;
	struct ioq_south *south;
	uint32_t count;
	uint32_t valid;
	uint32_t inuse;
	bool broken;
};

static inline bool ioq_count_is_ok(uint32_t count)
{
	return count && count <= IOQ_COUNT_MAX && !(count & (count - 1));
}

/* North. */
enum vbus_rc ioq_north_init(struct ioq *q, struct ioq_north *north, struct ioq_south *south,
			    uint32_t count);
enum vbus_rc ioq_push(struct ioq *q, uint64_t addr, uint32_t len, uint32_t id);
void ioq_push_publish(struct ioq *q);
enum vbus_rc ioq_pop(struct ioq *q, struct ioq_buffer *out);

/* South.  @north_len and @south_len are the bytes that the guest registered. */
enum vbus_rc ioq_south_init(struct ioq *q, struct ioq_north *north, struct ioq_south *south,
			    uint32_t north_len, uint32_t south_len);
enum vbus_rc ioq_take(struct ioq *q, struct ioq_buffer *out);
enum vbus_rc ioq_give(struct ioq *q, uint32_t id, uint32_t len, uint32_t status);
void ioq_give_publish(struct ioq *q);

/* North: descriptors that may still be pushed. */
static inline uint32_t ioq_room(const struct ioq *q)
{
	return q->count - (q->valid - q->inuse);
}

#endif /* VBUS_IOQ_H */
