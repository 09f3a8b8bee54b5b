/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vbus.h - what a driver for a device on the bus sees.
 *
 * A driver opens its device, negotiates features, shares regions and then works on shared memory.
 * When the host has lost its connection state, the bus freezes the driver, negotiates anew and asks
 * it to replay; nothing else of a crash, an upgrade or a migration reaches the driver.
 */
#ifndef VBUS_H
#define VBUS_H

#include <linux/device.h>
#include <linux/irq_work.h>
#include <linux/uuid.h>
#include <linux/workqueue.h>
#include "vbus_features.h"
#include "state.h"
#include "vbus_abi.h"

struct vbus_bridge;

#define VBUS_IRQ_NAME	32	/* "eth1-rx0": an interface's name and what it is */

/* Called in hard interrupt context when the signal of a region is injected. */
typedef void vbus_signal_fn(void *data);

/**
 * struct vbus_device - one device of the bus, named by its UUID
 * @bridge, @uuid, @type, @version: set once, when it was found
 * @state:    changed under device_lock(); read anywhere
 * @handle:   from DEVOPEN; meaningful in OPENING, OPEN and REPLAY
 * @lent:     the host may write to its memory: from the first DEVSHM to an answered DEVCLOSE or
 *            NEGOTIATE
 * @budget:   bytes of the pool that it may use; @used of them are taken
 * @offered, @active: per feature group, what the last NEGCAP said; for sysfs
 * @replays:  recoveries that ended well
 * @present, @instance: in the list that was enumerated last; under the session's mutex
 * @retry:    a probe met a lost connection and is to be tried again; under device_lock()
 * @broken:   the host broke the contract since the last open; set in any context
 */
struct vbus_device {
	struct device dev;
	struct vbus_bridge *bridge;
	struct list_head link;
	uuid_t uuid;
	char type[VBUS_TYPE_LEN];
	u32 version;

	enum vbus_state state;
	u32 handle;
	bool lent;
	u32 budget;
	size_t used;
	u32 groups;
	struct {
		u32 gid;
		u32 offered;
		u32 active;
	} group[VBUS_FEATURE_GROUPS];
	u64 replays;
	bool present;
	u32 instance;
	bool retry;
	unsigned long broken;
};

#define to_vbus_device(d) container_of(d, struct vbus_device, dev)

/**
 * struct vbus_driver - a driver for one device type
 * @type:   as in the device's list entry
 * @probe:  open the device and bring it up
 * @remove: the opposite; the device may be gone already, calls then fail with -ENODEV
 * @freeze: unshare every region; no calls; optional together with @replay.  Fast paths that go on
 *          reach nobody, and are not believed to have seen a lie
 * @replay: open again with the same features, hand pending work over anew; leaves nothing open or
 *          shared when it fails, and is asked again soon after -EAGAIN
 * @fail:   the device stays frozen for good; tell its users
 *
 * The root file system may be on this bus: @freeze, @replay and @fail wait neither for memory nor
 * for a lock whose holder may wait for a disk, such as rtnl; @replay says -EAGAIN instead.
 */
struct vbus_driver {
	struct device_driver driver;
	const char *type;
	int (*probe)(struct vbus_device *vdev);
	void (*remove)(struct vbus_device *vdev);
	void (*freeze)(struct vbus_device *vdev);
	int (*replay)(struct vbus_device *vdev);
	void (*fail)(struct vbus_device *vdev);
};

#define to_vbus_driver(d) container_of(d, struct vbus_driver, driver)

int vbus_driver_register(struct vbus_driver *driver, struct module *owner);
void vbus_driver_unregister(struct vbus_driver *driver);

/* From OPENING to OPEN when a probe is through; the bus does the rest. */
void vbus_device_set_state(struct vbus_device *vdev, enum vbus_state state);

/* Process context; -ESTALE when the host has just lost its state: a replay will follow. */
int vbus_device_open(struct vbus_device *vdev, u32 version);
void vbus_device_close(struct vbus_device *vdev);
int vbus_device_negcap(struct vbus_device *vdev, u32 gid, u32 wanted, u32 *active);
int vbus_device_call(struct vbus_device *vdev, u32 func, const void *in, size_t in_len,
		     void *out, size_t out_len);

/* Memory in the window, page aligned; @offset is its address on the wire. */
void *vbus_device_alloc(struct vbus_device *vdev, size_t size, u64 *offset);
void vbus_device_free(struct vbus_device *vdev, void *memory, size_t size);

/**
 * struct vbus_region - two parts of the window shared with a device under one number
 * @north, @south: window offsets of the parts that each side writes; lengths may be 0
 * @queue: event queue; from vbus_device_queue(), or chosen by vbus_region_map_irq()
 * @fn, @data: called when the host injects the region's signal, unless it is an irq
 * @signal: set by vbus_device_share()
 * @irq: the region's signal as an irq, or 0; the same in every connection
 * @name: for request_irq() and debugfs
 *
 * The rest is the bus's own.  The driver's @wanted and the irq core's @masked decide together
 * whether the host rings; @target is the queue that the irq's affinity asks for.
 */
struct vbus_region {
	u32 number;
	u32 queue;
	u64 north;
	u64 south;
	u32 north_len;
	u32 south_len;
	vbus_signal_fn *fn;
	void *data;
	u32 signal;
	unsigned int irq;
	char name[VBUS_IRQ_NAME];

	struct vbus_bridge *bridge;
	u32 hwirq;
	u32 target;
	bool wanted;
	bool masked;
	u64 count;
	struct irq_work again;
};

/* The next event queue in turn, so that devices spread over the vectors. */
u32 vbus_device_queue(struct vbus_device *vdev);

/* Fewer doorbells of one, until the connection ends; VBUS_COALESCE_* say how many and how late. */
int vbus_device_coalesce(struct vbus_device *vdev, u32 queue, u32 events, u32 microseconds);

/*
 * Make the region's signal an irq, once, before it is shared for the first time; whoever uses it
 * calls request_irq().  An irq's handler runs as @fn would, and as often as @masked allows.
 */
int vbus_region_map_irq(struct vbus_device *vdev, struct vbus_region *region);
/* After free_irq() and vbus_device_unshare(). */
void vbus_region_unmap_irq(struct vbus_region *region);

int vbus_device_share(struct vbus_device *vdev, struct vbus_region *region);
/* After this neither @fn nor the irq's handler runs and will not run again. */
void vbus_device_unshare(struct vbus_device *vdev, struct vbus_region *region);

/* Any context. */
void vbus_region_inject(struct vbus_device *vdev, const struct vbus_region *region);
bool vbus_region_enable(struct vbus_device *vdev, struct vbus_region *region);
void vbus_region_disable(struct vbus_device *vdev, struct vbus_region *region);

/*
 * Orders what was read from the window before, and says whether it may be believed: false when the
 * window belongs to another connection by now.  The recovery is under way then.
 */
bool vbus_device_is_current(struct vbus_device *vdev);

/*
 * What was handed to the host has not come back for seconds.  The bus asks whether the host is
 * there at all; when it has said nothing for 30 s its devices fail.  Any context.
 */
void vbus_device_suspect(struct vbus_device *vdev);

/* In the order of the bus's own works: never while @freeze, @replay or @fail runs.  Any context. */
void vbus_device_queue_work(struct vbus_device *vdev, struct delayed_work *work,
			    unsigned long delay);

/* The host broke the contract: one line in the log, and the device fails.  Any context. */
void vbus_device_broken(struct vbus_device *vdev, const char *what);

#endif /* VBUS_H */
