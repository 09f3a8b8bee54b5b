// SPDX-License-Identifier: MIT
/*
 * SIGROUTE against a real worker: what is refused, what may move while frames do, what a storm
 * costs.
 * The numbers in comments are those of the original's weaknesses that a test is about.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "north.h"
#include "tap.h"
#include "vbus_port.h"

#define QUEUES	4u	/* that north_negotiate() registers */

static struct rig rig;
static struct vbus_client north;
static struct vbus_client_net net;

static void setup(void)
{
	struct vbusd_request a = rig_device("venet-loopback", 1),
			     b = rig_device("venet-loopback", 2);

	if (!rig_start(&rig) || !rig_add_bus(&rig) || rig_ask(&rig, &a, NULL) ||
	    rig_ask(&rig, &b, NULL) || !north_open(&north, &rig, 8))
		fprintf(stderr, "# the rig does not stand\n");
}

static void teardown(void)
{
	north_close(&north);
	rig_stop(&rig);
}

static struct vbusd_bus_status status(void)
{
	struct vbusd_bus_status s = { 0 };

	rig_bus_status(&rig, 0, &s);
	return s;
}

static bool open_both_ways(void)
{
	return north_negotiate(&north) && north_net_open(&north, &net, 1);
}

static bool echoes(uint32_t count)
{
	struct north_echo echo = { .count = count };

	return north_echo(&north, &net, 1, &echo) && !echo.recoveries;
}

static int route(struct vbus_sigroute_request q)
{
	return north_call(&north, VBUS_CALL_SIGROUTE, &q, sizeof(q), NULL, 0);
}

static int bind_signal(uint32_t signal, uint32_t queue)
{
	return route((struct vbus_sigroute_request){
		.op = VBUS_SIGROUTE_BIND, .signal = signal, .queue = queue });
}

static int set_priority(uint32_t queue, uint32_t priority)
{
	return route((struct vbus_sigroute_request){
		.op = VBUS_SIGROUTE_PRIORITY, .queue = queue, .priority = priority });
}

static int coalesce(uint32_t queue, uint32_t events, uint32_t us)
{
	return route((struct vbus_sigroute_request){
		.op = VBUS_SIGROUTE_COALESCE, .queue = queue,
		.events = events, .microseconds = us });
}

static int create(uint32_t handle, uint32_t region, uint32_t queue, uint32_t *signal)
{
	struct vbus_sigroute_request q = {
		.op = VBUS_SIGROUTE_CREATE, .handle = handle, .region = region, .queue = queue,
	};
	struct vbus_sigroute_reply a = { 0 };
	int rc = north_call(&north, VBUS_CALL_SIGROUTE, &q, sizeof(q), &a, sizeof(a));

	*signal = a.signal;
	return rc;
}

static int drop(uint32_t signal)
{
	return route((struct vbus_sigroute_request){ .op = VBUS_SIGROUTE_DROP, .signal = signal });
}

/* ---- What is refused ---- */

/* 1: there a negative priority was an index, and so was -1 before a queue was registered. */
static bool test_a_queue_or_a_priority_out_of_range_is_refused_and_counted(void)
{
	static const uint32_t beyond[] = {
		QUEUES, VBUS_QUEUES, 0xff, INT32_MAX, 0x80000000, UINT32_MAX,
	};
	uint64_t before;
	uint32_t i, signal;

	CHECK(open_both_ways());
	before = status().counters.violations;
	for (i = 0; i < 6; i++) {
		CHECK(bind_signal(net.tx_signal, beyond[i]) == VBUS_STATUS_INVALID);
		CHECK(set_priority(beyond[i], 1) == VBUS_STATUS_INVALID);
		CHECK(create(net.handle, VENET_REGION_TX(0), beyond[i], &signal) ==
		      VBUS_STATUS_INVALID);
		CHECK(coalesce(beyond[i], 2, 1) == VBUS_STATUS_INVALID);
		CHECK(set_priority(1, beyond[i] < 8 ? 8 : beyond[i]) == VBUS_STATUS_INVALID);
	}
	CHECK(status().counters.violations == before + 30);
	CHECK(set_priority(1, 7) == VBUS_STATUS_OK && status().queue[1].priority == 7);
	CHECK(echoes(100) && !status().restarts);
	return true;
}

