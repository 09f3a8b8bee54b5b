// SPDX-License-Identifier: GPL-2.0-only
/* device.c - a device of the bus, and what its driver can ask of it. */
#include <linux/ctype.h>
#include <linux/slab.h>
#include "bridge.h"

static void release_device(struct device *dev)
{
	kfree(to_vbus_device(dev));
}

/* The type goes into sysfs and uevents: a word of [a-z0-9_-], padded with NULs. */
static bool type_is_sane(const char *type)
{
	size_t len = strnlen(type, VBUS_TYPE_LEN);
	size_t i;

	for (i = 0; i < len; i++)
		if (!islower(type[i]) && !isdigit(type[i]) && type[i] != '_' && type[i] != '-')
			return false;
	return len && len < VBUS_TYPE_LEN;
}

/* Session held.  A device that cannot be had is left out, and does not take the others with it. */
int vbus_device_add(struct vbus_bridge *bridge, const struct vbus_device_entry *entry)
{
	struct vbus_device *vdev;
	int err;

	if (!type_is_sane(entry->type)) {
		pci_warn(bridge->pdev, "device %pUb: left out, its type is no word\n", entry->uuid);
		return 0;
	}
	vdev = kzalloc(sizeof(*vdev), GFP_KERNEL);
	if (!vdev)
		return -ENOMEM;

	vdev->bridge = bridge;
	vdev->state = VBUS_CLOSED;
	vdev->present = true;
	vdev->version = le32_to_cpu(entry->version);
	vdev->instance = le32_to_cpu(entry->instance);
	memcpy(&vdev->uuid, entry->uuid, sizeof(vdev->uuid));
	strscpy(vdev->type, entry->type, sizeof(vdev->type));
	vdev->dev.bus = &vbus_bus_type;
	vdev->dev.parent = &bridge->pdev->dev;
	vdev->dev.release = release_device;
	device_initialize(&vdev->dev);

	/* Not an enumeration number: the name lasts, whatever is plugged before it. */
	err = dev_set_name(&vdev->dev, "%pUb", &vdev->uuid);
	if (!err)
		err = device_add(&vdev->dev);
	if (err) {
		pci_warn(bridge->pdev, "device %pUb: left out: %pe\n", entry->uuid, ERR_PTR(err));
		put_device(&vdev->dev);
		return 0;
	}
	list_add_tail(&vdev->link, &bridge->devices);
	return 0;
}

/* Session held. */
void vbus_device_remove(struct vbus_device *vdev)
{
	list_del(&vdev->link);
	device_unregister(&vdev->dev);
}

void vbus_device_set_state(struct vbus_device *vdev, enum vbus_state state)
{
	WARN_ON(!vbus_state_may(vdev->state, state));
	WRITE_ONCE(vdev->state, state);
}
EXPORT_SYMBOL_GPL(vbus_device_set_state);

int vbus_device_open(struct vbus_device *vdev, u32 version)
{
	struct vbus_devopen_request request = { .version = cpu_to_le32(version) };
	struct vbus_devopen_reply reply;
	int err;

	memcpy(request.uuid, &vdev->uuid, sizeof(request.uuid));
	err = vbus_call(vdev->bridge, VBUS_CALL_DEVOPEN, &request, sizeof(request), &reply,
			sizeof(reply));
	if (err)
		return err;

	clear_bit(0, &vdev->broken);
	vdev->handle = le32_to_cpu(reply.handle);
	vdev->budget = le32_to_cpu(reply.budget);
	vdev->groups = 0;
	/* A replay keeps its own state: for the driver's users the device is open all the time. */
	if (vdev->state != VBUS_REPLAY)
		vbus_device_set_state(vdev, VBUS_OPENING);
	return 0;
}
EXPORT_SYMBOL_GPL(vbus_device_open);

void vbus_device_close(struct vbus_device *vdev)
{
	struct vbus_devclose_request request = { .handle = cpu_to_le32(vdev->handle) };
	int err;

	/* A host that lost its state, or dropped the device, has closed it already. */
	if (vdev->handle && vbus_bridge_is_current(vdev->bridge)) {
		err = vbus_call(vdev->bridge, VBUS_CALL_DEVCLOSE, &request, sizeof(request), NULL,
				0);
		/* Whatever the answer is, it came after the last page was moved. */
		if (err != -ESTALE && err != -ETIMEDOUT)
			vdev->lent = false;
	}
	vdev->handle = 0;
	if (vdev->state != VBUS_REPLAY)
		vdev->state = VBUS_CLOSED;
}
EXPORT_SYMBOL_GPL(vbus_device_close);

