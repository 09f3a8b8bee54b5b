// SPDX-License-Identifier: MIT
/* venet-passt against a passt of this test's own, which does what passt never would. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "north.h"
#include "tap.h"
#include "vbus_port.h"
#include "worker_abi.h"

#define HEAD	sizeof(uint32_t)

static struct rig rig;
static struct vbus_client north;
static struct vbus_client_net net;
static char path[108];
static int listener = -1;
static int peer = -1;

static bool be_there(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	memcpy(at.sun_path, path, sizeof(at.sun_path));
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return listener >= 0 && !bind(listener, (struct sockaddr *)&at, sizeof(at)) &&
	       !listen(listener, 4);
}

static bool met(void)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };

	if (poll(&p, 1, RIG_DEADLINE_MS) <= 0)
		return false;
	peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	return peer >= 0;
}

static void shut(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static bool add_card(void)
{
	struct vbusd_request dev = rig_device("venet-passt", 1);

	memcpy(dev.argument, path, sizeof(dev.argument));
	return !rig_ask(&rig, &dev, NULL);
}

static void setup(void)
{
	if (!rig_start(&rig))
		fprintf(stderr, "# no vbusd\n");
	snprintf(path, sizeof(path), "%s/passt", rig.dir);
	if (!be_there() || !rig_add_bus(&rig) || !add_card() || !met() ||
	    !north_open(&north, &rig, 8) ||
	    !RIG_UNTIL(((struct vbus_host_header *)north.base)->list_generation == 2))
		fprintf(stderr, "# the rig does not stand\n");
}

static void teardown(void)
{
	shut(&peer);
	shut(&listener);
	unlink(path);
	north_close(&north);
	rig_stop(&rig);
}

static struct vbusd_device_status device(void)
{
	struct vbusd_device_status s = { 0 };

	rig_device_status(&rig, "b", 0, &s);
	return s;
}

static pid_t worker(void)
{
	struct vbusd_bus_status s = { 0 };

	rig_bus_status(&rig, 0, &s);
	return s.worker;
}

static uint32_t make(uint8_t *frame, uint32_t number)
{
	uint32_t len = 60 + number * 37 % (VBUS_CLIENT_FRAME - 60 + 1), i;

	memcpy(frame, &number, sizeof(number));
	for (i = sizeof(number); i < len; i++)
		frame[i] = (uint8_t)(number + i);
	return len;
}

/* With its length before it. */
static uint32_t pack(uint8_t *at, uint32_t number)
{
	uint32_t len = make(at + HEAD, number), head = htonl(len);

	memcpy(at, &head, HEAD);
	return HEAD + len;
}

static bool is(const uint8_t *frame, uint32_t len, uint32_t number)
{
	uint8_t want[VBUS_CLIENT_FRAME];

	return len == make(want, number) && !memcmp(frame, want, len);
}

static bool hear(void *to, size_t len)
{
	struct pollfd p = { .fd = peer, .events = POLLIN };

	if (poll(&p, 1, RIG_DEADLINE_MS) <= 0)
		return false;
	return recv(peer, to, len, MSG_WAITALL) == (ssize_t)len;
}

/* The next frame that the guest sent. */
static bool heard(uint32_t number)
{
	uint8_t frame[VBUS_CLIENT_FRAME];
	uint32_t head;

	if (!hear(&head, HEAD) || ntohl(head) > sizeof(frame) || !hear(frame, ntohl(head)))
		return false;
	return is(frame, ntohl(head), number);
}

