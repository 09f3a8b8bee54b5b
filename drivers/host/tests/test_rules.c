// SPDX-License-Identifier: MIT
/*
 * The contract between north and south: what is answered, what closes a device, what a mask does.
 */
#include <signal.h>
#include <string.h>

#include "north.h"
#include "state.h"
#include "tap.h"
#include "vbus_port.h"

#define CONFIG	(VENET_CONFIG_MTU | VENET_CONFIG_RXMODE)

static struct rig rig;
static struct vbus_client north;
static struct vbus_client_net net;

static uint32_t generation(void)
{
	const struct vbus_host_header *h = (const void *)north.base;

	return vbus_read32(&h->list_generation);
}

static void setup(void)
{
	struct vbusd_request dev = rig_device("venet-loopback", 1);

	/* Two generations: an empty list, and one with the device. */
	if (!rig_start(&rig) || !rig_add_bus(&rig) || rig_ask(&rig, &dev, NULL) ||
	    !north_open(&north, &rig, 8) || !RIG_UNTIL(generation() == 2))
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

static struct vbusd_device_status device(uint32_t index)
{
	struct vbusd_device_status s = { 0 };

	rig_device_status(&rig, "b", index, &s);
	return s;
}

static bool test_a_device_that_comes_and_goes_moves_the_list_and_rings(void)
{
	struct vbusd_request q = rig_device("venet-loopback", 2);
	struct vbus_enumerate_reply list;
	uint32_t before = generation();

	CHECK(north_negotiate(&north));
	while (north_wait(&north, 0))
		;
	CHECK(rig_ask(&rig, &q, NULL) == VBUSD_OK);
	CHECK(north_wait(&north, RIG_DEADLINE_MS) && RIG_UNTIL(generation() == before + 1));
	CHECK(!north_enumerate(&north, &list) && list.total == 2 && list.count == 2);
	CHECK(list.generation == before + 1 && !strcmp(list.entry[1].type, "venet"));
	CHECK(north_net_open(&north, &net, 2));

	q.op = VBUSD_DEVICE_REMOVE;
	CHECK(rig_ask(&rig, &q, NULL) == VBUSD_OK);
	CHECK(RIG_UNTIL(generation() == before + 2));
	CHECK(!north_enumerate(&north, &list) && list.total == 1);
	CHECK(north_devcall(&north, net.handle, VENET_FUNC_MACQUERY, "", 0, NULL, 0) ==
	      VBUS_STATUS_NO_ENTRY);
	return true;
}

static bool test_a_long_list_is_read_in_parts_of_one_generation(void)
{
	struct vbus_enumerate_request q = { 0 };
	struct vbus_enumerate_reply list;
	struct vbusd_request dev;
	uint32_t seen = 0, i;
	uint8_t number;

	for (number = 2; number <= VBUSD_DEVICES; number++) {
		dev = rig_device("venet-loopback", number);
		CHECK(rig_ask(&rig, &dev, NULL) == VBUSD_OK);
	}
	dev = rig_device("venet-loopback", 99);
	CHECK(rig_ask(&rig, &dev, NULL) == VBUSD_FULL);
	CHECK(RIG_UNTIL(generation() == 1 + VBUSD_DEVICES));
	CHECK(north_negotiate(&north));
	do {
		q.index = seen;
		CHECK(!north_call(&north, VBUS_CALL_ENUMERATE, &q, sizeof(q), &list, sizeof(list)));
		CHECK(list.total == VBUSD_DEVICES);
		for (i = 0; i < list.count; i++)
			CHECK(list.entry[i].uuid[0] == ++seen);
	} while (list.count);
	CHECK(seen == VBUSD_DEVICES);
	q.index = VBUSD_DEVICES + 1;
	CHECK(north_call(&north, VBUS_CALL_ENUMERATE, &q, sizeof(q), NULL, 0) ==
	      VBUS_STATUS_INVALID);
	return true;
}

static bool test_a_masked_bit_is_not_offered_from_the_next_open_on(void)
{
	struct vbusd_request q = rig_device("", 1);
	struct north_echo echo = { .count = 1000 };
	struct vbus_devclose_request c;

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	CHECK(net.link_active == VENET_EVENTQ_LINKSTATE && net.config_active == CONFIG);
	CHECK(device(0).group[0].active == VENET_EVENTQ_LINKSTATE);

	q.op = VBUSD_MASK;
	q.mask[0].gid = VENET_GROUP_EVENTQ;
	q.mask[0].bits = VENET_EVENTQ_LINKSTATE;
	CHECK(rig_ask(&rig, &q, NULL) == VBUSD_OK);
	/* Frames go round, so the mask has arrived by the end of it. */
	CHECK(north_echo(&north, &net, 1, &echo));
	CHECK(device(0).group[0].offered == VENET_EVENTQ_LINKSTATE);

	c = (struct vbus_devclose_request){ .handle = net.handle };
	CHECK(!north_call(&north, VBUS_CALL_DEVCLOSE, &c, sizeof(c), NULL, 0));
	CHECK(north_net_open(&north, &net, 1));
	CHECK(!net.link_active && net.config_active == CONFIG);
	CHECK(device(0).group[0].masked == VENET_EVENTQ_LINKSTATE);
	CHECK(!device(0).group[0].offered && !device(0).group[0].active);
	CHECK(north_share(&north, net.handle, VENET_REGION_STATUS, 0, north_alloc(&north, 8), 0, 8,
			  &net.status_signal) == VBUS_STATUS_UNSUPPORTED);
	return true;
}

static bool test_a_mask_outlives_the_worker_and_covers_devices_to_come(void)
{
	struct vbusd_request q = rig_request(VBUSD_MASK), dev = rig_device("venet-loopback", 2);
	pid_t worker = status().worker;

	q.flags = VBUSD_ALL_DEVICES;
	q.mask[0].gid = VENET_GROUP_EVENTQ;
	q.mask[0].bits = VENET_EVENTQ_LINKSTATE;
	CHECK(rig_ask(&rig, &q, NULL) == VBUSD_OK && rig_ask(&rig, &dev, NULL) == VBUSD_OK);
	CHECK(worker > 0);
	kill(worker, SIGKILL);
	CHECK(RIG_UNTIL(status().worker > 0 && status().worker != worker));
	CHECK(RIG_UNTIL(north_negotiate(&north)));
	CHECK(north_net_open(&north, &net, 1) && !net.link_active);
	CHECK(north_net_open(&north, &net, 2) && !net.link_active && net.config_active);
	return true;
}

/* Hidden from the first look on: who opened it before a second request would keep the bit. */
static bool test_a_device_is_added_with_its_masks_and_its_link(void)
{
	struct vbusd_request dev = rig_device("venet-loopback", 2);

	dev.flags = VBUSD_LINK_DOWN;
	dev.mask[7] = (struct vbus_mask){ VENET_GROUP_EVENTQ, VENET_EVENTQ_LINKSTATE };
	dev.mask[0] = (struct vbus_mask){ VENET_GROUP_CONFIG,
		VENET_CONFIG_MTU | VENET_CONFIG_PAIRS | VENET_CONFIG_RXMODE };
	CHECK(rig_ask(&rig, &dev, NULL) == VBUSD_OK && north_negotiate(&north));
	CHECK(north_net_open(&north, &net, 2) && !net.link_active && !net.config_active);
	CHECK(!device(1).link);
	dev.op = VBUSD_DEVICE_REMOVE;
	dev.flags = 0;
	CHECK(rig_ask(&rig, &dev, NULL) == VBUSD_OK);
	dev.op = VBUSD_DEVICE_ADD;
	dev.mask[3] = (struct vbus_mask){ 77, 1 };
	CHECK(rig_ask(&rig, &dev, NULL) == VBUSD_UNKNOWN && status().devices == 1);
	return true;
}

static bool test_a_link_that_is_taken_down_is_told_and_drops(void)
{
	struct vbusd_request q = rig_device("", 1);
	struct ioq_buffer done;

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	CHECK(vbus_read32(&net.status->link) == VENET_LINK_UP);
	q.op = VBUSD_LINK;
	q.flags = VBUSD_LINK_DOWN;
	CHECK(rig_ask(&rig, &q, NULL) == VBUSD_OK);
	CHECK(RIG_UNTIL(vbus_read32(&net.status->link) == VENET_LINK_DOWN));
	ioq_push(&net.tx, net.tx_buffer, 60, 1);
	ioq_push_publish(&net.tx);
	north_inject(&north, net.tx_signal);
	CHECK(RIG_UNTIL(!ioq_pop(&net.tx, &done)) && done.status == VBUS_STATUS_IO);
	CHECK(device(0).counters.drops == 1 && !device(0).counters.rx_frames);
	q.flags = 0;
	CHECK(rig_ask(&rig, &q, NULL) == VBUSD_OK);
	CHECK(RIG_UNTIL(vbus_read32(&net.status->link) == VENET_LINK_UP));
	return true;
}

static bool test_a_window_overwritten_by_another_image_gets_a_new_epoch(void)
{
	struct vbus_host_header *h = (void *)north.base;
	uint64_t mine;

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	mine = north.epoch;
	/* What a restore does: the header of another day. */
	vbus_write64(&h->epoch, 0x1234);
	vbus_write32(&h->list_generation, 77);
	north_ring(&north, 0);
	CHECK(RIG_UNTIL(north_epoch(&north) != 0x1234));
	CHECK(north_epoch(&north) != mine && generation() != 77);
	CHECK(RIG_UNTIL(status().epoch == north_epoch(&north)) && !status().negotiated);
	CHECK(status().counters.foreign == 1);
	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	return true;
}

static bool test_an_epoch_that_is_not_echoed_is_asserted_and_rung_again_and_again(void)
{
	pid_t worker = status().worker;
	uint32_t rung;

	CHECK(north_negotiate(&north));
	kill(worker, SIGKILL);
	CHECK(RIG_UNTIL(north_epoch(&north) != north.epoch));
	for (rung = 0; rung < 5; rung++)
		CHECK(north_wait(&north, RIG_DEADLINE_MS));
	CHECK(!status().confirmed);
	CHECK(north_negotiate(&north) && RIG_UNTIL(status().confirmed));
	return true;
}

/* As a driver does before its guest sleeps, or another kernel takes over. */
static void take_leave(void)
{
	struct vbus_guest_header *header = (void *)(north.base + VBUS_GUEST_HEADER);

	vbus_write32(&header->magic, 0);
	vbus_write64(&header->epoch, 0);
	north_ring(&north, 0);
}

static bool serves(void)
{
	return status().confirmed && device(0).state == VBUS_OPEN;
}

static bool has_nothing(void)
{
	struct vbusd_bus_status s = status();

	return !s.confirmed && !s.negotiated && device(0).state == VBUS_CLOSED;
}

static bool test_a_guest_that_takes_its_leave_has_nothing_shared_and_may_come_back(void)
{
	uint64_t epoch;

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1) && RIG_UNTIL(serves()));
	epoch = north_epoch(&north);
	take_leave();
	CHECK(RIG_UNTIL(has_nothing()));
	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1) && RIG_UNTIL(serves()));
	CHECK(north_epoch(&north) == epoch && !status().restarts);
	return true;
}

