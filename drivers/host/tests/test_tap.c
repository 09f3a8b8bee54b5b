// SPDX-License-Identifier: MIT
/* venet-tap against a real tap, in a network namespace of this test's own. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "north.h"
#include "tap.h"
#include "vbus_port.h"

#define TYPE	0x88b5		/* for local experiments */
#define TAP	"vbtest0"

static struct rig rig;
static struct vbus_client north;
static struct vbus_client_net net;
static int wire = -1;		/* a packet socket on the tap: the other end of the guest's cable */

/* No router solicitations and the like: only what the test sends. */
static bool be_quiet(void)
{
	FILE *f = fopen("/proc/sys/net/ipv6/conf/default/disable_ipv6", "we");

	if (!f)
		return true;
	fputs("1", f);
	fclose(f);
	return true;
}

static bool bring(bool up)
{
	struct ifreq r = { .ifr_name = TAP };
	socklen_t len = sizeof(int);
	bool done;
	int err;

	if (ioctl(wire, SIOCGIFFLAGS, &r) < 0)
		return false;
	r.ifr_flags = (short)(up ? r.ifr_flags | IFF_UP : r.ifr_flags & ~IFF_UP);
	done = !ioctl(wire, SIOCSIFFLAGS, &r);
	/* The packet socket was told that its interface is down; that is no news. */
	getsockopt(wire, SOL_SOCKET, SO_ERROR, &err, &len);
	return done;
}

static bool plug(void)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(TYPE) };
	int room = 8 << 20;

	wire = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(TYPE));
	at.sll_ifindex = (int)if_nametoindex(TAP);
	if (wire < 0 || !at.sll_ifindex || bind(wire, (struct sockaddr *)&at, sizeof(at)) < 0)
		return false;
	setsockopt(wire, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	return bring(true);
}

static void setup(void)
{
	struct vbusd_request dev = rig_device("venet-tap", 1);

	strcpy(dev.argument, TAP);
	if (!rig_start(&rig) || !rig_add_bus(&rig) || rig_ask(&rig, &dev, NULL) || !plug() ||
	    !north_open(&north, &rig, 8) ||
	    !RIG_UNTIL(((struct vbus_host_header *)north.base)->list_generation == 2))
		fprintf(stderr, "# the rig does not stand\n");
}

static void teardown(void)
{
	if (wire >= 0)
		close(wire);
	wire = -1;
	north_close(&north);
	rig_stop(&rig);
}

static struct vbusd_device_status device(void)
{
	struct vbusd_device_status s = { 0 };

	rig_device_status(&rig, "b", 0, &s);
	return s;
}

/* To all, of our type, with its number and a pattern. */
static uint32_t make(uint8_t *frame, uint32_t number)
{
	uint32_t len = 60 + number * 37 % (1514 - 60 + 1), i;

	memset(frame, 0xff, 6);
	memset(frame + 6, 0x52, 6);
	frame[12] = TYPE >> 8;
	frame[13] = TYPE & 0xff;
	memcpy(frame + 14, &number, 4);
	for (i = 18; i < len; i++)
		frame[i] = (uint8_t)(number + i);
	return len;
}

static bool is(const uint8_t *frame, uint32_t len, uint32_t number)
{
	uint8_t want[VBUS_CLIENT_FRAME];

	return len == make(want, number) && !memcmp(frame, want, len);
}

/* The next frame from the wire, within the deadline. */
static bool heard(uint32_t number)
{
	struct pollfd p = { .fd = wire, .events = POLLIN };
	uint8_t frame[VBUS_CLIENT_BUFFER];
	ssize_t n;

	if (poll(&p, 1, RIG_DEADLINE_MS) <= 0)
		return false;
	n = recv(wire, frame, sizeof(frame), 0);
	return n > 0 && is(frame, (uint32_t)n, number);
}

static void send_number(uint32_t number)
{
	uint32_t slot = net.tx.valid & (NORTH_RING - 1);
	uint64_t at = net.tx_buffer + slot * VBUS_CLIENT_BUFFER;

	memset(north.base + at, 0, VBUS_CLIENT_HEADER);
	ioq_push(&net.tx, at,
		 VBUS_CLIENT_HEADER + make(north.base + at + VBUS_CLIENT_HEADER, number), slot);
	ioq_push_publish(&net.tx);
	north_inject(&north, net.tx_signal);
}

