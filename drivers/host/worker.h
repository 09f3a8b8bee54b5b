/* SPDX-License-Identifier: MIT */
/*
 * worker.h - one bus, served: the south of a window.
 *
 * Single-threaded.  Everything the guest says is read once into private memory and then judged.
 */
#ifndef VBUS_WORKER_H
#define VBUS_WORKER_H

#include <sys/types.h>

#include "class_info.h"
#include "vbus_features.h"
#include "memctx.h"
#include "shm_signal.h"
#include "worker_abi.h"

#define VBUS_REGIONS	33u	/* a device; a card has up to 16 pairs of rings */

struct vbus_bus;
struct vbus_device;

/**
 * struct vbus_region - two parts of the pool that the guest shares with a device
 * @id: number in the device type's namespace, as the guest gave it
 * @signal: its own, for both directions; @path: when not 0, the one that tells the north instead
 * @north, @south: window offsets, judged when it was registered
 */
struct vbus_region {
	bool used;
	uint32_t id;
	uint32_t signal;
	uint32_t path;
	uint64_t north;
	uint64_t south;
	uint32_t north_len;
	uint32_t south_len;
};

/**
 * struct vbus_class_ops - what a device class does; all are called from the one loop
 * @attach:   the device came; 0, or -1 when there is no memory for its state
 * @detach:   it goes
 * @close:    the guest's session with it ends: forget all rings
 * @call:     DEVCALL other than NEGCAP; @len bytes at @in, at most VBUS_CALL_DATA at @out
 * @share:    judge a region and take it into use; its ranges are in the pool already
 * @signal:   the guest injected a region's signal
 * @readable: the device's descriptor has something; not for those that never watch it
 * @run:      one bounded batch of work; true when there is more.  Between two units of it (frames,
 *            requests) it asks vbus_bus_has_urgent() and stops when that says so
 * @link:     the administrator changed @link; optional
 * @able:     of @bits of a group, those that this device has and that make sense together; optional
 * @backend:  vbusd opened the back end anew, and @fd is another; only for classes that lose theirs
 *
 * Only where there is an image:
 * @fence:    have it alone: 0; EAGAIN: not yet, ask again; any other error is for good
 * @resize:   look at its size again
 */
struct vbus_class_ops {
	int (*attach)(struct vbus_device *dev);
	void (*detach)(struct vbus_device *dev);
	void (*close)(struct vbus_device *dev);
	enum vbus_status (*call)(struct vbus_device *dev, uint32_t func, const uint8_t *in,
				 uint32_t len, uint8_t *out, uint16_t *out_len);
	enum vbus_status (*share)(struct vbus_device *dev, struct vbus_region *region);
	void (*signal)(struct vbus_device *dev, struct vbus_region *region);
	void (*readable)(struct vbus_device *dev);
	bool (*run)(struct vbus_device *dev);
	void (*link)(struct vbus_device *dev);
	uint32_t (*able)(struct vbus_device *dev, uint32_t gid, uint32_t bits);
	void (*backend)(struct vbus_device *dev);
	int (*fence)(struct vbus_device *dev);
	void (*resize)(struct vbus_device *dev);
};

#define VBUS_CLASS_ABI	2u	/* of this and of what vbus_class.h has; any other is refused */

/* What a module exports under the name vbus_class. */
struct vbus_class {
	uint32_t abi;
	struct vbus_class_info info;
	const struct vbus_class_ops *ops;
};

/* Whether a former user of the back end may still be at it; open answers IO in all but NONE. */
enum vbus_fence {
	VBUS_FENCE_NONE,
	VBUS_FENCE_WAITS,	/* and so does the epoch */
	VBUS_FENCE_GIVEN_UP,	/* still looked at, now and then */
	VBUS_FENCE_FOR_GOOD,
};