/* 1, the other half. */
static bool test_before_a_queue_is_registered_there_is_none_to_bind_to(void)
{
	struct vbus_negotiate_request hello = { .version = VBUS_VERSION };
	struct vbus_devopen_request open = { .version = VENET_VERSION };
	struct vbus_devopen_reply opened;
	uint32_t signal, queue;

	CHECK(open_both_ways());
	CHECK(!north_call(&north, VBUS_CALL_NEGOTIATE, &hello, sizeof(hello), NULL, 0));
	memset(open.uuid, 1, sizeof(open.uuid));
	CHECK(!north_call(&north, VBUS_CALL_DEVOPEN, &open, sizeof(open), &opened, sizeof(opened)));
	for (queue = 0; queue < 2; queue++) {
		struct vbus_devshm_request share = { .handle = opened.handle, .queue = queue - 1 };

		CHECK(set_priority(queue - 1, 1) == VBUS_STATUS_INVALID);
		CHECK(coalesce(queue - 1, 2, 1) == VBUS_STATUS_INVALID);
		CHECK(create(opened.handle, 0, queue - 1, &signal) == VBUS_STATUS_INVALID);
		CHECK(north_call(&north, VBUS_CALL_DEVSHM, &share, sizeof(share), NULL, 0) ==
		      VBUS_STATUS_INVALID);
	}
	CHECK(open_both_ways() && echoes(100) && !status().restarts);
	return true;
}

/* 2: there the guest said where in the region its signal lies, and nobody compared. */
static bool test_a_signal_out_of_range_is_refused_and_nothing_is_written_for_it(void)
{
	static const uint32_t beyond[] = {
		VBUS_SIGNAL_BUS, VBUS_SIGNALS, VBUS_SIGNALS + 1, INT32_MAX, 0x80000000, UINT32_MAX,
	};
	static uint8_t before[1 << 20];
	struct shm_signal_page *south = (void *)(before + VBUS_SIGNALS_SOUTH);
	const struct shm_signal_page *now = (const void *)(north.base + VBUS_SIGNALS_SOUTH);
	uint32_t i;

	CHECK(open_both_ways());
	/* It has found nothing to send and waits. */
	CHECK(RIG_UNTIL(vbus_read8(&now->enabled[net.tx_signal])));
	memcpy(before, north.base, sizeof(before));
	for (i = 0; i < 6; i++) {
		CHECK(bind_signal(beyond[i], 1) == VBUS_STATUS_INVALID);
		CHECK(drop(beyond[i]) == VBUS_STATUS_INVALID);
	}
	/* But what a call moves: the signal of the bus. */
	south->summary[0] = now->summary[0];
	south->awake[0] = now->awake[0];
	south->sequence[VBUS_SIGNAL_BUS] = now->sequence[VBUS_SIGNAL_BUS];
	CHECK(!memcmp(south, now, sizeof(*south)));
	CHECK(!memcmp(before + VBUS_POOL, north.base + VBUS_POOL, sizeof(before) - VBUS_POOL));
	CHECK(bind_signal(VBUS_SIGNALS - 1, 1) == VBUS_STATUS_NO_ENTRY);
	CHECK(drop(VBUS_SIGNALS - 1) == VBUS_STATUS_NO_ENTRY);
	CHECK(drop(net.tx_signal) == VBUS_STATUS_INVALID);
	CHECK(echoes(100) && !status().restarts);
	return true;
}

