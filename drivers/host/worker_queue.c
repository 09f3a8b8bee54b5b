// SPDX-License-Identifier: MIT
/*
 * worker_queue.c - event queues: injecting, holding doorbells back, and who is served next.
 *
 * Priority is strict with a floor.  Between any two units of work (a frame, a request, a call) the
 * queues of higher priority are looked at, and what came is served first; but after each batch of
 * the higher one lower unit has its turn, so that a storm delays the others and never stops them.
 *
 * The look is at the peer's summary words.  A sender writes them before it rings, so they tell no
 * later than its doorbell, which only a system call could see; the doorbell then finds nothing new.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "worker.h"

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* ---- South to north ---- */

void vbus_bus_kick(struct vbus_bus *bus, uint32_t queue)
{
	const uint64_t one = 1;

	vbus_count(&bus->page->counters.queue[queue].qinject);
	/* EAGAIN: the counter is full, so the guest has doorbells enough to come. */
	if (write(bus->to_guest[queue], &one, sizeof(one)) < 0 && errno != EAGAIN)
		vbus_log(bus->name, "doorbell %u cannot be rung (%s)", queue, strerror(errno));
}

static void arm_flush(struct vbus_bus *bus, uint64_t us)
{
	struct itimerspec when = {
		.it_value = { .tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000 },
	};

	bus->flush_us = us;
	if (timerfd_settime(bus->flush, TFD_TIMER_ABSTIME, &when, NULL) < 0)
		vbus_log(bus->name, "the timer cannot be set (%s)", strerror(errno));
}

/* Ring for all that @q holds. */
void vbus_queue_flush(struct vbus_bus *bus, uint32_t q)
{
	if (!bus->queue[q].held)
		return;
	bus->page->counters.queue[q].coalesced += bus->queue[q].held - 1;
	bus->queue[q].held = 0;
	vbus_bus_kick(bus, q);
}

/* The north wants a doorbell on @q: now, or when enough have come, or late enough. */
static void ask(struct vbus_bus *bus, uint32_t q)
{
	struct vbus_queue *queue = &bus->queue[q];

	if (++queue->held >= queue->events) {
		vbus_queue_flush(bus, q);
		return;
	}
	if (queue->held > 1)
		return;
	queue->due_us = now_us() + queue->microseconds;
	if (!bus->flush_us || queue->due_us < bus->flush_us)
		arm_flush(bus, queue->due_us);
}

void vbus_bus_inject(struct vbus_bus *bus, uint32_t signal)
{
	const struct vbus_region *region = bus->owner[signal].region;
	uint32_t queue;

	if (region && region->path)
		signal = region->path;
	queue = bus->signals.queue[signal];
	if (!bus->negotiated || queue >= VBUS_QUEUES)
		return;
	if (signal != VBUS_SIGNAL_BUS)
		vbus_count(&bus->page->counters.queue[queue].inject);
	if (!shm_signal_inject(&bus->signals, signal))
		return;
	ask(bus, queue);
	/* Replies are never held back. */
	if (signal == VBUS_SIGNAL_BUS)
		vbus_queue_flush(bus, queue);
}

/* The one timer of all queues; not armed again while none holds anything. */
void vbus_queue_tick(struct vbus_bus *bus)
{
	uint64_t now = now_us(), next = 0;
	uint32_t q;

	bus->flush_us = 0;
	for (q = 0; q < bus->queues; q++) {
		if (!bus->queue[q].held)
			continue;
		if (bus->queue[q].due_us <= now)
			vbus_queue_flush(bus, q);
		else if (!next || bus->queue[q].due_us < next)
			next = bus->queue[q].due_us;
	}
	if (next)
		arm_flush(bus, next);
}

/* ---- North to south ---- */

