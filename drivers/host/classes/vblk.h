/* SPDX-License-Identifier: MIT */
/*
 * vblk.h - a virtual disk on an image.
 *
 * Data moves straight between image and window while the image is this worker's alone: its lock
 * then outlives every operation, and the next worker waits for it.  Readers share their lock, so
 * for them data goes through memory of this process.
 */
#ifndef VBLK_H
#define VBLK_H

#include "image.h"
#include "ioq.h"
#include "vblk_abi.h"
#include "worker.h"
#include "worker_io.h"

#define VBLK_IN_FLIGHT		64u		/* a device */
#define VBLK_SEGMENT_MAX	(256u << 10)
#define VBLK_BYTES_MAX		(1u << 20)
#define VBLK_ZEROES_MAX		(1u << 21)	/* sectors: 1 GiB */
#define VBLK_BOUNCE_MAX		VBLK_BYTES_MAX	/* bytes a device has in private memory at once */

/* One request, copied out of the window. */
struct vblk_copy {
	struct vblk_request head;
	struct vblk_segment segment[VBLK_SEGMENTS_MAX];
};

/**
 * struct vblk_ring
 * @given: completions not yet published
 * @held: a request that was taken, and waits for room in private memory
 */
struct vblk_ring {
	struct ioq ioq;
	struct vbus_region *region;
	uint32_t given;
	bool is_held;
	struct ioq_buffer held;
};

/**
 * struct vblk_io - one request in flight
 * @io:      the operation under way; a request may take several
 * @session: under which it was taken; when that is over nobody is told of its end
 * @bytes:   of data, all segments together
 * @iov:     the segments in the window; @iov_now is what @io uses up
 * @bounce:  private memory instead, or NULL
 * @zeroes:  bytes still to be written out as zeroes
 * @sync:    must be durable before it is completed
 * @was_buffered: it was started once more, without O_DIRECT; at @at, where it began
 */
struct vblk_io {
	struct vbus_io io;
	struct vblk *vblk;
	struct vblk_io *next;
	uint32_t session;
	struct vblk_ring *ring;
	uint32_t id;
	uint8_t op;
	bool sync;
	bool was_buffered;
	uint64_t at;
	uint32_t segments;
	uint32_t bytes;
	uint64_t zeroes;
	void *bounce;
	struct iovec iov[VBLK_SEGMENTS_MAX];
	struct iovec iov_now[VBLK_SEGMENTS_MAX];
};

/**
 * struct vblk - private state of a device; it lives on until its last operation has ended
 * @dev:     NULL once it was removed
 * @fd:      the image; closing it lets go of the lock
 * @session: moves when the guest's session ends; @live: operations of the present one
 * @in_flight: operations of all
 * @bounced: bytes in private memory
 * @full:    a ring was left with requests, for want of room
 * @turn:    the ring that is served first
 * @no_direct, @no_zero_range, @no_discard: the image cannot, which was told
 */
struct vblk {
	struct vbus_bus *bus;
	struct vbus_device *dev;
	int fd;
	struct vbus_image_shape shape;
	struct vblk_ring ring[VBLK_QUEUES_MAX];
	struct vbus_region *status_region;
	struct vblk_status *status;
	uint32_t generation;
	uint32_t session;
	uint32_t live;
	uint32_t in_flight;
	uint32_t bounced;
	uint32_t turn;
	bool no_direct;
	bool no_zero_range;
	bool no_discard;
	struct vblk_io *free;
	struct vblk_io slot[VBLK_IN_FLIGHT];
};

extern const struct vbus_class_ops vblk_file_class;

static inline uint64_t vblk_capacity(const struct vblk *v)
{
	return v->shape.size / VBLK_SECTOR;
}

/* vblk.c: the last operation of a removed device has ended. */
void vblk_free(struct vblk *v);

/* vblk_request.c */
enum vblk_taken {
	VBLK_TAKEN,
	VBLK_NO_ROOM,		/* an operation that ends makes the device ready again */
	VBLK_VIOLATION,		/* the device is closed by now */
};

/* Judge the request that @desc names and start it, or complete it at once. */
enum vblk_taken vblk_take(struct vblk *v, struct vblk_ring *ring, const struct ioq_buffer *desc);

#endif /* VBLK_H */
