// SPDX-License-Identifier: MIT
/* The client library against a south that lies: a worker that stands still, and words of ours. */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>

#include "north.h"
#include "tap.h"
#include "vbus_port.h"

static struct rig rig;
static struct vbus_client north;
static struct vbus_client_net net;
static pid_t worker;
static uint8_t frame[VBUS_CLIENT_FRAME];

static void setup(void)
{
	struct vbusd_request dev = rig_device("venet-loopback", 1);
	struct vbusd_bus_status s = { 0 };

	if (!rig_start(&rig) || !rig_add_bus(&rig) || rig_ask(&rig, &dev, NULL) ||
	    !north_open(&north, &rig, 8) || !north_negotiate(&north) ||
	    !north_net_open(&north, &net, 1) || !rig_bus_status(&rig, 0, &s) || s.worker <= 0)
		fprintf(stderr, "# the rig does not stand\n");
	worker = s.worker;
	if (worker > 0)
		kill(worker, SIGSTOP);
}

static void teardown(void)
{
	if (worker > 0)
		kill(worker, SIGCONT);
	north_close(&north);
	rig_stop(&rig);
}

/* As the host would give a buffer back. */
static void complete(struct ioq *ring, uint32_t slot, uint32_t id, uint32_t len)
{
	vbus_write32(&ring->south->ring[slot].id, id);
	vbus_write32(&ring->south->ring[slot].len, len);
	vbus_write32(&ring->south->ring[slot].status, 0);
	vbus_write32(&ring->south->inuse, slot + 1);
}

static int receive_in(uint32_t buffers, uint32_t id, uint32_t len)
{
	uint64_t at = net.rx_buffer + id % NORTH_RING * VBUS_CLIENT_BUFFER;
	struct venet_header *head = (void *)(north.base + at);

	vbus_write16(&head->buffers, (uint16_t)buffers);
	complete(&net.rx, 0, id, VBUS_CLIENT_HEADER + len);
	return vbus_client_net_receive(&net, frame, &len);
}

static int receive_with(uint32_t id, uint32_t len)
{
	return receive_in(1, id, len);
}

static bool test_an_honest_completion_is_taken(void)
{
	CHECK(receive_with(63, 60) == 0);
	return true;
}

static bool test_an_id_that_nobody_has_is_a_lie(void)
{
	CHECK(receive_with(64, 60) == VBUS_CLIENT_CORRUPT);
	return true;
}

static bool test_a_frame_longer_than_its_buffer_may_hold_is_a_lie(void)
{
	CHECK(receive_with(0, VBUS_CLIENT_FRAME + 1) == VBUS_CLIENT_CORRUPT);
	return true;
}

static bool test_a_frame_in_no_buffer_is_a_lie(void)
{
	CHECK(receive_in(0, 63, 60) == VBUS_CLIENT_CORRUPT);
	return true;
}

static bool test_a_frame_in_several_buffers_that_nobody_asked_for_is_a_lie(void)
{
	CHECK(receive_in(2, 63, VBUS_CLIENT_BUFFER - VBUS_CLIENT_HEADER) == VBUS_CLIENT_CORRUPT);
	return true;
}

static bool test_an_index_that_runs_ahead_is_a_lie(void)
{
	uint32_t len;

	vbus_write32(&net.rx.south->inuse, VBUS_CLIENT_RING + 1);
	CHECK(vbus_client_net_receive(&net, frame, &len) == VBUS_CLIENT_CORRUPT);
	return true;
}

static bool test_a_buffer_that_was_never_sent_cannot_come_back(void)
{
	CHECK(!vbus_client_net_send(&net, frame, 60, false));
	complete(&net.tx, 0, 5, 0);
	CHECK(vbus_client_net_send(&net, frame, 60, false) == VBUS_CLIENT_CORRUPT);
	return true;
}

static bool test_a_full_ring_says_again_and_a_call_says_silent(void)
{
	uint32_t i;

	for (i = 0; i < VBUS_CLIENT_RING; i++)
		CHECK(!vbus_client_net_send(&net, frame, 60, true));
	CHECK(vbus_client_net_send(&net, frame, 60, false) == VBUS_CLIENT_AGAIN);
	CHECK(vbus_read32(&net.tx.north->valid) == VBUS_CLIENT_RING);
	north.timeout_ms = 50;
	CHECK(vbus_client_negotiate(&north) == VBUS_CLIENT_SILENT);
	return true;
}

static bool test_what_was_read_under_another_epoch_is_not_believed(void)
{
	struct vbus_host_header *h = (void *)north.base;
	uint32_t len = 60;

	complete(&net.rx, 0, 0, len);
	vbus_write64(&h->epoch, north.epoch ^ 1);
	CHECK(vbus_client_net_receive(&net, frame, &len) == VBUS_STATUS_STALE);
	CHECK(vbus_client_net_send(&net, frame, 60, false) == VBUS_STATUS_STALE);
	CHECK(vbus_client_wait(&north, 0) == VBUS_STATUS_STALE);
	return true;
}

static bool test_pages_that_were_given_back_are_given_out_again(void)
{
	uint64_t a = vbus_client_alloc(&north, 1), b = vbus_client_alloc(&north, 5000);

	CHECK(a && b == a + VBUS_PAGE_SIZE);
	vbus_client_free(&north, a, 1);
	CHECK(vbus_client_alloc(&north, 8192) == b + 2 * VBUS_PAGE_SIZE);
	CHECK(vbus_client_alloc(&north, VBUS_PAGE_SIZE) == a);
	CHECK(!vbus_client_alloc(&north, UINT64_MAX) && !vbus_client_alloc(&north, 0));
	/* Neither headers nor what lies beyond are anybody's to free. */
	vbus_client_free(&north, 0, VBUS_PAGE_SIZE);
	vbus_client_free(&north, north.size, VBUS_PAGE_SIZE);
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_an_honest_completion_is_taken),
	TEST(test_an_id_that_nobody_has_is_a_lie),
	TEST(test_a_frame_longer_than_its_buffer_may_hold_is_a_lie),
	TEST(test_a_frame_in_no_buffer_is_a_lie),
	TEST(test_a_frame_in_several_buffers_that_nobody_asked_for_is_a_lie),
	TEST(test_an_index_that_runs_ahead_is_a_lie),
	TEST(test_a_buffer_that_was_never_sent_cannot_come_back),
	TEST(test_a_full_ring_says_again_and_a_call_says_silent),
	TEST(test_what_was_read_under_another_epoch_is_not_believed),
	TEST(test_pages_that_were_given_back_are_given_out_again),
};

int main(void)
{
	return TAP_RUN(tests, setup, teardown);
}
