// SPDX-License-Identifier: MIT
/*
 * What a worker does next, and when it rings: its own sources in one process with a north, with
 * classes whose work is only counted.  No clock: every assertion is a number of units of work.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "tap.h"
#include "vbus_port.h"
#include "worker.h"

#define VECTORS		8u
#define DEVICES		10u
#define BATCH		64u
#define CALL		99u	/* in the order: a call */
#define ENDLESS		UINT32_MAX
#define ORDER		4096u

static uint8_t window[1 << 20] __attribute__((aligned(4096)));
static struct vbus_status_page page;
static struct vbus_bus bus;
static struct shm_signal north;

/* Per device: units of work to be found, its signal; and what was done, in order. */
static uint32_t work[VBUSD_DEVICES], own[VBUSD_DEVICES], dispatched;
static uint32_t order[ORDER], done;
static void (*each)(void);

static void unit(uint32_t who)
{
	if (done < ORDER)
		order[done++] = who;
	if (each)
		each();
}

static int attach(struct vbus_device *dev)
{
	(void)dev;
	return 0;
}

static void nothing(struct vbus_device *dev)
{
	(void)dev;
}

static enum vbus_status call_fake(struct vbus_device *dev, uint32_t func, const uint8_t *in,
				  uint32_t len, uint8_t *out, uint16_t *out_len)
{
	(void)dev;
	(void)func;
	(void)in;
	(void)len;
	(void)out;
	(void)out_len;
	unit(CALL);
	return VBUS_STATUS_OK;
}

static enum vbus_status share_fake(struct vbus_device *dev, struct vbus_region *region)
{
	(void)dev;
	(void)region;
	return VBUS_STATUS_OK;
}

static void signal_fake(struct vbus_device *dev, struct vbus_region *region)
{
	(void)region;
	dispatched++;
	vbus_device_ready(dev);
	if (!work[dev->slot] && each)
		each();
}

/* As every class does it. */
static bool run_fake(struct vbus_device *dev)
{
	uint32_t *left = &work[dev->slot], i;

	for (i = 0; *left && i < BATCH; i++) {
		if (i && vbus_bus_has_urgent(&bus, dev->priority))
			break;
		*left -= *left != ENDLESS;
		unit(dev->slot);
	}
	return *left;
}

static const struct vbus_class_ops ops = {
	.attach = attach,
	.detach = nothing,
	.close = nothing,
	.call = call_fake,
	.share = share_fake,
	.signal = signal_fake,
	.readable = nothing,
	.run = run_fake,
	.link = nothing,
};

const struct vbus_class_ops *vbus_class_ops_find(const char *name)
{
	(void)name;
	return &ops;
}

_Noreturn void vbus_leave(const struct vbus_bus *b, const char *why)
{
	(void)b;
	fprintf(stderr, "# %s\n", why ? why : "the end");
	exit(1);
}

int vbus_watch(struct vbus_bus *b, int fd, uint32_t events, uint64_t event)
{
	(void)b;
	(void)fd;
	(void)events;
	(void)event;
	return -1;
}

/* ---- The north ---- */

/* The summary tells; nobody tells the worker of a doorbell, as long as it has other work. */
static void inject(uint32_t device)
{
	shm_signal_inject(&north, own[device]);
}

static void post(uint32_t slot, uint32_t func, const void *in, uint32_t len)
{
	struct vbus_call_request *q = (void *)(window + VBUS_CALLS_NORTH);

	q += slot;
	vbus_write16(&q->func, (uint16_t)func);
	vbus_write16(&q->len, (uint16_t)len);
	vbus_write64(&q->epoch, bus.epoch);
	vbus_write64(&q->nonce, 5);
	memcpy(q->data, in, len);
	vbus_write32(&q->seq, vbus_read32(&q->seq) + 1);
	shm_signal_inject(&north, VBUS_SIGNAL_BUS);
}

