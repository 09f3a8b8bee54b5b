// SPDX-License-Identifier: MIT
/*
 * What a guest could do to the original's host, where no other test tries it here;
 * docs/defects.md lists all of it.  Numbers in comments are those of its table.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>

#include "north.h"
#include "tap.h"
#include "vbus_port.h"

/* Between the last page of a side and the pool: nobody ever writes there. */
#define NOBODYS		(VBUS_SIGNALS_SOUTH + VBUS_PAGE_SIZE)
#define CANARY		0xa5

static struct rig rig;
static struct vbus_client north;
static struct vbus_client_net net;
static bool stop;

static void setup(void)
{
	struct vbusd_request a = rig_device("venet-loopback", 1),
			     b = rig_device("venet-loopback", 2);

	if (!rig_start(&rig) || !rig_add_bus(&rig) || rig_ask(&rig, &a, NULL) ||
	    rig_ask(&rig, &b, NULL) || !north_open(&north, &rig, 8) ||
	    !RIG_UNTIL(vbus_client_generation(&north) == 3))
		fprintf(stderr, "# the rig does not stand\n");
}

static void teardown(void)
{
	north_close(&north);
	rig_stop(&rig);
}

static struct vbusd_bus_status status(void)
{
	struct vbusd_bus_status s = { .restarts = 99 };

	rig_bus_status(&rig, 0, &s);
	return s;
}

static struct vbusd_device_status device(uint32_t index)
{
	struct vbusd_device_status s = { 0 };

	rig_device_status(&rig, "b", index, &s);
	return s;
}

static int open_device(uint8_t number, uint32_t *handle)
{
	uint8_t uuid[VBUS_UUID_LEN];

	memset(uuid, number, sizeof(uuid));
	return vbus_client_dev_open(&north, uuid, VENET_VERSION, handle, NULL);
}

static int close_device(uint32_t handle)
{
	struct vbus_devclose_request q = { .handle = handle };

	return north_call(&north, VBUS_CALL_DEVCLOSE, &q, sizeof(q), NULL, 0);
}

static bool still_serves(void)
{
	struct north_echo echo = { .count = 100 };

	return north_negotiate(&north) && north_net_open(&north, &net, 1) &&
	       north_echo(&north, &net, 1, &echo) && !echo.recoveries && !status().restarts;
}

/* ---- Queues ---- */

static int registers(uint32_t count, uint32_t queue, uint8_t priority)
{
	const struct vbus_qreg_request good = north.queues;
	int rc;

	north.queues.count = count;
	north.queues.priority[queue] = priority;
	rc = vbus_client_negotiate(&north);
	north.queues = good;
	return rc;
}

/* 1: there a priority was a signed index, and so was a queue that nobody had registered. */
static bool test_queues_that_cannot_be_are_not_registered(void)
{
	CHECK(registers(0, 0, 0) == VBUS_STATUS_INVALID);
	CHECK(registers(9, 0, 0) == VBUS_STATUS_INVALID);
	CHECK(registers(VBUS_QUEUES + 1, 0, 0) == VBUS_STATUS_INVALID);
	CHECK(registers(UINT32_MAX, 0, 0) == VBUS_STATUS_INVALID);
	CHECK(registers(4, 0, VBUS_PRIORITY_MAX + 1) == VBUS_STATUS_INVALID);
	CHECK(registers(4, 3, 255) == VBUS_STATUS_INVALID);
	/* Of queues that are not asked for nothing is said. */
	CHECK(!registers(4, 4, 255) && status().queue[3].priority <= VBUS_PRIORITY_MAX);
	CHECK(!registers(8, 7, VBUS_PRIORITY_MAX));
	CHECK(status().queue[7].priority == VBUS_PRIORITY_MAX);
	return still_serves();
}

/* ---- Handles ---- */

static int query_mac(uint32_t handle)
{
	return north_devcall(&north, handle, VENET_FUNC_MACQUERY, "", 0, NULL, 0);
}