int vbus_device_call(struct vbus_device *vdev, u32 func, const void *in, size_t in_len, void *out,
		     size_t out_len)
{
	struct vbus_devcall_request request = {
		.handle = cpu_to_le32(vdev->handle),
		.func = cpu_to_le32(func),
	};

	if (in_len > sizeof(request.data))
		return -EINVAL;
	if (in_len)
		memcpy(request.data, in, in_len);
	return vbus_call(vdev->bridge, VBUS_CALL_DEVCALL, &request,
			 offsetof(struct vbus_devcall_request, data) + in_len, out, out_len);
}
EXPORT_SYMBOL_GPL(vbus_device_call);

int vbus_device_negcap(struct vbus_device *vdev, u32 gid, u32 wanted, u32 *active)
{
	struct vbus_negcap_request request = { cpu_to_le32(gid), cpu_to_le32(wanted) };
	struct vbus_negcap_reply reply;
	int err;

	if (vdev->groups == VBUS_FEATURE_GROUPS)
		return -ENOSPC;
	err = vbus_device_call(vdev, VBUS_FUNC_NEGCAP, &request, sizeof(request), &reply,
			       sizeof(reply));
	if (err)
		return err;

	*active = le32_to_cpu(reply.active);
	if (*active & ~wanted)
		return -EPROTO;
	vdev->group[vdev->groups].gid = gid;
	vdev->group[vdev->groups].offered = le32_to_cpu(reply.offered);
	vdev->group[vdev->groups].active = *active;
	vdev->groups++;
	return 0;
}
EXPORT_SYMBOL_GPL(vbus_device_negcap);

void *vbus_device_alloc(struct vbus_device *vdev, size_t size, u64 *offset)
{
	unsigned long at;

	size = PAGE_ALIGN(size);
	if (vdev->used + size > vdev->budget)
		return NULL;
	at = gen_pool_alloc(vdev->bridge->pool, size);
	if (!at)
		return NULL;
	vdev->used += size;
	*offset = at - (unsigned long)vdev->bridge->window;
	return (void *)at;
}
EXPORT_SYMBOL_GPL(vbus_device_alloc);

/* Memory of a device that went without a word of the host, which may still write to it. */
struct owed {
	struct list_head link;
	unsigned long at;
	size_t size;
};

void vbus_device_free(struct vbus_device *vdev, void *memory, size_t size)
{
	struct vbus_bridge *bridge = vdev->bridge;
	unsigned long at = (unsigned long)memory;
	struct owed *owed;

	if (!memory)
		return;
	size = PAGE_ALIGN(size);
	vdev->used -= size;
	if (!vdev->lent) {
		gen_pool_free(bridge->pool, at, size);
		return;
	}
	owed = kmalloc(sizeof(*owed), GFP_KERNEL | __GFP_NOFAIL);
	*owed = (struct owed){ .at = at, .size = size };
	mutex_lock(&bridge->binding);
	list_add(&owed->link, &bridge->owed);
	mutex_unlock(&bridge->binding);
}
EXPORT_SYMBOL_GPL(vbus_device_free);

/*
 * The host has let go of everything: it answered a new connection, or the window goes.  Session
 * held.
 */
void vbus_device_settle(struct vbus_bridge *bridge)
{
	struct owed *owed, *next;
	struct vbus_device *vdev;

	list_for_each_entry(vdev, &bridge->devices, link)
		vdev->lent = false;
	mutex_lock(&bridge->binding);
	list_for_each_entry_safe(owed, next, &bridge->owed, link) {
		gen_pool_free(bridge->pool, owed->at, owed->size);
		list_del(&owed->link);
		kfree(owed);
	}
	mutex_unlock(&bridge->binding);
}

u32 vbus_device_queue(struct vbus_device *vdev)
{
	struct vbus_bridge *bridge = vdev->bridge;

	/* Queue 0 is the bus's own, unless it is all there is. */
	if (bridge->queues == 1)
		return 0;
	return 1 + bridge->next_queue++ % (bridge->queues - 1);
}
EXPORT_SYMBOL_GPL(vbus_device_queue);

int vbus_device_coalesce(struct vbus_device *vdev, u32 queue, u32 events, u32 microseconds)
{
	struct vbus_sigroute_request request = {
		.op = cpu_to_le32(VBUS_SIGROUTE_COALESCE),
		.queue = cpu_to_le32(queue),
		.events = cpu_to_le32(events),
		.microseconds = cpu_to_le32(microseconds),
	};
	struct vbus_sigroute_reply reply;

	return vbus_call(vdev->bridge, VBUS_CALL_SIGROUTE, &request, sizeof(request), &reply,
			 sizeof(reply));
}
EXPORT_SYMBOL_GPL(vbus_device_coalesce);