static struct vbus_call_reply *call(uint32_t func, const void *in, uint32_t len)
{
	post(0, func, in, len);
	bus.rang |= 1;
	vbus_bus_serve(&bus);
	return (void *)(window + VBUS_CALLS_SOUTH);
}

static bool route(uint32_t op, uint32_t queue, uint32_t priority, uint32_t events, uint32_t us)
{
	struct vbus_sigroute_request q = {
		.op = op, .queue = queue, .priority = priority,
		.events = events, .microseconds = us,
	};

	return !vbus_read16(&call(VBUS_CALL_SIGROUTE, &q, sizeof(q))->status);
}

/* A device opened, with regions on @queue; the last one's signal counts. */
static bool open_device(uint32_t device, uint32_t queue, uint32_t regions)
{
	struct vbus_devopen_request open = { .version = VBUS_VERSION };
	struct vbus_devshm_request share = { .queue = queue };
	struct vbus_devopen_reply opened;
	struct vbus_devshm_reply shared;
	struct vbus_call_reply *a;
	uint32_t r;

	memset(open.uuid, (int)device + 1, sizeof(open.uuid));
	open.version = bus.device[device].klass->version;
	a = call(VBUS_CALL_DEVOPEN, &open, sizeof(open));
	memcpy(&opened, a->data, sizeof(opened));
	for (r = 0; r < regions && !a->status; r++) {
		share.handle = opened.handle;
		share.region = r;
		a = call(VBUS_CALL_DEVSHM, &share, sizeof(share));
		memcpy(&shared, a->data, sizeof(shared));
		own[device] = shared.signal;
		shm_signal_bind(&north, shared.signal, queue);
		shm_signal_enable(&north, shared.signal);
		shm_signal_enable(&bus.signals, shared.signal);
	}
	return !a->status;
}

static void rounds(uint32_t count)
{
	while (count--)
		vbus_bus_serve(&bus);
}

static uint64_t rung(uint32_t queue)
{
	uint64_t value = 0;

	return read(bus.to_guest[queue], &value, sizeof(value)) < 0 ? 0 : value;
}

/* Over whatever the window holds. */
static void start_worker(void)
{
	struct vbus_worker_message m = { .klass = "venet-loopback" };

	memset(&bus, 0, sizeof(bus));
	bus.window = (struct vbus_memctx){ .base = window, .size = sizeof(window) };
	bus.vectors = VECTORS;
	bus.page = &page;
	bus.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	bus.flush = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	for (m.slot = 0; m.slot < VECTORS; m.slot++)
		bus.to_guest[m.slot] = eventfd(0, EFD_NONBLOCK);
	for (m.slot = 0; m.slot < DEVICES; m.slot++) {
		memset(m.uuid, (int)m.slot + 1, sizeof(m.uuid));
		vbus_device_add(&bus, &m, -1);
	}
	vbus_bus_start(&bus);
}

static void teardown(void)
{
	uint32_t i;

	for (i = 0; i < VECTORS; i++)
		close(bus.to_guest[i]);
	close(bus.timer);
	close(bus.flush);
}

/* Queue q has priority q, but for queue 0. */
static void setup(void)
{
	struct vbus_qreg_request queues = {
		.count = VECTORS, .priority = { 7, 1, 2, 3, 4, 5, 6, 7 },
	};
	struct vbus_negotiate_request hello = { .version = VBUS_VERSION };

	memset(window, 0, sizeof(window));
	memset(&page, 0, sizeof(page));
	memset(work, 0, sizeof(work));
	done = dispatched = 0;
	each = NULL;
	start_worker();
	shm_signal_init(&north, (void *)(window + VBUS_SIGNALS_NORTH),
			(const void *)(window + VBUS_SIGNALS_SOUTH));
	shm_signal_bind(&north, VBUS_SIGNAL_BUS, 0);
	shm_signal_enable(&north, VBUS_SIGNAL_BUS);
	call(VBUS_CALL_NEGOTIATE, &hello, sizeof(hello));
	call(VBUS_CALL_QREG, &queues, sizeof(queues));
}

