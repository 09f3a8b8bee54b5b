// SPDX-License-Identifier: GPL-2.0-only
/* bus_type.uevent() takes a const device; since 6.3. */
#include <linux/device.h>

static int uevent(const struct device *dev, struct kobj_uevent_env *env)
{
	return 0;
}

extern struct bus_type probe;
struct bus_type probe = { .uevent = uevent };