static bool test_a_request_that_is_not_one_is_refused(void)
{
	struct vbus_sigroute_request q = { .op = VBUS_SIGROUTE_PRIORITY, .queue = 1 };
	uint32_t op, i;

	CHECK(open_both_ways());
	CHECK(north_call(&north, VBUS_CALL_SIGROUTE, &q, sizeof(q) - 4, NULL, 0) ==
	      VBUS_STATUS_INVALID);
	for (op = VBUS_NR_SIGROUTES; op; op *= 2)
		CHECK(route((struct vbus_sigroute_request){ .op = op }) == VBUS_STATUS_UNSUPPORTED);
	for (i = 0; i < 8; i++) {
		vbus_le32 word[8] = { VBUS_SIGROUTE_PRIORITY, 0, 1 };

		if (i == 0 || i == 2 || i == 3)
			continue;
		/* What the operation does not use. */
		word[i] = 1;
		memcpy(&q, word, sizeof(q));
		CHECK(route(q) == VBUS_STATUS_INVALID);
	}
	CHECK(coalesce(1, VBUS_COALESCE_EVENTS + 1, 1) == VBUS_STATUS_INVALID);
	CHECK(coalesce(1, UINT32_MAX, 1) == VBUS_STATUS_INVALID);
	CHECK(coalesce(1, 2, VBUS_COALESCE_US + 1) == VBUS_STATUS_INVALID);
	CHECK(coalesce(1, 2, UINT32_MAX) == VBUS_STATUS_INVALID);
	/* Held for ever, or for nothing. */
	CHECK(coalesce(1, 2, 0) == VBUS_STATUS_INVALID && coalesce(1, 1, 5) == VBUS_STATUS_INVALID);
	CHECK(coalesce(1, VBUS_COALESCE_EVENTS, VBUS_COALESCE_US) == VBUS_STATUS_OK);
	CHECK(coalesce(1, 1, 0) == VBUS_STATUS_OK && !status().queue[1].coalesce_events);
	return true;
}

/* ---- Moving ---- */

/* What docs/protocol.md has the north do; its rings are looked at by the caller. */
static bool move(uint32_t signal, uint32_t queue)
{
	if (bind_signal(signal, queue))
		return false;
	shm_signal_rebind(&north.signals, signal, queue);
	north_inject(&north, signal);
	return true;
}

static void move_on(struct north_echo *e, void *ctx)
{
	uint32_t *moves = ctx, queue = 1 + *moves % 3;

	(void)e;
	if (!move(*moves % 2 ? net.tx_signal : net.rx_signal, queue))
		fprintf(stderr, "# move %u is refused\n", *moves);
	(*moves)++;
}

static bool test_signals_are_moved_all_the_time_and_every_frame_comes_back(void)
{
	uint32_t moves = 0, q;
	struct north_echo echo = { .count = 60000, .each = move_on, .ctx = &moves };
	struct vbusd_bus_status s;

	CHECK(open_both_ways());
	CHECK(north_echo(&north, &net, 1, &echo) && !echo.recoveries && !echo.duplicates);
	CHECK(moves > 50);
	s = status();
	for (q = 1; q < QUEUES; q++)
		CHECK(s.counters.queue[q].notify && s.counters.queue[q].inject);
	CHECK(s.queue[1].signals + s.queue[2].signals + s.queue[3].signals == 3);
	return true;
}

/* The sender does not know where its signal belongs at the moment; it only injects. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t came;
static bool stop, lost;

static bool one_frame(uint32_t id)
{
	uint64_t end = rig_now_ms() + RIG_DEADLINE_MS;
	struct ioq_buffer done;

	ioq_push(&net.tx, net.tx_buffer, 60, id);
	ioq_push_publish(&net.tx);
	pthread_mutex_lock(&lock);
	north_inject(&north, net.tx_signal);
	pthread_mutex_unlock(&lock);
	while (ioq_pop(&net.rx, &done)) {
		if (rig_now_ms() > end)
			return false;
		sched_yield();
	}
	ioq_push(&net.rx, net.rx_buffer, VBUS_CLIENT_BUFFER, done.id);
	ioq_push_publish(&net.rx);
	while (ioq_pop(&net.tx, &done))
		sched_yield();
	return true;
}

static void *send_one_by_one(void *arg)
{
	uint32_t id = 0;

	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED) && !lost) {
		if (!one_frame(id++ % NORTH_RING))
			__atomic_store_n(&lost, true, __ATOMIC_RELAXED);
		__atomic_fetch_add(&came, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* A frame waits for the one before, a move for three frames: a lost signal ends it all. */
static bool move_while_somebody_sends(uint32_t moves)
{
	uint32_t i, before;

	for (i = 0; i < moves; i++) {
		before = __atomic_load_n(&came, __ATOMIC_RELAXED);
		if (bind_signal(net.tx_signal, 1 + i % 3))
			return false;
		pthread_mutex_lock(&lock);
		shm_signal_rebind(&north.signals, net.tx_signal, 1 + i % 3);
		north_inject(&north, net.tx_signal);
		pthread_mutex_unlock(&lock);
		while (__atomic_load_n(&came, __ATOMIC_RELAXED) - before < 3) {
			if (__atomic_load_n(&lost, __ATOMIC_RELAXED))
				return false;
			sched_yield();
		}
	}
	return true;
}