/* ---- Who is next ---- */

static uint32_t sent_at;

static void urgent_after_ten_units(void)
{
	if (done == 10 && !sent_at) {
		sent_at = done;
		work[9] = 1;
		inject(9);
	}
}

/* Units of others between the signal and device 9's. */
static uint32_t delay(void)
{
	uint32_t i;

	for (i = sent_at; i < done; i++)
		if (order[i] == 9)
			return i - sent_at;
	return UINT32_MAX;
}

static bool test_a_signal_of_priority_7_waits_for_no_batch_of_eight_saturated_devices(void)
{
	uint32_t i;

	for (i = 0; i < 8; i++) {
		CHECK(open_device(i, 1 + i % 3, 1));
		work[i] = ENDLESS;
		inject(i);
	}
	CHECK(open_device(9, 7, 1));
	done = sent_at = 0;
	each = urgent_after_ten_units;
	rounds(20);
	CHECK(sent_at == 10);
	printf("# %u units of lower priority were done before it was served\n", delay());
	CHECK(delay() <= 1);
	return true;
}

static void urgent_in_the_first_call(void)
{
	if (!sent_at) {
		sent_at = done;
		work[9] = 1;
		inject(9);
	}
}

static bool test_a_signal_of_priority_7_waits_for_one_call_of_sixteen(void)
{
	struct vbus_devcall_request q;
	uint32_t i;

	CHECK(route(VBUS_SIGROUTE_PRIORITY, 0, 0, 0, 0) && open_device(9, 7, 1));
	q = (struct vbus_devcall_request){ .handle = bus.device[9].handle };
	done = sent_at = 0;
	each = urgent_in_the_first_call;
	for (i = 0; i < VBUS_CALL_SLOTS; i++)
		post(i, VBUS_CALL_DEVCALL, &q, 8);
	rounds(20);
	CHECK(delay() <= 1);
	CHECK(done == VBUS_CALL_SLOTS + 1);
	return true;
}

static void a_storm_of_the_most_urgent(void)
{
	inject(9);
}

/* The others have every second turn, one unit long, and that one by one. */
static bool test_a_storm_of_the_most_urgent_delays_the_others_and_stops_none(void)
{
	uint32_t count[VBUSD_DEVICES] = { 0 }, in_a_row = 0, i;

	for (i = 0; i < 3; i++)
		CHECK(open_device(i, 1 + i, 1));
	CHECK(open_device(9, 7, 1));
	for (i = 0; i < 3; i++) {
		work[i] = ENDLESS;
		inject(i);
	}
	work[9] = ENDLESS;
	inject(9);
	done = 0;
	each = a_storm_of_the_most_urgent;
	rounds(60);
	for (i = 0; i < done; i++) {
		count[order[i]]++;
		in_a_row = order[i] == 9 ? 0 : in_a_row + 1;
		/* And never two lower units between two batches of the higher one. */
		CHECK(in_a_row <= 1);
	}
	CHECK(count[9] >= 20 * BATCH);
	for (i = 0; i < 3; i++)
		CHECK(count[i] == 10);
	return true;
}

static bool test_equals_take_turns_batch_by_batch(void)
{
	uint32_t i;

	for (i = 0; i < 4; i++) {
		CHECK(open_device(i, 3, 1));
		work[i] = ENDLESS;
		inject(i);
	}
	done = 0;
	rounds(8);
	CHECK(done == 8 * BATCH);
	for (i = 0; i < done; i++)
		CHECK(order[i] == i / BATCH % 4);
	return true;
}

static void turn_the_tables_after_ten_units(void)
{
	const struct vbus_sigroute_request q = {
		.op = VBUS_SIGROUTE_PRIORITY, .queue = 1, .priority = 6,
	};

	if (done == 10)
		post(1, VBUS_CALL_SIGROUTE, &q, sizeof(q));
}