/* 12: there a handle was an address of the host, and 32 of its 64 bits were compared. */
static bool test_a_handle_tells_nothing_and_no_other_number_is_taken_for_it(void)
{
	uint32_t handle, bit;

	CHECK(north_negotiate(&north) && !open_device(1, &handle));
	CHECK((handle & 0xff) < VBUSD_DEVICES && handle >> 8 == 1 && !query_mac(handle));
	for (bit = 0; bit < 32; bit++)
		CHECK(query_mac(handle ^ 1u << bit) == VBUS_STATUS_NO_ENTRY);
	CHECK(!query_mac(handle));
	return true;
}

static bool test_a_handle_of_another_generation_is_nobodys(void)
{
	uint32_t first, last, handle, i;

	CHECK(north_negotiate(&north) && !open_device(1, &first));
	last = first;
	/* More generations than a byte counts. */
	for (i = 0; i < 300; i++) {
		CHECK(!close_device(last) && !open_device(1, &handle) && handle != first);
		CHECK(query_mac(last) == VBUS_STATUS_NO_ENTRY);
		CHECK(query_mac(first) == VBUS_STATUS_NO_ENTRY);
		CHECK(close_device(last) == VBUS_STATUS_NO_ENTRY && !query_mac(handle));
		last = handle;
	}
	return true;
}

/* ---- Regions ---- */

static int share(uint32_t handle, uint32_t region, uint64_t at, uint64_t south, uint32_t *signal)
{
	const uint32_t len = IOQ_PART_SIZE(4);

	return north_share(&north, handle, region, at, south, len, len, signal);
}

static struct ioq_north *ring_at(uint64_t at)
{
	struct ioq ring;

	ioq_north_init(&ring, (void *)(north.base + at), NULL, 4);
	return (void *)(north.base + at);
}

/* 11: there an IOQ of no descriptors was taken, and one that was refused left its memory behind. */
static bool test_a_region_that_is_refused_leaves_no_signal_behind(void)
{
	const uint64_t at = VBUS_POOL, south = at + VBUS_PAGE_SIZE;
	uint32_t handle, signal, i;
	struct ioq_north *ring;

	CHECK(north_negotiate(&north) && !open_device(1, &handle));
	ring = ring_at(at);
	vbus_write32(&ring->count, 0);
	CHECK(north_share(&north, handle, VENET_REGION_TX(0), at, south, IOQ_PART_SIZE(0),
			  IOQ_PART_SIZE(0), &signal) == VBUS_STATUS_INVALID);
	for (i = 0; i < VBUS_SIGNALS + 1; i++)
		CHECK(share(handle, VENET_REGION_TX(0), at, south, &signal) == VBUS_STATUS_INVALID);
	vbus_write32(&ring->count, 4);
	CHECK(!share(handle, VENET_REGION_TX(0), at, south, &signal) && signal == 1);
	CHECK(!status().restarts);
	return true;
}

static bool test_a_page_has_one_device_and_one_side(void)
{
	const uint64_t a = VBUS_POOL, b = a + VBUS_PAGE_SIZE, c = b + VBUS_PAGE_SIZE;
	uint32_t one, two, signal;

	CHECK(north_negotiate(&north) && !open_device(1, &one) && !open_device(2, &two));
	ring_at(a);
	ring_at(b);
	ring_at(c);
	CHECK(share(one, VENET_REGION_TX(0), a, a, &signal) == VBUS_STATUS_INVALID);
	CHECK(!share(one, VENET_REGION_TX(0), a, b, &signal));
	CHECK(share(one, VENET_REGION_RX(0), a, c, &signal) == VBUS_STATUS_INVALID);
	CHECK(share(one, VENET_REGION_RX(0), c, a, &signal) == VBUS_STATUS_INVALID);
	CHECK(share(two, VENET_REGION_TX(0), a, c, &signal) == VBUS_STATUS_INVALID);
	CHECK(share(two, VENET_REGION_TX(0), c, b, &signal) == VBUS_STATUS_INVALID);
	CHECK(share(two, VENET_REGION_TX(0), b, c, &signal) == VBUS_STATUS_INVALID);
	CHECK(!close_device(one));
	ring_at(b);
	CHECK(!share(two, VENET_REGION_TX(0), b, a, &signal));
	return true;
}

/* ---- What a device is told without having what it needs ---- */