static bool wire_send(uint32_t number)
{
	uint8_t frame[VBUS_CLIENT_FRAME];
	uint32_t len = make(frame, number);

	return send(wire, frame, len, 0) == (ssize_t)len;
}

static bool popped(struct ioq_buffer *done)
{
	north_wait(&north, 0);
	return !ioq_pop(&net.rx, done);
}

/* The next frame on the guest's side. */
static bool got(uint32_t number, bool give_back)
{
	struct ioq_buffer done;
	uint64_t at;

	if (!RIG_UNTIL(popped(&done)))
		return false;
	at = net.rx_buffer + done.id * VBUS_CLIENT_BUFFER;
	if (!is(north.base + at + VBUS_CLIENT_HEADER, done.len - VBUS_CLIENT_HEADER, number))
		return false;
	if (give_back) {
		ioq_push(&net.rx, at, VBUS_CLIENT_BUFFER, done.id);
		ioq_push_publish(&net.rx);
		north_inject(&north, net.rx_signal);
	}
	return true;
}

static bool test_frames_of_the_guest_come_out_of_the_tap(void)
{
	struct ioq_buffer done;
	uint32_t i;

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	for (i = 0; i < 1000; i++) {
		send_number(i);
		CHECK(heard(i));
		/* A worker that finds one more each time gives a whole batch back at its end. */
		CHECK(RIG_UNTIL(!ioq_pop(&net.tx, &done)) && done.status == VBUS_STATUS_OK);
	}
	CHECK(RIG_UNTIL(device().counters.tx_frames == 1000) && !device().counters.drops);
	return true;
}

static bool test_frames_into_the_tap_reach_the_guest(void)
{
	uint32_t i;

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	for (i = 0; i < 1000; i++)
		CHECK(wire_send(i) && got(i, true));
	CHECK(RIG_UNTIL(device().counters.rx_frames == 1000));
	return true;
}

static bool test_a_guest_without_room_pushes_back_and_gets_everything_later(void)
{
	const uint32_t more = NORTH_RING + 100;	/* the interface's own queue holds 500 */
	uint32_t i;

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	for (i = 0; i < more; i++)
		CHECK(wire_send(i));
	CHECK(RIG_UNTIL(device().counters.rx_frames == NORTH_RING));
	for (i = 0; i < more; i++)
		CHECK(got(i, true));
	CHECK(device().counters.rx_frames == more && !device().counters.drops);
	return true;
}

static bool test_a_killed_worker_loses_no_frame_that_waits_in_the_tap(void)
{
	struct vbusd_bus_status s;
	struct ioq_buffer done;
	uint32_t i;

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	CHECK(wire_send(0) && got(0, true));
	CHECK(rig_bus_status(&rig, 0, &s));
	kill(s.worker, SIGKILL);
	CHECK(RIG_UNTIL(north_epoch(&north) != north.epoch));
	for (i = 1; i <= 50; i++)
		CHECK(wire_send(i));
	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	for (i = 1; i <= 50; i++)
		CHECK(got(i, true));
	send_number(7);
	CHECK(heard(7) && RIG_UNTIL(!ioq_pop(&net.tx, &done)));
	return true;
}

static bool has_another_worker(pid_t before)
{
	struct vbusd_bus_status s = { 0 };

	return rig_bus_status(&rig, 0, &s) && s.worker > 0 && s.worker != before;
}

static bool test_a_tap_outlives_vbusd_and_after_that_its_worker(void)
{
	struct vbusd_bus_status s;
	struct ioq_buffer done;

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	rig_lose(&rig, SIGKILL);
	CHECK(wire_send(0) && got(0, true) && rig_again(&rig, NULL));
	CHECK(wire_send(1) && got(1, true) && north_epoch(&north) == north.epoch);
	send_number(2);
	CHECK(heard(2) && RIG_UNTIL(!ioq_pop(&net.tx, &done)));
	/* The next worker gets it from the vbusd that got it from the last worker. */
	CHECK(rig_bus_status(&rig, 0, &s) && s.takeovers == 1);
	kill(s.worker, SIGKILL);
	CHECK(RIG_UNTIL(has_another_worker(s.worker)));
	CHECK(RIG_UNTIL(north_epoch(&north) != north.epoch));
	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	CHECK(wire_send(3) && got(3, true));
	CHECK(!rig_count_logged(&rig, "has no back end"));
	return true;
}

