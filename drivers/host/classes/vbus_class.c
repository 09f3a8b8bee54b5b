// SPDX-License-Identifier: MIT
/* vbus_class.c - see vbus_class.h. */
#include "log.h"
#include "vbus_class.h"

void *vbus_device_memory(const struct vbus_device *dev, uint64_t at, uint64_t len)
{
	return vbus_memctx_at(&dev->bus->window, VBUS_POOL, at, len);
}

enum vbus_status vbus_device_ring(const struct vbus_device *dev, const struct vbus_region *region,
				  struct ioq *ring)
{
	uint8_t *base = dev->bus->window.base;

	/* Where the parts lie was judged before the class was asked. */
	if (ioq_south_init(ring, (void *)(base + region->north), (void *)(base + region->south),
			   region->north_len, region->south_len))
		return VBUS_STATUS_INVALID;
	return VBUS_STATUS_OK;
}

bool vbus_device_has_window(const struct vbus_device *dev)
{
	return vbus_bus_is_ours(dev->bus);
}

void vbus_device_inject(const struct vbus_device *dev, const struct vbus_region *region)
{
	vbus_bus_inject(dev->bus, region->signal);
}

bool vbus_device_enable(const struct vbus_device *dev, const struct vbus_region *region)
{
	return shm_signal_enable(&dev->bus->signals, region->signal);
}

void vbus_device_disable(const struct vbus_device *dev, const struct vbus_region *region)
{
	shm_signal_disable(&dev->bus->signals, region->signal);
}

bool vbus_device_has_urgent(const struct vbus_device *dev)
{
	return vbus_bus_has_urgent(dev->bus, dev->priority);
}

void vbus_device_log(const struct vbus_device *dev, const char *what)
{
	vbus_log(dev->bus->name, "%s: %s", dev->klass->name, what);
}
