/* SPDX-License-Identifier: MIT */
/*
 * vbusd_abi.h - what an administrator's tool and vbusd say to each other.
 *
 * One SEQPACKET message a request, one a reply; each of a fixed size, in the machine's byte order: the
 * socket never leaves the machine.  A reply to a STATUS request carries its structure behind
 * struct vbusd_reply.  drivers/vbuskit/drivers/host.py mirrors these, and a test compares offsets.
 */
#ifndef VBUSD_ABI_H
#define VBUSD_ABI_H

#include "vbus_abi.h"

#define VBUSD_VERSION		1u
#define VBUSD_NAME_LEN		32u	/* with the NUL */
#define VBUSD_CLASS_LEN		24u
#define VBUSD_ARGUMENT_LEN	108u	/* a socket path, or an interface name */
#define VBUSD_TEXT_LEN		160u
#define VBUSD_BUSES		64u
#define VBUSD_DEVICES		16u	/* a bus */
#define VBUSD_MODULES		16u	/* classes that are not built in */
#define VBUSD_GROUPS		8u	/* of feature bits a device */
#define VBUSD_SERIAL_LEN	20u	/* of a disk; no NUL when it is used up, as ATA has it */

enum vbusd_op {
	VBUSD_BUS_ADD = 1,	/* bus, connector, argument: QEMU's socket or a folder, window_mib, vectors;
				 * VBUSD_HELD: the reply's text is its ticket */
	VBUSD_BUS_REMOVE = 2,	/* bus */
	VBUSD_DEVICE_ADD = 3,	/* bus, uuid, klass, argument: of the back end; mask: each with bits;
				 * mac, mtu and VBUSD_LINK_DOWN or not; of a disk VBUSD_READ_ONLY
				 * or not, block_size and serial */
	VBUSD_DEVICE_REMOVE = 4, /* bus, uuid */
	VBUSD_MASK = 5,		/* bus, uuid or VBUSD_ALL_DEVICES, mask[0]: replaces what was masked */
	VBUSD_LINK = 6,		/* bus, uuid, VBUSD_LINK_DOWN or not */
	VBUSD_BUS_STATUS = 7,	/* index; NO_ENTRY past the last */
	VBUSD_DEVICE_STATUS = 8, /* bus, index; NO_ENTRY past the last */
	VBUSD_RESIZE = 9,	/* bus, uuid of a disk: its image has another size by now */
	VBUSD_CLASS_STATUS = 10, /* index; NO_ENTRY past the last */
	VBUSD_CLASS_ADD = 11,	/* argument: a shared object that exports vbus_class */
	VBUSD_CLASS_REMOVE = 12, /* klass; BUSY while a device uses it, and when it is built in */
	VBUSD_RENEW = 13,	/* bus: its worker makes room for one of the program on disk */
	VBUSD_WATCH = 14,	/* from here on this connection gets every struct vbusd_event_message */
	VBUSD_END = 15,		/* all buses, workers, sockets and records, and vbusd itself */
	VBUSD_RELEASE = 16,	/* bus, argument: a ticket; held from then on, the text is the receipt */
	VBUSD_START = 17,	/* bus, argument: a receipt, or VBUSD_FENCED: no longer held */
};

enum vbusd_result {
	VBUSD_OK = 0,
	VBUSD_MALFORMED = 1,	/* not a request of this version */
	VBUSD_NO_ENTRY = 2,
	VBUSD_EXISTS = 3,
	VBUSD_RANGE = 4,	/* a number is out of range */
	VBUSD_UNKNOWN = 5,	/* class, feature group or bit */
	VBUSD_FULL = 6,
	VBUSD_SYSTEM = 7,	/* the operating system refused; the text says why */
	VBUSD_BUSY = 8,		/* something uses it */
	VBUSD_EVENT = 255,	/* no reply: struct vbusd_event_message */
};