static bool share_rings(uint32_t handle)
{
	uint32_t len = IOQ_PART_SIZE(NORTH_RING);
	uint64_t rx[2] = { north_alloc(&north, len), north_alloc(&north, len) };
	uint64_t tx[2] = { north_alloc(&north, len), north_alloc(&north, len) };

	ioq_north_init(&net.rx, (void *)(north.base + rx[0]), (void *)(north.base + rx[1]),
		       NORTH_RING);
	ioq_north_init(&net.tx, (void *)(north.base + tx[0]), (void *)(north.base + tx[1]),
		       NORTH_RING);
	return !north_share(&north, handle, VENET_REGION_RX(0), rx[0], rx[1], len, len,
			    &net.rx_signal) &&
	       !north_share(&north, handle, VENET_REGION_TX(0), tx[0], tx[1], len, len,
			    &net.tx_signal);
}

/* 8: there LINKUP killed a host when the queue of link events was negotiated and never shared. */
static bool test_a_link_changes_though_the_region_that_tells_of_it_was_never_shared(void)
{
	struct vbusd_request q = rig_device("", 1);
	struct ioq_buffer done;
	uint32_t handle, active;

	CHECK(north_negotiate(&north) && !open_device(1, &handle));
	CHECK(!vbus_client_dev_features(&north, handle, VENET_GROUP_EVENTQ,
					VENET_EVENTQ_LINKSTATE, &active) && active);
	CHECK(share_rings(handle));
	CHECK(!north_link_up(&north, handle, 1));
	q.op = VBUSD_LINK;
	q.flags = VBUSD_LINK_DOWN;
	CHECK(rig_ask(&rig, &q, NULL) == VBUSD_OK);
	q.flags = 0;
	CHECK(rig_ask(&rig, &q, NULL) == VBUSD_OK);
	/* A call is answered after both of them were acted upon, or at least the first. */
	CHECK(!query_mac(handle));
	ioq_push(&net.tx, north_alloc(&north, 60), 60, 1);
	ioq_push_publish(&net.tx);
	north_inject(&north, net.tx_signal);
	CHECK(RIG_UNTIL(!ioq_pop(&net.tx, &done)) && !status().restarts);
	return still_serves();
}

/* 14: there a bridge call before the connection was made followed a pointer that was not set. */
static bool test_a_call_before_any_negotiate_is_stale(void)
{
	struct vbus_negotiate_request hello = { .version = VBUS_VERSION };
	uint8_t data[VBUS_CALL_DATA] = { 0 };
	uint32_t func;

	/* The nonce that the worker begins with, should it begin with any. */
	north.epoch = north_epoch(&north);
	north.nonce = 0;
	for (func = VBUS_CALL_QREG; func < VBUS_NR_CALLS; func++)
		CHECK(vbus_client_call_raw(&north, func, data, sizeof(data), NULL) ==
		      VBUS_STATUS_STALE);
	/* A version that there is not begins nothing either. */
	hello.version = 77;
	CHECK(vbus_client_call_raw(&north, VBUS_CALL_NEGOTIATE, &hello, sizeof(hello), NULL) ==
	      VBUS_STATUS_VERSION);
	CHECK(vbus_client_call_raw(&north, VBUS_CALL_ENUMERATE, data, 8, NULL) ==
	      VBUS_STATUS_STALE);
	CHECK(!status().negotiated);
	return still_serves();
}

/* 10: there a packet was freed twice, or used after it was given away, when a buffer was bad. */
static bool test_the_frame_that_met_a_bad_buffer_is_gone_with_its_session(void)
{
	uint8_t frame[60] = "the frame of the session before", got[VBUS_CLIENT_FRAME];
	uint32_t len = 0;

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	vbus_write64(&net.rx.north->ring[0].addr, NOBODYS);
	CHECK(!vbus_client_net_send(&net, frame, sizeof(frame), false));
	CHECK(RIG_UNTIL(device(0).counters.violations == 1));
	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	frame[0] = 'T';
	CHECK(!vbus_client_net_send(&net, frame, sizeof(frame), false));
	CHECK(RIG_UNTIL(!vbus_client_net_receive(&net, got, &len)));
	CHECK(len == sizeof(frame) && !memcmp(got, frame, len));
	return still_serves();
}

