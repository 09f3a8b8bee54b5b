// SPDX-License-Identifier: MIT
/* vbusd itself: who may connect, what ends a session, what becomes of workers, what is refused. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
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

static bool test_a_second_connection_is_refused_and_the_first_goes_on(void)
{
	struct vbus_client second;

	CHECK(vbus_client_connect(&second, rig.qemu_path) == VBUS_CLIENT_REFUSED);
	CHECK(rig_logged(&rig, "a connection is refused (another one lives"));
	CHECK(north_negotiate(&north) && status().sessions == 1);
	return true;
}

static bool has_ended(struct vbusd_bus_status before)
{
	struct vbusd_bus_status now = status();

	return !now.connected && now.worker > 0 && now.worker != before.worker;
}

static bool test_the_end_of_qemu_ends_the_session_and_the_next_gets_new_memory(void)
{
	struct vbusd_bus_status before;

	CHECK(north_negotiate(&north));
	before = status();
	north_close(&north);
	CHECK(RIG_UNTIL(has_ended(before)));
	CHECK(!status().negotiated);
	CHECK(north_open(&north, &rig, 8));
	CHECK(vbus_read32((const vbus_le32 *)(north.base + VBUS_GUEST_HEADER)) == 0);
	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	CHECK(status().sessions == 2 && !status().restarts);
	CHECK(kill(before.worker, 0) < 0);
	return true;
}

static bool test_the_window_can_neither_shrink_nor_grow(void)
{
	CHECK(fcntl(north.window, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
	CHECK(ftruncate(north.window, 0) < 0);
	return true;
}

static bool test_both_sockets_are_for_one_user_only(void)
{
	struct stat st;

	CHECK(!stat(rig.admin_path, &st) && (st.st_mode & 0777) == 0600);
	CHECK(!stat(rig.qemu_path, &st) && (st.st_mode & 0777) == 0600);
	return true;
}

static bool kill_next(pid_t *last)
{
	struct vbusd_bus_status s = status();

	if (s.worker <= 0 || s.worker == *last || !s.epoch)
		return false;
	*last = s.worker;
	return !kill(s.worker, SIGKILL);
}

static bool test_workers_that_die_one_after_another_are_slowed_down_and_served_in_the_end(void)
{
	uint32_t killed = 0;
	pid_t last = 0;

	/* Nine are enough where they die within a second; a busy machine takes its time over each. */
	for (; killed < 9 || (killed < 200 && !rig_count_logged(&rig, "starts in 20 ms")); killed++)
		CHECK(RIG_UNTIL(kill_next(&last)));
	CHECK(rig_logged(&rig, "the next starts in 10 ms"));
	CHECK(rig_logged(&rig, "the next starts in 20 ms"));
	CHECK(RIG_UNTIL(north_negotiate(&north)));
	CHECK(status().restarts == killed);
	return true;
}

static bool is_gone(pid_t pid)
{
	char path[64];
	char state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return true;
	if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = 0;
	fclose(f);
	return state == 'Z';
}

static bool test_a_worker_outlives_a_vbusd_that_is_killed_and_ends_with_qemu(void)
{
	pid_t worker = status().worker;
	struct north_echo echo = { .count = 500 };

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	rig_lose(&rig, SIGKILL);
	CHECK(north_echo(&north, &net, 1, &echo) && !echo.recoveries);
	CHECK(worker > 0 && !is_gone(worker));
	north_close(&north);
	CHECK(RIG_UNTIL(is_gone(worker)));
	return true;
}

static bool test_a_worker_without_qemu_ends_with_its_vbusd(void)
{
	struct vbusd_bus_status before = status();
	pid_t worker;

	north_close(&north);
	CHECK(RIG_UNTIL(has_ended(before)));
	worker = status().worker;
	rig_lose(&rig, SIGKILL);
	CHECK(RIG_UNTIL(is_gone(worker)));
	return true;
}

static bool has_no_files(void)
{
	char record[128], meeting[128];

	snprintf(record, sizeof(record), "%s/b.bus", rig.dir);
	snprintf(meeting, sizeof(meeting), "%s/b.worker", rig.dir);
	return access(rig.admin_path, F_OK) && access(rig.qemu_path, F_OK) &&
	       access(record, F_OK) && access(meeting, F_OK);
}

static bool test_ctrl_c_ends_vbusd_its_workers_and_all_files(void)
{
	pid_t worker = status().worker;
	struct vbus_client q;

	CHECK(!has_no_files());
	rig_lose(&rig, SIGINT);
	CHECK(has_no_files() && is_gone(worker));
	CHECK(!north_open(&q, &rig, 8));
	return true;
}

static bool test_the_request_to_end_ends_the_same(void)
{
	struct vbusd_request q = rig_request(VBUSD_END);
	pid_t worker = status().worker;

	CHECK(!rig_ask(&rig, &q, NULL));
	rig_lose(&rig, 0);
	CHECK(has_no_files() && is_gone(worker));
	return true;
}