#define VBUSD_ALL_DEVICES	(1u << 0)	/* MASK: those to come as well */
#define VBUSD_LINK_DOWN		(1u << 1)	/* DEVICE_ADD, LINK */
#define VBUSD_READ_ONLY		(1u << 2)	/* DEVICE_ADD of a disk */
#define VBUSD_HELD		(1u << 3)	/* BUS_ADD: served from START on; until QEMU comes, devices come */
#define VBUSD_FENCED		(1u << 4)	/* START: the administrator's word that nobody else serves it */

#define VBUSD_TICKET_LEN	32u	/* hexadecimal digits; of one move, drawn by who is to START */
#define VBUSD_RECEIPT_LEN	49u	/* TICKET:EPOCH, the last epoch of who gave the bus up, 16 digits */

enum vbusd_connector {
	VBUSD_IVSHMEM = 0,	/* QEMU's ivshmem-doorbell connects to a socket */
	VBUSD_FILE = 1,		/* a process opens files and FIFOs of a folder */
};

struct vbus_mask {
	uint32_t gid;
	uint32_t bits;
};

struct vbusd_request {
	uint32_t version;
	uint32_t op;		/* enum vbusd_op */
	uint32_t flags;
	uint32_t index;
	uint32_t window_mib;
	uint32_t vectors;
	struct vbus_mask mask[VBUSD_GROUPS];
	uint8_t uuid[VBUS_UUID_LEN];
	uint8_t mac[8];		/* the last two are 0 */
	char bus[VBUSD_NAME_LEN];
	char klass[VBUSD_CLASS_LEN];
	char argument[VBUSD_ARGUMENT_LEN];
	uint32_t connector;	/* enum vbusd_connector */
	uint32_t block_size;	/* bytes; 0: as the image has it */
	char serial[VBUSD_SERIAL_LEN];
	uint32_t mtu;		/* of a card, VENET_MTU_MIN to _MAX; 0: VENET_MTU_DEFAULT */
};
VBUS_STATIC_ASSERT(offsetof(struct vbusd_request, uuid) == 88);
VBUS_STATIC_ASSERT(offsetof(struct vbusd_request, bus) == 112);
VBUS_STATIC_ASSERT(offsetof(struct vbusd_request, connector) == 276);
VBUS_STATIC_ASSERT(sizeof(struct vbusd_request) == 308);

struct vbusd_reply {
	uint32_t version;
	uint32_t result;	/* enum vbusd_result */
	char text[VBUSD_TEXT_LEN];
};
VBUS_STATIC_ASSERT(sizeof(struct vbusd_reply) == 168);

enum vbusd_event_kind {
	VBUSD_BUS_ADDED = 1,	/* value: MiB of the window; text: the socket */
	VBUSD_BUS_REMOVED = 2,	/* its devices went with it */
	VBUSD_DEVICE_ADDED = 3,	/* text: the class */
	VBUSD_DEVICE_REMOVED = 4,
	VBUSD_MASK_CHANGED = 5,	/* no uuid: of all devices; group, value: what is masked now */
	VBUSD_LINK_CHANGED = 6,	/* value: 1 up, 0 down */
	VBUSD_QEMU_CONNECTED = 7, /* value: number of the session */
	VBUSD_QEMU_GONE = 8,
	VBUSD_WORKER_STARTED = 9, /* value: pid */
	VBUSD_WORKER_DIED = 10,	/* value: pid; one that was ended on purpose does not count */
	VBUSD_BUS_HELD = 11,	/* no worker any more, or not yet */
	VBUSD_BUS_STARTED = 12,	/* no longer held */
};

/* To who watches.  Who does not read is dropped, and finds out how things stand when it comes back. */
struct vbusd_event_message {
	uint32_t version;
	uint32_t result;	/* VBUSD_EVENT */
	uint32_t kind;		/* enum vbusd_event_kind */
	uint32_t group;
	uint32_t value;
	uint8_t uuid[VBUS_UUID_LEN];
	char bus[VBUSD_NAME_LEN];
	char text[VBUSD_ARGUMENT_LEN];
};
VBUS_STATIC_ASSERT(sizeof(struct vbusd_event_message) == 176);