static bool test_a_worker_that_died_awake_leaves_no_queue_that_nobody_rings(void)
{
	struct shm_signal_page *south = (void *)(north.base + VBUS_SIGNALS_SOUTH);
	pid_t worker = status().worker;
	uint32_t i;

	CHECK(north_negotiate(&north));
	for (i = 0; i < VBUS_QUEUES; i++)
		vbus_write32(&south->awake[i], 1);
	kill(worker, SIGKILL);
	CHECK(RIG_UNTIL(north_epoch(&north) != north.epoch));
	for (i = 0; i < VBUS_QUEUES; i++)
		CHECK(!vbus_read32(&south->awake[i]));
	return true;
}

static bool test_after_a_new_epoch_only_header_and_replies_are_written(void)
{
	static uint8_t before[1 << 20], after[1 << 20];
	pid_t worker = status().worker;
	uint32_t i;

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	ioq_push(&net.tx, net.tx_buffer, 60, 1);
	kill(worker, SIGKILL);
	CHECK(RIG_UNTIL(north_epoch(&north) != north.epoch));
	memcpy(before, north.base, sizeof(before));
	ioq_push_publish(&net.tx);
	memcpy(before + ((uint8_t *)net.tx.north - north.base), net.tx.north, 128);
	for (i = 0; i < 8; i++)
		north_ring(&north, i);
	CHECK(RIG_UNTIL(status().counters.ignored >= 7));
	memcpy(after, north.base, sizeof(after));
	CHECK(!memcmp(before + VBUS_PAGE_SIZE, after + VBUS_PAGE_SIZE,
		      sizeof(before) - VBUS_PAGE_SIZE));
	return true;
}

