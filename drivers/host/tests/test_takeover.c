// SPDX-License-Identifier: MIT
/* vbusd is lost, or replaced: the guest does not notice, and the next one has everything. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "north.h"
#include "tap.h"

static struct rig rig;
static struct vbus_client north;
static struct vbus_client_net net;

static void setup(void)
{
	struct vbusd_request dev = rig_device("venet-loopback", 1);

	if (!rig_start(&rig) || !rig_add_bus(&rig) || rig_ask(&rig, &dev, NULL) ||
	    !north_open(&north, &rig, 8) || !north_negotiate(&north) ||
	    !north_net_open(&north, &net, 1))
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

static bool next_one(void)
{
	rig_lose(&rig, SIGKILL);
	return rig_again(&rig, NULL);
}

/* A transfer of which nothing is lost and, when @quietly, nothing had to be sent again. */
static bool echoes(bool quietly)
{
	struct north_echo e = { .count = 500 };

	return north_echo(&north, &net, 1, &e) && (!quietly || !e.recoveries);
}

/* ---- The guest does not notice. ---- */

struct loss {
	uint32_t lose_at, start_at;
	int phase;
	bool ok;
};

static void lose_and_start(struct north_echo *e, void *ctx)
{
	struct loss *l = ctx;

	if (!l->phase && e->received >= l->lose_at) {
		rig_lose(&rig, SIGKILL);
		l->phase = 1;
	} else if (l->phase == 1 && e->received >= l->start_at) {
		l->ok = rig_again(&rig, NULL);
		l->phase = 2;
	}
}

static bool test_losses_of_vbusd_at_random_moments_of_a_transfer_lose_nothing_and_leak_nothing(void)
{
	struct vbusd_bus_status before = status(), now;
	uint32_t round, first = 0, of_worker = rig_descriptors(before.worker);

	srand(1);
	for (round = 0; round < rig_kills(); round++) {
		struct loss l = { .lose_at = (uint32_t)rand() % 500 };
		struct north_echo e = { .count = 1000, .each = lose_and_start, .ctx = &l };

		l.start_at = l.lose_at + (uint32_t)rand() % 400;
		CHECK(north_echo(&north, &net, 1, &e) && l.ok && !e.recoveries && !e.duplicates);
		now = status();
		CHECK(now.epoch == before.epoch && now.worker == before.worker && now.connected);
		CHECK(now.takeovers == round + 1 && !now.restarts && now.negotiated &&
		      now.sessions == 1);
		if (!first)
			first = rig_descriptors(rig.vbusd);
	}
	CHECK(rig_descriptors(rig.vbusd) == first);
	CHECK(rig_descriptors(before.worker) == of_worker);
	return true;
}

static bool copy(const char *from, const char *to, mode_t mode)
{
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	char part[65536];
	ssize_t n = -1;

	while (in >= 0 && out >= 0 && (n = read(in, part, sizeof(part))) > 0)
		if (write(out, part, (size_t)n) != n)
			break;
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	return !n;
}

static bool runs(pid_t pid, const char *program)
{
	char path[64], is[256] = "";

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	return readlink(path, is, sizeof(is) - 1) > 0 && !strcmp(is, program);
}

static bool has_renewed(void)
{
	struct vbusd_bus_status s = status();

	return s.handovers == 1 && s.worker > 0 && s.confirmed;
}

static bool test_an_upgrade_in_place_is_not_noticed_and_renew_brings_the_new_worker(void)
{
	char program[128], worker[128], beside[256];
	struct vbusd_request renew = rig_request(VBUSD_RENEW);
	struct vbusd_bus_status before = status();
	bool ok;

	snprintf(program, sizeof(program), "%s/vbusd", rig.dir);
	snprintf(worker, sizeof(worker), "%s/vbus-worker", rig.dir);
	snprintf(beside, sizeof(beside), "%.*s/vbus-worker",
		 (int)(strrchr(rig.program, '/') - rig.program), rig.program);
	CHECK(copy(rig.program, program, 0755) && copy(beside, worker, 0755) &&
	      !chmod(rig.dir, 0755));
	rig_lose(&rig, SIGTERM);
	CHECK(!rig_is_gone(before.worker) && access(rig.admin_path, F_OK));
	rig.program = program;
	ok = rig_again(&rig, NULL) && runs(rig.vbusd, program) &&
	     status().worker == before.worker && status().epoch == before.epoch && echoes(true) &&
	     !rig_ask(&rig, &renew, NULL) && echoes(false) && RIG_UNTIL(has_renewed()) &&
	     RIG_UNTIL(runs(status().worker, worker));
	unlink(program);
	unlink(worker);
	CHECK(ok && !status().restarts);
	return true;
}

