// SPDX-License-Identifier: GPL-2.0-only
/* A control: by default the compiler only warns of a lost const, and most answers hang on one. */
#include <linux/device.h>

void probe(const struct device *dev);
void probe(const struct device *dev)
{
	put_device(dev);
}