static bool refused(struct vbusd_request q, enum vbusd_result result, const char *words)
{
	char text[VBUSD_TEXT_LEN] = "";

	if (rig_ask(&rig, &q, text) == result && strstr(text, words))
		return true;
	fprintf(stderr, "# wanted %u %s, got: %s\n", result, words, text);
	return false;
}

static struct vbusd_request bus(const char *name, uint32_t mib, uint32_t vectors, const char *path)
{
	struct vbusd_request q = rig_request(VBUSD_BUS_ADD);

	snprintf(q.bus, sizeof(q.bus), "%s", name);
	snprintf(q.argument, sizeof(q.argument), "%s", path);
	q.window_mib = mib;
	q.vectors = vectors;
	return q;
}

static bool test_a_bus_that_cannot_be_is_refused_in_words(void)
{
	CHECK(refused(bus("b", 1, 8, "/x"), VBUSD_EXISTS, "exists"));
	CHECK(refused(bus("", 1, 8, "/x"), VBUSD_MALFORMED, "name"));
	CHECK(refused(bus("a/b", 1, 8, "/x"), VBUSD_MALFORMED, "name"));
	CHECK(refused(bus("c", 3, 8, "/x"), VBUSD_RANGE, "power of two"));
	CHECK(refused(bus("c", 0, 8, "/x"), VBUSD_RANGE, "power of two"));
	CHECK(refused(bus("c", 512, 8, "/x"), VBUSD_RANGE, "power of two"));
	CHECK(refused(bus("c", 1, 7, "/x"), VBUSD_RANGE, "vectors"));
	CHECK(refused(bus("c", 1, 33, "/x"), VBUSD_RANGE, "vectors"));
	CHECK(refused(bus("c", 1, 8, "x"), VBUSD_SYSTEM, "absolute"));
	CHECK(refused(bus("c", 1, 8, "/nowhere/x"), VBUSD_SYSTEM, "No such file"));
	CHECK(refused(bus("c", 1, 8, "/dev/null"), VBUSD_SYSTEM, "no socket"));
	CHECK(refused(bus("c", 1, 8, rig.qemu_path), VBUSD_SYSTEM, "serves it already"));
	return true;
}

static bool test_a_device_that_cannot_be_is_refused_in_words(void)
{
	struct vbusd_request q;

	CHECK(refused(rig_device("venet-loopback", 1), VBUSD_EXISTS, "UUID exists"));
	CHECK(refused(rig_device("venet-loopback", 0), VBUSD_MALFORMED, "UUID"));
	CHECK(refused(rig_device("vblk", 2), VBUSD_UNKNOWN, "class vblk"));
	CHECK(refused(rig_device("venet-tap", 2), VBUSD_SYSTEM, "name of an interface"));
	q = rig_device("venet-tap", 2);
	strcpy(q.argument, "lo");
	/* Whoever may not open the tap device at all is told so, and nothing of the interface. */
	CHECK(refused(q, VBUSD_SYSTEM, access("/dev/net/tun", R_OK | W_OK) ? "/dev/net/tun" : "interface lo"));
	q = rig_device("venet-loopback", 2);
	q.mac[0] = 1;
	CHECK(refused(q, VBUSD_RANGE, "mac"));
	q = rig_device("venet-loopback", 2);
	strcpy(q.bus, "zz");
	CHECK(refused(q, VBUSD_NO_ENTRY, "bus zz"));
	return true;
}

static bool test_masks_and_removals_of_what_is_not_there_are_refused_in_words(void)
{
	struct vbusd_request q = rig_device("", 1);

	q.op = VBUSD_MASK;
	q.mask[0].gid = 77;
	q.mask[0].bits = 1;
	CHECK(refused(q, VBUSD_UNKNOWN, "group 77"));
	q.mask[0].gid = VENET_GROUP_EVENTQ;
	q.mask[0].bits = 0x10;
	CHECK(refused(q, VBUSD_UNKNOWN, "bits 0x10"));
	q.uuid[0] = 9;
	CHECK(refused(q, VBUSD_NO_ENTRY, "device"));
	q.op = VBUSD_LINK;
	CHECK(refused(q, VBUSD_NO_ENTRY, "device"));
	q.op = VBUSD_DEVICE_REMOVE;
	CHECK(refused(q, VBUSD_NO_ENTRY, "device"));
	strcpy(q.bus, "zz");
	q.op = VBUSD_BUS_REMOVE;
	CHECK(refused(q, VBUSD_NO_ENTRY, "bus zz"));
	return true;
}

