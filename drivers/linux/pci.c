// SPDX-License-Identifier: GPL-2.0-only
/* pci.c - ivshmem-doorbell (1af4:1110) as the bridge to the host: identity, mapping, vectors. */
#include <linux/idr.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/log2.h>
#include <linux/module.h>
#include "bridge.h"

#define IVSHMEM_REGISTERS	0	/* BAR number */

static DEFINE_IDA(bridge_numbers);

/* Other ivshmem devices are none of ours: look at one page and touch nothing else. */
static int identify(struct pci_dev *pdev)
{
	resource_size_t size = pci_resource_len(pdev, VBUS_WINDOW_BAR);
	const struct vbus_host_header *host;
	int err = 0;

	if (!pci_resource_start(pdev, VBUS_WINDOW_BAR) || size < VBUS_PAGE_SIZE) {
		pci_err(pdev, "the window has no address; is there room behind its bridge?\n");
		return -ENODEV;
	}
	host = memremap(pci_resource_start(pdev, VBUS_WINDOW_BAR), VBUS_PAGE_SIZE, MEMREMAP_WB);
	if (!host)
		return -ENOMEM;
	if (vbus_read32(&host->magic) != VBUS_MAGIC) {
		pci_info(pdev, "not a vbus window\n");
		err = -ENODEV;
	} else if (vbus_read32(&host->version) != VBUS_VERSION) {
		pci_err(pdev, "the host speaks version %u, this driver %u; update the older one\n",
			vbus_read32(&host->version), VBUS_VERSION);
		err = -ENODEV;
	} else if (vbus_read64(&host->window_size) != size || !is_power_of_2(size) ||
		   size < VBUS_WINDOW_MIN || size > VBUS_WINDOW_MAX) {
		pci_err(pdev, "the header says %llu bytes of window, the BAR has %pa\n",
			vbus_read64(&host->window_size), &size);
		err = -ENODEV;
	}
	memunmap((void *)host);
	return err;
}

static void lay_out(struct vbus_bridge *bridge)
{
	bridge->host = bridge->window + VBUS_HOST_HEADER;
	bridge->guest = bridge->window + VBUS_GUEST_HEADER;
	bridge->requests = bridge->window + VBUS_CALLS_NORTH;
	bridge->replies = bridge->window + VBUS_CALLS_SOUTH;
}

static int make_pool(struct vbus_bridge *bridge)
{
	int err;

	bridge->pool = gen_pool_create(PAGE_SHIFT, NUMA_NO_NODE);
	if (!bridge->pool)
		return -ENOMEM;
	err = gen_pool_add(bridge->pool, (unsigned long)bridge->window + VBUS_POOL,
			   bridge->size - VBUS_POOL, NUMA_NO_NODE);
	if (err)
		gen_pool_destroy(bridge->pool);
	return err;
}

static void free_vectors(struct vbus_bridge *bridge)
{
	while (bridge->queues) {
		struct vbus_queue *queue = &bridge->queue[--bridge->queues];

		free_irq(queue->irq, queue);
	}
	pci_free_irq_vectors(bridge->pdev);
}

static int request_vectors(struct vbus_bridge *bridge)
{
	int count = min(vbus_read32(&bridge->host->vectors), VBUS_QUEUES);
	int err, i;

	count = pci_alloc_irq_vectors(bridge->pdev, 1, count, PCI_IRQ_MSIX);
	if (count < 0)
		return count;

	for (i = 0; i < count; i++) {
		struct vbus_queue *queue = &bridge->queue[i];

		queue->bridge = bridge;
		queue->index = i;
		queue->irq = pci_irq_vector(bridge->pdev, i);
		spin_lock_init(&queue->lock);
		snprintf(queue->name, sizeof(queue->name), "vbus%u-q%d", bridge->number, i);
		/* Never a thread: what it calls are irqs, which may be.  Its CPU is ours. */
		err = request_irq(queue->irq, vbus_bridge_interrupt,
				  IRQF_NO_THREAD | IRQF_NOBALANCING, queue->name, queue);
		if (err) {
			free_vectors(bridge);
			return err;
		}
		bridge->queues++;
	}
	return 0;
}

