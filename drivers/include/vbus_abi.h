/* SPDX-License-Identifier: MIT */
/*
 * vbus_abi.h - what north (the guest) and south (the host) agree on, byte for byte.
 *
 * Both map one window: BAR2 of ivshmem-doorbell, or a file.  All numbers are little endian,
 * all addresses are byte offsets into the window, every word has one writer and every page
 * belongs to one side.  Nobody ever does a read-modify-write on the window: in a guest with one
 * CPU Linux removes the lock prefix, and the peer's update is lost.
 *
 * docs/protocol.md tells the story; a test compares its offsets with these.
 */
#ifndef VBUS_ABI_H
#define VBUS_ABI_H

#include "vbus_types.h"

#define VBUS_MAGIC		0x53554256u	/* "VBUS", written by the south */
#define VBUS_GUEST_MAGIC	0x48545256u	/* "VRTH", written by the north */
#define VBUS_VERSION		1u

#define VBUS_PAGE_SIZE		4096u
#define VBUS_WINDOW_MIN		(1u << 20)
#define VBUS_WINDOW_MAX		(256u << 20)
#define VBUS_VECTORS_MIN	8u
#define VBUS_VECTORS_MAX	32u

/* Areas of the window, and who writes them. */
#define VBUS_HOST_HEADER	0x0000u		/* south */
#define VBUS_GUEST_HEADER	0x1000u		/* north */
#define VBUS_CALLS_NORTH	0x2000u		/* north: requests */
#define VBUS_CALLS_SOUTH	0x3000u		/* south: replies */
#define VBUS_SIGNALS_NORTH	0x4000u		/* north */
#define VBUS_SIGNALS_SOUTH	0x5000u		/* south */
#define VBUS_POOL		0x10000u	/* the north allocates from here to the end */

/**
 * struct vbus_host_header - the first thing a guest reads
 * @magic:	VBUS_MAGIC; stored last
 * @version:	VBUS_VERSION
 * @window_size: bytes; a power of two
 * @epoch:	random, drawn anew whenever the south has lost its connection state; never 0
 * @vectors:	doorbells in each direction
 * @list_generation: moves whenever ENUMERATE would answer differently
 */
struct vbus_host_header {
	vbus_le32 magic;
	vbus_le32 version;
	vbus_le64 window_size;
	vbus_le64 epoch;
	vbus_le32 vectors;
	vbus_le32 list_generation;
};
VBUS_STATIC_ASSERT(offsetof(struct vbus_host_header, window_size) == 8);
VBUS_STATIC_ASSERT(offsetof(struct vbus_host_header, epoch) == 16);
VBUS_STATIC_ASSERT(offsetof(struct vbus_host_header, vectors) == 24);
VBUS_STATIC_ASSERT(offsetof(struct vbus_host_header, list_generation) == 28);
VBUS_STATIC_ASSERT(sizeof(struct vbus_host_header) == 32);

/**
 * struct vbus_guest_header - what the guest's bus driver says of itself
 * @magic:	VBUS_GUEST_MAGIC while a bus driver is loaded, else 0
 * @version:	VBUS_VERSION
 * @epoch:	echo of the epoch that was negotiated under; differs until it notices a new one
 * @nonce:	random, drawn anew for each NEGOTIATE
 */
struct vbus_guest_header {
	vbus_le32 magic;
	vbus_le32 version;
	vbus_le64 epoch;
	vbus_le64 nonce;
};
VBUS_STATIC_ASSERT(offsetof(struct vbus_guest_header, epoch) == 8);
VBUS_STATIC_ASSERT(offsetof(struct vbus_guest_header, nonce) == 16);
VBUS_STATIC_ASSERT(sizeof(struct vbus_guest_header) == 24);

/* ---- Signals: shm-signal's meaning (enabled, pending, dirty) with one writer a word ---- */

#define VBUS_SIGNALS		512u
#define VBUS_QUEUES		VBUS_VECTORS_MAX
#define VBUS_SIGNAL_BUS		0u	/* calls, replies, list changes; on queue 0 */

