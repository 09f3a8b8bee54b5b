// SPDX-License-Identifier: GPL-2.0-only
/* A control: when this does not compile, nothing does, and no answer means anything. */
#include <linux/device.h>
#include <linux/pci.h>

int probe(struct pci_dev *pdev);
int probe(struct pci_dev *pdev)
{
	return pdev->dev.bus ? 0 : -ENODEV;
}
