// SPDX-License-Identifier: GPL-2.0-only
/* bus_type.remove() returns nothing; since 5.15. */
#include <linux/device.h>

static void remove(struct device *dev)
{
}

extern struct bus_type probe;
struct bus_type probe = { .remove = remove };