/**
 * struct shm_signal_page - one side's words; the other side only reads
 * @summary:	as sender: moves after any signal bound to this queue has moved
 * @awake:	as receiver: this queue is being scanned, no doorbell is needed
 * @enabled:	as receiver: this signal wants doorbells; it is dirty all the same without
 * @sequence:	as sender: moves each time the signal is injected
 */
struct shm_signal_page {
	vbus_le32 summary[VBUS_QUEUES];
	vbus_le32 awake[VBUS_QUEUES];
	uint8_t enabled[VBUS_SIGNALS];
	uint8_t reserved[1280];
	vbus_le32 sequence[VBUS_SIGNALS];
};
VBUS_STATIC_ASSERT(offsetof(struct shm_signal_page, awake) == 0x80);
VBUS_STATIC_ASSERT(offsetof(struct shm_signal_page, enabled) == 0x100);
VBUS_STATIC_ASSERT(offsetof(struct shm_signal_page, sequence) == 0x800);
VBUS_STATIC_ASSERT(sizeof(struct shm_signal_page) == VBUS_PAGE_SIZE);

/* ---- IOQ: a ring in two parts on different pages; ownership follows from the two indices ---- */

#define IOQ_MAGIC		0x47fa2fe4u	/* the original's */
#define IOQ_VERSION		5u		/* the original's last was 4 */
#define IOQ_COUNT_MAX		2048u

/**
 * struct ioq_desc - one buffer handed to the south
 * @addr: offset into the window
 * @len:  bytes: payload (north to south) or room (south to north)
 * @id:   chosen by the north, unique among those in flight, returned in the completion
 */
struct ioq_desc {
	vbus_le64 addr;
	vbus_le32 len;
	vbus_le32 id;
};
VBUS_STATIC_ASSERT(sizeof(struct ioq_desc) == 16);

/**
 * struct ioq_completion - one buffer given back to the north
 * @id:     of the descriptor
 * @len:    bytes that the south wrote
 * @status: enum vbus_status
 */
struct ioq_completion {
	vbus_le32 id;
	vbus_le32 len;
	vbus_le32 status;
	vbus_le32 reserved;
};
VBUS_STATIC_ASSERT(sizeof(struct ioq_completion) == 16);

/**
 * struct ioq_north - the north's part of a ring
 * @count: slots in both parts; a power of two
 * @valid: descriptors published so far, modulo 2^32
 */
struct ioq_north {
	vbus_le32 magic;
	vbus_le32 version;
	vbus_le32 count;
	uint8_t pad0[52];
	vbus_le32 valid;
	uint8_t pad1[60];
	struct ioq_desc ring[];
};
VBUS_STATIC_ASSERT(offsetof(struct ioq_north, valid) == 64);
VBUS_STATIC_ASSERT(offsetof(struct ioq_north, ring) == 128);

/**
 * struct ioq_south - the south's part of a ring
 * @inuse: completions published so far, modulo 2^32; never ahead of @valid
 */
struct ioq_south {
	vbus_le32 inuse;
	uint8_t pad[124];
	struct ioq_completion ring[];
};
VBUS_STATIC_ASSERT(offsetof(struct ioq_south, ring) == 128);

#define IOQ_PART_SIZE(count)	(128u + 16u * (count))	/* of either part, bytes */

/* ---- Calls: a slot is a request on a north page and a reply on a south page ---- */

#define VBUS_CALL_SLOTS		16u
#define VBUS_CALL_DATA		224u

/**
 * struct vbus_call_request - written by the north; @seq last
 * @seq:   differs from the reply's while the call is not answered
 * @func:  enum vbus_call
 * @len:   bytes used in @data
 * @epoch: that the north negotiated under, for NEGOTIATE the one it has just read
 * @nonce: the north's; a block with any other is answered STALE
 */
struct vbus_call_request {
	vbus_le32 seq;
	vbus_le16 func;
	vbus_le16 len;
	vbus_le64 epoch;
	vbus_le64 nonce;
	vbus_le64 reserved;
	uint8_t data[VBUS_CALL_DATA];
};
VBUS_STATIC_ASSERT(offsetof(struct vbus_call_request, data) == 32);
VBUS_STATIC_ASSERT(sizeof(struct vbus_call_request) * VBUS_CALL_SLOTS == VBUS_PAGE_SIZE);