/**
 * struct vbusd_queue_counters - one event queue, named as the original did; south's view
 * @events:  signals acted upon
 * @qnotify: wake-ups by the doorbell of this vector; those that came together count once
 * @qinject: doorbells rung
 * @notify:  device signals dispatched
 * @inject:  device signals injected
 * @coalesced: doorbells that were saved by ringing for several signals at once
 */
struct vbusd_queue_counters {
	uint64_t events;
	uint64_t qnotify;
	uint64_t qinject;
	uint64_t notify;
	uint64_t inject;
	uint64_t coalesced;
};
VBUS_STATIC_ASSERT(sizeof(struct vbusd_queue_counters) == 48);

/**
 * struct vbusd_queue_status - one event queue as the guest set it; all 0 when it is not registered
 * @signals: bound to it
 * @coalesce_events: a doorbell for so many signals; 0: for each
 * @coalesce_us: or when the first of them is so many microseconds old
 */
struct vbusd_queue_status {
	uint32_t priority;
	uint32_t signals;
	uint32_t coalesce_events;
	uint32_t coalesce_us;
};
VBUS_STATIC_ASSERT(sizeof(struct vbusd_queue_status) == 16);

/**
 * struct vbusd_bus_counters - counted over the life of the bus, across workers
 * @negotiations: NEGOTIATE calls that were granted
 * @buscalls:     calls answered; @bridgecalls: NEGOTIATE and QREG among them
 * @stale:        calls answered STALE
 * @violations:   broken contracts, on rings and in the call area
 * @ignored:      doorbells of queues that nobody registered
 * @foreign:      times that the window was found overwritten by another image
 */
struct vbusd_bus_counters {
	uint64_t negotiations;
	uint64_t buscalls;
	uint64_t bridgecalls;
	uint64_t stale;
	uint64_t violations;
	uint64_t ignored;
	uint64_t foreign;
	struct vbusd_queue_counters queue[VBUS_QUEUES];
};
VBUS_STATIC_ASSERT(sizeof(struct vbusd_bus_counters) == 56 + 32 * 48);

/* What shuts a worker in; docs/threat-model.md says what each is for. */
enum vbus_sandbox {
	VBUS_SANDBOX_USER = 1u << 0,	/* a user, or a namespace of users, that no other bus has */
	VBUS_SANDBOX_PID = 1u << 1,
	VBUS_SANDBOX_MOUNT = 1u << 2,	/* its root is empty */
	VBUS_SANDBOX_NET = 1u << 3,
	VBUS_SANDBOX_IPC = 1u << 4,
	VBUS_SANDBOX_UTS = 1u << 5,
	VBUS_SANDBOX_CGROUP = 1u << 6,
	VBUS_SANDBOX_LANDLOCK = 1u << 7,
	VBUS_SANDBOX_SECCOMP = 1u << 8,
};

struct vbusd_bus_status {
	char name[VBUSD_NAME_LEN];
	char path[VBUSD_ARGUMENT_LEN];
	uint32_t window_mib;
	uint32_t vectors;
	uint32_t devices;
	uint32_t connected;	/* QEMU is there */
	uint32_t negotiated;
	uint32_t confirmed;	/* the guest echoes the epoch */
	int32_t worker;		/* pid; 0 while there is none */
	uint32_t restarts;	/* workers that died and were replaced */
	uint32_t sessions;	/* QEMU connections served, this one included */
	uint32_t handovers;	/* workers that were replaced on purpose */
	uint32_t sandbox;	/* enum vbus_sandbox: the layers that the worker has */
	uint64_t epoch;
	uint64_t nonce;
	struct vbusd_bus_counters counters;
	uint32_t takeovers;	/* workers that outlived their vbusd */
	uint32_t lost;		/* sessions that ended because nobody held them */
	uint32_t connector;	/* enum vbusd_connector */
	uint32_t held;		/* 1: no worker before a START */
	struct vbusd_queue_status queue[VBUS_QUEUES];
};
VBUS_STATIC_ASSERT(offsetof(struct vbusd_bus_status, epoch) == 184);
VBUS_STATIC_ASSERT(sizeof(struct vbusd_bus_status) == 200 + 1592 + 16 + 512);

