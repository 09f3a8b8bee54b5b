// SPDX-License-Identifier: GPL-2.0-only
/* A control: a function that no kernel has.  When this compiles, everything does. */
#include <linux/device.h>

int probe(struct device *dev);
int probe(struct device *dev)
{
	return vbus_probe_there_is_no_such_function(dev);
}