static bool test_an_interface_that_is_down_drops_and_goes_on_when_it_is_up(void)
{
	struct ioq_buffer done;

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	CHECK(bring(false));
	send_number(1);
	CHECK(RIG_UNTIL(!ioq_pop(&net.tx, &done)) && done.status == VBUS_STATUS_IO);
	CHECK(bring(true));
	send_number(2);
	CHECK(heard(2));
	CHECK(wire_send(3) && got(3, true));
	return true;
}

static long idle_ticks(void)
{
	struct vbusd_bus_status s;
	long before;

	rig_bus_status(&rig, 0, &s);
	before = rig_ticks(s.worker);
	/* Nothing can end this wait: the time is what is looked at. */
	poll(NULL, 0, 500);
	return rig_ticks(s.worker) - before;
}

static bool test_an_interface_that_vanished_is_told_once_and_wakes_nobody(void)
{
	CHECK(!system("ip link delete " TAP) && !if_nametoindex(TAP));
	CHECK(idle_ticks() < 10);
	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	CHECK(rig_logged(&rig,
			 "interface " TAP " gives no frames any more; remove and add the device"));
	CHECK(RIG_UNTIL(vbus_read32(&net.status->link) == VENET_LINK_DOWN));
	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	CHECK(idle_ticks() < 10);
	CHECK(rig_count_logged(&rig, "gives no frames any more") == 1);
	return true;
}

static bool mtu(int bytes)
{
	struct ifreq r = { .ifr_name = TAP, .ifr_mtu = bytes };

	return !ioctl(wire, SIOCSIFMTU, &r);
}

static bool test_a_frame_that_is_too_long_is_dropped_and_not_passed_cut(void)
{
	uint8_t frame[1600] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, [12] = TYPE >> 8, TYPE & 0xff };
	uint32_t i;

	CHECK(mtu(2000) && north_negotiate(&north) && north_net_open(&north, &net, 1));
	for (i = 0; i < NORTH_RING; i++)
		CHECK(wire_send(i) && got(i, false));
	for (i = 0; i < 2; i++)
		ioq_push(&net.rx, net.rx_buffer + i * VBUS_CLIENT_BUFFER, VBUS_CLIENT_BUFFER, i);
	ioq_push_publish(&net.rx);
	north_inject(&north, net.rx_signal);
	CHECK(send(wire, frame, sizeof(frame), 0) == sizeof(frame) && wire_send(7) &&
	      got(7, false));
	CHECK(device().counters.drops == 1);
	return true;
}

static bool test_a_removed_device_takes_its_interface_along(void)
{
	struct vbusd_request q = rig_device("", 1);

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	q.op = VBUSD_DEVICE_REMOVE;
	CHECK(rig_ask(&rig, &q, NULL) == VBUSD_OK);
	CHECK(RIG_UNTIL(!if_nametoindex(TAP)));
	return true;
}

static bool test_an_interface_that_two_devices_want_is_refused_to_the_second(void)
{
	struct vbusd_request q = rig_device("venet-tap", 2);
	char text[VBUSD_TEXT_LEN];

	strcpy(q.argument, TAP);
	CHECK(rig_ask(&rig, &q, text) == VBUSD_SYSTEM &&
	      strstr(text, "another program has it open"));
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_frames_of_the_guest_come_out_of_the_tap),
	TEST(test_frames_into_the_tap_reach_the_guest),
	TEST(test_a_guest_without_room_pushes_back_and_gets_everything_later),
	TEST(test_a_killed_worker_loses_no_frame_that_waits_in_the_tap),
	TEST(test_a_tap_outlives_vbusd_and_after_that_its_worker),
	TEST(test_an_interface_that_is_down_drops_and_goes_on_when_it_is_up),
	TEST(test_an_interface_that_vanished_is_told_once_and_wakes_nobody),
	TEST(test_a_frame_that_is_too_long_is_dropped_and_not_passed_cut),
	TEST(test_a_removed_device_takes_its_interface_along),
	TEST(test_an_interface_that_two_devices_want_is_refused_to_the_second),
};

int main(void)
{
	if (access("/dev/net/tun", R_OK | W_OK)) {
		printf("1..0 # SKIP /dev/net/tun: %s\n", strerror(errno));
		return 0;
	}
	if (unshare(CLONE_NEWNET) < 0) {
		printf("1..0 # SKIP a network namespace needs root: %s\n", strerror(errno));
		return 0;
	}
	be_quiet();
	return TAP_RUN(tests, setup, teardown);
}