/* ---- Double fetch: another thread changes what the worker judges ---- */

static bool run_beside(void *(*fn)(void *), bool (*main_part)(void))
{
	pthread_t thread;
	bool ok;

	stop = false;
	if (pthread_create(&thread, NULL, fn, NULL))
		return false;
	ok = main_part();
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	return ok;
}

static bool goes_on(void)
{
	return !__atomic_load_n(&stop, __ATOMIC_RELAXED);
}

static struct vbus_call_request *request(uint32_t slot)
{
	return (struct vbus_call_request *)(north.base + VBUS_CALLS_NORTH) + slot;
}

static const struct vbus_call_reply *reply(uint32_t slot)
{
	return (const struct vbus_call_reply *)(north.base + VBUS_CALLS_SOUTH) + slot;
}

/* Each word as long right as wrong, so that a second look often finds what the first did not. */
static void *flip_calls(void *arg)
{
	static const uint16_t func[] = { VBUS_CALL_ENUMERATE, 40000, VBUS_CALL_DEVCALL, 40000 };
	static const uint16_t len[] = { 8, 8, 65535, 65535 };
	uint32_t turn, slot;

	(void)arg;
	for (turn = 0; goes_on(); turn++)
		for (slot = 0; slot < VBUS_CALL_SLOTS; slot++) {
			vbus_write16(&request(slot)->func, func[turn % 4]);
			vbus_write16(&request(slot)->len, len[turn / 2 % 4]);
		}
	return NULL;
}

static bool are_answered(void)
{
	uint32_t slot;

	for (slot = 0; slot < VBUS_CALL_SLOTS; slot++)
		if (vbus_read32(&reply(slot)->seq) != vbus_read32(&request(slot)->seq))
			return false;
	return true;
}

/* An answer is one to a call of some function and some length, each of which stood there. */
static bool is_whole(const struct vbus_call_reply *a)
{
	uint16_t len = vbus_read16(&a->len);

	switch (vbus_read16(&a->status)) {
	case VBUS_STATUS_OK:
		return len == sizeof(struct vbus_enumerate_reply);
	case VBUS_STATUS_INVALID:
	case VBUS_STATUS_NO_ENTRY:
	case VBUS_STATUS_UNSUPPORTED:
		return !len;
	default:
		return false;
	}
}

static bool post_all_slots(void)
{
	uint32_t round, slot;

	for (round = 0; round < 2000; round++) {
		for (slot = 0; slot < VBUS_CALL_SLOTS; slot++)
			vbus_write32(&request(slot)->seq, vbus_read32(&reply(slot)->seq) + 1);
		north_ring(&north, 0);
		CHECK(RIG_UNTIL(are_answered()));
		for (slot = 0; slot < VBUS_CALL_SLOTS; slot++)
			CHECK(is_whole(reply(slot)));
	}
	return true;
}

/* 3: there number and length of a call were looked at, and then read again to be used. */
static bool test_a_call_that_changes_while_it_is_judged_is_one_call_or_the_other(void)
{
	uint32_t slot;

	CHECK(north_negotiate(&north));
	for (slot = 0; slot < VBUS_CALL_SLOTS; slot++) {
		vbus_write64(&request(slot)->epoch, north.epoch);
		vbus_write64(&request(slot)->nonce, north.nonce);
		vbus_write16(&request(slot)->func, VBUS_CALL_ENUMERATE);
		vbus_write16(&request(slot)->len, 8);
		memset(request(slot)->data, 0, sizeof(request(slot)->data));
	}
	CHECK(run_beside(flip_calls, post_all_slots));
	CHECK(status().counters.violations > 0);
	return still_serves();
}

/* More often right than wrong: a device that is closed judges nothing. */
static void *flip_descriptors(void *arg)
{
	struct ioq_desc *desc;
	uint32_t turn, i;

	(void)arg;
	for (turn = 0; goes_on(); turn++)
		for (i = 0; i < 8; i++) {
			desc = &net.rx.north->ring[i];
			vbus_write64(&desc->addr, turn % 3 ? net.rx_buffer : NOBODYS);
			vbus_write32(&desc->len, turn / 3 % 8 ? VBUS_CLIENT_BUFFER : UINT32_MAX);
		}
	return NULL;
}

