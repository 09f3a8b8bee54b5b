// SPDX-License-Identifier: MIT
/* The file connector: who may come, what ends a session, what a doorbell that is full does. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
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

static const char *in_folder(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", rig.qemu_path, name);
	return path;
}

static bool still_serves(void)
{
	struct north_echo echo = { .count = 300 };

	return north_negotiate(&north) && north_net_open(&north, &net, 1) &&
	       north_echo(&north, &net, 1, &echo) && !echo.recoveries;
}

/* Until the next session has its files; before that the names may be those of the last. */
static bool leave(void)
{
	bool was = RIG_UNTIL(status().connected);

	north_close(&north);
	return was && RIG_UNTIL(!access(in_folder("alive"), F_OK));
}

/* The first try may still meet the session that is about to end. */
static bool comes_back(void)
{
	north_close(&north);
	return north_open(&north, &rig, 8) && still_serves();
}

static bool test_the_files_are_for_one_user_only_and_the_window_has_its_size(void)
{
	struct stat st;

	CHECK(!stat(in_folder("window"), &st) && S_ISREG(st.st_mode) && st.st_size == 1 << 20);
	CHECK((st.st_mode & 0777) == 0600);
	CHECK(!stat(in_folder("to-host-7"), &st) && S_ISFIFO(st.st_mode) &&
	      (st.st_mode & 0777) == 0600);
	CHECK(!stat(in_folder("to-guest-7"), &st) && S_ISFIFO(st.st_mode) &&
	      (st.st_mode & 0777) == 0600);
	CHECK(stat(in_folder("to-host-8"), &st) < 0);
	return true;
}

static bool test_a_second_client_is_refused_and_the_first_goes_on(void)
{
	struct vbus_client second;

	CHECK(RIG_UNTIL(status().connected));
	CHECK(vbus_client_connect(&second, rig.qemu_path) == VBUS_CLIENT_REFUSED);
	CHECK(still_serves() && status().sessions == 1);
	return true;
}

static bool test_two_clients_that_come_at_once_are_both_sent_away(void)
{
	int one, other;

	CHECK(leave());
	one = open(in_folder("alive"), O_WRONLY | O_NONBLOCK);
	other = open(in_folder("alive"), O_WRONLY | O_NONBLOCK);
	CHECK(one >= 0 && other >= 0 && !kill(rig.vbusd, SIGSTOP));
	CHECK(write(one, "", 1) == 1 && write(other, "", 1) == 1);
	kill(rig.vbusd, SIGCONT);
	CHECK(rig_logged(&rig, "the client is gone (more was said than one word)"));
	close(one);
	close(other);
	CHECK(RIG_UNTIL(comes_back()));
	return true;
}

static bool test_the_end_of_a_client_ends_the_session_and_the_next_gets_new_memory(void)
{
	struct vbusd_bus_status before;
	struct stat old, fresh;

	CHECK(still_serves() && !fstat(north.window, &old));
	before = status();
	north_close(&north);
	CHECK(rig_logged(&rig, "the client is gone (end of file)"));
	CHECK(RIG_UNTIL(north_open(&north, &rig, 8)) && !fstat(north.window, &fresh));
	CHECK(vbus_read32((const vbus_le32 *)(north.base + VBUS_GUEST_HEADER)) == 0);
	CHECK(still_serves());
	CHECK(status().sessions == 2 && !status().restarts && status().worker != before.worker);
	return true;
}

static bool test_a_client_that_comes_and_goes_without_a_word_renews_the_session(void)
{
	int alive;

	CHECK(leave());
	alive = open(in_folder("alive"), O_WRONLY | O_NONBLOCK);
	CHECK(alive >= 0);
	close(alive);
	CHECK(RIG_UNTIL(rig_count_logged(&rig, "the client is gone (end of file)") == 2));
	CHECK(RIG_UNTIL(comes_back()));
	return true;
}

static bool test_the_end_of_vbusd_ends_the_clients_wait_and_leaves_no_name(void)
{
	int rc;

	CHECK(still_serves());
	kill(rig.vbusd, SIGTERM);
	do
		rc = vbus_client_wait(&north, RIG_DEADLINE_MS);
	while (!rc || rc == VBUS_STATUS_STALE);
	CHECK(rc == VBUS_CLIENT_ENDED);
	/* Nobody reads any more, and nobody is told by a signal. */
	north_ring(&north, 0);
	CHECK(RIG_UNTIL(access(in_folder("window"), F_OK)) && access(in_folder("to-host-0"), F_OK));
	return true;
}