static bool test_a_vbusd_that_ends_does_not_leave_a_guest_without_a_worker(void)
{
	pid_t worker = status().worker;

	CHECK(worker > 0 && rig.vbusd > 0 && !kill(rig.vbusd, SIGSTOP));
	kill(worker, SIGKILL);
	CHECK(RIG_UNTIL(rig_is_gone(worker)));
	kill(rig.vbusd, SIGTERM);
	kill(rig.vbusd, SIGCONT);
	rig_lose(&rig, 0);
	CHECK(rig_again(&rig, NULL) && echoes(false));
	CHECK(!status().lost && status().takeovers == 1 && status().restarts == 1);
	return true;
}

static bool same_device(uint8_t number, uint32_t count)
{
	struct vbus_enumerate_reply list;

	return !north_enumerate(&north, &list) && list.total == count &&
	       list.entry[count - 1].uuid[0] == number;
}

static bool test_devices_come_and_go_after_a_takeover_as_before(void)
{
	struct vbusd_request second = rig_device("venet-loopback", 2),
			     third = rig_device("venet-loopback", 3),
			     gone = rig_request(VBUSD_DEVICE_REMOVE);

	CHECK(!rig_ask(&rig, &second, NULL) && next_one());
	CHECK(RIG_UNTIL(same_device(2, 2)));
	CHECK(rig_ask(&rig, &second, NULL) == VBUSD_EXISTS);
	CHECK(!rig_ask(&rig, &third, NULL) && RIG_UNTIL(same_device(3, 3)));
	memset(gone.uuid, 3, sizeof(gone.uuid));
	CHECK(!rig_ask(&rig, &gone, NULL));
	memset(gone.uuid, 2, sizeof(gone.uuid));
	CHECK(!rig_ask(&rig, &gone, NULL) && RIG_UNTIL(same_device(1, 1)));
	CHECK(next_one() && status().devices == 1 && same_device(1, 1) && echoes(true));
	return true;
}

static bool has_another_worker(pid_t before)
{
	pid_t now = status().worker;

	return now > 0 && now != before;
}

static bool test_a_worker_that_was_taken_over_and_does_not_act_is_replaced(void)
{
	struct vbusd_request gone = rig_request(VBUSD_DEVICE_REMOVE),
			     second = rig_device("venet-loopback", 2);
	pid_t worker;

	CHECK(!rig_ask(&rig, &second, NULL) && next_one() && echoes(true));
	worker = status().worker;
	CHECK(worker > 0 && !kill(worker, SIGSTOP));
	memset(gone.uuid, 2, sizeof(gone.uuid));
	CHECK(!rig_ask(&rig, &gone, NULL));
	CHECK(rig_logged(&rig, "it did not act for"));
	CHECK(RIG_UNTIL(has_another_worker(worker)) && rig_is_gone(worker));
	CHECK(echoes(false) && same_device(1, 1) && status().restarts == 1);
	return true;
}

static bool test_a_worker_that_was_taken_over_and_dies_is_replaced(void)
{
	struct vbusd_bus_status before = status();

	CHECK(next_one() && status().worker == before.worker);
	kill(before.worker, SIGKILL);
	CHECK(RIG_UNTIL(has_another_worker(before.worker)));
	CHECK(rig_logged(&rig, "a former vbusd had started it"));
	CHECK(echoes(false) && status().epoch != before.epoch);
	/* And that one is a child, and is taken over as well. */
	CHECK(next_one() && echoes(true) && status().takeovers == 2);
	return true;
}

static bool test_after_a_takeover_a_second_qemu_is_refused_and_the_next_one_is_served(void)
{
	struct vbusd_bus_status before = status();
	struct vbus_client second;

	CHECK(next_one() && !north_open(&second, &rig, 8));
	CHECK(rig_logged(&rig, "a connection is refused (another one lives"));
	CHECK(echoes(true));
	north_close(&north);
	CHECK(RIG_UNTIL(has_another_worker(before.worker)) && rig_is_gone(before.worker));
	CHECK(north_open(&north, &rig, 8) && north_negotiate(&north) &&
	      north_net_open(&north, &net, 1) && echoes(true));
	CHECK(status().sessions == 2 && !status().restarts && !status().lost);
	return true;
}