static bool say(const void *what, size_t len)
{
	return send(peer, what, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool say_frame(uint32_t number)
{
	uint8_t packed[HEAD + VBUS_CLIENT_FRAME];

	return say(packed, pack(packed, number));
}

static bool say_head(uint32_t len)
{
	len = htonl(len);
	return say(&len, HEAD);
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

static bool popped(struct ioq *ring, struct ioq_buffer *done)
{
	north_wait(&north, 0);
	return !ioq_pop(ring, done);
}

/* The next frame on the guest's side; its buffer goes back. */
static bool got(uint32_t number)
{
	struct ioq_buffer done;
	uint64_t at;

	if (!RIG_UNTIL(popped(&net.rx, &done)))
		return false;
	at = net.rx_buffer + done.id * VBUS_CLIENT_BUFFER;
	if (!is(north.base + at + VBUS_CLIENT_HEADER, done.len - VBUS_CLIENT_HEADER, number))
		return false;
	ioq_push(&net.rx, at, VBUS_CLIENT_BUFFER, done.id);
	ioq_push_publish(&net.rx);
	north_inject(&north, net.rx_signal);
	return true;
}

static bool link_is(uint32_t link)
{
	return RIG_UNTIL(vbus_read32(&net.status->link) == link);
}

static bool open_card(void)
{
	return north_negotiate(&north) && north_net_open(&north, &net, 1);
}

/* Both ways, from the number @from on. */
static bool works(uint32_t from)
{
	struct ioq_buffer done;
	uint32_t i;

	for (i = from; i < from + 10; i++) {
		send_number(i);
		CHECK(heard(i) && RIG_UNTIL(popped(&net.tx, &done)) && !done.status);
		CHECK(say_frame(i) && got(i));
	}
	return true;
}

static long idle_ticks(void)
{
	pid_t pid = worker();
	long before = rig_ticks(pid);

	/* Nothing can end this wait: the time is what is looked at. */
	poll(NULL, 0, 500);
	return rig_ticks(pid) - before;
}

static bool test_a_stream_without_headers_offers_nothing_that_needs_one(void)
{
	uint8_t uuid[VBUS_UUID_LEN];

	memset(uuid, 1, sizeof(uuid));
	CHECK(north_negotiate(&north));
	CHECK(!vbus_client_net_open_with(&north, &net, uuid, VENET_SG, VENET_SG));
	CHECK(!net.sg_active && !net.l4ro_active &&
	      net.config_active == (VENET_CONFIG_MTU | VENET_CONFIG_RXMODE));
	return true;
}

static bool test_frames_go_both_ways_each_with_its_length(void)
{
	CHECK(open_card() && link_is(VENET_LINK_UP));
	CHECK(works(0));
	CHECK(RIG_UNTIL(device().counters.rx_frames == 10) &&
	      device().counters.tx_frames == 10 && !device().counters.drops);
	return true;
}

static bool test_bytes_that_come_one_at_a_time_make_frames(void)
{
	uint8_t packed[HEAD + VBUS_CLIENT_FRAME];
	uint32_t number, len, i;

	CHECK(open_card());
	for (number = 0; number < 3; number++) {
		len = pack(packed, number);
		for (i = 0; i < len; i++) {
			CHECK(say(&packed[i], 1));
			/* Now and then, let it have come before the next does. */
			if (!(i & 15))
				north_wait(&north, 1);
		}
		CHECK(got(number));
	}
	return true;
}

static bool test_many_frames_at_once_wait_for_the_guests_room_and_none_is_lost(void)
{
	static uint8_t all[200 * (HEAD + VBUS_CLIENT_FRAME)];
	uint32_t len = 0, sent = 0, i;
	ssize_t n;

	CHECK(open_card());
	for (i = 0; i < 200; i++)
		len += pack(all + len, i);
	for (i = 0; i < 200; i++) {
		n = send(peer, all + sent, len - sent, MSG_DONTWAIT);
		sent += n > 0 ? (uint32_t)n : 0;
		if (!i)
			CHECK(RIG_UNTIL(device().counters.rx_frames == NORTH_RING) &&
			      idle_ticks() < 10);
		CHECK(got(i));
	}
	CHECK(!device().counters.drops);
	return true;
}

static bool test_a_frame_too_long_for_the_guest_is_dropped_and_the_next_one_comes(void)
{
	static const uint8_t nothing[65535];

	CHECK(open_card());
	CHECK(say_head(VBUS_CLIENT_FRAME + 1) && say(nothing, VBUS_CLIENT_FRAME + 1));
	CHECK(say_frame(1) && got(1));
	CHECK(say_head(sizeof(nothing)) && say(nothing, sizeof(nothing)) && say_frame(2) && got(2));
	CHECK(say_head(13) && say(nothing, 13) && say_frame(3) && got(3));
	CHECK(device().counters.drops == 3);
	return true;
}

static bool comes_back_after(uint32_t len)
{
	CHECK(say_head(len) && link_is(VENET_LINK_DOWN));
	shut(&peer);
	CHECK(met() && link_is(VENET_LINK_UP));
	return works(100);
}

static bool test_an_impossible_length_ends_the_stream_and_a_new_one_begins(void)
{
	CHECK(open_card());
	CHECK(works(0));
	CHECK(comes_back_after(0) && comes_back_after(4096 + 65536 + 1) &&
	      comes_back_after(UINT32_MAX));
	CHECK(rig_count_logged(&rig, "an impossible length") == 3);
	return true;
}

static bool test_a_peer_that_hangs_up_takes_the_link_down_until_it_is_back(void)
{
	struct ioq_buffer done;

	CHECK(open_card() && link_is(VENET_LINK_UP));
	/* In the middle of a frame of its own. */
	CHECK(say_head(100) && say("half", 4));
	shut(&listener);
	unlink(path);
	shut(&peer);
	CHECK(link_is(VENET_LINK_DOWN));
	send_number(1);
	CHECK(RIG_UNTIL(popped(&net.tx, &done)) && done.status == VBUS_STATUS_IO);
	CHECK(idle_ticks() < 10);
	CHECK(be_there() && met() && link_is(VENET_LINK_UP));
	CHECK(works(2));
	CHECK(rig_count_logged(&rig, "the stream is given up") == 1 &&
	      rig_count_logged(&rig, "frames come again") == 1);
	return true;
}

static bool test_a_peer_that_hangs_up_while_no_guest_looks_is_met_again(void)
{
	shut(&peer);
	CHECK(met());
	CHECK(say_frame(7));
	CHECK(open_card() && link_is(VENET_LINK_UP) && got(7));
	CHECK(works(8));
	return true;
}

static bool test_a_peer_that_never_reads_costs_no_time_and_stops_only_the_guests_own_frames(void)
{
	struct ioq_buffer done;
	uint32_t sent = 0, back = 0, i;
	uint64_t end;

	CHECK(open_card());
	/* Until nothing comes back for a while: then the socket is full, and the ring as well. */
	for (end = rig_now_ms() + 300; rig_now_ms() < end; north_wait(&north, 1)) {
		for (; ioq_room(&net.tx); end = rig_now_ms() + 300)
			send_number(sent++);
		while (!ioq_pop(&net.tx, &done))
			back++;
	}
	CHECK(sent == back + NORTH_RING && idle_ticks() < 10);
	CHECK(say_frame(1) && got(1));
	for (i = 0; i < sent; i++)
		CHECK(heard(i));
	CHECK(RIG_UNTIL(device().counters.tx_frames == sent) && !device().counters.drops);
	return true;
}

static bool test_a_peer_that_never_read_and_hangs_up_frees_the_guest(void)
{
	struct ioq_buffer done;
	uint32_t sent = 0;
	uint64_t end;

	CHECK(open_card());
	for (end = rig_now_ms() + 300; rig_now_ms() < end; north_wait(&north, 1)) {
		for (; ioq_room(&net.tx); end = rig_now_ms() + 300)
			send_number(sent++);
		while (!ioq_pop(&net.tx, &done))
			;
	}
	shut(&peer);
	CHECK(met() && link_is(VENET_LINK_UP));
	CHECK(RIG_UNTIL(device().counters.tx_frames + device().counters.drops == sent));
	return true;
}

static bool test_a_peer_that_hangs_up_on_a_guest_without_room_wakes_nobody_and_loses_nothing(void)
{
	uint32_t i;

	CHECK(open_card());
	for (i = 0; i < NORTH_RING + 20; i++)
		CHECK(say_frame(i));
	CHECK(RIG_UNTIL(device().counters.rx_frames == NORTH_RING));
	shut(&peer);
	CHECK(idle_ticks() < 10);
	for (i = 0; i < NORTH_RING + 20; i++)
		CHECK(got(i));
	CHECK(met() && link_is(VENET_LINK_UP));
	return works(500);
}

static bool test_a_killed_workers_stream_ends_and_the_next_one_has_its_own(void)
{
	uint8_t end;

	CHECK(open_card() && works(0));
	CHECK(say_head(1000));
	kill(worker(), SIGKILL);
	CHECK(RIG_UNTIL(north_epoch(&north) != north.epoch));
	CHECK(recv(peer, &end, 1, 0) <= 0);
	shut(&peer);
	CHECK(met() && open_card() && link_is(VENET_LINK_UP));
	return works(20);
}

static bool test_a_worker_that_starts_without_a_peer_serves_a_card_that_is_down(void)
{
	uint64_t epoch = north_epoch(&north);
	struct ioq_buffer done;

	shut(&listener);
	unlink(path);
	kill(worker(), SIGKILL);
	CHECK(rig_logged(&rig, "has no back end") && RIG_UNTIL(north_epoch(&north) != epoch));
	CHECK(open_card() && link_is(VENET_LINK_DOWN));
	send_number(1);
	CHECK(RIG_UNTIL(popped(&net.tx, &done)) && done.status == VBUS_STATUS_IO);
	CHECK(!rig_count_logged(&rig, "given up"));
	shut(&peer);
	CHECK(be_there() && met() && link_is(VENET_LINK_UP));
	return works(2);
}

static bool test_without_a_peer_a_card_cannot_be_added_and_the_answer_says_why(void)
{
	struct vbusd_request q = rig_device("venet-passt", 2);
	char text[VBUSD_TEXT_LEN];

	snprintf(q.argument, sizeof(q.argument), "%s/nobody", rig.dir);
	CHECK(rig_ask(&rig, &q, text) == VBUSD_SYSTEM && strstr(text, "nobody: No such file"));
	snprintf(q.argument, sizeof(q.argument), "passt");
	CHECK(rig_ask(&rig, &q, text) == VBUSD_SYSTEM && strstr(text, "absolute path"));
	return true;
}

static bool test_a_removed_card_leaves_its_stream(void)
{
	struct vbusd_request q = rig_device("", 1);
	uint8_t end;

	CHECK(open_card());
	q.op = VBUSD_DEVICE_REMOVE;
	CHECK(rig_ask(&rig, &q, NULL) == VBUSD_OK);
	CHECK(recv(peer, &end, 1, 0) == 0);
	return true;
}

/* A worker that a guest took over: it says what it likes, as often as it can, and hangs up. */
static int be_hostile(void)
{
	struct vbus_worker_notice n = { .kind = VBUS_NOTICE_LOST, .slot = UINT32_MAX };
	char page[4096] = { 0 };
	uint32_t i;

	/* vbusd hears little of it in a second, so what hurts most comes first. */
	send(VBUS_WORKER_FD, &n, sizeof(n), 0);
	for (i = 0; i < 100; i++) {
		n.slot = i;
		n.instance = i % 3;
		send(VBUS_WORKER_FD, &n, sizeof(n), 0);
		n.kind = i % 2 ? VBUS_NOTICE_LOST : UINT32_MAX;
		send(VBUS_WORKER_FD, page, i * 40, MSG_DONTWAIT);
	}
	while (send(VBUS_WORKER_FD, &n, sizeof(n), MSG_NOSIGNAL) > 0)
		;
	pause();
	return 0;
}

static bool test_a_worker_that_talks_without_end_costs_vbusd_no_time_and_no_wrong_word(void)
{
	char self[108] = "";
	long ticks;

	teardown();
	CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	setenv("RIG_WORKER", self, 1);
	CHECK(rig_start(&rig) && rig_add_bus(&rig));
	snprintf(path, sizeof(path), "%s/passt", rig.dir);
	CHECK(be_there() && add_card() && met());
	unsetenv("RIG_WORKER");
	ticks = rig_ticks(rig.vbusd);
	/* Nothing can end this wait: the time is what is looked at. */
	poll(NULL, 0, 2500);
	CHECK(rig_ticks(rig.vbusd) - ticks < 25);
	/* Of all that it said nothing was about this device: nobody connected again. */
	CHECK(device().link && !poll(&(struct pollfd){ .fd = listener, .events = POLLIN }, 1, 0));
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_a_stream_without_headers_offers_nothing_that_needs_one),
	TEST(test_frames_go_both_ways_each_with_its_length),
	TEST(test_bytes_that_come_one_at_a_time_make_frames),
	TEST(test_many_frames_at_once_wait_for_the_guests_room_and_none_is_lost),
	TEST(test_a_frame_too_long_for_the_guest_is_dropped_and_the_next_one_comes),
	TEST(test_an_impossible_length_ends_the_stream_and_a_new_one_begins),
	TEST(test_a_peer_that_hangs_up_takes_the_link_down_until_it_is_back),
	TEST(test_a_peer_that_hangs_up_while_no_guest_looks_is_met_again),
	TEST(test_a_peer_that_never_reads_costs_no_time_and_stops_only_the_guests_own_frames),
	TEST(test_a_peer_that_never_read_and_hangs_up_frees_the_guest),
	TEST(test_a_peer_that_hangs_up_on_a_guest_without_room_wakes_nobody_and_loses_nothing),
	TEST(test_a_killed_workers_stream_ends_and_the_next_one_has_its_own),
	TEST(test_a_worker_that_starts_without_a_peer_serves_a_card_that_is_down),
	TEST(test_without_a_peer_a_card_cannot_be_added_and_the_answer_says_why),
	TEST(test_a_removed_card_leaves_its_stream),
	TEST(test_a_worker_that_talks_without_end_costs_vbusd_no_time_and_no_wrong_word),
};

int main(void)
{
	if (getenv("RIG_WORKER"))
		return be_hostile();
	signal(SIGPIPE, SIG_IGN);
	return TAP_RUN(tests, setup, teardown);
}