static bool has_open(pid_t pid, const char *name)
{
	char path[64], to[256];
	struct dirent *entry;
	bool has = false;
	DIR *folder;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	folder = opendir(path);
	while (folder && !has && (entry = readdir(folder))) {
		n = readlinkat(dirfd(folder), entry->d_name, to, sizeof(to) - 1);
		to[n > 0 ? n : 0] = 0;
		has = strstr(to, name);
	}
	if (folder)
		closedir(folder);
	return has;
}

/* Its flags are of the open file: a worker that had a copy could make vbusd wait in a read. */
static bool test_a_worker_has_no_part_in_what_vbusd_reads_of_a_client(void)
{
	CHECK(still_serves() && RIG_UNTIL(status().connected));
	CHECK(has_open(rig.vbusd, "/alive") && has_open(rig.vbusd, "/to-host-0"));
	CHECK(!has_open(status().worker, "/alive") && has_open(status().worker, "/to-host-0"));
	return true;
}

static bool test_a_vbusd_that_is_killed_ends_its_clients_session_and_worker(void)
{
	pid_t worker = status().worker;
	int rc;

	CHECK(still_serves() && RIG_UNTIL(status().connected));
	rig_lose(&rig, SIGKILL);
	do
		rc = vbus_client_wait(&north, RIG_DEADLINE_MS);
	while (!rc || rc == VBUS_STATUS_STALE);
	CHECK(rc == VBUS_CLIENT_ENDED && RIG_UNTIL(!has_open(worker, "/to-host-0")));
	CHECK(rig_again(&rig, NULL) && RIG_UNTIL(comes_back()));
	return true;
}

/* What a client that rings too often does to its own pipe; a reader that is awake may keep pace. */
static void fill(int fd)
{
	char bytes[4096] = { 0 };
	uint32_t i;

	for (i = 0; i < 256 && write(fd, bytes, sizeof(bytes)) > 0; i++)
		;
	for (i = 0; i < sizeof(bytes) && write(fd, bytes, 1) > 0; i++)
		;
}

static bool test_a_doorbell_of_the_host_that_is_full_is_emptied_and_rings(void)
{
	struct vbusd_bus_status s = status();
	struct pollfd p = { .fd = north.to_south[3], .events = POLLOUT };

	CHECK(s.worker > 0 && still_serves() && !kill(s.worker, SIGSTOP));
	CHECK(RIG_UNTIL(rig_state(s.worker) == 'T'));
	fill(north.to_south[0]);
	fill(north.to_south[3]);
	CHECK(poll(&p, 1, 0) == 0);
	kill(s.worker, SIGCONT);
	CHECK(poll(&p, 1, RIG_DEADLINE_MS) == 1);
	CHECK(still_serves() && !status().restarts);
	return true;
}

static bool test_a_doorbell_of_the_client_that_is_full_neither_blocks_nor_spins(void)
{
	struct vbusd_bus_status s = status();
	struct pollfd p = { .fd = north.to_guest[0], .events = POLLIN };
	int bell = open(in_folder("to-guest-0"), O_WRONLY | O_NONBLOCK);
	struct vbus_enumerate_reply list;
	long ticks;

	CHECK(bell >= 0 && still_serves());
	/* No pause is long enough to miss the look that a call takes now and then. */
	fill(bell);
	CHECK(!north_enumerate(&north, &list) && list.total == 1);
	fill(bell);
	ticks = rig_ticks(s.worker);
	/* Nothing is to happen, so nothing ends this wait. */
	poll(NULL, 0, 300);
	CHECK(rig_ticks(s.worker) - ticks < 15);
	CHECK(poll(&p, 1, 0) == 1 && !north_enumerate(&north, &list));
	CHECK(still_serves() && !status().restarts);
	close(bell);
	return true;
}

static bool test_a_confirmed_idle_bus_wakes_nobody_when_a_client_has_rung_before(void)
{
	pid_t worker = status().worker;
	long ticks;

	CHECK(still_serves() && RIG_UNTIL(status().confirmed));
	fill(north.to_south[1]);
	CHECK(still_serves());
	ticks = rig_ticks(worker);
	poll(NULL, 0, 300);
	CHECK(rig_ticks(worker) - ticks < 15);
	return true;
}

