/* SPDX-License-Identifier: MIT */
/*
 * worker_abi.h - what vbusd tells a worker, and the page on which the worker tells what it did.
 *
 * Messages go over a SEQPACKET socket pair that the worker inherits as descriptor 3.  The answer is
 * the status page: written by the worker, read by vbusd, so that looking wakes nobody.  Only what
 * vbusd has to act upon comes back as a notice; it takes few of them a second and believes none.
 *
 * A worker outlives its vbusd.  The next one connects to the socket that the worker inherits as
 * descriptor 4, and is sent what the worker holds: START, CONNECTED, a DEVICE for each, GO; with the
 * descriptors that came with those.
 */
#ifndef WORKER_ABI_H
#define WORKER_ABI_H

#include "vbusd_abi.h"

#define VBUS_WORKER_FD		3
#define VBUS_WORKER_NOBODY	65534u	/* the user of workers that have none of their own */
/* From here on, without a gap: the modules of classes that its devices need. */
#define VBUS_WORKER_MODULE_FD	8
#define VBUS_WORKER_MEET_FD	4

enum vbus_worker_kind {
	VBUS_WORKER_START = 1,	/* name, vectors, window_size; descriptors in the order below */
	VBUS_WORKER_GO,		/* all was told: draw an epoch and serve; back: slot, it serves */
	VBUS_WORKER_CONNECTED,	/* QEMU is there: look for a guest; its connection, when it is a socket */
	VBUS_WORKER_DEVICE,	/* all but START's; name: of the back end; its descriptor, if any */
	VBUS_WORKER_REMOVE,	/* slot, list_generation */
	VBUS_WORKER_MASK,	/* slot, masks */
	VBUS_WORKER_LINK,	/* slot, link */
	VBUS_WORKER_BACKEND,	/* slot; the descriptor of a back end that was opened again */
	VBUS_WORKER_FINISH,	/* serve no more, and hold what you hold; a notice tells that it is done */
	VBUS_WORKER_RESIZE,	/* slot: look at the image's size again */
	VBUS_WORKER_RELEASE,	/* as FINISH; the notice comes when all I/O has ended and images are synced */
};

/* Descriptors of START, in this order; then per vector guest to host, then host to guest. */
enum vbus_worker_fd {
	VBUS_WORKER_WINDOW,
	VBUS_WORKER_PAGE,
	VBUS_WORKER_BELLS,
};

#define VBUS_WORKER_FDS		(VBUS_WORKER_BELLS + 2u * VBUS_VECTORS_MAX)

struct vbus_worker_message {
	uint32_t kind;		/* enum vbus_worker_kind */
	uint32_t slot;
	uint32_t vectors;
	uint32_t list_generation;
	uint32_t instance;
	uint32_t number;	/* 1 for START, and one more each time */
	uint64_t window_size;
	char name[VBUSD_NAME_LEN];
	uint8_t uuid[VBUS_UUID_LEN];
	uint8_t mac[6];
	uint8_t link;
	uint8_t read_only;
	uint32_t mtu;
	uint32_t block_size;
	char serial[VBUSD_SERIAL_LEN];
	char klass[VBUSD_CLASS_LEN];
	struct vbus_mask mask[VBUSD_GROUPS];	/* unused ones have no bits */
};

enum vbus_notice_kind {
	VBUS_NOTICE_LOST = 1,	/* the back end of this device is gone: open it again */
	VBUS_NOTICE_FINISHED = 2, /* FINISH was acted upon */
	VBUS_NOTICE_RELEASED = 3, /* RELEASE was; @error: an errno, of the image in @slot */
};

struct vbus_worker_notice {
	uint32_t kind;		/* enum vbus_notice_kind */
	uint32_t slot;
	uint32_t instance;	/* the slot may be another device's by now */
	uint32_t error;
};

struct vbus_device_page {
	uint32_t state;
	uint32_t running;
	uint32_t groups;
	uint32_t reserved;
	struct vbusd_group_status group[VBUSD_GROUPS];
	struct vbusd_device_counters counters;
};

/* Outlives workers: each goes on counting where the last one stopped. */
struct vbus_status_page {
	uint64_t epoch;
	uint64_t nonce;
	uint32_t negotiated;
	uint32_t confirmed;
	uint32_t acted;		/* number of the last message that was acted upon */
	uint32_t sandbox;	/* enum vbus_sandbox */
	struct vbusd_bus_counters counters;
	struct vbusd_queue_status queue[VBUS_QUEUES];
	struct vbus_device_page device[VBUSD_DEVICES];
};

#endif /* WORKER_ABI_H */