static bool is_untouched(void)
{
	uint64_t at;

	for (at = NOBODYS; at < VBUS_POOL; at++)
		if (north.base[at] != CANARY)
			return false;
	return true;
}

static bool send_until_it_is_closed(void)
{
	uint64_t before = device(0).counters.violations;
	uint8_t frame[VBUS_CLIENT_FRAME] = { 1 };
	uint32_t i;

	for (i = 0; i < NORTH_RING; i++)
		if (vbus_client_net_send(&net, frame, sizeof(frame), i + 1 < NORTH_RING))
			return false;
	return RIG_UNTIL(device(0).counters.violations > before ||
			 net.tx.south->inuse == NORTH_RING);
}

/* 7: there a descriptor was judged and then used in place, in the guest's own memory. */
static bool test_a_descriptor_that_changes_while_it_is_judged_leads_nowhere_else(void)
{
	uint32_t i;

	for (i = 0; i < 200; i++) {
		CHECK(north_negotiate(&north));
		memset(north.base + NOBODYS, CANARY, VBUS_POOL - NOBODYS);
		CHECK(north_net_open(&north, &net, 1));
		CHECK(run_beside(flip_descriptors, send_until_it_is_closed));
		CHECK(is_untouched());
	}
	/* Both kinds were met. */
	CHECK(device(0).counters.violations > 0 && device(0).counters.rx_frames > 0);
	return still_serves();
}

/* ---- Calls while their device goes ---- */

/* The last that was given out. */
static uint32_t handle_now;

