// SPDX-License-Identifier: MIT
/*
 * worker_bus.c - the epoch, and whether the guest has seen it.
 *
 * The window's epoch is written from the private one and never read to compute anything: a restored
 * or migrated image brings another one along, and that is how a foreign window is noticed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "fail_point.h"
#include "log.h"
#include "vbus_port.h"
#include "worker.h"

#define LOOK_FIRST_MS	10u
#define LOOK_LAST_MS	1000u
#define KNOCKS		100u	/* every LOOK_FIRST_MS, then more and more slowly */

static struct vbus_host_header *host_header(struct vbus_bus *bus)
{
	return (void *)(bus->window.base + VBUS_HOST_HEADER);
}

static const struct vbus_guest_header *guest_header(struct vbus_bus *bus)
{
	return (const void *)(bus->window.base + VBUS_GUEST_HEADER);
}

static struct shm_signal_page *own_signals(struct vbus_bus *bus)
{
	return (void *)(bus->window.base + VBUS_SIGNALS_SOUTH);
}

static const struct shm_signal_page *peer_signals(struct vbus_bus *bus)
{
	return (const void *)(bus->window.base + VBUS_SIGNALS_NORTH);
}

uint64_t vbus_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int draw(uint64_t *number)
{
	do {
		if (getrandom(number, sizeof(*number), 0) != (ssize_t)sizeof(*number))
			return -1;
	} while (!*number);
	return 0;
}

void vbus_arm(const struct vbus_bus *bus, int timer, uint32_t ms)
{
	struct itimerspec when = {
		.it_value = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 },
	};

	if (timerfd_settime(timer, 0, &when, NULL) < 0)
		vbus_leave(bus, "a timer cannot be set");
}

/* 0 ms: never. */
static void arm(struct vbus_bus *bus, uint32_t ms)
{
	bus->interval_ms = ms;
	vbus_arm(bus, bus->timer, ms);
}

static void knock_soon(struct vbus_bus *bus)
{
	bus->knocks = 0;
	arm(bus, LOOK_FIRST_MS);
}

static void write_header(struct vbus_bus *bus)
{
	struct vbus_host_header *h = host_header(bus);

	vbus_write32(&h->version, VBUS_VERSION);
	vbus_write64(&h->window_size, bus->window.size);
	vbus_write32(&h->vectors, bus->vectors);
	vbus_write32(&h->list_generation, bus->list_generation);
	/* The epoch tells that everything above belongs to it. */
	vbus_wmb();
	vbus_write64(&h->epoch, bus->epoch);
	/* A guest that sees the magic sees the whole header. */
	vbus_wmb();
	vbus_write32(&h->magic, VBUS_MAGIC);
}

/* Drop all that a NEGOTIATE or a QREG, DEVOPEN, DEVSHM after it had set up. */
void vbus_bus_forget(struct vbus_bus *bus)
{
	uint32_t i;

	for (i = 0; i < VBUSD_DEVICES; i++)
		if (bus->device[i].used)
			vbus_device_close(&bus->device[i]);
	memset(bus->owner, 0, sizeof(bus->owner));
	memset(bus->queue, 0, sizeof(bus->queue));
	bus->negotiated = false;
	bus->nonce = 0;
	bus->queues = 0;
	bus->ready = 0;
	bus->page->negotiated = 0;
	bus->page->nonce = 0;
	vbus_route_settle(bus);
}

/*
 * A new epoch: from here on only header and replies are written until a NEGOTIATE names it.
 * @why: for the log, or NULL
 */
static int raise_epoch(struct vbus_bus *bus, const char *why)
{
	const struct vbus_call_reply *reply = (const void *)(bus->window.base + VBUS_CALLS_SOUTH);
	struct shm_signal_page *own = own_signals(bus);
	uint32_t i;

	vbus_bus_forget(bus);
	if (draw(&bus->epoch) < 0) {
		vbus_log(bus->name, "no random number for the epoch (%s)", strerror(errno));
		return -1;
	}
	for (i = 0; i < VBUS_CALL_SLOTS; i++)
		bus->taken[i] = bus->answered[i] = vbus_read32(&reply[i].seq);

	/* Whoever served before may have died awake, and then nobody would ring. */
	for (i = 0; i < VBUS_QUEUES; i++)
		vbus_write32(&own->awake[i], 0);
	vbus_write8(&own->enabled[VBUS_SIGNAL_BUS], 1);
	vbus_wmb();
	write_header(bus);

	bus->held.used = false;
	bus->foreign = false;
	bus->confirmed = false;
	bus->calls = true;
	bus->page->epoch = bus->epoch;
	bus->page->confirmed = 0;
	bus->raised_ms = vbus_now_ms();
	if (why)
		vbus_log(bus->name, "epoch %016llx (%s)", (unsigned long long)bus->epoch, why);
	VBUS_FAIL_POINT(EPOCH_WRITTEN);
	vbus_bus_kick(bus, 0);
	VBUS_FAIL_POINT(EPOCH_TOLD);
	if (bus->connected)
		knock_soon(bus);
	return 0;
}

int vbus_bus_start(struct vbus_bus *bus)
{
	return raise_epoch(bus, "worker started");
}