/* worker_classes.c: NULL when there is none of that name. */
const struct vbus_class_ops *vbus_class_ops_find(const char *name);
/* Those that this worker was started with.  Their code runs here for the first time. */
void vbus_classes_load(const struct vbus_bus *bus);
/* Say what the one module is, and end. */
_Noreturn void vbus_class_describe(void);

/**
 * struct vbus_device - one device of the bus
 * @fd:       back end, or -1
 * @handle:   0 while closed, else index and generation
 * @generation: of the last handle
 * @priority: the highest among the queues of its signals
 * @mask:     what the administrator masks; reaches @features while closed
 * @name:     of the back end
 * @told:     a broken contract was logged once
 * @fence:    state; since @fenced_ms
 * @page:     what vbusd may see of it
 * @state:    the class's own
 */
struct vbus_device {
	struct vbus_bus *bus;
	bool used;
	uint32_t slot;
	const struct vbus_class_info *klass;
	const struct vbus_class_ops *ops;
	uint32_t instance;
	uint8_t uuid[VBUS_UUID_LEN];
	uint8_t mac[6];
	bool link;
	bool read_only;
	uint32_t mtu;
	uint32_t block_size;
	char serial[VBUSD_SERIAL_LEN];
	int fd;
	char name[VBUSD_NAME_LEN];
	uint32_t handle;
	uint32_t generation;
	uint32_t priority;
	struct vbus_features features;
	struct vbus_mask mask[VBUSD_GROUPS];
	struct vbus_region region[VBUS_REGIONS];
	bool told;
	enum vbus_fence fence;
	uint64_t fenced_ms;
	struct vbus_device_page *page;
	void *state;
};

/* A reply that is written when the I/O of former sessions has ended. */
struct vbus_held {
	bool used;
	bool negotiate;
	uint32_t slot;
	uint32_t seq;
	struct vbus_call_reply reply;
};

struct vbus_owner {
	struct vbus_device *dev;
	struct vbus_region *region;
};

/**
 * struct vbus_queue - an event queue, as the guest set it, and what is held back on it
 * @events, @microseconds: a doorbell for so many signals, or so late; 0: at once
 * @held:   signals that wait for one doorbell; @due_us: when it comes at the latest
 */
struct vbus_queue {
	uint32_t priority;
	uint32_t events;
	uint32_t microseconds;
	uint32_t held;
	uint64_t due_us;
};

/**
 * struct vbus_bus - the bus
 *
 * From vbusd:
 * @from_guest, @to_guest: doorbells; @fifos: not eventfds
 * @list_generation: as ENUMERATE tells it
 *
 * @sandbox: enum vbus_sandbox: the layers that this process has
 * @control: vbusd's word comes here; a dead one's until the next one comes
 *
 * Held for the next vbusd:
 * @window_fd, @page_fd, @qemu: the last is -1 until QEMU is there
 * @acted:    number of the last message
 * @finished: another worker is to come: nothing is served any more
 * @releases: or none here, and what was begun is to be on its images
 * @image:    of a slot in use its image, whoever closes it, or -1
 *
 * Connection state, lost with this process:
 * @epoch:      private; what the window holds is only compared with it
 * @negotiated: a NEGOTIATE named @epoch; @nonce is the north's
 * @queues:     that QREG registered, of @queue
 * @taken, @answered: per call slot: sequence of the last request, and of the last reply
 * @owner:      per signal: whom it belongs to
 *
 * Work found and not yet done, one bit each:
 * @rang: doorbells; @ready: devices; @calls: the call slots want a look, from @next_call on
 * @served: the last device, of the most urgent and of those below; @below: it was one of these
 * @flush:    the timer of held doorbells; @flush_us: when it is armed for, or 0
 *
 * What may still be going on:
 * @goes:     all devices were told; the epoch waits for their fences
 * @draining: operations of former sessions, since @drains_ms; calls wait for them, one in @held
 * @fence:    the timer; @patience_ms: how long it is waited
 *
 * @confirmed: the guest header echoes @epoch; until then @timer looks every @interval_ms
 * @knocks:    how often it has rung for that meanwhile
 * @foreign:   the window was found overwritten; nothing is served until a new epoch is raised
 * @raised_ms: when the last one was
 */
