// SPDX-License-Identifier: MIT
/*
 * A guest that writes anything anywhere it can: the worker must not die, and must not write where
 * it has no business.  Seeded: VBUS_SEED repeats a run, VBUS_ROUNDS makes it longer.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "north.h"
#include "tap.h"
#include "vbus_port.h"

static struct rig rig;
static struct vbus_client north;
static struct vbus_client_net net;
static uint64_t seed = 1;

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

static uint32_t draw(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16);
}

static uint32_t rounds(uint32_t usual)
{
	const char *word = getenv("VBUS_ROUNDS");

	return word ? (uint32_t)strtoul(word, NULL, 10) : usual;
}

/* Numbers that are wrong in the way that hurts: limits, and values one off. */
static uint64_t nasty(void)
{
	static const uint64_t picks[] = {
		0, 1, 2, 3, 7, 8, 13, 14, 16, 255, 256, 1522, 1523, 2048, 4095, 4096,
		VBUS_POOL, VBUS_POOL - 1, VBUS_SIGNALS_SOUTH, 1 << 20, (1 << 20) - 1,
		(1 << 20) - 4096, UINT32_MAX, UINT32_MAX - 4095, UINT64_MAX, UINT64_MAX - 4095,
		1ull << 63,
	};

	return draw() % 4 ? picks[draw() % (sizeof(picks) / sizeof(picks[0]))] : draw();
}

static void scribble(uint64_t at, uint32_t len, uint32_t words)
{
	while (words--)
		vbus_write32((vbus_le32 *)(north.base + at + (draw() % (len / 4)) * 4),
			     (uint32_t)nasty());
}

/*
 * A request that is right in its head and wrong in its belly, so that it gets past the first judge.
 */
static void post(uint32_t slot)
{
	struct vbus_call_request *q = (void *)(north.base + VBUS_CALLS_NORTH);
	const struct vbus_call_reply *a = (const void *)(north.base + VBUS_CALLS_SOUTH);
	static const uint16_t lens[] = { 0, 4, 8, 16, 24, 40, 224, 225, 65535 };
	uint32_t i;

	q += slot;
	vbus_write16(&q->func, draw() % 10 ? draw() % VBUS_NR_CALLS : draw());
	vbus_write16(&q->len, lens[draw() % 9]);
	vbus_write64(&q->epoch, draw() % 8 ? north_epoch(&north) : nasty());
	vbus_write64(&q->nonce, draw() % 8 ? north.nonce : nasty());
	for (i = 0; i + 8 <= sizeof(q->data); i += 8)
		vbus_write64((vbus_le64 *)(q->data + i), nasty());
	/* Often a handle that exists. */
	if (draw() % 2)
		vbus_write32((vbus_le32 *)q->data, net.handle);
	/* An open that works. */
	if (!(draw() % 4))
		memset(q->data, 1 + draw() % 2, VBUS_UUID_LEN);
	/* A route, with few fields set: those that an operation does not use are judged first. */
	if (!(draw() % 4)) {
		vbus_write16(&q->func, VBUS_CALL_SIGROUTE);
		vbus_write16(&q->len, sizeof(struct vbus_sigroute_request));
		memset(q->data, 0, sizeof(struct vbus_sigroute_request));
		q->data[0] = (uint8_t)(draw() % (VBUS_NR_SIGROUTES + 1));
		for (i = 4; i < sizeof(struct vbus_sigroute_request); i += 4)
			if (!(draw() % 4))
				vbus_write32((vbus_le32 *)(q->data + i),
					     (uint32_t)(draw() % 2 ? draw() % 8 : nasty()));
	}
	vbus_write32(&q->seq, vbus_read32(&a[slot].seq) + 1);
}

static void ring_some(void)
{
	uint32_t i;

	for (i = 0; i < 8; i++)
		if (draw() % 2)
			north_ring(&north, i);
}

static struct vbusd_bus_status status(void)
{
	struct vbusd_bus_status s = { 0 };

	rig_bus_status(&rig, 0, &s);
	return s;
}

static bool still_serves(void)
{
	struct north_echo echo = { .count = 100 };

	return north_negotiate(&north) && north_net_open(&north, &net, 1) &&
	       north_echo(&north, &net, 1, &echo);
}