void vbus_bus_connected(struct vbus_bus *bus)
{
	bus->connected = true;
	if (bus->epoch && !bus->confirmed)
		knock_soon(bus);
}

/* What only this process writes still says what it wrote; an older image of this epoch does not. */
static bool words_fit(struct vbus_bus *bus)
{
	const struct vbus_call_reply *reply = (const void *)(bus->window.base + VBUS_CALLS_SOUTH);
	const struct vbus_host_header *h = host_header(bus);
	const struct shm_signal_page *own = own_signals(bus);
	uint32_t i;

	if (vbus_read64(&h->epoch) != bus->epoch || vbus_read32(&h->magic) != VBUS_MAGIC)
		return false;
	for (i = 0; i < VBUS_CALL_SLOTS; i++)
		if (vbus_read32(&reply[i].seq) != bus->answered[i])
			return false;
	for (i = 0; i < bus->queues; i++)
		if (vbus_read32(&own->summary[i]) != bus->signals.rang[i])
			return false;
	return true;
}

/*
 * False: an image was loaded over the window, and nothing may be published into it; until a new
 * epoch is raised, whatever the window says meanwhile.
 */
bool vbus_bus_is_ours(struct vbus_bus *bus)
{
	if (!bus->foreign && !words_fit(bus))
		bus->foreign = true;
	return !bus->foreign;
}

static bool is_power_of_two(uint64_t n)
{
	return !(n & (n - 1));
}

/*
 * The guest can bring this about as often as it likes: neither log nor processor are filled with
 * it.
 */
static void on_foreign(struct vbus_bus *bus)
{
	uint64_t *times = &bus->page->counters.foreign;
	const char *why = NULL;

	if (vbus_now_ms() - bus->raised_ms < LOOK_FIRST_MS) {
		arm(bus, LOOK_FIRST_MS);
		return;
	}
	vbus_count(times);
	if (is_power_of_two(*times))
		why = "the window holds another image";
	if (raise_epoch(bus, why) < 0)
		_exit(1);	/* without an epoch nothing can be told apart */
}

/* At every wake-up: is the window ours, does the guest know it? */
void vbus_bus_look(struct vbus_bus *bus)
{
	const struct vbus_guest_header *g = guest_header(bus);
	bool confirmed, there;

	if (!vbus_bus_is_ours(bus)) {
		on_foreign(bus);
		return;
	}

	there = vbus_read32(&g->magic) == VBUS_GUEST_MAGIC;
	confirmed = there && vbus_read64(&g->epoch) == bus->epoch;
	if (confirmed == bus->confirmed)
		return;
	bus->confirmed = confirmed;
	bus->page->confirmed = confirmed;
	/* It took its leave: whoever comes next has lent us nothing, and hears nothing of this. */
	if (!there)
		vbus_bus_forget(bus);
	/* A confirmed idle bus wakes nobody. */
	if (confirmed || !bus->connected)
		arm(bus, 0);
	else
		knock_soon(bus);
}

/* The timer: nobody has echoed the epoch yet.  vbus_bus_look() came first. */
void vbus_bus_tick(struct vbus_bus *bus)
{
	if (bus->confirmed || bus->foreign)
		return;

	if (vbus_read32(&guest_header(bus)->magic) == VBUS_GUEST_MAGIC) {
		write_header(bus);
		vbus_bus_kick(bus, 0);
		/*
		 * A driver that is there answers soon; a header that outlived its driver never
		 * does.
		 */
		if (++bus->knocks < KNOCKS) {
			arm(bus, LOOK_FIRST_MS);
			return;
		}
	}
	arm(bus, bus->interval_ms * 2 < LOOK_LAST_MS ? bus->interval_ms * 2 : LOOK_LAST_MS);
}

/* Somebody is there after all. */
void vbus_bus_rung(struct vbus_bus *bus)
{
	if (bus->epoch && !bus->confirmed && bus->connected && bus->interval_ms > LOOK_FIRST_MS)
		knock_soon(bus);
}

void vbus_bus_negotiated(struct vbus_bus *bus, uint64_t nonce)
{
	vbus_bus_forget(bus);
	VBUS_FAIL_POINT(NEGOTIATE_BEFORE);
	shm_signal_init(&bus->signals, own_signals(bus), peer_signals(bus));
	shm_signal_bind(&bus->signals, VBUS_SIGNAL_BUS, 0);
	/* What was injected meanwhile: the caller looks at the call slots once more in any case. */
	shm_signal_enable(&bus->signals, VBUS_SIGNAL_BUS);
	VBUS_FAIL_POINT(NEGOTIATE_RESET);
	bus->negotiated = true;
	bus->nonce = nonce;
	bus->page->negotiated = 1;
	bus->page->nonce = nonce;
	vbus_count(&bus->page->counters.negotiations);
	if (!bus->confirmed && bus->connected)
		knock_soon(bus);
}

void vbus_bus_list_changed(struct vbus_bus *bus, uint32_t generation)
{
	bus->list_generation = generation;
	if (!bus->epoch || !vbus_bus_is_ours(bus))
		return;
	vbus_write32(&host_header(bus)->list_generation, generation);
	vbus_bus_inject(bus, VBUS_SIGNAL_BUS);
}