/**
 * struct vbus_call_reply - written by the south; @seq last
 * @status: enum vbus_status
 * @epoch:  the south's, @nonce: the request's, so that a late reply is known as such
 */
struct vbus_call_reply {
	vbus_le32 seq;
	vbus_le16 status;
	vbus_le16 len;
	vbus_le64 epoch;
	vbus_le64 nonce;
	vbus_le64 reserved;
	uint8_t data[VBUS_CALL_DATA];
};
VBUS_STATIC_ASSERT(offsetof(struct vbus_call_reply, data) == 32);
VBUS_STATIC_ASSERT(sizeof(struct vbus_call_reply) * VBUS_CALL_SLOTS == VBUS_PAGE_SIZE);

enum vbus_call {
	VBUS_CALL_NEGOTIATE = 0,	/* resets everything of the former nonce */
	VBUS_CALL_QREG = 1,
	VBUS_CALL_ENUMERATE = 2,
	VBUS_CALL_DEVOPEN = 3,
	VBUS_CALL_DEVCLOSE = 4,
	VBUS_CALL_DEVCALL = 5,
	VBUS_CALL_DEVSHM = 6,
	VBUS_CALL_SIGROUTE = 7,
	VBUS_NR_CALLS
};

enum vbus_status {
	VBUS_STATUS_OK = 0,
	VBUS_STATUS_STALE = 1,		/* other epoch or nonce: negotiate again */
	VBUS_STATUS_INVALID = 2,	/* an argument is out of range */
	VBUS_STATUS_NO_ENTRY = 3,	/* no such device or handle */
	VBUS_STATUS_BUSY = 4,		/* open, negotiated or registered already */
	VBUS_STATUS_VERSION = 5,
	VBUS_STATUS_NO_SPACE = 6,
	VBUS_STATUS_UNSUPPORTED = 7,
	VBUS_STATUS_IO = 8,		/* the back end failed */
};

struct vbus_negotiate_request {
	vbus_le32 version;
	vbus_le32 reserved;
	vbus_le64 wanted;		/* bridge features */
};
VBUS_STATIC_ASSERT(sizeof(struct vbus_negotiate_request) == 16);

struct vbus_negotiate_reply {
	vbus_le32 version;
	vbus_le32 vectors;
	vbus_le64 offered;
	vbus_le64 active;		/* wanted and offered */
};
VBUS_STATIC_ASSERT(sizeof(struct vbus_negotiate_reply) == 24);

/* QREG: event queues 0..count-1, queue q on vector q; higher priority is served first. */
struct vbus_qreg_request {
	vbus_le32 count;
	vbus_le32 reserved;
	uint8_t priority[VBUS_QUEUES];	/* 0..VBUS_PRIORITY_MAX */
};
VBUS_STATIC_ASSERT(sizeof(struct vbus_qreg_request) == 40);

#define VBUS_TYPE_LEN		24u
#define VBUS_UUID_LEN		16u
#define VBUS_ENTRIES		4u

/**
 * struct vbus_device_entry - one device of the list
 * @uuid:    its name, for good: RFC 4122 byte order
 * @type:    NUL-terminated and NUL-padded, "venet"
 * @version: of the device's ABI
 * @instance: moves when a device is removed and one of the same name is added, however fast; within
 *           one connection another instance is another device
 */
struct vbus_device_entry {
	uint8_t uuid[VBUS_UUID_LEN];
	char type[VBUS_TYPE_LEN];
	vbus_le32 version;
	vbus_le32 instance;
};
VBUS_STATIC_ASSERT(sizeof(struct vbus_device_entry) == 48);

struct vbus_enumerate_request {
	vbus_le32 index;		/* of the first wanted */
	vbus_le32 reserved;
};

/* The list was read whole when each part carried the same generation. */
struct vbus_enumerate_reply {
	vbus_le32 generation;
	vbus_le32 total;
	vbus_le32 count;		/* of @entry used */
	vbus_le32 reserved;
	struct vbus_device_entry entry[VBUS_ENTRIES];
};
VBUS_STATIC_ASSERT(sizeof(struct vbus_enumerate_reply) == 208);

