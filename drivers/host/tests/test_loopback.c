// SPDX-License-Identifier: MIT
/* A real vbusd and worker against a north without a guest: what a guest relies on. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "north.h"
#include "tap.h"
#include "vbus_port.h"

static struct rig rig;
static struct vbus_client north;
static struct vbus_client_net net;

static void setup(void)
{
	struct vbusd_request dev = rig_device("venet-loopback", 1);

	if (!rig_start(&rig) || !rig_add_bus(&rig) || rig_ask(&rig, &dev, NULL) ||
	    !north_open(&north, &rig, 8))
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

static bool is_confirmed(void)
{
	return status().confirmed;
}

static bool test_a_negotiation_is_seen_on_both_sides(void)
{
	struct vbusd_bus_status s;

	CHECK(!status().negotiated);
	CHECK(north_negotiate(&north));
	CHECK(RIG_UNTIL(is_confirmed()));
	s = status();
	CHECK(s.negotiated && s.epoch == north.epoch && s.nonce == north.nonce);
	CHECK(s.counters.negotiations == 1 && s.counters.bridgecalls == 2 &&
	      s.counters.buscalls == 2);
	return true;
}

static bool test_ten_thousand_frames_come_back_in_order_with_their_contents(void)
{
	struct north_echo echo = { .count = 10000 };
	struct vbusd_device_status d;

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	CHECK(north_echo(&north, &net, 1, &echo));
	CHECK(!echo.duplicates && !echo.recoveries);
	CHECK(rig_device_status(&rig, "b", 0, &d));
	CHECK(d.counters.tx_frames == 10000 && d.counters.rx_frames == 10000 && !d.counters.drops);
	CHECK(d.counters.tx_bytes == d.counters.rx_bytes && d.counters.tx_bytes > 10000 * 60);
	return true;
}

struct killer {
	uint32_t at;
	uint32_t kills;
	uint64_t epochs[8];
};

static void kill_worker(struct north_echo *e, void *ctx)
{
	struct killer *k = ctx;
	struct vbusd_bus_status s;

	if (e->received < k->at || k->kills == 5)
		return;
	s = status();
	if (s.worker <= 0)
		return;
	k->epochs[k->kills++] = s.epoch;
	k->at = e->received + 500;
	kill(s.worker, SIGKILL);
}

static bool test_a_killed_worker_costs_no_frame_and_the_epoch_is_a_new_one_each_time(void)
{
	struct killer killer = { .at = 500 };
	struct north_echo echo = { .count = 4000, .each = kill_worker, .ctx = &killer };
	struct vbusd_bus_status s;
	uint32_t i, k;

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	CHECK(north_echo(&north, &net, 1, &echo));
	CHECK(killer.kills == 5 && echo.recoveries == 5);
	s = status();
	CHECK(s.restarts == 5 && s.counters.negotiations == 6);
	killer.epochs[5] = s.epoch;
	for (i = 0; i < 6; i++)
		for (k = 0; k < i; k++)
			CHECK(killer.epochs[i] && killer.epochs[i] != killer.epochs[k]);
	return true;
}

struct random_killer {
	uint32_t at;
	uint32_t kills;
};

/* Somewhere in each piece of the transfer, when there are frames on their way. */
static void kill_at_random(struct north_echo *e, void *ctx)
{
	struct random_killer *k = ctx;
	struct vbusd_bus_status s;

	if (k->kills == rig_kills() || e->received < k->at || e->sent == e->received)
		return;
	s = status();
	if (s.worker <= 0)
		return;
	k->at = e->received + 100 + (uint32_t)rand() % 200;
	k->kills++;
	usleep((useconds_t)rand() % 300);
	kill(s.worker, SIGKILL);
}

static bool test_workers_killed_at_random_moments_with_frames_in_flight_lose_none(void)
{
	struct random_killer k = { .at = 100 };
	struct north_echo e = { .each = kill_at_random, .ctx = &k };

	srand(1);
	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	/* In pieces, each with a deadline of its own; after many deaths the next worker comes late. */
	for (e.count = 1000; k.kills < rig_kills(); e.count += 1000)
		CHECK(north_echo(&north, &net, 1, &e));
	e.count += 1000;
	CHECK(north_echo(&north, &net, 1, &e) && e.received == e.count);
	fprintf(stderr, "# %u workers lost, %u frames sent again\n", k.kills, e.replays);
	CHECK(e.recoveries == k.kills && status().restarts == k.kills);
	CHECK(e.replays >= k.kills);
	return true;
}

static bool test_a_call_of_an_older_epoch_is_answered_stale(void)
{
	struct vbus_enumerate_reply list;
	pid_t before = status().worker;

	CHECK(north_negotiate(&north));
	CHECK(north_enumerate(&north, &list) == VBUS_STATUS_OK && list.total == 1);
	kill(before, SIGKILL);
	CHECK(RIG_UNTIL(north_epoch(&north) != north.epoch));
	CHECK(north_enumerate(&north, &list) == VBUS_STATUS_STALE);
	CHECK(status().counters.stale == 1);
	return true;
}

static bool test_a_call_that_names_another_epoch_is_answered_stale_whatever_its_nonce(void)
{
	struct vbus_negotiate_request hello = { .version = VBUS_VERSION };
	struct vbus_enumerate_reply list;

	CHECK(north_negotiate(&north));
	north.epoch ^= 1;
	CHECK(north_enumerate(&north, &list) == VBUS_STATUS_STALE);
	CHECK(north_call(&north, VBUS_CALL_NEGOTIATE, &hello, sizeof(hello), NULL, 0) ==
	      VBUS_STATUS_STALE);
	CHECK(status().counters.negotiations == 1 && status().counters.stale == 2);
	north.epoch ^= 1;
	CHECK(north_enumerate(&north, &list) == VBUS_STATUS_OK);
	return true;
}

static bool test_a_call_of_another_nonce_is_answered_stale(void)
{
	struct vbus_enumerate_reply list;

	CHECK(north_negotiate(&north));
	north.nonce ^= 1;
	CHECK(north_enumerate(&north, &list) == VBUS_STATUS_STALE);
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_a_negotiation_is_seen_on_both_sides),
	TEST(test_ten_thousand_frames_come_back_in_order_with_their_contents),
	TEST(test_a_killed_worker_costs_no_frame_and_the_epoch_is_a_new_one_each_time),
	TEST(test_workers_killed_at_random_moments_with_frames_in_flight_lose_none),
	TEST(test_a_call_of_an_older_epoch_is_answered_stale),
	TEST(test_a_call_that_names_another_epoch_is_answered_stale_whatever_its_nonce),
	TEST(test_a_call_of_another_nonce_is_answered_stale),
};

int main(void)
{
	return TAP_RUN(tests, setup, teardown);
}