static bool refused(const char *name, const char *path, const char *words)
{
	struct vbusd_request q = rig_request(VBUSD_BUS_ADD);
	char text[VBUSD_TEXT_LEN] = "";

	q.window_mib = 1;
	q.vectors = 8;
	q.connector = VBUSD_FILE;
	snprintf(q.bus, sizeof(q.bus), "%s", name);
	snprintf(q.argument, sizeof(q.argument), "%s", path);
	if (rig_ask(&rig, &q, text) == VBUSD_SYSTEM && strstr(text, words))
		return true;
	fprintf(stderr, "# wanted %s, got: %s\n", words, text);
	return false;
}

static bool test_a_folder_that_cannot_be_is_refused_in_words_and_left_alone(void)
{
	char folder[80];
	bool open_to_all;

	snprintf(folder, sizeof(folder), "%s/open", rig.dir);
	CHECK(!mkdir(folder, 0700) && !chmod(folder, 0777));
	open_to_all = refused("c", folder, "can be changed by others");
	rmdir(folder);
	CHECK(open_to_all);
	CHECK(refused("c", "qemu", "absolute"));
	CHECK(refused("c", "/nowhere", "No such file"));
	CHECK(refused("c", rig.log_path, "Not a directory"));
	CHECK(refused("c", rig.qemu_path, "somebody serves it already"));
	CHECK(!access(in_folder("window"), F_OK) && still_serves());
	return true;
}

static bool test_a_connector_that_nobody_knows_is_refused(void)
{
	struct vbusd_request q = rig_request(VBUSD_BUS_ADD);
	char text[VBUSD_TEXT_LEN] = "";

	strcpy(q.bus, "c");
	q.window_mib = 1;
	q.vectors = 8;
	q.connector = 2;
	CHECK(rig_ask(&rig, &q, text) == VBUSD_UNKNOWN);
	CHECK(strstr(text, "connector 2: is not known"));
	return true;
}

static bool test_what_a_killed_vbusd_left_is_replaced_and_refused_to_clients_before(void)
{
	struct vbus_client late;

	CHECK(leave() && status().worker > 0);
	rig_lose(&rig, SIGKILL);
	/* What it held is closed when nobody reads there any more. */
	CHECK(RIG_UNTIL(open(in_folder("alive"), O_WRONLY | O_NONBLOCK) < 0 && errno == ENXIO));
	CHECK(vbus_client_connect(&late, rig.qemu_path) == VBUS_CLIENT_SYSTEM && errno == ENXIO);
	CHECK(!access(in_folder("window"), F_OK));
	/* It answers when it has made the folder anew. */
	CHECK(rig_again(&rig, NULL) && RIG_UNTIL(status().worker > 0));
	CHECK(north_open(&north, &rig, 8) && north_negotiate(&north));
	return true;
}

static bool test_a_window_that_a_client_cuts_costs_its_own_worker_only(void)
{
	CHECK(still_serves());
	CHECK(!ftruncate(north.window, 0));
	north_ring(&north, 0);
	CHECK(RIG_UNTIL(status().restarts > 0));
	CHECK(RIG_UNTIL(comes_back()));
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_the_files_are_for_one_user_only_and_the_window_has_its_size),
	TEST(test_a_second_client_is_refused_and_the_first_goes_on),
	TEST(test_two_clients_that_come_at_once_are_both_sent_away),
	TEST(test_the_end_of_a_client_ends_the_session_and_the_next_gets_new_memory),
	TEST(test_a_client_that_comes_and_goes_without_a_word_renews_the_session),
	TEST(test_the_end_of_vbusd_ends_the_clients_wait_and_leaves_no_name),
	TEST(test_a_worker_has_no_part_in_what_vbusd_reads_of_a_client),
	TEST(test_a_vbusd_that_is_killed_ends_its_clients_session_and_worker),
	TEST(test_a_doorbell_of_the_host_that_is_full_is_emptied_and_rings),
	TEST(test_a_doorbell_of_the_client_that_is_full_neither_blocks_nor_spins),
	TEST(test_a_confirmed_idle_bus_wakes_nobody_when_a_client_has_rung_before),
	TEST(test_a_folder_that_cannot_be_is_refused_in_words_and_left_alone),
	TEST(test_a_connector_that_nobody_knows_is_refused),
	TEST(test_what_a_killed_vbusd_left_is_replaced_and_refused_to_clients_before),
	TEST(test_a_window_that_a_client_cuts_costs_its_own_worker_only),
};

int main(void)
{
	setenv("VBUS_CONNECTOR", "file", 1);
	return TAP_RUN(tests, setup, teardown);
}