static uint32_t draw(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

/* Calls of all kinds about a device that may be there or not, in every slot, without a pause. */
static void post_something(uint32_t slot, uint32_t *seed)
{
	static const uint16_t funcs[] = {
		VBUS_CALL_DEVOPEN, VBUS_CALL_DEVCLOSE, VBUS_CALL_DEVCALL, VBUS_CALL_DEVSHM,
		VBUS_CALL_SIGROUTE, VBUS_CALL_QREG,
	};
	static const uint16_t lens[VBUS_NR_CALLS] = {
		[VBUS_CALL_NEGOTIATE] = sizeof(struct vbus_negotiate_request),
		[VBUS_CALL_QREG] = sizeof(struct vbus_qreg_request),
		[VBUS_CALL_DEVOPEN] = sizeof(struct vbus_devopen_request),
		[VBUS_CALL_DEVCLOSE] = sizeof(struct vbus_devclose_request),
		[VBUS_CALL_DEVCALL] = 16,
		[VBUS_CALL_DEVSHM] = sizeof(struct vbus_devshm_request),
		[VBUS_CALL_SIGROUTE] = sizeof(struct vbus_sigroute_request),
	};
	struct vbus_call_request *q = request(slot);
	struct vbus_devopen_request open = { .version = VENET_VERSION };
	struct vbus_devshm_request shm = { .region = draw(seed) % 2 };
	struct vbus_sigroute_request bind = { .signal = 1 + draw(seed) % 4, .queue = 1 };
	struct vbus_devcall_request call = { .func = draw(seed) % 4 };
	struct vbus_negotiate_request hello = { .version = VBUS_VERSION };
	struct vbus_qreg_request queues = { .count = 4 };
	uint16_t func = draw(seed) % 50 ? funcs[draw(seed) % 6] : VBUS_CALL_NEGOTIATE;

	/* Or one of the next. */
	shm.handle = call.handle = handle_now + (draw(seed) % 4 << 8);
	shm.north = VBUS_POOL + 2 * VBUS_PAGE_SIZE * shm.region;
	shm.south = shm.north + VBUS_PAGE_SIZE;
	shm.north_len = shm.south_len = IOQ_PART_SIZE(4);
	memset(open.uuid, 1, sizeof(open.uuid));
	switch (func) {
	case VBUS_CALL_NEGOTIATE:
		memcpy(q->data, &hello, sizeof(hello));
		break;
	case VBUS_CALL_QREG:
		memcpy(q->data, &queues, sizeof(queues));
		break;
	case VBUS_CALL_DEVOPEN:
		memcpy(q->data, &open, sizeof(open));
		break;
	case VBUS_CALL_DEVSHM:
		memcpy(q->data, &shm, sizeof(shm));
		break;
	case VBUS_CALL_SIGROUTE:
		memcpy(q->data, &bind, sizeof(bind));
		break;
	default:
		memcpy(q->data, &call, sizeof(call));
	}
	vbus_write16(&q->func, func);
	vbus_write16(&q->len, lens[func]);
	vbus_wmb();
	vbus_write32(&q->seq, vbus_read32(&q->seq) + 1);
}

static void *post_on(void *arg)
{
	uint32_t seed = 1, slot;

	(void)arg;
	while (goes_on()) {
		for (slot = 0; slot < VBUS_CALL_SLOTS; slot++)
			post_something(slot, &seed);
		for (slot = 0; slot < VBUS_CALL_SLOTS; slot++)
			if (vbus_read16(&reply(slot)->len) == sizeof(struct vbus_devopen_reply) &&
			    !(reply(slot)->data[0]))
				memcpy(&handle_now, reply(slot)->data, sizeof(handle_now));
		north_ring(&north, 0);
	}
	return NULL;
}

static bool remove_and_add(void)
{
	struct vbusd_request gone = rig_device("", 1), dev = rig_device("venet-loopback", 1);
	uint64_t calls;
	uint32_t i;

	gone.op = VBUSD_DEVICE_REMOVE;
	for (i = 0; i < 200; i++) {
		calls = status().counters.buscalls;
		CHECK(rig_ask(&rig, &gone, NULL) == VBUSD_OK);
		CHECK(RIG_UNTIL(status().counters.buscalls > calls + VBUS_CALL_SLOTS));
		CHECK(rig_ask(&rig, &dev, NULL) == VBUSD_OK);
		CHECK(RIG_UNTIL(status().counters.buscalls > calls + 4 * VBUS_CALL_SLOTS));
	}
	return true;
}

/* 33: there remove was never tried; what it pulled down was somebody else's. */
static bool test_calls_about_a_device_that_is_closed_and_removed_meanwhile_harm_nobody(void)
{
	struct vbus_enumerate_reply list;
	uint64_t bound = 0;
	uint32_t slot, q;

	CHECK(north_negotiate(&north) && !open_device(1, &handle_now));
	for (slot = 0; slot < VBUS_CALL_SLOTS; slot++) {
		vbus_write64(&request(slot)->epoch, north.epoch);
		vbus_write64(&request(slot)->nonce, north.nonce);
		ring_at(VBUS_POOL + slot * VBUS_PAGE_SIZE);
	}
	CHECK(run_beside(post_on, remove_and_add));
	CHECK(!status().restarts);
	/* A NEGOTIATE of theirs that is served now takes ours for one of the past. */
	north.timeout_ms = 500;
	CHECK(RIG_UNTIL(north_negotiate(&north)));
	north.timeout_ms = RIG_DEADLINE_MS;
	CHECK(RIG_UNTIL(!north_enumerate(&north, &list) && list.total == 2));
	CHECK(still_serves() && north_negotiate(&north));
	/* Nothing of it all is left but the bus's own signal. */
	for (q = 0; q < VBUS_QUEUES; q++)
		bound += status().queue[q].signals;
	CHECK(bound == 1);
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_queues_that_cannot_be_are_not_registered),
	TEST(test_a_handle_tells_nothing_and_no_other_number_is_taken_for_it),
	TEST(test_a_handle_of_another_generation_is_nobodys),
	TEST(test_a_region_that_is_refused_leaves_no_signal_behind),
	TEST(test_a_page_has_one_device_and_one_side),
	TEST(test_a_link_changes_though_the_region_that_tells_of_it_was_never_shared),
	TEST(test_a_call_before_any_negotiate_is_stale),
	TEST(test_the_frame_that_met_a_bad_buffer_is_gone_with_its_session),
	TEST(test_a_call_that_changes_while_it_is_judged_is_one_call_or_the_other),
	TEST(test_a_descriptor_that_changes_while_it_is_judged_leads_nowhere_else),
	TEST(test_calls_about_a_device_that_is_closed_and_removed_meanwhile_harm_nobody),
};

int main(void)
{
	return TAP_RUN(tests, setup, teardown);
}