struct vbus_bus {
	char name[VBUSD_NAME_LEN];
	struct vbus_memctx window;
	uint32_t vectors;
	int from_guest[VBUS_VECTORS_MAX];
	int to_guest[VBUS_VECTORS_MAX];
	bool fifos;
	uint32_t list_generation;
	struct vbus_status_page *page;
	int epoll;
	int timer;
	uint32_t sandbox;
	int flush;
	int control;

	int window_fd;
	int page_fd;
	int qemu;
	uint32_t acted;
	bool finished;

	uint64_t epoch;
	uint64_t nonce;
	bool negotiated;
	uint32_t queues;
	struct vbus_queue queue[VBUS_QUEUES];
	uint32_t taken[VBUS_CALL_SLOTS];
	uint32_t answered[VBUS_CALL_SLOTS];
	struct shm_signal signals;
	struct vbus_owner owner[VBUS_SIGNALS];

	uint32_t rang;
	uint32_t ready;
	uint32_t served[2];
	bool below;
	bool calls;
	uint32_t next_call;
	uint64_t flush_us;

	bool goes;
	uint32_t draining;
	uint64_t drains_ms;
	struct vbus_held held;
	int fence;
	uint32_t patience_ms;

	bool connected;
	bool confirmed;
	bool foreign;
	uint32_t interval_ms;
	uint32_t knocks;
	uint64_t raised_ms;

	struct vbus_device device[VBUSD_DEVICES];

	bool releases;
	int image[VBUSD_DEVICES];
};

/* Kinds of events in the loop; the index goes below. */
enum vbus_event {
	VBUS_EVENT_CONTROL,
	VBUS_EVENT_TIMER,
	VBUS_EVENT_FLUSH,
	VBUS_EVENT_BELL,
	VBUS_EVENT_DEVICE,
	VBUS_EVENT_MEET,
	VBUS_EVENT_QEMU,
	VBUS_EVENT_IO,
	VBUS_EVENT_FENCE,
};

#define VBUS_EVENT(kind, index)	((uint64_t)(kind) << 32 | (index))

