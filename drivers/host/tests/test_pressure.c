// SPDX-License-Identifier: MIT
/*
 * What somebody who may connect, or a guest, can do to vbusd and the worker: hold, flood, starve.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
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

/*
 * While it stands still, what happens to it is in an order of ours; pid 0 would be this test
 * itself.
 */
static bool stand_still(void)
{
	return rig.vbusd > 0 && !kill(rig.vbusd, SIGSTOP);
}

static struct vbus_host_header *header(void)
{
	return (void *)north.base;
}

static bool test_a_socket_in_a_folder_that_others_can_change_is_refused(void)
{
	struct vbusd_request q = rig_request(VBUSD_BUS_ADD);
	char text[VBUSD_TEXT_LEN] = "", folder[80];
	enum vbusd_result result;

	snprintf(folder, sizeof(folder), "%s/open", rig.dir);
	CHECK(!mkdir(folder, 0700) && !chmod(folder, 0777));
	strcpy(q.bus, "c");
	q.window_mib = 1;
	q.vectors = 8;
	snprintf(q.argument, sizeof(q.argument), "%s/q", folder);
	result = rig_ask(&rig, &q, text);
	rmdir(folder);
	CHECK(result == VBUSD_SYSTEM && strstr(text, "its folder can be changed by others"));
	return true;
}

static bool test_the_next_qemu_is_served_when_the_end_of_the_last_one_is_not_yet_known(void)
{
	int last = north.link, next;

	CHECK(stand_still());
	next = rig_dial(&rig);
	close(last);
	north.link = next;
	kill(rig.vbusd, SIGCONT);
	CHECK(rig_logged(&rig, "QEMU is connected (session 2)"));
	CHECK(!rig_count_logged(&rig, "refused"));
	return true;
}

static bool test_a_hello_that_fails_renews_the_session(void)
{
	pid_t before = status().worker, worker;
	int s;

	north_close(&north);
	CHECK(rig_logged(&rig, "QEMU is gone"));
	CHECK(RIG_UNTIL(status().worker > 0 && status().worker != before));
	worker = status().worker;
	CHECK(stand_still());
	s = rig_dial(&rig);
	CHECK(s >= 0 && !shutdown(s, SHUT_RD));
	kill(rig.vbusd, SIGCONT);
	CHECK(rig_logged(&rig, "a connection is given up"));
	close(s);
	CHECK(RIG_UNTIL(status().worker > 0 && status().worker != worker));
	CHECK(north_open(&north, &rig, 8) && north_negotiate(&north));
	return true;
}

static bool test_sessions_that_end_one_after_another_are_slowed_down_and_served_in_the_end(void)
{
	uint64_t start = rig_now_ms();
	struct vbus_client q;
	uint32_t i;

	north_close(&north);
	for (i = 0; i < 12; i++) {
		CHECK(north_open(&q, &rig, 8));
		north_close(&q);
	}
	/* 10, 20, 40, 80, 160, 320 ms at least. */
	CHECK(rig_now_ms() - start >= 500);
	CHECK(north_open(&north, &rig, 8) && north_negotiate(&north));
	return true;
}

static bool test_refusals_are_logged_once_a_session(void)
{
	struct vbus_client q;
	uint32_t i;

	for (i = 0; i < 100; i++) {
		CHECK(!north_open(&q, &rig, 8));
		north_close(&q);
	}
	CHECK(rig_count_logged(&rig, "a connection is refused") == 1);
	return true;
}

static bool test_a_vbusd_without_descriptors_refuses_and_does_not_spin(void)
{
	struct rlimit before, few;
	struct pollfd p = { .events = POLLIN };
	pid_t worker = status().worker;
	struct vbus_client q;
	long ticks;

	CHECK(!prlimit(rig.vbusd, RLIMIT_NOFILE, NULL, &before) &&
	      before.rlim_cur == before.rlim_max);
	few = (struct rlimit){ .rlim_cur = 8, .rlim_max = before.rlim_max };
	north_close(&north);
	CHECK(rig_logged(&rig, "QEMU is gone"));
	CHECK(RIG_UNTIL(status().worker > 0 && status().worker != worker));
	CHECK(!prlimit(rig.vbusd, RLIMIT_NOFILE, &few, NULL));
	p.fd = rig_dial(&rig);
	ticks = rig_ticks(rig.vbusd);
	CHECK(p.fd >= 0 && poll(&p, 1, RIG_DEADLINE_MS) == 1);
	close(p.fd);
	CHECK(!north_open(&q, &rig, 8));
	north_close(&q);
	poll(NULL, 0, 300);
	CHECK(rig_ticks(rig.vbusd) - ticks < 15);
	CHECK(rig_count_logged(&rig, "connections are refused") == 1);
	CHECK(!prlimit(rig.vbusd, RLIMIT_NOFILE, &before, NULL));
	CHECK(north_open(&north, &rig, 8) && north_negotiate(&north));
	return true;
}