static bool test_a_lying_ring_index_closes_the_device_and_spares_the_others(void)
{
	struct vbusd_request q = rig_device("venet-loopback", 2);
	struct north_echo echo = { .count = 100 };
	struct vbus_client_net other;

	CHECK(rig_ask(&rig, &q, NULL) == VBUSD_OK && RIG_UNTIL(generation() == 3));
	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1) &&
	      north_net_open(&north, &other, 2));
	vbus_write32(&net.tx.north->valid, NORTH_RING + 1);
	north_inject(&north, net.tx_signal);
	CHECK(RIG_UNTIL(device(0).counters.violations == 1));
	CHECK(rig_logged(&rig, "device 01010101 is closed (an index of a ring lies"));
	CHECK(north_devcall(&north, net.handle, VENET_FUNC_MACQUERY, "", 0, NULL, 0) ==
	      VBUS_STATUS_NO_ENTRY);
	CHECK(north_echo(&north, &other, 2, &echo) && !echo.recoveries);
	/* And the guest may try again. */
	CHECK(north_net_open(&north, &net, 1));
	return true;
}

static bool closes(uint64_t addr, uint32_t len)
{
	uint64_t before = device(0).counters.violations;

	vbus_client_free_all(&north);
	if (!north_net_open(&north, &net, 1))
		return false;
	ioq_push(&net.tx, addr, len, 1);
	ioq_push_publish(&net.tx);
	north_inject(&north, net.tx_signal);
	return RIG_UNTIL(device(0).counters.violations == before + 1);
}