static bool test_a_move_while_another_thread_sends_loses_no_signal(void)
{
	pthread_t sender;
	bool ok;

	CHECK(open_both_ways());
	/* From here on the rings are polled, but for what goes south. */
	shm_signal_disable(&north.signals, net.rx_signal);
	stop = lost = false;
	came = 0;
	CHECK(!pthread_create(&sender, NULL, send_one_by_one, NULL));
	ok = move_while_somebody_sends(2000);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(sender, NULL);
	CHECK(ok && !lost && came >= 6000);
	return true;
}

static bool test_a_created_signal_tells_the_north_until_it_is_dropped(void)
{
	struct vbusd_bus_status before, s;
	uint32_t signal, other;

	CHECK(open_both_ways());
	CHECK(create(net.handle, VENET_REGION_RX(0), 3, &signal) == VBUS_STATUS_OK);
	CHECK(signal && signal != net.rx_signal && signal != net.tx_signal);
	shm_signal_bind(&north.signals, signal, 3);
	shm_signal_enable(&north.signals, signal);
	before = status();
	CHECK(before.queue[1].signals == 1 && before.queue[3].signals == 1);
	/* It is no way for the north to tell anything, whatever it does. */
	north_inject(&north, signal);
	north_ring(&north, 3);
	CHECK(echoes(500));
	s = status();
	CHECK(s.counters.queue[3].inject > before.counters.queue[3].inject);
	CHECK(s.counters.queue[1].inject == before.counters.queue[1].inject);
	CHECK(s.counters.queue[3].qnotify && !s.counters.queue[3].notify);
	CHECK(create(net.handle, VENET_REGION_RX(0), 3, &other) == VBUS_STATUS_BUSY);
	CHECK(create(net.handle, 77, 3, &other) == VBUS_STATUS_INVALID);
	CHECK(create(net.handle ^ 0x100, VENET_REGION_TX(0), 3, &other) == VBUS_STATUS_NO_ENTRY);
	CHECK(create(0, VENET_REGION_TX(0), 3, &other) == VBUS_STATUS_NO_ENTRY);
	CHECK(drop(signal) == VBUS_STATUS_OK && drop(signal) == VBUS_STATUS_NO_ENTRY);
	shm_signal_unbind(&north.signals, signal);
	CHECK(echoes(500));
	CHECK(status().counters.queue[1].inject > s.counters.queue[1].inject);
	return true;
}

/* 18: there a guest could have as many signals and regions as the host had memory. */
static bool test_signals_are_limited_and_given_back(void)
{
	struct vbus_devclose_request c;
	uint32_t signal, first, i, q, bound = 0;

	CHECK(open_both_ways());
	CHECK(create(net.handle, VENET_REGION_TX(0), 1, &first) == VBUS_STATUS_OK);
	for (i = 0; i < 2 * VBUS_SIGNALS; i++) {
		CHECK(create(net.handle, VENET_REGION_RX(0), i % QUEUES, &signal) == VBUS_STATUS_OK);
		CHECK(create(net.handle, VENET_REGION_RX(0), 0, &q) == VBUS_STATUS_BUSY);
		CHECK(signal < 16 && drop(signal) == VBUS_STATUS_OK);
	}
	for (i = 0; i < VBUS_SIGNALS; i++) {
		c = (struct vbus_devclose_request){ .handle = net.handle };
		CHECK(!north_call(&north, VBUS_CALL_DEVCLOSE, &c, sizeof(c), NULL, 0));
		CHECK(drop(first) == VBUS_STATUS_NO_ENTRY);
		CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
		CHECK(create(net.handle, VENET_REGION_TX(0), 1, &first) == VBUS_STATUS_OK);
	}
	for (q = 0; q < VBUS_QUEUES; q++)
		bound += status().queue[q].signals;
	/* The bus, three regions, and the created one. */
	CHECK(bound == 5 && echoes(100));
	return true;
}