static bool test_a_worker_that_qemu_blocks_is_replaced_when_a_device_is_removed(void)
{
	struct vbusd_request q = rig_device("", 1);
	const uint64_t full = UINT64_MAX - 1;
	int bell = north.to_guest[0];
	pid_t worker = status().worker;
	uint64_t value;

	CHECK(north_negotiate(&north));
	while (read(bell, &value, sizeof(value)) > 0)
		;
	/* The flag belongs to what both sides hold. */
	CHECK(write(bell, &full, sizeof(full)) == sizeof(full) && !fcntl(bell, F_SETFL, 0));
	vbus_write64(&header()->epoch, 5);
	north_ring(&north, 0);
	/* It rings when it has written a new one, and there it stays. */
	CHECK(RIG_UNTIL(north_epoch(&north) != 5));
	q.op = VBUSD_DEVICE_REMOVE;
	CHECK(rig_ask(&rig, &q, NULL) == VBUSD_OK);
	CHECK(rig_logged(&rig, "it did not act for 1000 ms"));
	CHECK(!fcntl(bell, F_SETFL, O_NONBLOCK));
	CHECK(RIG_UNTIL(status().worker > 0 && status().worker != worker));
	CHECK(RIG_UNTIL(vbus_read32(&header()->list_generation) == 3));
	return true;
}

static bool test_a_worker_that_acts_is_not_killed(void)
{
	struct vbusd_request q = rig_device("", 1);

	q.op = VBUSD_LINK;
	q.flags = VBUSD_LINK_DOWN;
	CHECK(north_negotiate(&north) && rig_ask(&rig, &q, NULL) == VBUSD_OK);
	CHECK(rig_logged(&rig, "device 01010101 link down (asked for)"));
	/* Longer than the fence: nothing is to happen, so nothing ends this wait. */
	poll(NULL, 0, 1200);
	CHECK(!status().restarts);
	return true;
}

static bool test_a_guest_that_overwrites_the_epoch_all_the_time_fills_no_log(void)
{
	uint64_t end = rig_now_ms() + 500, n = 0;

	CHECK(north_negotiate(&north));
	while (rig_now_ms() < end) {
		vbus_write64(&header()->epoch, ++n);
		north_ring(&north, 0);
	}
	CHECK(status().counters.foreign > 1 && status().counters.foreign <= 51);
	CHECK(rig_count_logged(&rig, "another image") <= 6);
	CHECK(RIG_UNTIL(status().epoch == north_epoch(&north)) && north_negotiate(&north));
	return true;
}

static bool test_an_older_image_of_the_same_epoch_gets_a_new_one(void)
{
	static uint8_t image[1 << 20];
	struct north_echo echo = { .count = 100 };
	uint64_t epoch;

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	memcpy(image, north.base, sizeof(image));
	/* Only frames go on: no call is answered meanwhile. */
	CHECK(north_echo(&north, &net, 1, &echo));
	epoch = north.epoch;
	memcpy(north.base, image, sizeof(image));
	north_ring(&north, 0);
	CHECK(RIG_UNTIL(north_epoch(&north) != epoch));
	CHECK(!status().restarts && status().counters.foreign == 1);
	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	return true;
}

static bool is_silent(void)
{
	return !north_wait(&north, 150);
}

static bool test_a_guest_that_never_answers_is_knocked_at_less_and_less_until_it_rings(void)
{
	pid_t worker = status().worker;
	uint32_t i;

	CHECK(north_negotiate(&north));
	kill(worker, SIGKILL);
	CHECK(RIG_UNTIL(north_epoch(&north) != north.epoch));
	CHECK(north_wait(&north, RIG_DEADLINE_MS) && RIG_UNTIL(is_silent()));
	north_ring(&north, 0);
	for (i = 0; i < 5; i++)
		CHECK(north_wait(&north, 150));
	return true;
}

static bool test_a_worker_gets_no_descriptor_that_vbusd_inherited(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)rig.vbusd, RIG_LEAK);
	CHECK(!access(path, F_OK));
	CHECK(north_negotiate(&north));
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)status().worker, RIG_LEAK);
	CHECK(access(path, F_OK));
	return true;
}

static bool device_runs(void)
{
	struct vbusd_device_status s = { 0 };

	rig_device_status(&rig, "b", 0, &s);
	return s.running;
}

static bool test_a_device_of_a_worker_that_died_does_not_run(void)
{
	pid_t worker = status().worker;

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1) && device_runs());
	kill(worker, SIGKILL);
	CHECK(RIG_UNTIL(north_epoch(&north) != north.epoch) && !device_runs());
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_a_socket_in_a_folder_that_others_can_change_is_refused),
	TEST(test_the_next_qemu_is_served_when_the_end_of_the_last_one_is_not_yet_known),
	TEST(test_a_hello_that_fails_renews_the_session),
	TEST(test_sessions_that_end_one_after_another_are_slowed_down_and_served_in_the_end),
	TEST(test_refusals_are_logged_once_a_session),
	TEST(test_a_vbusd_without_descriptors_refuses_and_does_not_spin),
	TEST(test_a_worker_that_qemu_blocks_is_replaced_when_a_device_is_removed),
	TEST(test_a_worker_that_acts_is_not_killed),
	TEST(test_a_guest_that_overwrites_the_epoch_all_the_time_fills_no_log),
	TEST(test_an_older_image_of_the_same_epoch_gets_a_new_one),
	TEST(test_a_guest_that_never_answers_is_knocked_at_less_and_less_until_it_rings),
	TEST(test_a_worker_gets_no_descriptor_that_vbusd_inherited),
	TEST(test_a_device_of_a_worker_that_died_does_not_run),
};

int main(void)
{
	return TAP_RUN(tests, setup, teardown);
}