struct vbus_devopen_request {
	uint8_t uuid[VBUS_UUID_LEN];
	vbus_le32 version;
	vbus_le32 reserved;
};
VBUS_STATIC_ASSERT(sizeof(struct vbus_devopen_request) == 24);

struct vbus_devopen_reply {
	vbus_le32 handle;		/* index and generation; never 0 */
	vbus_le32 budget;		/* bytes of the pool that this device may use */
};

struct vbus_devclose_request {
	vbus_le32 handle;
	vbus_le32 reserved;
};

#define VBUS_DEVCALL_DATA	(VBUS_CALL_DATA - 8u)

struct vbus_devcall_request {
	vbus_le32 handle;
	vbus_le32 func;
	uint8_t data[VBUS_DEVCALL_DATA];
};
VBUS_STATIC_ASSERT(sizeof(struct vbus_devcall_request) == VBUS_CALL_DATA);

/* The one function that every device type has, and its original number. */
#define VBUS_FUNC_NEGCAP	3u

/* Once per open and group: the guest asks for @bits, what comes back is in force. */
struct vbus_negcap_request {
	vbus_le32 gid;
	vbus_le32 bits;
};

struct vbus_negcap_reply {
	vbus_le32 offered;
	vbus_le32 active;
};

/**
 * struct vbus_devshm_request - share two parts of the pool with a device
 * @region: number in the device type's own namespace
 * @queue:  event queue that the region's signal is bound to, in both directions
 * @north, @south: window offsets, page aligned; the side in the name writes that part
 * @north_len, @south_len: bytes; either may be 0
 */
struct vbus_devshm_request {
	vbus_le32 handle;
	vbus_le32 region;
	vbus_le32 queue;
	vbus_le32 reserved;
	vbus_le64 north;
	vbus_le64 south;
	vbus_le32 north_len;
	vbus_le32 south_len;
};
VBUS_STATIC_ASSERT(sizeof(struct vbus_devshm_request) == 40);

struct vbus_devshm_reply {
	vbus_le32 signal;		/* for both directions; never VBUS_SIGNAL_BUS */
	vbus_le32 reserved;
};

#define VBUS_PRIORITY_MAX	7u
#define VBUS_COALESCE_EVENTS	4096u	/* at most */
#define VBUS_COALESCE_US	100000u

/* What SIGROUTE does, and the fields of its request that each one reads; all others are 0. */
enum vbus_sigroute_op {
	VBUS_SIGROUTE_BIND = 0,		/* signal, queue: move a signal to another queue */
	VBUS_SIGROUTE_PRIORITY = 1,	/* queue, priority */
	VBUS_SIGROUTE_CREATE = 2,	/* handle, region, queue: a path of its own to the north */
	VBUS_SIGROUTE_DROP = 3,		/* signal, which CREATE returned */
	VBUS_SIGROUTE_COALESCE = 4,	/* queue, events, microseconds: fewer doorbells */
	VBUS_NR_SIGROUTES
};

/**
 * struct vbus_sigroute_request - signals and queues, live
 * @op:       enum vbus_sigroute_op
 * @signal:   of an open device; never VBUS_SIGNAL_BUS
 * @queue:    a registered one
 * @priority: 0..VBUS_PRIORITY_MAX
 * @events:   a doorbell for so many signals, at most VBUS_COALESCE_EVENTS; 0 and 1: for each
 * @microseconds: or when the first of them is so old, 1..VBUS_COALESCE_US; 0 with 0 or 1 @events
 */
struct vbus_sigroute_request {
	vbus_le32 op;
	vbus_le32 signal;
	vbus_le32 queue;
	vbus_le32 priority;
	vbus_le32 handle;
	vbus_le32 region;
	vbus_le32 events;
	vbus_le32 microseconds;
};
VBUS_STATIC_ASSERT(offsetof(struct vbus_sigroute_request, handle) == 16);
VBUS_STATIC_ASSERT(sizeof(struct vbus_sigroute_request) == 32);

struct vbus_sigroute_reply {
	vbus_le32 signal;		/* CREATE: the new one; else 0 */
	vbus_le32 reserved;
};
VBUS_STATIC_ASSERT(sizeof(struct vbus_sigroute_reply) == 8);

#endif /* VBUS_ABI_H */