/* The list names devices in the order of their slots. */
static bool lists(const char *numbers)
{
	struct vbus_enumerate_reply list;
	uint32_t i;

	if (north_enumerate(&north, &list) || list.total != strlen(numbers))
		return false;
	for (i = 0; i < list.total; i++)
		if (list.entry[i].uuid[0] != numbers[i] - '0')
			return false;
	return true;
}

static bool add(uint8_t number)
{
	struct vbusd_request q = rig_device("venet-loopback", number);

	return !rig_ask(&rig, &q, NULL);
}

static bool test_a_device_comes_back_in_its_own_slot_while_one_before_it_is_free(void)
{
	struct vbusd_request gone = rig_request(VBUSD_DEVICE_REMOVE);
	struct vbusd_bus_status before;
	struct north_echo e = { .count = 500 };

	memset(gone.uuid, 2, sizeof(gone.uuid));
	CHECK(add(2) && add(3) && add(4) && !rig_ask(&rig, &gone, NULL));
	CHECK(RIG_UNTIL(lists("134")) && north_net_open(&north, &net, 4));
	/* It is open, and a slot that changed would close it. */
	CHECK(next_one() && north_echo(&north, &net, 4, &e) && !e.recoveries && lists("134"));
	CHECK(add(5) && RIG_UNTIL(lists("1534")));

	memset(gone.uuid, 5, sizeof(gone.uuid));
	CHECK(!rig_ask(&rig, &gone, NULL) && RIG_UNTIL(lists("134")));
	before = status();
	rig_lose(&rig, SIGKILL);
	kill(before.worker, SIGKILL);
	CHECK(RIG_UNTIL(rig_is_gone(before.worker)) && rig_again(&rig, NULL) && add(6));
	north_close(&north);
	CHECK(north_open(&north, &rig, 8) && north_negotiate(&north) && lists("1634"));
	return true;
}

/* ---- Planned hand-over ---- */

static bool has_renewed_twice(void)
{
	struct vbusd_bus_status s = status();

	return s.handovers == 2 && s.worker > 0 && s.confirmed;
}

/* Whatever the present one says of its layers: a fresh one has them all, or does not serve. */
static bool test_a_vbusd_that_requires_a_sandbox_serves_with_no_worker_that_it_took_over(void)
{
	struct vbusd_bus_status before = status();

	rig.words[0] = "--require-sandbox";
	CHECK(next_one() && rig_logged(&rig, "is to make room (a sandbox is required)"));
	if (VBUS_SANITIZED) {
		/* Which leave layers out. */
		CHECK(rig_logged(&rig, "died (exit code 1)") && rig_is_gone(before.worker));
		CHECK(status().epoch == before.epoch);
		return true;
	}
	CHECK(echoes(false) && RIG_UNTIL(has_renewed()) && rig_is_gone(before.worker));
	/* Of the successor the next one cannot know either that it had to have them. */
	CHECK(next_one() && echoes(false) && RIG_UNTIL(has_renewed_twice()));
	CHECK(!status().restarts && !status().lost && status().takeovers == 2);
	/* And without that word the worker stays. */
	before = status();
	rig.words[0] = NULL;
	CHECK(next_one() && echoes(true) && status().worker == before.worker);
	return true;
}

static void renew_now(struct north_echo *e, void *ctx)
{
	struct vbusd_request q = rig_request(VBUSD_RENEW);
	int *times = ctx;

	if (e->received >= 300 * (uint32_t)(*times + 1) && *times < 6 && !rig_ask(&rig, &q, NULL))
		++*times;
}

static bool test_six_renewals_during_a_transfer_lose_nothing_and_slow_nothing_down(void)
{
	int times = 0;
	struct north_echo e = { .count = 3000, .each = renew_now, .ctx = &times };

	CHECK(north_echo(&north, &net, 1, &e) && times == 6 && e.recoveries);
	CHECK(!status().restarts && status().handovers >= 1);
	CHECK(!rig_count_logged(&rig, "the next starts in"));
	return true;
}

static bool test_a_worker_that_does_not_make_room_is_killed(void)
{
	struct vbusd_request q = rig_request(VBUSD_RENEW);
	pid_t worker = status().worker;

	CHECK(worker > 0 && !kill(worker, SIGSTOP) && !rig_ask(&rig, &q, NULL));
	CHECK(RIG_UNTIL(has_another_worker(worker)) && echoes(false) && status().handovers == 1);
	return true;
}