static bool test_a_priority_that_is_changed_counts_from_the_next_unit_on(void)
{
	uint32_t i, before = 0, after = 0;

	CHECK(open_device(0, 1, 1) && open_device(1, 2, 1));
	work[0] = work[1] = ENDLESS;
	inject(0);
	inject(1);
	done = 0;
	each = turn_the_tables_after_ten_units;
	rounds(10);
	CHECK(bus.device[0].priority == 6 && page.queue[1].priority == 6);
	for (i = 0; i < done; i++)
		*(i < 10 ? &before : &after) += order[i] == 0;
	/* But for the one unit that those below have after each batch. */
	CHECK(before <= 1 && done > 4 * BATCH && after >= done - 10 - 1 - done / BATCH);
	return true;
}

static void a_signal_on_the_old_queue(void)
{
	if (!sent_at) {
		sent_at = done;
		work[0] = 1;
		inject(0);
	}
}

static bool test_what_was_sent_on_the_old_queue_just_before_a_move_is_found(void)
{
	struct vbus_sigroute_request move = { .op = VBUS_SIGROUTE_BIND, .queue = 2 };
	struct vbus_devcall_request q;

	CHECK(open_device(0, 1, 1));
	move.signal = own[0];
	q = (struct vbus_devcall_request){ .handle = bus.device[0].handle };
	done = sent_at = 0;
	each = a_signal_on_the_old_queue;
	/* One after the other in one round: no bell is served in between. */
	bus.next_call = 0;
	post(0, VBUS_CALL_DEVCALL, &q, 8);
	post(1, VBUS_CALL_SIGROUTE, &move, sizeof(move));
	rounds(3);
	CHECK(done == 2 && order[0] == CALL && order[1] == 0);
	CHECK(page.queue[2].signals == 1 && !page.queue[1].signals);
	/* On the new one the south listens from now on. */
	shm_signal_rebind(&north, own[0], 2);
	work[0] = 1;
	inject(0);
	rounds(3);
	CHECK(done == 3);
	return true;
}

static void a_storm_of_all_signals(void)
{
	uint32_t signal;

	for (signal = 1; signal < VBUS_SIGNALS; signal++)
		shm_signal_inject(&north, signal);
}

/*
 * 18: signals are limited (four regions a device, two signals each), and a north that never pauses
 * costs eight scans a queue and round at most, after which a device without signals has its turn.
 */
static bool test_a_storm_on_all_signals_costs_a_bounded_scan_and_stops_nobody(void)
{
	uint32_t i;

	for (i = 0; i < 9; i++)
		CHECK(open_device(i, 4 + i % 4, VBUS_REGIONS));
	CHECK(open_device(9, 1, 1));
	work[9] = 3;
	vbus_device_ready(&bus.device[9]);
	done = dispatched = 0;
	each = a_storm_of_all_signals;
	a_storm_of_all_signals();
	rounds(1);
	CHECK(dispatched && dispatched <= 8 * (9 * VBUS_REGIONS + 1));
	/* Eight devices are below the most urgent ones, and each second turn is theirs. */
	rounds(3 * 2 * 8);
	CHECK(done == 3 && order[0] == 9);
	return true;
}

/* 17: nothing here is queued by the inject, so that two at once have no list to break. */
static bool test_the_same_signal_a_thousand_times_is_one_event(void)
{
	uint32_t i;

	CHECK(open_device(0, 1, 1));
	dispatched = 0;
	for (i = 0; i < 1000; i++)
		inject(0);
	rounds(3);
	CHECK(dispatched == 1);
	return true;
}

/* ---- When it rings ---- */

static uint32_t told(uint32_t device)
{
	const struct shm_signal_page *south = (const void *)(window + VBUS_SIGNALS_SOUTH);

	return vbus_read32(&south->sequence[own[device]]);
}

static bool is_armed(void)
{
	struct itimerspec when;

	return !timerfd_gettime(bus.flush, &when) &&
	       (when.it_value.tv_sec || when.it_value.tv_nsec);
}