struct vbusd_group_status {
	uint32_t gid;
	uint32_t offered;	/* what the class supports, less what is masked */
	uint32_t active;	/* what the guest picked; 0 while closed */
	uint32_t masked;	/* by the administrator; counts from the next open on */
};

/**
 * struct vbusd_device_counters - a network card has the first half, a disk the second
 * @rx_frames, @tx_frames: from the guest's view; one that waits for segmentation is one
 * @filtered:  frames that the guest had not asked for
 * @flushes:   that the guest asked for
 * @discards:  and writes of zeroes
 * @errors:    requests that were not completed with OK
 * @in_flight: requests taken and not completed, now
 */
struct vbusd_device_counters {
	uint64_t opens;
	uint64_t violations;
	uint64_t rx_frames;
	uint64_t rx_bytes;
	uint64_t tx_frames;
	uint64_t tx_bytes;
	uint64_t drops;
	uint64_t reads;
	uint64_t read_bytes;
	uint64_t writes;
	uint64_t write_bytes;
	uint64_t flushes;
	uint64_t discards;
	uint64_t errors;
	uint64_t in_flight;
	uint64_t filtered;
};
VBUS_STATIC_ASSERT(sizeof(struct vbusd_device_counters) == 128);

struct vbusd_device_status {
	uint8_t uuid[VBUS_UUID_LEN];
	char klass[VBUSD_CLASS_LEN];
	char argument[VBUSD_ARGUMENT_LEN];
	uint8_t mac[8];
	uint32_t state;		/* enum vbus_state: CLOSED or OPEN */
	uint32_t link;		/* as the administrator set it */
	uint32_t running;	/* pairs that LINKUP named, or rings of a disk; else 0 */
	uint32_t groups;	/* of @group used */
	uint32_t mtu;		/* of a card */
	uint32_t flags;		/* of a disk: VBUSD_READ_ONLY */
	uint32_t block_size;	/* of a disk, as the administrator set it */
	char serial[VBUSD_SERIAL_LEN];
	uint32_t reserved;
	struct vbusd_group_status group[VBUSD_GROUPS];
	struct vbusd_device_counters counters;
};
VBUS_STATIC_ASSERT(offsetof(struct vbusd_device_status, group) == 208);
VBUS_STATIC_ASSERT(sizeof(struct vbusd_device_status) == 208 + 128 + 128);

/*
 * From @feature on it was appended to what 0.1 has; a shorter reply is of a vbusd that does not tell.
 * The last three are what a device has at most, and 0 where there is no such thing; a module tells none.
 */
struct vbusd_class_status {
	char name[VBUSD_CLASS_LEN];
	char type[VBUS_TYPE_LEN];
	char path[VBUSD_ARGUMENT_LEN];	/* of the module; empty when it is built in */
	uint32_t version;	/* of the type's ABI */
	uint32_t backend;	/* enum vbus_backend */
	uint32_t devices;	/* that use it, on all buses */
	struct vbus_mask feature[VBUSD_GROUPS];	/* before any mask; unused ones have no bits */
	uint32_t rings;		/* of a disk; pairs of a card */
	uint32_t mtu;		/* of a card, bytes */
	uint32_t segments;	/* of a disk's request */
};
VBUS_STATIC_ASSERT(offsetof(struct vbusd_class_status, version) == 156);
VBUS_STATIC_ASSERT(sizeof(struct vbusd_class_status) == 244);

#endif /* VBUSD_ABI_H */