static bool test_a_vbusd_lost_in_the_middle_of_a_renewal_leaves_that_to_the_next(void)
{
	struct vbusd_request q = rig_request(VBUSD_RENEW);
	pid_t worker = status().worker;

	CHECK(worker > 0 && !kill(worker, SIGSTOP) && !rig_ask(&rig, &q, NULL));
	rig_lose(&rig, SIGKILL);
	kill(worker, SIGCONT);
	CHECK(rig_again(&rig, NULL) && RIG_UNTIL(has_another_worker(worker)));
	CHECK(echoes(false) && !status().lost && status().sessions == 1);
	return true;
}

/* ---- What is lost. ---- */

static bool test_vbusd_and_worker_lost_at_once_is_told_and_the_next_qemu_is_served(void)
{
	pid_t worker = status().worker;

	rig_lose(&rig, SIGKILL);
	kill(worker, SIGKILL);
	CHECK(RIG_UNTIL(rig_is_gone(worker)) && rig_again(&rig, NULL));
	CHECK(rig_logged(&rig, "bus b: vbusd and its worker were lost at once: the guest's devices "
			 "fail; restart or migrate the guest"));
	CHECK(status().lost == 1 && !status().connected && status().devices == 1);
	north_close(&north);
	CHECK(north_open(&north, &rig, 8) && north_negotiate(&north) &&
	      north_net_open(&north, &net, 1) && echoes(true));
	CHECK(status().sessions == 2);
	return true;
}

/* A process of its own, which plays QEMU until it is killed. */
static pid_t other_qemu(void)
{
	struct vbus_client q;
	int ready[2];
	pid_t pid;
	char c;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return -1;
	pid = fork();
	if (!pid) {
		if (north_open(&q, &rig, 8) && write(ready[1], "x", 1) == 1)
			poll(NULL, 0, -1);
		_exit(1);
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		pid = -1;
	close(ready[0]);
	return pid;
}

static bool is_free(void)
{
	struct vbusd_bus_status s = status();

	return !s.connected && s.worker > 0;
}

static bool test_a_qemu_that_ends_while_there_is_no_vbusd_is_not_missed(void)
{
	pid_t qemu, worker;

	north_close(&north);
	CHECK(RIG_UNTIL(is_free()));
	qemu = other_qemu();
	CHECK(qemu > 0);
	worker = status().worker;
	rig_lose(&rig, SIGKILL);
	kill(qemu, SIGKILL);
	waitpid(qemu, NULL, 0);
	CHECK(RIG_UNTIL(rig_is_gone(worker)) && rig_again(&rig, NULL));
	CHECK(RIG_UNTIL(is_free()) && !status().lost && !rig_count_logged(&rig, "were lost"));
	CHECK(north_open(&north, &rig, 8) && north_negotiate(&north));
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_losses_of_vbusd_at_random_moments_of_a_transfer_lose_nothing_and_leak_nothing),
	TEST(test_an_upgrade_in_place_is_not_noticed_and_renew_brings_the_new_worker),
	TEST(test_a_vbusd_that_ends_does_not_leave_a_guest_without_a_worker),
	TEST(test_devices_come_and_go_after_a_takeover_as_before),
	TEST(test_a_worker_that_was_taken_over_and_does_not_act_is_replaced),
	TEST(test_a_worker_that_was_taken_over_and_dies_is_replaced),
	TEST(test_after_a_takeover_a_second_qemu_is_refused_and_the_next_one_is_served),
	TEST(test_a_device_comes_back_in_its_own_slot_while_one_before_it_is_free),
	TEST(test_a_vbusd_that_requires_a_sandbox_serves_with_no_worker_that_it_took_over),
	TEST(test_six_renewals_during_a_transfer_lose_nothing_and_slow_nothing_down),
	TEST(test_a_worker_that_does_not_make_room_is_killed),
	TEST(test_a_vbusd_lost_in_the_middle_of_a_renewal_leaves_that_to_the_next),
	TEST(test_vbusd_and_worker_lost_at_once_is_told_and_the_next_qemu_is_served),
	TEST(test_a_qemu_that_ends_while_there_is_no_vbusd_is_not_missed),
};

int main(void)
{
	return TAP_RUN(tests, setup, teardown);
}