/* As the loop does when the timer's descriptor is readable. */
static bool await_timer(void)
{
	struct pollfd p = { .fd = bus.flush, .events = POLLIN };
	uint64_t times;

	if (poll(&p, 1, 20000) != 1 || read(bus.flush, &times, sizeof(times)) < 0)
		return false;
	vbus_queue_tick(&bus);
	return true;
}

static bool test_four_signals_are_one_doorbell_and_the_words_do_not_wait(void)
{
	uint32_t i, before;

	CHECK(open_device(0, 3, 1));
	CHECK(route(VBUS_SIGROUTE_COALESCE, 3, 0, 4, VBUS_COALESCE_US));
	CHECK(page.queue[3].coalesce_events == 4 && page.queue[3].signals == 1);
	before = told(0);
	for (i = 1; i <= 3; i++) {
		vbus_bus_inject(&bus, own[0]);
		CHECK(told(0) == before + i && shm_signal_has_news(&north, 3) && !rung(3));
	}
	vbus_bus_inject(&bus, own[0]);
	CHECK(rung(3) == 1);
	CHECK(page.counters.queue[3].coalesced == 3 && page.counters.queue[3].qinject == 1 &&
	      page.counters.queue[3].inject == 4);
	return true;
}

static bool test_one_signal_rings_when_it_is_old_enough_and_then_no_timer_runs(void)
{
	CHECK(open_device(0, 3, 1) && open_device(1, 4, 1));
	CHECK(!is_armed());
	CHECK(route(VBUS_SIGROUTE_COALESCE, 3, 0, 100, VBUS_COALESCE_US));
	CHECK(route(VBUS_SIGROUTE_COALESCE, 4, 0, 100, 1));
	vbus_bus_inject(&bus, own[0]);
	CHECK(!rung(3) && is_armed());
	/* The one timer goes by whoever is due first. */
	vbus_bus_inject(&bus, own[1]);
	CHECK(await_timer() && rung(4) == 1 && bus.flush_us);
	CHECK(await_timer() && rung(3) == 1);
	CHECK(!is_armed() && !bus.flush_us && !page.counters.queue[3].coalesced);
	return true;
}

static bool test_a_change_rings_for_what_was_held(void)
{
	CHECK(open_device(0, 3, 1));
	CHECK(route(VBUS_SIGROUTE_COALESCE, 3, 0, 100, VBUS_COALESCE_US));
	vbus_bus_inject(&bus, own[0]);
	CHECK(!rung(3));
	CHECK(route(VBUS_SIGROUTE_COALESCE, 3, 0, 0, 0) && rung(3) == 1);
	vbus_bus_inject(&bus, own[0]);
	CHECK(rung(3) == 1 && !page.queue[3].coalesce_events);
	return true;
}

static bool test_a_reply_is_never_held_back_and_takes_along_what_is(void)
{
	CHECK(open_device(0, 0, 1));
	CHECK(route(VBUS_SIGROUTE_COALESCE, 0, 0, 100, VBUS_COALESCE_US));
	rung(0);
	vbus_bus_inject(&bus, own[0]);
	vbus_bus_inject(&bus, own[0]);
	CHECK(!rung(0));
	vbus_bus_inject(&bus, VBUS_SIGNAL_BUS);
	CHECK(rung(0) == 1 && page.counters.queue[0].coalesced == 2);
	return true;
}

static bool test_a_negotiate_forgets_what_was_held_and_set(void)
{
	struct vbus_negotiate_request hello = { .version = VBUS_VERSION };
	struct vbus_qreg_request queues = { .count = VECTORS };

	CHECK(open_device(0, 3, 1));
	CHECK(route(VBUS_SIGROUTE_COALESCE, 3, 0, 100, VBUS_COALESCE_US));
	vbus_bus_inject(&bus, own[0]);
	call(VBUS_CALL_NEGOTIATE, &hello, sizeof(hello));
	CHECK(!page.queue[3].coalesce_events && !page.queue[3].signals && !page.queue[3].priority);
	call(VBUS_CALL_QREG, &queues, sizeof(queues));
	CHECK(await_timer() && !rung(3) && !is_armed());
	CHECK(!page.queue[3].coalesce_events && !page.queue[3].priority);
	return true;
}