static int vbus_pci_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct vbus_bridge *bridge;
	int err;

	err = pci_enable_device(pdev);
	if (err)
		return err;
	err = identify(pdev);
	if (err)
		goto err_disable;
	err = vbus_window_place(pdev);
	if (err)
		goto err_disable;
	err = pci_request_regions(pdev, "vbus");
	if (err)
		goto err_disable;
	pci_set_master(pdev);

	bridge = kzalloc(sizeof(*bridge), GFP_KERNEL);
	if (!bridge) {
		err = -ENOMEM;
		goto err_regions;
	}
	bridge->pdev = pdev;
	mutex_init(&bridge->session);
	mutex_init(&bridge->binding);
	INIT_LIST_HEAD(&bridge->owed);
	INIT_LIST_HEAD(&bridge->devices);
	INIT_WORK(&bridge->spread, vbus_route_respread);
	INIT_WORK(&bridge->work, vbus_session_work);
	INIT_WORK(&bridge->roll, vbus_session_roll);
	INIT_DELAYED_WORK(&bridge->retry, vbus_session_retry);
	pci_set_drvdata(pdev, bridge);

	err = ida_alloc(&bridge_numbers, GFP_KERNEL);
	if (err < 0)
		goto err_free;
	bridge->number = err;

	bridge->worker = alloc_ordered_workqueue("vbus%u", WQ_MEM_RECLAIM, bridge->number);
	if (!bridge->worker) {
		err = -ENOMEM;
		goto err_number;
	}
	bridge->registers = pci_iomap(pdev, IVSHMEM_REGISTERS, 0);
	if (!bridge->registers) {
		err = -ENOMEM;
		goto err_worker;
	}
	err = vbus_window_map(bridge);
	if (err)
		goto err_registers;
	lay_out(bridge);
	vbus_calls_init(bridge);
	err = make_pool(bridge);
	if (err)
		goto err_window;
	err = vbus_irq_init(bridge);
	if (err)
		goto err_pool;
	err = request_vectors(bridge);
	if (err)
		goto err_irq;
	err = vbus_route_add(bridge);
	if (err)
		goto err_vectors;

	vbus_route_spread(bridge);
	vbus_debugfs_add(bridge);
	pci_info(pdev, "window %lluM, %s, %u queues\n", (u64)bridge->size >> 20, bridge->mapping,
		 bridge->queues);
	/* Negotiating may take as long as the host wants; boot does not wait for it. */
	vbus_session_schedule(bridge);
	return 0;

err_vectors:
	free_vectors(bridge);
err_irq:
	vbus_irq_exit(bridge);
err_pool:
	gen_pool_destroy(bridge->pool);
err_window:
	vbus_window_unmap(bridge);
err_registers:
	pci_iounmap(pdev, bridge->registers);
err_worker:
	destroy_workqueue(bridge->worker);
err_number:
	ida_free(&bridge_numbers, bridge->number);
err_free:
	kfree(bridge);
err_regions:
	pci_clear_master(pdev);
	pci_release_regions(pdev);
err_disable:
	pci_disable_device(pdev);
	return err;
}

static void vbus_pci_remove(struct pci_dev *pdev)
{
	struct vbus_bridge *bridge = pci_get_drvdata(pdev);

	vbus_route_remove(bridge);
	vbus_session_end(bridge);
	vbus_debugfs_remove(bridge);
	vbus_route_unspread(bridge);
	free_vectors(bridge);
	vbus_irq_exit(bridge);
	gen_pool_destroy(bridge->pool);
	vbus_window_unmap(bridge);
	pci_iounmap(pdev, bridge->registers);
	destroy_workqueue(bridge->worker);
	ida_free(&bridge_numbers, bridge->number);
	kfree(bridge);
	pci_clear_master(pdev);
	pci_release_regions(pdev);
	pci_disable_device(pdev);
}

static void vbus_pci_shutdown(struct pci_dev *pdev)
{
	vbus_power_off(pci_get_drvdata(pdev));
}

static const struct pci_device_id vbus_pci_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_REDHAT_QUMRANET, 0x1110) },
	{}
};
MODULE_DEVICE_TABLE(pci, vbus_pci_ids);

static struct pci_driver vbus_pci_driver = {
	.name = "vbus",
	.id_table = vbus_pci_ids,
	.probe = vbus_pci_probe,
	.remove = vbus_pci_remove,
	.shutdown = vbus_pci_shutdown,
	.driver.pm = &vbus_power_ops,
};

int vbus_pci_register(void)
{
	int err = vbus_route_register();

	if (err)
		return err;
	err = pci_register_driver(&vbus_pci_driver);
	if (err)
		vbus_route_unregister();
	return err;
}

void vbus_pci_unregister(void)
{
	pci_unregister_driver(&vbus_pci_driver);
	vbus_route_unregister();
}