static inline void vbus_count(uint64_t *counter)
{
	__atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

/* worker_main.c */
int vbus_watch(struct vbus_bus *bus, int fd, uint32_t events, uint64_t event);
/* The end; whatever vbusd shall know is in the log.  Without @why all is well. */
_Noreturn void vbus_leave(const struct vbus_bus *bus, const char *why);

/*
 * worker_sandbox.c: nothing but the descriptors at hand from here on.  @uid: of a worker that root
 * starts.  Both this and vbus_seccomp() note in @bus what they got.
 */
void vbus_sandbox(struct vbus_bus *bus, uid_t uid);
/* Log what is missing; when all is @required, that is the end. */
void vbus_sandbox_judge(const struct vbus_bus *bus, bool required);

/* worker_seccomp.c: no system calls but those of a worker at work. */
void vbus_seccomp(struct vbus_bus *bus);

/* worker_control.c: one message of vbusd. */
void vbus_control_receive(struct vbus_bus *bus);

/* worker_keep.c: what is held for a vbusd that is gone, and the next one that asks for it. */
int vbus_keep_alone(void);
void vbus_keep_serving(struct vbus_bus *bus);
void vbus_keep_meet(struct vbus_bus *bus);

uint64_t vbus_now_ms(void);
/* 0 ms: never. */
void vbus_arm(const struct vbus_bus *bus, int timer, uint32_t ms);

/* worker_bus.c: epoch, confirmation. */
int vbus_bus_start(struct vbus_bus *bus);
void vbus_bus_connected(struct vbus_bus *bus);
bool vbus_bus_is_ours(struct vbus_bus *bus);
void vbus_bus_look(struct vbus_bus *bus);
void vbus_bus_tick(struct vbus_bus *bus);
void vbus_bus_rung(struct vbus_bus *bus);
void vbus_bus_negotiated(struct vbus_bus *bus, uint64_t nonce);
void vbus_bus_forget(struct vbus_bus *bus);
void vbus_bus_list_changed(struct vbus_bus *bus, uint32_t generation);

/* worker_queue.c: what is served next, doorbells. */
void vbus_bus_serve(struct vbus_bus *bus);
/* There is work of a higher priority than @priority: leave the rest for another batch. */
bool vbus_bus_has_urgent(const struct vbus_bus *bus, uint32_t priority);
/* @signal: a region's own, or VBUS_SIGNAL_BUS */
void vbus_bus_inject(struct vbus_bus *bus, uint32_t signal);
void vbus_bus_kick(struct vbus_bus *bus, uint32_t queue);
void vbus_queue_flush(struct vbus_bus *bus, uint32_t queue);
void vbus_queue_tick(struct vbus_bus *bus);

/* worker_route.c: whose a signal is.  A free one, bound; 0 when there is none. */
uint32_t vbus_route_take(struct vbus_device *dev, struct vbus_region *region, uint32_t queue);
void vbus_route_give(struct vbus_bus *bus, uint32_t signal);
void vbus_route_settle(struct vbus_bus *bus);
enum vbus_status vbus_route_change(struct vbus_bus *bus, const struct vbus_sigroute_request *in,
				   uint32_t *signal);

/* worker_calls.c */
void vbus_calls_serve(struct vbus_bus *bus);

/* worker_device.c */
int vbus_device_add(struct vbus_bus *bus, const struct vbus_worker_message *m, int fd);
void vbus_device_remove(struct vbus_bus *bus, uint32_t slot);
void vbus_device_mask(struct vbus_device *dev, const struct vbus_mask *mask);
/* Of the @wanted bits of a group, those that a guest gets now. */
uint32_t vbus_device_able(struct vbus_device *dev, uint32_t gid, uint32_t wanted);
void vbus_device_link(struct vbus_device *dev, bool up);
/* The back end is gone: close it, and have vbusd look for another. */
void vbus_device_lost(struct vbus_device *dev);
/* Once more, to a vbusd that has not heard of it. */
void vbus_device_tell_lost(struct vbus_device *dev);
void vbus_device_backend(struct vbus_device *dev, int fd);
/* Once, when one of @events comes; 0 for only the peer's end. */
void vbus_device_watch(struct vbus_device *dev, uint32_t events);
void vbus_device_ready(struct vbus_device *dev);
struct vbus_device *vbus_device_of(struct vbus_bus *bus, uint32_t handle);
enum vbus_status vbus_device_open(struct vbus_bus *bus, const struct vbus_devopen_request *r,
				  struct vbus_device **out);
void vbus_device_close(struct vbus_device *dev);
enum vbus_status vbus_device_share(struct vbus_device *dev, const struct vbus_devshm_request *r,
				   uint32_t *signal);
void vbus_device_publish(struct vbus_device *dev);

/* worker_release.c: vbusd's word, and once a round how far it is. */
void vbus_release(struct vbus_bus *bus);
void vbus_release_look(struct vbus_bus *bus);

/* worker_fence.c */
int vbus_fence_open(struct vbus_bus *bus);
void vbus_fence_look(struct vbus_bus *bus);
void vbus_fence_tick(struct vbus_bus *bus);
void vbus_fence_device(struct vbus_device *dev);
/* @count operations go on after the end of their session; each is told when it has ended. */
void vbus_fence_drain(struct vbus_bus *bus, uint32_t count);
void vbus_fence_drained(struct vbus_bus *bus);

/* The guest broke the contract on a ring of @dev: count, log once, close. */
void vbus_device_violation(struct vbus_device *dev, const char *what);

#endif /* VBUS_WORKER_H */
