// SPDX-License-Identifier: GPL-2.0-only
/*
 * route.c - which queue a signal takes: an irq's affinity is the CPU of its queue's vector.
 *
 * The vectors are the bus's own, one a queue, spread over the CPUs; nobody else moves them.  An
 * affinity is a choice among the queues, made at once and under the irq core's locks; the session's
 * work carries it out, since the host has to move the signal first.
 */
#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include "bridge.h"

/* Queue 0 is the bus's own, unless it is all there is. */
static u32 first_queue(const struct vbus_bridge *bridge)
{
	return bridge->queues > 1 ? 1 : 0;
}

/* The kernel has taken the vectors of a CPU that is gone elsewhere. */
static unsigned int cpu_of(const struct vbus_queue *queue)
{
	if (cpu_online(queue->cpu))
		return queue->cpu;
	return cpumask_first(irq_get_effective_affinity_mask(queue->irq));
}

unsigned int vbus_route_cpu(const struct vbus_bridge *bridge, u32 queue)
{
	return cpu_of(&bridge->queue[queue]);
}

/* Of the queues on those CPUs the one with the fewest signals, or -EINVAL. */
static int lightest(const struct vbus_bridge *bridge, const struct cpumask *cpus)
{
	int best = -EINVAL;
	u32 q;

	for (q = first_queue(bridge); q < bridge->queues; q++) {
		if (!cpumask_test_cpu(cpu_of(&bridge->queue[q]), cpus))
			continue;
		if (best < 0 || bridge->queue[q].signals < bridge->queue[best].signals)
			best = q;
	}
	return best;
}

/* Routes held. */
static void head_for(struct vbus_bridge *bridge, struct vbus_region *region, u32 queue)
{
	bridge->queue[region->target].signals--;
	bridge->queue[queue].signals++;
	WRITE_ONCE(region->target, queue);
}

void vbus_route_take(struct vbus_bridge *bridge, struct vbus_region *region)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&bridge->routes, flags);
	region->target = max(lightest(bridge, cpu_possible_mask), 0);
	region->queue = region->target;
	bridge->queue[region->target].signals++;
	raw_spin_unlock_irqrestore(&bridge->routes, flags);
}

void vbus_route_give(struct vbus_bridge *bridge, struct vbus_region *region)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&bridge->routes, flags);
	bridge->queue[region->target].signals--;
	raw_spin_unlock_irqrestore(&bridge->routes, flags);
}

/* Routes held.  The CPU that it will come to, or -EINVAL when no vector is on any of those. */
static int choose(struct vbus_bridge *bridge, struct vbus_region *region,
		  const struct cpumask *cpus)
{
	int queue = region->target;

	if (!cpumask_test_cpu(cpu_of(&bridge->queue[queue]), cpus)) {
		queue = lightest(bridge, cpus);
		/* On the way out of a CPU nothing may be where it will be; any queue will do. */
		if (queue < 0 && !cpumask_subset(cpu_online_mask, cpus))
			return -EINVAL;
		if (queue < 0)
			queue = region->target;
		head_for(bridge, region, queue);
	}
	return cpu_of(&bridge->queue[queue]);
}

/* In the irq core's hands: interrupts are off, nothing sleeps. */
int vbus_route_set_affinity(struct irq_data *data, const struct cpumask *mask, bool force)
{
	struct vbus_region *region = irq_data_get_irq_chip_data(data);
	struct vbus_bridge *bridge = region->bridge;
	int cpu;

	raw_spin_lock(&bridge->routes);
	if (region == &bridge->bus)
		cpu = cpu_of(&bridge->queue[0]);
	else
		cpu = choose(bridge, region, mask);
	raw_spin_unlock(&bridge->routes);
	if (cpu < 0)
		return cpu;
	irq_data_update_effective_affinity(data, cpumask_of(cpu));
	if (READ_ONCE(region->target) != READ_ONCE(region->queue))
		vbus_session_schedule(bridge);
	return IRQ_SET_MASK_OK;
}

/* ---- What the session's work does ---- */

/* The host has moved the signal: so do we, while neither queue is scanned nor sent on. */
static void move(struct vbus_bridge *bridge, struct vbus_region *region, u32 queue)
{
	struct vbus_queue *from = &bridge->queue[region->queue], *to = &bridge->queue[queue];

	disable_irq(from->irq);
	disable_irq(to->irq);
	spin_lock_irq(&from->lock);
	/* Who injects holds one of them. */
	spin_lock_nested(&to->lock, SINGLE_DEPTH_NESTING);
	shm_signal_rebind(&bridge->signals, region->signal, queue);
	spin_unlock(&to->lock);
	spin_unlock_irq(&from->lock);
	region->queue = queue;
	enable_irq(to->irq);
	enable_irq(from->irq);

	/* What either side sent meanwhile the other may have passed over. */
	vbus_bridge_inject(bridge, region->signal);
	irq_work_queue(&region->again);
}

