/* SPDX-License-Identifier: GPL-2.0-only */
/* bridge.h - what the files of vbus.ko share; drivers include vbus.h only. */
#ifndef VBUS_BRIDGE_H
#define VBUS_BRIDGE_H

#include <linux/genalloc.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/irq.h>
#include <linux/irqdomain.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include "shm_signal.h"
#include "vbus.h"
#include "vbus_port.h"

#define VBUS_CALL_TIMEOUT	(5 * HZ)

/* Counters with the original's names; one writer each, or noise that does not matter. */
struct vbus_counters {
	u64 events;		/* signals acted upon, the bus's own included */
	u64 qnotify;		/* interrupts */
	u64 qinject;		/* doorbells rung */
	u64 notify;		/* signals dispatched to devices */
	u64 inject;		/* signals injected */
};

struct vbus_queue {
	struct vbus_bridge *bridge;
	u32 index;
	int irq;
	unsigned int cpu;	/* where the vector is to be; under the bridge's @routes */
	u32 signals;		/* irqs that are to come this way; likewise */
	spinlock_t lock;	/* serialises injects; interrupts off */
	struct vbus_counters count;
	char name[16];
};

/**
 * struct vbus_bridge - one window, one host
 *
 * @host, @guest, @requests, @replies: areas of @window
 *
 * Under @session: @epoch, @nonce, @devices, @list_generation, @listed, @replaying, and everything
 * that negotiates.
 * Fast paths read @epoch and @live without it: both change only while @live is false, interrupts
 * are synchronised and open devices are frozen; calls other than NEGOTIATE fail until it is true
 * again.
 *
 * Under @binding: @line, @region, and binding signals.  @line is by hwirq, which is ours; @region
 * is by signal, which is the host's and another one in each connection.  And @owed, what
 * vbus_device_settle() gives back.
 *
 * Under @routes: where each signal is to go; inside the irq core's locks.
 *
 * Under @slots_lock: @slots_busy.  @slot_seq belongs to the slot's owner.
 */
struct vbus_bridge {
	struct pci_dev *pdev;
	void __iomem *registers;
	void *window;
	bool vmapped;
	resource_size_t size;
	const char *mapping;
	struct gen_pool *pool;
	u32 number;

	const struct vbus_host_header *host;
	struct vbus_guest_header *guest;
	struct vbus_call_request *requests;
	const struct vbus_call_reply *replies;

	struct mutex session;
	u64 epoch;
	u64 nonce;
	u32 list_generation;
	struct list_head devices;
	u32 next_queue;
	bool replaying;		/* devices of an earlier connection are not all back */
	bool listed;		/* @list_generation is that of @devices */
	bool live;		/* negotiated: signals may be scanned */
	bool silent;		/* the host did not answer; only NEGOTIATE is tried */
	bool suspect;		/* a driver waits in vain; ask whether the host is there */
	unsigned long silent_at; /* jiffies when it should have answered first, or 0 */
	bool stopping;		/* being removed: no new rounds of the session's work */
	bool gone;		/* nobody waits for the host any more */
	bool told;		/* this outage is in the log */

	struct mutex binding;
	struct list_head owed;
	struct shm_signal signals;
	struct irq_domain *domain;
	struct vbus_region *line[VBUS_SIGNALS];
	struct vbus_region *region[VBUS_SIGNALS];
	struct vbus_region bus;	/* no region, but a signal with an irq of its own */
	struct vbus_queue queue[VBUS_QUEUES];
	u32 queues;

	raw_spinlock_t routes;
	struct hlist_node cpuhp;
	struct work_struct spread;

	wait_queue_head_t answered;
	spinlock_t slots_lock;
	wait_queue_head_t slot_free;
	unsigned long slots_busy;
	u32 slot_seq[VBUS_CALL_SLOTS];

	/* One thing at a time, with a thread of its own when there is no memory for another. */
	struct workqueue_struct *worker;
	struct work_struct work;
	struct delayed_work retry;
	struct work_struct roll;
	u64 bridgecalls;
	u64 buscalls;
	u64 connections;
	u64 stale;
	u64 silences;
	struct dentry *debugfs;
};