/* ---- What the next worker finds ---- */

static void next_worker(void)
{
	teardown();
	start_worker();
}

static bool test_a_worker_is_not_awake_at_its_start_though_the_one_before_it_died_so(void)
{
	struct shm_signal_page *south = (void *)(window + VBUS_SIGNALS_SOUTH);
	uint32_t q;

	for (q = 0; q < VBUS_QUEUES; q++)
		vbus_write32(&south->awake[q], 1);
	next_worker();
	for (q = 0; q < VBUS_QUEUES; q++)
		CHECK(!vbus_read32(&south->awake[q]));
	CHECK(vbus_read8(&south->enabled[VBUS_SIGNAL_BUS]) == 1);
	return true;
}

/* The timer that knocks besides is not waited for. */
static bool test_a_worker_rings_at_its_start_when_the_new_epoch_is_there(void)
{
	const struct vbus_host_header *h = (const void *)(window + VBUS_HOST_HEADER);
	uint64_t before = vbus_read64(&h->epoch);

	next_worker();
	CHECK(vbus_read64(&h->epoch) == bus.epoch && bus.epoch != before);
	CHECK(rung(0) == 1);
	return true;
}

static bool test_a_call_that_was_answered_is_not_taken_again_by_the_next_worker(void)
{
	uint64_t calls = page.counters.buscalls;

	CHECK(calls);
	next_worker();
	rounds(4);
	CHECK(page.counters.buscalls == calls && !page.counters.stale);
	return true;
}

static bool test_a_call_that_nobody_answered_is_stale_to_the_next_worker(void)
{
	const struct vbus_call_request *q = (const void *)(window + VBUS_CALLS_NORTH);
	const struct vbus_call_reply *a = (const void *)(window + VBUS_CALLS_SOUTH);
	struct vbus_enumerate_request list = { 0 };

	post(0, VBUS_CALL_ENUMERATE, &list, sizeof(list));
	next_worker();
	rounds(4);
	CHECK(vbus_read32(&a->seq) == vbus_read32(&q->seq));
	CHECK(vbus_read16(&a->status) == VBUS_STATUS_STALE && page.counters.stale == 1);
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_a_signal_of_priority_7_waits_for_no_batch_of_eight_saturated_devices),
	TEST(test_a_signal_of_priority_7_waits_for_one_call_of_sixteen),
	TEST(test_a_storm_of_the_most_urgent_delays_the_others_and_stops_none),
	TEST(test_equals_take_turns_batch_by_batch),
	TEST(test_a_priority_that_is_changed_counts_from_the_next_unit_on),
	TEST(test_what_was_sent_on_the_old_queue_just_before_a_move_is_found),
	TEST(test_a_storm_on_all_signals_costs_a_bounded_scan_and_stops_nobody),
	TEST(test_the_same_signal_a_thousand_times_is_one_event),
	TEST(test_four_signals_are_one_doorbell_and_the_words_do_not_wait),
	TEST(test_one_signal_rings_when_it_is_old_enough_and_then_no_timer_runs),
	TEST(test_a_change_rings_for_what_was_held),
	TEST(test_a_reply_is_never_held_back_and_takes_along_what_is),
	TEST(test_a_negotiate_forgets_what_was_held_and_set),
	TEST(test_a_worker_is_not_awake_at_its_start_though_the_one_before_it_died_so),
	TEST(test_a_worker_rings_at_its_start_when_the_new_epoch_is_there),
	TEST(test_a_call_that_was_answered_is_not_taken_again_by_the_next_worker),
	TEST(test_a_call_that_nobody_answered_is_stale_to_the_next_worker),
};

int main(void)
{
	return TAP_RUN(tests, setup, teardown);
}