/* Binding held.  A signal that the host does not want to move stays, and its irq says where. */
static int follow_target(struct vbus_bridge *bridge, struct vbus_region *region)
{
	struct vbus_sigroute_request request = { .op = cpu_to_le32(VBUS_SIGROUTE_BIND) };
	u32 target = READ_ONCE(region->target);
	struct vbus_sigroute_reply reply;
	int err;

	if (region->signal == VBUS_SIGNAL_BUS || target == region->queue)
		return 0;
	request.signal = cpu_to_le32(region->signal);
	request.queue = cpu_to_le32(target);
	err = vbus_call(bridge, VBUS_CALL_SIGROUTE, &request, sizeof(request), &reply,
			sizeof(reply));
	if (!err)
		move(bridge, region, target);
	return err;
}

/* Binding held. */
static void refuse_target(struct vbus_bridge *bridge, struct vbus_region *region, int err)
{
	raw_spin_lock_irq(&bridge->routes);
	head_for(bridge, region, region->queue);
	irq_data_update_effective_affinity(irq_get_irq_data(region->irq),
					   cpumask_of(cpu_of(&bridge->queue[region->queue])));
	raw_spin_unlock_irq(&bridge->routes);
	pci_warn(bridge->pdev, "%s: the host did not move the signal: %pe\n", region->name,
		 ERR_PTR(err));
}

/* Each signal to the queue that its irq asks for; session held. */
int vbus_route_settle(struct vbus_bridge *bridge)
{
	int err = 0;
	u32 i;

	mutex_lock(&bridge->binding);
	for (i = VBUS_SIGNAL_BUS + 1; i < VBUS_SIGNALS; i++) {
		if (!bridge->line[i])
			continue;
		err = follow_target(bridge, bridge->line[i]);
		if (err == -ESTALE || err == -ETIMEDOUT)
			break;
		if (err)
			refuse_target(bridge, bridge->line[i], err);
		err = 0;
	}
	mutex_unlock(&bridge->binding);
	return err;
}

/* ---- Vectors and CPUs ---- */

/* NULL: the hint goes, the vector stays. */
static void bind_vector(const struct vbus_queue *queue, const struct cpumask *cpus)
{
	irq_set_affinity_and_hint(queue->irq, cpus);
}

/* An irq that is bound to some CPUs does not follow its queue to others. */
static void keep_affinity(struct vbus_bridge *bridge, struct vbus_region *region)
{
	struct irq_data *data = irq_get_irq_data(region->irq);
	int cpu;

	raw_spin_lock_irq(&bridge->routes);
	cpu = choose(bridge, region, irq_data_get_affinity_mask(data));
	if (cpu >= 0)
		irq_data_update_effective_affinity(data, cpumask_of(cpu));
	raw_spin_unlock_irq(&bridge->routes);
}

/* Queue after queue on CPU after CPU, the nearest first. */
void vbus_route_spread(struct vbus_bridge *bridge)
{
	int node = dev_to_node(&bridge->pdev->dev);
	u32 i;

	/* In this order: whoever has the CPUs may wait for a disk, whose recovery binds signals. */
	cpus_read_lock();
	mutex_lock(&bridge->binding);
	for (i = 0; i < bridge->queues; i++) {
		unsigned int cpu = cpumask_local_spread(i, node);

		raw_spin_lock_irq(&bridge->routes);
		bridge->queue[i].cpu = cpu;
		raw_spin_unlock_irq(&bridge->routes);
		bind_vector(&bridge->queue[i], cpumask_of(cpu));
	}
	for (i = VBUS_SIGNAL_BUS + 1; i < VBUS_SIGNALS; i++)
		if (bridge->line[i])
			keep_affinity(bridge, bridge->line[i]);
	mutex_unlock(&bridge->binding);
	cpus_read_unlock();
}

/* CPUs have come, or gone while the guest slept. */
void vbus_route_respread(struct work_struct *work)
{
	struct vbus_bridge *bridge = container_of(work, struct vbus_bridge, spread);

	if (READ_ONCE(bridge->stopping))
		return;
	vbus_route_spread(bridge);
	/* The host moves the signals that are to come another way now. */
	vbus_session_schedule(bridge);
}

void vbus_route_unspread(struct vbus_bridge *bridge)
{
	u32 i;

	for (i = 0; i < bridge->queues; i++)
		bind_vector(&bridge->queue[i], NULL);
}

static int cpuhp_online = -1;

static int cpu_came(unsigned int cpu, struct hlist_node *node)
{
	struct vbus_bridge *bridge = hlist_entry(node, struct vbus_bridge, cpuhp);

	schedule_work(&bridge->spread);
	return 0;
}

int vbus_route_add(struct vbus_bridge *bridge)
{
	return cpuhp_state_add_instance_nocalls(cpuhp_online, &bridge->cpuhp);
}

void vbus_route_remove(struct vbus_bridge *bridge)
{
	cpuhp_state_remove_instance_nocalls(cpuhp_online, &bridge->cpuhp);
}

int vbus_route_register(void)
{
	cpuhp_online = cpuhp_setup_state_multi(CPUHP_AP_ONLINE_DYN, "vbus:online", cpu_came, NULL);
	return min(cpuhp_online, 0);
}

void vbus_route_unregister(void)
{
	cpuhp_remove_multi_state(cpuhp_online);
}