static bool test_a_buffer_outside_the_pool_or_of_a_wrong_length_closes_the_device(void)
{
	CHECK(north_negotiate(&north));
	CHECK(closes(VBUS_HOST_HEADER, 60));
	CHECK(closes(VBUS_POOL - 1, 60));
	CHECK(closes((1 << 20) - 59, 60));
	CHECK(closes(UINT64_MAX - 10, 60));
	CHECK(closes(VBUS_POOL, VBUS_CLIENT_HEADER + 13));
	CHECK(closes(VBUS_POOL, VBUS_CLIENT_HEADER + VENET_FRAME_MAX + 1));
	CHECK(closes(VBUS_POOL, UINT32_MAX));
	return true;
}

static int share(uint32_t region, uint64_t at, uint64_t south, uint32_t len)
{
	uint32_t signal;

	return north_share(&north, net.handle, region, at, south, len, len, &signal);
}

static bool test_regions_that_overlap_or_leave_the_pool_are_refused(void)
{
	struct vbus_devopen_request open = { .version = VENET_VERSION };
	struct vbus_devopen_reply opened;
	uint32_t len = IOQ_PART_SIZE(4);
	const uint64_t a = VBUS_POOL, b = VBUS_POOL + 4096;
	struct ioq ring;

	CHECK(north_negotiate(&north));
	memset(open.uuid, 1, sizeof(open.uuid));
	CHECK(!north_call(&north, VBUS_CALL_DEVOPEN, &open, sizeof(open), &opened, sizeof(opened)));
	CHECK(opened.budget == north.size / 8);
	CHECK(north_call(&north, VBUS_CALL_DEVOPEN, &open, sizeof(open), NULL, 0) ==
	      VBUS_STATUS_BUSY);
	net.handle = opened.handle;
	CHECK(share(VENET_REGION_TX(0), a, a, len) == VBUS_STATUS_INVALID);
	/* A ring lies there, but not on a page of its own. */
	ioq_north_init(&ring, (void *)(north.base + a + 16), (void *)(north.base + b), 4);
	CHECK(share(VENET_REGION_TX(0), a + 16, b, len) == VBUS_STATUS_INVALID);
	ioq_north_init(&ring, (void *)(north.base + a), (void *)(north.base + b), 4);
	CHECK(share(VENET_REGION_TX(0), a, VBUS_SIGNALS_SOUTH, len) == VBUS_STATUS_INVALID);
	CHECK(share(VENET_REGION_TX(0), a, north.size, len) == VBUS_STATUS_INVALID);
	CHECK(share(VENET_REGION_TX(0), a, UINT64_MAX - 4095, len) == VBUS_STATUS_INVALID);
	CHECK(share(VENET_REGION_TX(0), a, b, UINT32_MAX) == VBUS_STATUS_INVALID);
	CHECK(share(VENET_REGION_TX(0), a, b, len + 1) == VBUS_STATUS_INVALID);
	CHECK(share(77, a, b, len) == VBUS_STATUS_INVALID);
	CHECK(north_link_up(&north, net.handle, 1) ==
	      VBUS_STATUS_INVALID);
	CHECK(share(VENET_REGION_TX(0), a, b, len) == VBUS_STATUS_OK);
	CHECK(share(VENET_REGION_TX(0), a + 8192, b + 8192, len) == VBUS_STATUS_BUSY);
	/* A page of another region would have two writers. */
	ioq_north_init(&ring, (void *)(north.base + a + 8192), (void *)(north.base + b), 4);
	CHECK(share(VENET_REGION_RX(0), a + 8192, b, len) == VBUS_STATUS_INVALID);
	CHECK(share(VENET_REGION_RX(0), a + 8192, b + 8192, len) == VBUS_STATUS_OK);
	return true;
}