/* A signal that is another region's already is a lie of the host: leave that one alone. */
static int bind_signal(struct vbus_bridge *bridge, struct vbus_region *region, u32 signal)
{
	int err = -EPROTO;

	mutex_lock(&bridge->binding);
	if (bridge->signals.queue[signal] == SHM_SIGNAL_UNBOUND) {
		bridge->region[signal] = region;
		/* The region before the binding that lets it be called. */
		smp_wmb();
		shm_signal_disable(&bridge->signals, signal);
		if (!shm_signal_bind(&bridge->signals, signal, region->queue)) {
			WRITE_ONCE(region->signal, signal);
			err = 0;
		}
	}
	mutex_unlock(&bridge->binding);
	return err;
}

int vbus_device_share(struct vbus_device *vdev, struct vbus_region *region)
{
	struct vbus_devshm_request request = {
		.handle = cpu_to_le32(vdev->handle),
		.region = cpu_to_le32(region->number),
		.north = cpu_to_le64(region->north),
		.south = cpu_to_le64(region->south),
		.north_len = cpu_to_le32(region->north_len),
		.south_len = cpu_to_le32(region->south_len),
	};
	struct vbus_bridge *bridge = vdev->bridge;
	struct vbus_devshm_reply reply;
	u32 signal;
	int err;

	region->signal = VBUS_SIGNAL_BUS;
	region->wanted = false;
	if (region->irq)
		region->queue = READ_ONCE(region->target);
	request.queue = cpu_to_le32(region->queue);
	vdev->lent = true;
	err = vbus_call(bridge, VBUS_CALL_DEVSHM, &request, sizeof(request), &reply, sizeof(reply));
	if (err)
		return err;

	signal = le32_to_cpu(reply.signal);
	if (signal == VBUS_SIGNAL_BUS || signal >= VBUS_SIGNALS)
		return -EPROTO;
	err = bind_signal(bridge, region, signal);
	/* Its affinity was changed meanwhile, when there was no signal to move. */
	if (!err && region->irq && READ_ONCE(region->target) != region->queue)
		vbus_session_schedule(bridge);
	return err;
}
EXPORT_SYMBOL_GPL(vbus_device_share);

void vbus_device_unshare(struct vbus_device *vdev, struct vbus_region *region)
{
	struct vbus_bridge *bridge = vdev->bridge;
	u32 signal = region->signal;

	if (signal == VBUS_SIGNAL_BUS)
		return;
	mutex_lock(&bridge->binding);
	WRITE_ONCE(region->signal, VBUS_SIGNAL_BUS);
	shm_signal_unbind(&bridge->signals, signal);
	synchronize_irq(bridge->queue[region->queue].irq);
	if (region->irq)
		vbus_irq_synchronize(region);
	mutex_unlock(&bridge->binding);
}
EXPORT_SYMBOL_GPL(vbus_device_unshare);

/* A region that is not shared has no signal of its own, and must not touch the bus's. */
void vbus_region_inject(struct vbus_device *vdev, const struct vbus_region *region)
{
	u32 signal = READ_ONCE(region->signal);

	if (signal != VBUS_SIGNAL_BUS)
		vbus_bridge_inject(vdev->bridge, signal);
}
EXPORT_SYMBOL_GPL(vbus_region_inject);

bool vbus_region_enable(struct vbus_device *vdev, struct vbus_region *region)
{
	u32 signal = READ_ONCE(region->signal);

	/* Pairs with the barrier of the irq's unmask(): of the two at least one sees both. */
	smp_store_mb(region->wanted, true);
	return !READ_ONCE(region->masked) && signal != VBUS_SIGNAL_BUS &&
	       shm_signal_enable(&vdev->bridge->signals, signal);
}
EXPORT_SYMBOL_GPL(vbus_region_enable);

void vbus_region_disable(struct vbus_device *vdev, struct vbus_region *region)
{
	u32 signal = READ_ONCE(region->signal);

	WRITE_ONCE(region->wanted, false);
	if (signal != VBUS_SIGNAL_BUS)
		shm_signal_disable(&vdev->bridge->signals, signal);
}
EXPORT_SYMBOL_GPL(vbus_region_disable);

bool vbus_device_is_current(struct vbus_device *vdev)
{
	return vbus_bridge_is_current(vdev->bridge);
}
EXPORT_SYMBOL_GPL(vbus_device_is_current);

void vbus_device_broken(struct vbus_device *vdev, const char *what)
{
	/* A window that changed hands is not the host's lie. */
	if (!vbus_device_is_current(vdev) || READ_ONCE(vdev->state) == VBUS_LOST ||
	    test_and_set_bit(0, &vdev->broken))
		return;
	dev_err(&vdev->dev, "the host broke the contract: %s; the device stops\n", what);
	vbus_session_schedule(vdev->bridge);
}
EXPORT_SYMBOL_GPL(vbus_device_broken);

void vbus_device_queue_work(struct vbus_device *vdev, struct delayed_work *work,
			    unsigned long delay)
{
	queue_delayed_work(vdev->bridge->worker, work, delay);
}
EXPORT_SYMBOL_GPL(vbus_device_queue_work);