static void dispatch(void *ctx, uint32_t signal)
{
	struct vbus_bus *bus = ctx;
	struct vbusd_queue_counters *c = &bus->page->counters.queue[bus->signals.queue[signal]];
	struct vbus_owner *owner = &bus->owner[signal];

	vbus_count(&c->events);
	if (signal == VBUS_SIGNAL_BUS) {
		bus->calls = true;
	} else if (owner->dev) {
		vbus_count(&c->notify);
		owner->dev->ops->signal(owner->dev, owner->region);
	}
}

static void listen(struct vbus_bus *bus)
{
	uint32_t q;

	for (q = 0; q < bus->queues; q++)
		if (shm_signal_has_news(&bus->signals, q))
			bus->rang |= 1u << q;
}

/* Of @bells the one with the highest priority; UINT32_MAX when there is none. */
static uint32_t next_bell(const struct vbus_bus *bus, uint32_t bells)
{
	uint32_t best = UINT32_MAX, q;

	for (q = 0; q < bus->vectors; q++)
		if ((bells & 1u << q) && (best == UINT32_MAX ||
		    bus->queue[q].priority > bus->queue[best].priority))
			best = q;
	return best;
}

/* Each queue once; who rings on is served in the next round, when others have had their turn. */
static void serve_bells(struct vbus_bus *bus)
{
	uint32_t served = 0, again = 0, q;

	listen(bus);
	while ((q = next_bell(bus, bus->rang & ~served)) != UINT32_MAX) {
		served |= 1u << q;
		bus->rang &= ~(1u << q);
		if (q == 0)
			bus->calls = true;
		if (bus->negotiated && (q == 0 || q < bus->queues)) {
			if (shm_signal_wakeup(&bus->signals, q, dispatch, bus))
				again |= 1u << q;
		} else if (q) {
			vbus_count(&bus->page->counters.ignored);
		}
		listen(bus);
	}
	bus->rang |= again;
}

bool vbus_bus_has_urgent(const struct vbus_bus *bus, uint32_t priority)
{
	uint32_t i;

	if (bus->calls && bus->queue[0].priority > priority)
		return true;
	for (i = 0; i < bus->queues; i++)
		if (bus->queue[i].priority > priority && shm_signal_has_news(&bus->signals, i))
			return true;
	for (i = 0; bus->ready >> i; i++)
		if ((bus->ready & 1u << i) && bus->device[i].priority > priority)
			return true;
	return false;
}

/* Ready and below @top or on it, in turn; UINT32_MAX: none is. */
static uint32_t next_in_turn(const struct vbus_bus *bus, uint32_t top, bool below)
{
	uint32_t i, slot;

	for (i = 1; i <= VBUSD_DEVICES; i++) {
		slot = (bus->served[below] + i) % VBUSD_DEVICES;
		if ((bus->ready & 1u << slot) && (bus->device[slot].priority < top) == below)
			return slot;
	}
	return UINT32_MAX;
}

/* One batch, of the most urgent and of the others by turns; the latter notice after one unit. */
static void serve_device(struct vbus_bus *bus)
{
	uint32_t slot = UINT32_MAX, top = 0, i;

	if (!bus->ready)
		return;
	for (i = 0; bus->ready >> i; i++)
		if ((bus->ready & 1u << i) && bus->device[i].priority > top)
			top = bus->device[i].priority;
	bus->below = !bus->below;
	if (bus->below)
		slot = next_in_turn(bus, top, true);
	if (slot == UINT32_MAX) {
		bus->below = false;
		slot = next_in_turn(bus, top, false);
	}
	bus->served[bus->below] = slot;
	bus->ready &= ~(1u << slot);
	if (bus->device[slot].ops->run(&bus->device[slot]))
		vbus_device_ready(&bus->device[slot]);
}

/* One round: bells, then calls, then a batch of one device; each of them bounded. */
void vbus_bus_serve(struct vbus_bus *bus)
{
	vbus_bus_look(bus);
	if (bus->foreign)
		return;
	serve_bells(bus);
	if (bus->calls)
		vbus_calls_serve(bus);
	if (!bus->foreign)
		serve_device(bus);
	if (bus->foreign)
		vbus_bus_look(bus);
}