/* The window still carries the epoch that was negotiated under; orders earlier reads before. */
static inline bool vbus_bridge_is_current(const struct vbus_bridge *bridge)
{
	vbus_rmb();
#ifdef VBUS_DEFECT_EPOCH	/* a planted defect: a new connection goes unnoticed */
	return true;
#else
	return vbus_read64(&bridge->host->epoch) == bridge->epoch;
#endif
}

/* bridge.c: signals and doorbells */
irqreturn_t vbus_bridge_interrupt(int irq, void *data);
irqreturn_t vbus_bridge_bus_signal(int irq, void *data);
void vbus_bridge_ring(struct vbus_bridge *bridge, u32 queue);
void vbus_bridge_inject(struct vbus_bridge *bridge, u32 signal);
void vbus_bridge_quiesce(struct vbus_bridge *bridge);

/* irq.c: signals as irqs, and their way over the queues */
int vbus_irq_init(struct vbus_bridge *bridge);
void vbus_irq_exit(struct vbus_bridge *bridge);
void vbus_irq_deliver(struct vbus_region *region);
/* Serialised by @binding: no retriggered handler runs when it returns. */
void vbus_irq_synchronize(struct vbus_region *region);

/* route.c: queues and CPUs */
void vbus_route_take(struct vbus_bridge *bridge, struct vbus_region *region);
void vbus_route_give(struct vbus_bridge *bridge, struct vbus_region *region);
int vbus_route_set_affinity(struct irq_data *data, const struct cpumask *mask, bool force);
unsigned int vbus_route_cpu(const struct vbus_bridge *bridge, u32 queue);
int vbus_route_settle(struct vbus_bridge *bridge);
void vbus_route_spread(struct vbus_bridge *bridge);
void vbus_route_respread(struct work_struct *work);
void vbus_route_unspread(struct vbus_bridge *bridge);
int vbus_route_register(void);
void vbus_route_unregister(void);
int vbus_route_add(struct vbus_bridge *bridge);
void vbus_route_remove(struct vbus_bridge *bridge);

/* call.c */
void vbus_calls_init(struct vbus_bridge *bridge);
void vbus_calls_go_on(struct vbus_bridge *bridge);
int vbus_call(struct vbus_bridge *bridge, enum vbus_call func, const void *in, size_t in_len,
	      void *out, size_t out_len);

/* session.c: negotiate, enumerate, recover */
void vbus_session_work(struct work_struct *work);
void vbus_session_roll(struct work_struct *work);
void vbus_session_retry(struct work_struct *work);
void vbus_session_schedule(struct vbus_bridge *bridge);
void vbus_session_halt(struct vbus_bridge *bridge);
void vbus_session_end(struct vbus_bridge *bridge);
void vbus_session_leave(struct vbus_bridge *bridge);
/* Session held. */
void vbus_device_freeze(struct vbus_device *vdev);

/* power.c */
extern const struct dev_pm_ops vbus_power_ops;
void vbus_power_off(struct vbus_bridge *bridge);

/* device.c */
int vbus_device_add(struct vbus_bridge *bridge, const struct vbus_device_entry *entry);
void vbus_device_remove(struct vbus_device *vdev);
void vbus_device_settle(struct vbus_bridge *bridge);

/* bus.c */
extern struct bus_type vbus_bus_type;

/* debugfs.c */
void vbus_debugfs_init(void);
void vbus_debugfs_exit(void);
void vbus_debugfs_add(struct vbus_bridge *bridge);
void vbus_debugfs_remove(struct vbus_bridge *bridge);

/* window.c */
#define VBUS_WINDOW_BAR	2
int vbus_window_place(struct pci_dev *pdev);
int vbus_window_map(struct vbus_bridge *bridge);
void vbus_window_unmap(struct vbus_bridge *bridge);

/* pci.c */
int vbus_pci_register(void);
void vbus_pci_unregister(void);

#endif /* VBUS_BRIDGE_H */