static bool test_garbage_in_every_north_page_kills_no_worker(void)
{
	uint32_t i, n = rounds(3000);

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	for (i = 0; i < n; i++) {
		switch (draw() % 6) {
		case 0:
			scribble(VBUS_GUEST_HEADER, VBUS_PAGE_SIZE, 8);
			break;
		case 1:
			scribble(VBUS_SIGNALS_NORTH, VBUS_PAGE_SIZE, 64);
			break;
		case 2:
			scribble(VBUS_CALLS_NORTH, VBUS_PAGE_SIZE, 32);
			break;
		case 3:
			scribble(VBUS_POOL, 64 * 1024, 256);
			break;
		default:
			post(draw() % VBUS_CALL_SLOTS);
		}
		ring_some();
		/* Now and then an honest start, so that garbage meets an open device. */
		if (!(i % 50) && north_negotiate(&north))
			north_net_open(&north, &net, 1);
	}
	CHECK(still_serves());
	CHECK(!status().restarts && status().counters.violations > 0);
	return true;
}

/* What was pushed is served, or the card was closed for it: the next session would forget it unseen. */
static bool is_judged(uint64_t violations)
{
	return vbus_read32(&net.tx.south->inuse) == net.tx.valid ||
	       status().counters.violations > violations;
}

static bool test_garbage_on_open_rings_kills_no_worker(void)
{
	uint64_t violations = 0;
	uint32_t i, n = rounds(1500);

	for (i = 0; i < n; i++) {
		if (!(i % 4)) {
			CHECK(!i || RIG_UNTIL(is_judged(violations)));
			CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
			violations = status().counters.violations;
		}
		switch (draw() % 4) {
		case 0:
			scribble((uint64_t)((uint8_t *)net.tx.north - north.base), 128, 1);
			break;
		case 1:
			scribble((uint64_t)((uint8_t *)net.rx.north - north.base),
				 IOQ_PART_SIZE(NORTH_RING), 20);
			break;
		case 2:
			ioq_push(&net.tx, nasty(), (uint32_t)nasty(), draw());
			ioq_push_publish(&net.tx);
			break;
		default:
			ioq_push(&net.rx, nasty(), (uint32_t)nasty(), draw());
			ioq_push_publish(&net.rx);
			ioq_push(&net.tx, net.tx_buffer, 60, draw());
			ioq_push_publish(&net.tx);
		}
		north_inject(&north, net.tx_signal);
		north_inject(&north, net.rx_signal);
		ring_some();
	}
	CHECK(still_serves());
	CHECK(!status().restarts && status().counters.violations > 0);
	return true;
}

static bool test_nothing_is_written_to_a_north_page(void)
{
	static const uint64_t pages[] = { VBUS_GUEST_HEADER, VBUS_CALLS_NORTH, VBUS_SIGNALS_NORTH };
	static uint8_t before[3][VBUS_PAGE_SIZE];
	uint32_t i, k, n = rounds(500);
	uint64_t calls;

	for (i = 0; i < n; i++) {
		if (!(i % 10))
			CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
		calls = status().counters.buscalls;
		for (k = 0; k < VBUS_CALL_SLOTS; k++)
			post(k);
		ioq_push(&net.rx, pages[draw() % 3], VBUS_CLIENT_BUFFER, draw());
		ioq_push_publish(&net.rx);
		ioq_push(&net.tx, net.tx_buffer, 1000, draw());
		ioq_push_publish(&net.tx);
		for (k = 0; k < 3; k++)
			memcpy(before[k], north.base + pages[k], VBUS_PAGE_SIZE);
		for (k = 0; k < 8; k++)
			north_ring(&north, k);
		/* A NEGOTIATE among them makes those that were not read yet nobody's. */
		CHECK(RIG_UNTIL(status().counters.buscalls > calls));
		for (k = 0; k < 3; k++)
			CHECK(!memcmp(before[k], north.base + pages[k], VBUS_PAGE_SIZE));
	}
	CHECK(still_serves() && !status().restarts);
	return true;
}

static bool test_garbage_over_the_south_pages_is_survived_too(void)
{
	uint32_t i, n = rounds(1000);

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	for (i = 0; i < n; i++) {
		scribble(VBUS_HOST_HEADER, VBUS_POOL, 64);
		scribble(VBUS_POOL, 128 * 1024, 256);
		ring_some();
	}
	/* The header is put right as soon as somebody looks. */
	north_ring(&north, 0);
	CHECK(RIG_UNTIL(still_serves()));
	CHECK(!status().restarts && status().counters.foreign > 0);
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_garbage_in_every_north_page_kills_no_worker),
	TEST(test_garbage_on_open_rings_kills_no_worker),
	TEST(test_nothing_is_written_to_a_north_page),
	TEST(test_garbage_over_the_south_pages_is_survived_too),
};

int main(void)
{
	const char *word = getenv("VBUS_SEED");

	if (word && strtoull(word, NULL, 0))
		seed = strtoull(word, NULL, 0);
	fprintf(stderr, "# VBUS_SEED=%#llx\n", (unsigned long long)seed);
	return TAP_RUN(tests, setup, teardown);
}
