// SPDX-License-Identifier: GPL-2.0-only
/* bus.c - the bus type: matching, autoloading, sysfs; and the module's door. */
#include <linux/module.h>
#include "bridge.h"
#include "ioq.h"
#include "vbus_compat.h"

static int vbus_match(struct device *dev, VBUS_MATCH_CONST struct device_driver *driver)
{
	return !strcmp(to_vbus_device(dev)->type, to_vbus_driver(driver)->type);
}

static int vbus_uevent(VBUS_UEVENT_CONST struct device *dev, struct kobj_uevent_env *env)
{
	VBUS_UEVENT_CONST struct vbus_device *vdev = to_vbus_device(dev);

	if (add_uevent_var(env, "VBUS_UUID=%pUb", &vdev->uuid))
		return -ENOMEM;
	return add_uevent_var(env, "MODALIAS=vbus:%s", vdev->type);
}

static int vbus_probe(struct device *dev)
{
	struct vbus_device *vdev = to_vbus_device(dev);
	int err = to_vbus_driver(dev->driver)->probe(vdev);

	/* The connection was lost in the middle: the session tries again when it is back. */
	vdev->retry = err == -ESTALE || err == -ETIMEDOUT;
	return err;
}

static VBUS_REMOVE_RESULT vbus_remove(struct device *dev)
{
	to_vbus_driver(dev->driver)->remove(to_vbus_device(dev));
	return VBUS_REMOVED;
}

static ssize_t type_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", to_vbus_device(dev)->type);
}
static DEVICE_ATTR_RO(type);

static ssize_t uuid_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%pUb\n", &to_vbus_device(dev)->uuid);
}
static DEVICE_ATTR_RO(uuid);

static ssize_t modalias_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "vbus:%s\n", to_vbus_device(dev)->type);
}
static DEVICE_ATTR_RO(modalias);

static ssize_t state_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", vbus_state_name(to_vbus_device(dev)->state));
}
static DEVICE_ATTR_RO(state);

static ssize_t replays_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", to_vbus_device(dev)->replays);
}
static DEVICE_ATTR_RO(replays);

/* "gid:bits" a group, decimal and hexadecimal, one line. */
static ssize_t show_groups(struct vbus_device *vdev, char *buf, bool active)
{
	int at = 0;
	u32 i;

	for (i = 0; i < vdev->groups; i++)
		at += sysfs_emit_at(buf, at, "%s%u:%#x", i ? " " : "", vdev->group[i].gid,
				    active ? vdev->group[i].active : vdev->group[i].offered);
	return at + sysfs_emit_at(buf, at, "\n");
}

static ssize_t offered_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return show_groups(to_vbus_device(dev), buf, false);
}
static DEVICE_ATTR_RO(offered);

static ssize_t negotiated_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return show_groups(to_vbus_device(dev), buf, true);
}
static DEVICE_ATTR_RO(negotiated);

static struct attribute *vbus_attrs[] = {
	&dev_attr_type.attr,
	&dev_attr_uuid.attr,
	&dev_attr_modalias.attr,
	&dev_attr_state.attr,
	&dev_attr_replays.attr,
	&dev_attr_offered.attr,
	&dev_attr_negotiated.attr,
	NULL
};
ATTRIBUTE_GROUPS(vbus);

struct bus_type vbus_bus_type = {
	.name = "vbus",
	.match = vbus_match,
	.uevent = vbus_uevent,
	.probe = vbus_probe,
	.remove = vbus_remove,
	.dev_groups = vbus_groups,
};

int vbus_driver_register(struct vbus_driver *driver, struct module *owner)
{
	driver->driver.bus = &vbus_bus_type;
	driver->driver.owner = owner;
	return driver_register(&driver->driver);
}
EXPORT_SYMBOL_GPL(vbus_driver_register);

void vbus_driver_unregister(struct vbus_driver *driver)
{
	driver_unregister(&driver->driver);
}
EXPORT_SYMBOL_GPL(vbus_driver_unregister);

/* The core's rings are compiled in here once, for every driver. */
EXPORT_SYMBOL_GPL(ioq_north_init);
EXPORT_SYMBOL_GPL(ioq_push);
EXPORT_SYMBOL_GPL(ioq_push_publish);
EXPORT_SYMBOL_GPL(ioq_pop);

static int __init vbus_init(void)
{
	int err;

	err = bus_register(&vbus_bus_type);
	if (err)
		return err;
	vbus_debugfs_init();
	err = vbus_pci_register();
	if (err)
		goto err_bus;
	return 0;

err_bus:
	vbus_debugfs_exit();
	bus_unregister(&vbus_bus_type);
	return err;
}
module_init(vbus_init);

static void __exit vbus_exit(void)
{
	vbus_pci_unregister();
	vbus_debugfs_exit();
	bus_unregister(&vbus_bus_type);
}
module_exit(vbus_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("the vbuskit authors");
MODULE_DESCRIPTION("vbus: a paravirtual bus over ivshmem-doorbell");
MODULE_VERSION(VBUS_RELEASE);