static bool test_a_request_of_another_shape_is_refused_and_the_connection_lives(void)
{
	struct vbusd_request q = rig_request(VBUSD_BUS_STATUS);
	struct vbusd_reply reply;
	char big[4096] = { 0 };

	CHECK(send(rig.admin, "x", 1, 0) == 1);
	CHECK(recv(rig.admin, &reply, sizeof(reply), 0) == sizeof(reply) &&
	      reply.result == VBUSD_MALFORMED);
	CHECK(send(rig.admin, big, sizeof(big), 0) == sizeof(big));
	CHECK(recv(rig.admin, &reply, sizeof(reply), 0) == sizeof(reply) &&
	      reply.result == VBUSD_MALFORMED);
	q.version = 2;
	CHECK(refused(q, VBUSD_MALFORMED, "version"));
	q = rig_request(99);
	CHECK(refused(q, VBUSD_MALFORMED, "request 99"));
	q = rig_request(VBUSD_DEVICE_REMOVE);
	memset(q.bus, 'x', sizeof(q.bus));
	CHECK(refused(q, VBUSD_MALFORMED, ""));
	CHECK(status().worker > 0);
	return true;
}

static bool test_a_removed_bus_leaves_nothing(void)
{
	struct vbusd_request q = rig_request(VBUSD_BUS_REMOVE);
	struct vbusd_bus_status s;
	pid_t worker = status().worker;

	CHECK(rig_ask(&rig, &q, NULL) == VBUSD_OK);
	CHECK(is_gone(worker) && access(rig.qemu_path, F_OK) && !rig_bus_status(&rig, 0, &s));
	CHECK(rig_add_bus(&rig) && status().worker > 0);
	return true;
}

/* ---- The idle worker: what it holds, and that nothing wakes it. ---- */

static long proc_number(pid_t pid, const char *what)
{
	char path[64], line[256];
	long value = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, what, strlen(what)) && line[strlen(what)] == ':')
			value = strtol(line + strlen(what) + 1, NULL, 10);
	if (f)
		fclose(f);
	return value;
}

static bool is_confirmed(void)
{
	return status().confirmed;
}

static bool test_a_confirmed_idle_worker_is_woken_by_nothing(void)
{
	const char *counter = "voluntary_ctxt_switches";
	pid_t worker = status().worker;
	long before, after;

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	CHECK(RIG_UNTIL(is_confirmed()));
	/* It may be on its way to sleep still: two equal counts 10 ms apart say that it arrived. */
	before = proc_number(worker, counter);
	do {
		after = before;
		poll(NULL, 0, 10);
		before = proc_number(worker, counter);
	} while (before != after);
	/* Nothing can end this wait: the second is what is looked at. */
	poll(NULL, 0, 1000);
	after = proc_number(worker, counter);
	CHECK(before > 0 && after == before);
	return true;
}

static bool test_a_worker_holds_at_most_8_mib_of_its_own(void)
{
	struct north_echo echo = { .count = 2000 };
	pid_t worker = status().worker;
	long kib;

#ifdef __SANITIZE_ADDRESS__
	fprintf(stderr, "# not counted: the sanitizer holds more itself\n");
	return true;
#endif
	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1) &&
	      north_echo(&north, &net, 1, &echo));
	kib = proc_number(worker, "RssAnon") + proc_number(worker, "RssFile");
	fprintf(stderr, "# %ld KiB\n", kib);
	CHECK(kib > 0 && kib <= 8192);
	return true;
}

static bool test_a_worker_has_no_privilege_left(void)
{
	pid_t worker = status().worker;

	CHECK(north_negotiate(&north));	/* so it has come so far */
	CHECK(proc_number(worker, "NoNewPrivs") == 1);
	CHECK(geteuid() ||
	      (proc_number(worker, "Uid") == 65534 && proc_number(worker, "CapEff") == 0));
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_a_second_connection_is_refused_and_the_first_goes_on),
	TEST(test_the_end_of_qemu_ends_the_session_and_the_next_gets_new_memory),
	TEST(test_the_window_can_neither_shrink_nor_grow),
	TEST(test_both_sockets_are_for_one_user_only),
	TEST(test_workers_that_die_one_after_another_are_slowed_down_and_served_in_the_end),
	TEST(test_a_worker_outlives_a_vbusd_that_is_killed_and_ends_with_qemu),
	TEST(test_a_worker_without_qemu_ends_with_its_vbusd),
	TEST(test_ctrl_c_ends_vbusd_its_workers_and_all_files),
	TEST(test_the_request_to_end_ends_the_same),
	TEST(test_a_bus_that_cannot_be_is_refused_in_words),
	TEST(test_a_device_that_cannot_be_is_refused_in_words),
	TEST(test_masks_and_removals_of_what_is_not_there_are_refused_in_words),
	TEST(test_a_request_of_another_shape_is_refused_and_the_connection_lives),
	TEST(test_a_removed_bus_leaves_nothing),
	TEST(test_a_confirmed_idle_worker_is_woken_by_nothing),
	TEST(test_a_worker_holds_at_most_8_mib_of_its_own),
	TEST(test_a_worker_has_no_privilege_left),
};

int main(void)
{
	return TAP_RUN(tests, setup, teardown);
}
