/* SPDX-License-Identifier: MIT */
/*
 * vblk_abi.h - the virtual disk: functions, features, regions, requests.
 *
 * A request is a block on a north page that a ring's descriptor points to; its data lies in
 * segments of the pool.  The north keeps each request until it is completed, and hands it over
 * again under a new connection: reading or writing twice the same is harmless.
 */
#ifndef VBLK_ABI_H
#define VBLK_ABI_H

#include "vbus_abi.h"

#define VBLK_TYPE		"vblk"
#define VBLK_VERSION		1u
#define VBLK_SECTOR		512u	/* unit of capacity and positions, not the block size */
#define VBLK_SERIAL_LEN		20u
#define VBLK_QUEUES_MAX		16u
#define VBLK_SEGMENTS_MAX	64u

/* DEVCALL functions; VBUS_FUNC_NEGCAP is 3. */
#define VBLK_FUNC_QUERY		16u	/* -> struct vblk_query_reply; after NEGCAP */

/* Feature groups and their bits. */
#define VBLK_GROUP_COMMANDS	1u
#define VBLK_COMMANDS_FLUSH	(1u << 0)	/* without it writes are durable when done */
#define VBLK_COMMANDS_DISCARD	(1u << 1)
#define VBLK_COMMANDS_ZEROES	(1u << 2)
#define VBLK_GROUP_CONFIG	3u
#define VBLK_CONFIG_RESIZE	(1u << 0)	/* the status region tells another capacity */
#define VBLK_CONFIG_QUEUES	(1u << 1)	/* more than one ring */

/* DEVSHM regions. */
#define VBLK_REGION_RING	0u	/* and up to VBLK_QUEUES_MAX - 1 more: IOQ of requests */
#define VBLK_REGION_STATUS	101u	/* south: struct vblk_status; needs RESIZE */

#define VBLK_READ_ONLY		(1u << 0)	/* of vblk_query_reply's flags */

/**
 * struct vblk_query_reply - the disk as it is now, and what a request may be
 * @capacity:       in sectors; a multiple of the logical block
 * @logical_block:  bytes; positions, lengths and segments are multiples of it
 * @physical_block: bytes; what is aligned to it is fast, and the granularity of discards
 * @io_min, @io_opt: bytes; 0 when nothing is known
 * @segments_max:   a request; never more than VBLK_SEGMENTS_MAX
 * @segment_max:    bytes
 * @bytes_max:      all segments of a request together
 * @zeroes_max:     sectors of a discard or a write of zeroes
 * @queues:         rings that may be shared; 1 without VBLK_CONFIG_QUEUES
 * @serial:         padded with NUL
 */
struct vblk_query_reply {
	vbus_le64 capacity;
	vbus_le32 logical_block;
	vbus_le32 physical_block;
	vbus_le32 io_min;
	vbus_le32 io_opt;
	vbus_le32 segments_max;
	vbus_le32 segment_max;
	vbus_le32 bytes_max;
	vbus_le32 zeroes_max;
	vbus_le16 queues;
	vbus_le16 flags;
	uint8_t serial[VBLK_SERIAL_LEN];
};
VBUS_STATIC_ASSERT(offsetof(struct vblk_query_reply, segments_max) == 24);
VBUS_STATIC_ASSERT(offsetof(struct vblk_query_reply, serial) == 44);
VBUS_STATIC_ASSERT(sizeof(struct vblk_query_reply) == 64);

/* The south writes; signalled when it moves.  Look at the capacity after the generation. */
struct vblk_status {
	vbus_le32 generation;
	vbus_le32 reserved;
	vbus_le64 capacity;
};
VBUS_STATIC_ASSERT(offsetof(struct vblk_status, capacity) == 8);

enum vblk_op {
	VBLK_OP_READ = 0,
	VBLK_OP_WRITE = 1,
	VBLK_OP_FLUSH = 2,	/* what was completed before is durable */
	VBLK_OP_DISCARD = 3,	/* reads as zeroes afterwards */
	VBLK_OP_ZEROES = 4,
	VBLK_NR_OPS
};

#define VBLK_FUA	(1u << 0)	/* WRITE, ZEROES: durable before it is completed */
#define VBLK_UNMAP	(1u << 1)	/* ZEROES: the room may be given back */

/* A part of the pool, in a request; for READ its pages are the south's until the completion. */
struct vblk_segment {
	vbus_le64 addr;
	vbus_le32 len;
	vbus_le32 reserved;	/* 0 */
};
VBUS_STATIC_ASSERT(sizeof(struct vblk_segment) == 16);

/**
 * struct vblk_request - on a page that the north writes; the descriptor's length is exactly its own
 * @op:       enum vblk_op
 * @flags:    VBLK_FUA, VBLK_UNMAP
 * @segments: used; READ and WRITE at least 1, all others 0
 * @sectors:  DISCARD and ZEROES at least 1, all others 0
 * @sector:   position; FLUSH 0
 */
struct vblk_request {
	uint8_t op;
	uint8_t flags;
	vbus_le16 segments;
	vbus_le32 sectors;
	vbus_le64 sector;
	struct vblk_segment segment[];
};
VBUS_STATIC_ASSERT(offsetof(struct vblk_request, sector) == 8);
VBUS_STATIC_ASSERT(offsetof(struct vblk_request, segment) == 16);

#define VBLK_REQUEST_SIZE(segments)	(16u + 16u * (segments))

#endif /* VBLK_ABI_H */