static bool test_calls_that_make_no_sense_are_answered_so(void)
{
	struct vbus_qreg_request queues = { .count = 4 };
	struct vbus_negotiate_request hello = { .version = 2 };
	struct vbus_devopen_request open = { .version = VENET_VERSION };
	struct vbus_devclose_request close = { .handle = 0 };

	CHECK(north_negotiate(&north));
	CHECK(north_call(&north, VBUS_CALL_QREG, &queues, sizeof(queues), NULL, 0) ==
	      VBUS_STATUS_BUSY);
	CHECK(north_call(&north, VBUS_CALL_QREG, &queues, 4, NULL, 0) == VBUS_STATUS_INVALID);
	CHECK(north_call(&north, VBUS_CALL_SIGROUTE, NULL, 0, NULL, 0) == VBUS_STATUS_INVALID);
	CHECK(north_call(&north, 999, NULL, 0, NULL, 0) == VBUS_STATUS_UNSUPPORTED);
	CHECK(north_call(&north, VBUS_CALL_DEVOPEN, &open, sizeof(open), NULL, 0) ==
	      VBUS_STATUS_NO_ENTRY);
	memset(open.uuid, 1, sizeof(open.uuid));
	open.version = 9;
	CHECK(north_call(&north, VBUS_CALL_DEVOPEN, &open, sizeof(open), NULL, 0) ==
	      VBUS_STATUS_VERSION);
	for (close.handle = 0; close.handle < 20; close.handle++)
		CHECK(north_call(&north, VBUS_CALL_DEVCLOSE, &close, sizeof(close), NULL, 0) ==
		      VBUS_STATUS_NO_ENTRY);
	CHECK(north_devcall(&north, 0xffffffff, 0, "", 0, NULL, 0) == VBUS_STATUS_NO_ENTRY);
	CHECK(north_net_open(&north, &net, 1));
	CHECK(north_devcall(&north, net.handle, 55, "", 0, NULL, 0) == VBUS_STATUS_UNSUPPORTED);
	CHECK(north_devcall(&north, net.handle, VBUS_FUNC_NEGCAP, "", 0, NULL, 0) ==
	      VBUS_STATUS_INVALID);
	CHECK(north_call(&north, VBUS_CALL_NEGOTIATE, &hello, sizeof(hello), NULL, 0) ==
	      VBUS_STATUS_VERSION);
	CHECK(status().counters.violations > 0 && !status().restarts);
	return true;
}

static bool test_a_negotiate_makes_old_handles_invalid_and_a_handle_is_not_used_again(void)
{
	uint32_t old;

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	old = net.handle;
	CHECK(north_negotiate(&north));
	CHECK(north_devcall(&north, old, VENET_FUNC_MACQUERY, "", 0, NULL, 0) ==
	      VBUS_STATUS_NO_ENTRY);
	CHECK(north_net_open(&north, &net, 1) && net.handle != old);
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_a_device_that_comes_and_goes_moves_the_list_and_rings),
	TEST(test_a_long_list_is_read_in_parts_of_one_generation),
	TEST(test_a_masked_bit_is_not_offered_from_the_next_open_on),
	TEST(test_a_mask_outlives_the_worker_and_covers_devices_to_come),
	TEST(test_a_device_is_added_with_its_masks_and_its_link),
	TEST(test_a_link_that_is_taken_down_is_told_and_drops),
	TEST(test_a_window_overwritten_by_another_image_gets_a_new_epoch),
	TEST(test_an_epoch_that_is_not_echoed_is_asserted_and_rung_again_and_again),
	TEST(test_a_guest_that_takes_its_leave_has_nothing_shared_and_may_come_back),
	TEST(test_a_worker_that_died_awake_leaves_no_queue_that_nobody_rings),
	TEST(test_after_a_new_epoch_only_header_and_replies_are_written),
	TEST(test_a_lying_ring_index_closes_the_device_and_spares_the_others),
	TEST(test_a_buffer_outside_the_pool_or_of_a_wrong_length_closes_the_device),
	TEST(test_regions_that_overlap_or_leave_the_pool_are_refused),
	TEST(test_calls_that_make_no_sense_are_answered_so),
	TEST(test_a_negotiate_makes_old_handles_invalid_and_a_handle_is_not_used_again),
};

int main(void)
{
	return TAP_RUN(tests, setup, teardown);
}