/* One by one, so that each is told of for itself; the doorbells stay where they are. */
static bool frames_come_back_unseen(uint32_t count)
{
	struct ioq_buffer done;
	uint32_t i;

	for (i = 0; i < count; i++) {
		ioq_push(&net.tx, net.tx_buffer, 60, i % NORTH_RING);
		ioq_push_publish(&net.tx);
		north_inject(&north, net.tx_signal);
		if (!RIG_UNTIL(!ioq_pop(&net.rx, &done)) || !RIG_UNTIL(!ioq_pop(&net.tx, &done)))
			return false;
	}
	return true;
}

static bool test_a_bus_that_holds_doorbells_back_echoes_all_the_same(void)
{
	uint64_t saved;

	CHECK(open_both_ways());
	CHECK(coalesce(1, 8, 200) == VBUS_STATUS_OK && coalesce(2, 8, 200) == VBUS_STATUS_OK);
	CHECK(status().queue[2].priority == 5 && status().queue[2].signals == 2);
	CHECK(status().queue[1].coalesce_events == 8 && status().queue[1].coalesce_us == 200);
	/* Here somebody waits for the timer each time. */
	CHECK(echoes(1000));
	CHECK(coalesce(1, 8, VBUS_COALESCE_US) == VBUS_STATUS_OK);
	CHECK(frames_come_back_unseen(32));
	saved = status().counters.queue[1].coalesced;
	CHECK(saved > 0);
	CHECK(coalesce(1, 0, 0) == VBUS_STATUS_OK);
	saved = status().counters.queue[1].coalesced;
	CHECK(frames_come_back_unseen(16) && status().counters.queue[1].coalesced == saved);
	return true;
}

/* ---- Storms ---- */

static uint32_t storms;

/* 17: there two that injected one signal at once broke a list of the host. */
static void *storm(void *arg)
{
	struct shm_signal_page *page = (void *)(north.base + VBUS_SIGNALS_NORTH);
	uint32_t i;

	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		/* The same words from two threads, whatever comes of that. */
		for (i = 8; i < VBUS_SIGNALS; i++)
			vbus_write32(&page->sequence[i], storms);
		for (i = 3; i < 8; i++) {
			vbus_write32(&page->summary[i], storms);
			north_ring(&north, i);
		}
		__atomic_fetch_add(&storms, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static bool test_two_threads_that_storm_the_most_urgent_queue_stop_no_other(void)
{
	struct vbusd_bus_status before, s;
	pthread_t thread[2];
	uint32_t q;
	bool ok;

	CHECK(open_both_ways());
	CHECK(!set_priority(3, 7) && !set_priority(0, 0) && !set_priority(1, 0) &&
	      !set_priority(2, 0));
	before = status();
	stop = false;
	storms = 0;
	CHECK(!pthread_create(&thread[0], NULL, storm, NULL) &&
	      !pthread_create(&thread[1], NULL, storm, NULL));
	ok = RIG_UNTIL(__atomic_load_n(&storms, __ATOMIC_RELAXED) > 10) && echoes(500);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread[0], NULL);
	pthread_join(thread[1], NULL);
	CHECK(ok);
	s = status();
	CHECK(s.counters.queue[3].qnotify > before.counters.queue[3].qnotify);
	for (q = 4; q < 8; q++)
		CHECK(s.counters.queue[q].qnotify > 0 && !s.counters.queue[q].events);
	CHECK(s.counters.ignored > before.counters.ignored && !s.restarts);
	/* Nobody enabled those signals, so none of them was an event. */
	CHECK(s.counters.queue[3].events == before.counters.queue[3].events);
	CHECK(open_both_ways() && echoes(100));
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_a_queue_or_a_priority_out_of_range_is_refused_and_counted),
	TEST(test_before_a_queue_is_registered_there_is_none_to_bind_to),
	TEST(test_a_signal_out_of_range_is_refused_and_nothing_is_written_for_it),
	TEST(test_a_request_that_is_not_one_is_refused),
	TEST(test_signals_are_moved_all_the_time_and_every_frame_comes_back),
	TEST(test_a_move_while_another_thread_sends_loses_no_signal),
	TEST(test_a_created_signal_tells_the_north_until_it_is_dropped),
	TEST(test_signals_are_limited_and_given_back),
	TEST(test_a_bus_that_holds_doorbells_back_echoes_all_the_same),
	TEST(test_two_threads_that_storm_the_most_urgent_queue_stop_no_other),
};

int main(void)
{
	return TAP_RUN(tests, setup, teardown);
}
