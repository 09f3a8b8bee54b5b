// SPDX-License-Identifier: GPL-2.0-only
/* debugfs.c - /sys/kernel/debug/vbus/<pci address>/{counters,queues,signals}. */
#include <linux/debugfs.h>
#include <linux/seq_file.h>
#include "bridge.h"

static struct dentry *root;

static int counters_show(struct seq_file *file, void *unused)
{
	struct vbus_bridge *bridge = file->private;
	struct vbus_counters sum = {};
	u32 i;

	for (i = 0; i < bridge->queues; i++) {
		const struct vbus_counters *count = &bridge->queue[i].count;

		sum.events += count->events;
		sum.qnotify += count->qnotify;
		sum.qinject += count->qinject;
		sum.notify += count->notify;
		sum.inject += count->inject;
	}
	seq_printf(file, "events: %llu\n", sum.events);
	seq_printf(file, "qnotify: %llu\n", sum.qnotify);
	seq_printf(file, "qinject: %llu\n", sum.qinject);
	seq_printf(file, "notify: %llu\n", sum.notify);
	seq_printf(file, "inject: %llu\n", sum.inject);
	seq_printf(file, "bridgecalls: %llu\n", bridge->bridgecalls);
	seq_printf(file, "buscalls: %llu\n", bridge->buscalls);
	seq_printf(file, "stale: %llu\n", bridge->stale);
	seq_printf(file, "silences: %llu\n", bridge->silences);
	seq_printf(file, "connections: %llu\n", bridge->connections);
	seq_printf(file, "epoch: %#018llx\n", bridge->epoch);
	seq_printf(file, "live: %u\n", bridge->live);
	seq_printf(file, "mapping: %s\n", bridge->mapping);
	seq_printf(file, "pool_size: %zu\n", gen_pool_size(bridge->pool));
	seq_printf(file, "pool_free: %zu\n", gen_pool_avail(bridge->pool));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counters);

static int queues_show(struct seq_file *file, void *unused)
{
	struct vbus_bridge *bridge = file->private;
	u32 i;

	for (i = 0; i < bridge->queues; i++) {
		const struct vbus_counters *count = &bridge->queue[i].count;

		seq_printf(file,
			   "%u: events %llu qnotify %llu qinject %llu notify %llu inject %llu\n", i,
			   count->events, count->qnotify, count->qinject, count->notify,
			   count->inject);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(queues);

/* A line a signal, for people; /proc/interrupts has the same irqs. */
static int signals_show(struct seq_file *file, void *unused)
{
	struct vbus_bridge *bridge = file->private;
	u32 i;

	mutex_lock(&bridge->binding);
	for (i = 0; i < VBUS_SIGNALS; i++) {
		const struct vbus_region *region = bridge->line[i];

		if (!region)
			continue;
		seq_printf(file, "%u: hwirq %u signal %u queue %u cpu %u count %llu name %s\n",
			   region->irq, region->hwirq, region->signal, region->queue,
			   vbus_route_cpu(bridge, region->queue), region->count, region->name);
	}
	mutex_unlock(&bridge->binding);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(signals);

void vbus_debugfs_add(struct vbus_bridge *bridge)
{
	bridge->debugfs = debugfs_create_dir(pci_name(bridge->pdev), root);
	debugfs_create_file("counters", 0444, bridge->debugfs, bridge, &counters_fops);
	debugfs_create_file("queues", 0444, bridge->debugfs, bridge, &queues_fops);
	debugfs_create_file("signals", 0444, bridge->debugfs, bridge, &signals_fops);
}

void vbus_debugfs_remove(struct vbus_bridge *bridge)
{
	debugfs_remove_recursive(bridge->debugfs);
}

void vbus_debugfs_init(void)
{
	root = debugfs_create_dir("vbus", NULL);
}

void vbus_debugfs_exit(void)
{
	debugfs_remove_recursive(root);
}
