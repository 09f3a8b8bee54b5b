// SPDX-License-Identifier: MIT
/*
 * What the next vbusd does not believe: workers that lie, records that are broken, users that have no
 * business there.  And whom it believes when all others are gone: systemd's descriptor store.
 *
 * Called vbus-worker, this program is the worker that lies; the name of its bus says how.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fdmsg.h"
#include "north.h"
#include "store.h"
#include "tap.h"
#include "vbusd_record.h"

static struct rig rig;
static struct vbus_client north;
static struct vbus_client_net net;

static bool stand(void)
{
	struct vbusd_request dev = rig_device("venet-loopback", 1);

	return rig_add_bus(&rig) && !rig_ask(&rig, &dev, NULL) && north_open(&north, &rig, 8) &&
	       north_negotiate(&north) && north_net_open(&north, &net, 1);
}

static void setup(void)
{
	if (!rig_start(&rig))
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

static bool echoes(bool quietly)
{
	struct north_echo e = { .count = 300 };

	return north_echo(&north, &net, 1, &e) && (!quietly || !e.recoveries);
}

/* ---- The worker that lies: one row a lie. ---- */

struct holding {
	int fds[VBUS_WORKER_FDS];
	unsigned int count;
	int qemu;
	unsigned int qemus;	/* how often it hands back that one */
	struct vbus_worker_message device, go;
	unsigned int with_device, with_go;	/* descriptors */
};

static void lie_not(struct holding *h)
{
	(void)h;
}

static void lie_window(struct holding *h)
{
	h->fds[VBUS_WORKER_WINDOW] = memfd_create("other", MFD_CLOEXEC);
	if (ftruncate(h->fds[VBUS_WORKER_WINDOW], 1 << 20) < 0)
		_exit(1);
}

static void lie_doorbells(struct holding *h)
{
	int first = h->fds[VBUS_WORKER_BELLS];

	h->fds[VBUS_WORKER_BELLS] = h->fds[VBUS_WORKER_BELLS + 1];
	h->fds[VBUS_WORKER_BELLS + 1] = first;
}

static void lie_eventfd(struct holding *h)
{
	h->fds[VBUS_WORKER_BELLS] = eventfd(0, EFD_CLOEXEC);
}

static void lie_qemu(struct holding *h)
{
	h->qemu = socket(AF_UNIX, SOCK_STREAM, 0);
}

static void lie_twice(struct holding *h)
{
	h->qemus = 2;
}

static void lie_hangup(struct holding *h)
{
	h->qemus = 0;
}

static void lie_page(struct holding *h)
{
	h->fds[VBUS_WORKER_PAGE] = h->fds[VBUS_WORKER_WINDOW];
}

static void lie_fewer(struct holding *h)
{
	h->count--;
}

static void lie_more(struct holding *h)
{
	h->fds[h->count++] = STDERR_FILENO;
}

static void lie_backend(struct holding *h)
{
	h->with_device = 1;
}

static void lie_backends(struct holding *h)
{
	h->device.instance++;
	h->with_device = 2;
}

static void lie_slot(struct holding *h)
{
	h->device.slot = VBUSD_DEVICES;
}

/* One that is no longer on record may well come back with what it stood on. */
static void lie_former(struct holding *h)
{
	h->device.instance++;
	h->with_device = 1;
}

static void lie_go(struct holding *h)
{
	h->with_go = 1;
}

static void lie_nothing(struct holding *h)
{
	h->count = 0;
}

static void lie_words(struct holding *h)
{
	h->go.kind = 77;
}

static void lie_silence(struct holding *h)
{
	(void)h;
	poll(NULL, 0, -1);
}

static const struct lie {
	const char *name;
	void (*tell)(struct holding *h);
	const char *why;
} lies[] = {
	{ "window", lie_window, "it hands back another descriptor than it got" },
	{ "doorbells", lie_doorbells, "it hands back another descriptor than it got" },
	{ "eventfd", lie_eventfd, "it hands back another descriptor than it got" },
	{ "qemu", lie_qemu, "it hands back another descriptor than it got" },
	{ "twice", lie_twice, "it hands back another descriptor than it got" },
	{ "page", lie_page, "it hands back another descriptor than it got" },
	{ "fewer", lie_fewer, "it hands back another descriptor than it got" },
	{ "more", lie_more, "it hands back another descriptor than it got" },
	{ "backend", lie_backend, "it hands back another descriptor than it got" },
	{ "backends", lie_backends, "it hands back another descriptor than it got" },
	{ "slot", lie_slot, "it hands back another descriptor than it got" },
	{ "go", lie_go, "it hands back another descriptor than it got" },
	{ "nothing", lie_nothing, "it hands back another descriptor than it got" },
	{ "words", lie_words, "it says what no worker says" },
	{ "silence", lie_silence, "it does not answer" },
	{ "former", lie_former, NULL },
	{ "not", lie_not, NULL },
	/* Believed, and yet the session is over: a test of its own. */
	{ "hangup", lie_hangup, NULL },
};

#define LIES	(sizeof(lies) / sizeof(lies[0]))

/* Until vbusd is gone. */
static void learn(struct holding *h, char *name)
{
	struct vbus_worker_message m;
	int fds[VBUS_WORKER_FDS];
	unsigned int count;

	while (vbus_fdmsg_receive(VBUS_WORKER_FD, &m, sizeof(m), fds, VBUS_WORKER_FDS, &count) > 0) {
		if (m.kind == VBUS_WORKER_START) {
			memcpy(name, m.name, sizeof(m.name));
			memcpy(h->fds, fds, sizeof(fds));
			h->count = count;
		}
		if (m.kind == VBUS_WORKER_CONNECTED)
			h->qemu = fds[0];
		if (m.kind == VBUS_WORKER_DEVICE)
			h->device = m;
	}
}

static int lying_worker(void)
{
	struct vbus_worker_message start = { .kind = VBUS_WORKER_START },
				   connected = { .kind = VBUS_WORKER_CONNECTED };
	struct holding h = { .qemu = -1, .qemus = 1, .go = { .kind = VBUS_WORKER_GO, .slot = 1 } };
	const int more[] = { STDERR_FILENO, STDERR_FILENO };
	char name[VBUSD_NAME_LEN], self[16] = "";
	int s;
	size_t i;

	if (listen(VBUS_WORKER_MEET_FD, 4) < 0)
		return 1;
	/* As the host counts: in its own namespace of processes it is the first. */
	if (readlink("/proc/self", self, sizeof(self) - 1) < 0)
		return 1;
	fprintf(stderr, "worker %s will lie\n", self);
	learn(&h, name);
	if (h.qemu < 0)
		return 0;
	fcntl(VBUS_WORKER_MEET_FD, F_SETFL, 0);
	s = accept(VBUS_WORKER_MEET_FD, NULL, NULL);
	for (i = 0; i < LIES; i++)
		if (!strcmp(lies[i].name, name))
			lies[i].tell(&h);
	vbus_fdmsg_send(s, &start, sizeof(start), h.fds, h.count);
	vbus_fdmsg_send(s, &connected, sizeof(connected), (int []) { h.qemu, h.qemu }, h.qemus);
	vbus_fdmsg_send(s, &h.device, sizeof(h.device), more, h.with_device);
	vbus_fdmsg_send(s, &h.go, sizeof(h.go), more, h.with_go);
	poll(NULL, 0, -1);
	return 0;
}

static bool add_bus_called(const char *name)
{
	struct vbusd_request q = rig_request(VBUSD_BUS_ADD);

	snprintf(q.bus, sizeof(q.bus), "%s", name);
	snprintf(q.argument, sizeof(q.argument), "%s", rig.qemu_path);
	q.window_mib = 1;
	q.vectors = 8;
	return rig_ask(&rig, &q, NULL) == VBUSD_OK;
}

static bool has_outcome(const struct lie *lie, pid_t worker)
{
	struct vbusd_bus_status s = status();

	return s.connected == !lie->why && s.lost == !!lie->why &&
	       (s.worker == worker) == !lie->why && rig_is_gone(worker) == !!lie->why;
}

static bool add_device_to(const char *name)
{
	struct vbusd_request q = rig_device("venet-loopback", 1);

	snprintf(q.bus, sizeof(q.bus), "%s", name);
	return rig_ask(&rig, &q, NULL) == VBUSD_OK;
}

/* One that has not begun may meet a connection that is given up; a real one passes over it. */
static bool will_lie(pid_t worker)
{
	char line[64];

	snprintf(line, sizeof(line), "worker %d will lie", (int)worker);
	return rig_logged(&rig, line);
}

/* The lie's worker is dead and its successor serves another session; or it was believed. */
static bool is_judged(const struct lie *lie)
{
	struct vbusd_request gone = rig_request(VBUSD_BUS_REMOVE);
	char line[256];
	pid_t worker;
	int qemu;
	bool ok;

	CHECK(add_bus_called(lie->name) && add_device_to(lie->name));
	qemu = rig_dial(&rig);
	CHECK(qemu >= 0 && RIG_UNTIL(status().connected));
	worker = status().worker;
	CHECK(will_lie(worker));
	ok = next_one() && RIG_UNTIL(has_outcome(lie, worker));
	close(qemu);
	snprintf(line, sizeof(line), "bus %s: worker %d is %s%s%s", lie->name, (int)worker,
		 lie->why ? "killed (" : "taken over", lie->why ? lie->why : "",
		 lie->why ? ")" : "");
	CHECK(ok && rig_logged(&rig, line));
	snprintf(gone.bus, sizeof(gone.bus), "%s", lie->name);
	CHECK(!rig_ask(&rig, &gone, NULL));
	return true;
}

static bool test_a_worker_that_hands_back_what_it_never_got_is_killed_and_the_session_is_lost(void)
{
	static char self[256];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	size_t i;

	CHECK(n > 0);
	rig.words[0] = "--worker";
	rig.words[1] = self;
	CHECK(next_one());
	for (i = 0; lies[i].tell != lie_hangup; i++)
		if (!is_judged(&lies[i])) {
			fprintf(stderr, "# lie: %s\n", lies[i].name);
			return false;
		}
	return true;
}

/* Nobody else has it: that QEMU's guest has hung up, or is made to. */
static bool test_a_worker_that_hands_back_no_qemu_is_replaced_and_the_next_qemu_is_served(void)
{
	static char self[256];
	struct vbusd_request gone = rig_request(VBUSD_BUS_REMOVE);
	pid_t worker;
	int qemu;

	CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	rig.words[0] = "--worker";
	rig.words[1] = self;
	CHECK(next_one() && add_bus_called("hangup") && add_device_to("hangup"));
	qemu = rig_dial(&rig);
	CHECK(qemu >= 0 && RIG_UNTIL(status().connected));
	worker = status().worker;
	CHECK(will_lie(worker));
	CHECK(next_one() && rig_logged(&rig, "QEMU is gone (nobody holds its connection)"));
	close(qemu);
	CHECK(RIG_UNTIL(rig_is_gone(worker)) && !status().connected && !status().lost);
	qemu = rig_dial(&rig);
	CHECK(qemu >= 0 && RIG_UNTIL(status().connected) && status().sessions == 2);
	close(qemu);
	strcpy(gone.bus, "hangup");
	CHECK(!rig_ask(&rig, &gone, NULL));
	return true;
}

/* ---- Who may come to the worker. ---- */

/* In a process of its own: 0 when it was not even connected, 1 when it was hung up on, 2 else. */
static int call_as(uid_t user)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct pollfd end = { .events = POLLIN };
	int state;
	pid_t pid = fork();
	char c;

	if (!pid) {
		snprintf(at.sun_path, sizeof(at.sun_path), "%.90s/b.worker", rig.dir);
		end.fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
		if (setresuid(user, user, user) < 0)
			_exit(3);
		if (connect(end.fd, (struct sockaddr *)&at, sizeof(at)) < 0)
			_exit(0);
		_exit(poll(&end, 1, RIG_DEADLINE_MS) > 0 && recv(end.fd, &c, 1, 0) <= 0 ? 1 : 2);
	}
	return waitpid(pid, &state, 0) == pid && WIFEXITED(state) ? WEXITSTATUS(state) : 3;
}

static bool test_another_users_connection_to_a_worker_is_refused_and_vbusds_is_not(void)
{
	char path[128];

	if (geteuid()) {
		fprintf(stderr, "# not tried: it takes root to be another user\n");
		return true;
	}
	snprintf(path, sizeof(path), "%s/b.worker", rig.dir);
	CHECK(stand() && !chmod(rig.dir, 0755));
	rig_lose(&rig, SIGKILL);
	CHECK(call_as(12345) == 0);
	/* Were the socket open to all, the worker itself says no. */
	CHECK(!chmod(path, 0666) && call_as(12345) == 1);
	CHECK(rig_logged(&rig, "a connection is refused (it is not of vbusd's user)"));
	CHECK(rig_again(&rig, NULL) && status().takeovers == 1 && echoes(true));
	return true;
}

static int run_another(const char *admin, const char *state_dir)
{
	int log = open(rig.log_path, O_WRONLY | O_APPEND | O_CLOEXEC), state = 0;
	pid_t pid = fork();

	if (!pid) {
		dup2(log, STDERR_FILENO);
		execl(rig.program, "vbusd", "--socket", admin, "--state", state_dir, (char *)NULL);
		_exit(127);
	}
	close(log);
	/* One that goes on is wrong, and is not waited for. */
	if (pid <= 0 || !RIG_UNTIL(waitpid(pid, &state, WNOHANG) == pid)) {
		if (pid > 0) {
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
		}
		return -1;
	}
	return WIFEXITED(state) ? WEXITSTATUS(state) : -1;
}

static bool test_a_second_vbusd_with_the_same_records_is_refused(void)
{
	char admin[128];

	snprintf(admin, sizeof(admin), "%s/admin2", rig.dir);
	CHECK(stand());
	CHECK(run_another(admin, rig.dir) == 1 && access(admin, F_OK));
	CHECK(rig_logged(&rig, "another vbusd has its records there; name another --state"));
	CHECK(run_another(admin, "/nowhere") == 1 && access(admin, F_OK));
	CHECK(run_another(admin, ".") == 2);
	CHECK(echoes(true) && !status().restarts);
	return true;
}

/* ---- Records ---- */

static bool load(void *at, size_t size)
{
	char path[128];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "%s/b.bus", rig.dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, at, size);
		close(fd);
	}
	return n == (ssize_t)size;
}

static bool store(const void *at, size_t size, mode_t mode)
{
	char path[128];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "%s/b.bus", rig.dir);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	if (fd >= 0) {
		n = write(fd, at, size);
		fchmod(fd, mode);
		close(fd);
	}
	return n == (ssize_t)size;
}

static bool is_left_alone(const void *record, size_t size, mode_t mode, const char *why)
{
	static struct vbusd_record after;
	struct vbusd_bus_status none;
	char line[256];

	snprintf(line, sizeof(line), "b.bus is left alone (%s)", why);
	rig_lose(&rig, SIGKILL);
	CHECK(store(record, size, mode) && rig_again(&rig, NULL));
	CHECK(!rig_bus_status(&rig, 0, &none) && rig_logged(&rig, line));
	CHECK(load(&after, size) && !memcmp(&after, record, size));
	return true;
}

static bool test_a_record_that_does_not_fit_is_refused_in_words_and_left(void)
{
	static struct vbusd_record good, bad;
	struct vbusd_bus_status before;

	CHECK(stand() && load(&good, sizeof(good)));
	before = status();
	CHECK(is_left_alone(&good, 0, 0600, "it has another size"));
	CHECK(is_left_alone(&good, sizeof(good) - 1, 0600, "it has another size"));
	CHECK(is_left_alone(&good, sizeof(good), 0644, "it is not only ours"));
	bad = good;
	bad.version++;
	CHECK(is_left_alone(&bad, sizeof(bad), 0600, "another version of vbusd wrote it"));
	bad = good;
	bad.held[VBUSD_HELD_WINDOW].ino++;
	CHECK(is_left_alone(&bad, sizeof(bad), 0600, "its checksum is wrong"));
	bad = good;
	bad.magic = 0;
	CHECK(is_left_alone(&bad, sizeof(bad), 0600, "it is no record"));
	/* Its worker serves all the while, and the right record finds it. */
	CHECK(echoes(true));
	rig_lose(&rig, SIGKILL);
	CHECK(store(&good, sizeof(good), 0600) && rig_again(&rig, NULL));
	CHECK(status().worker == before.worker && status().epoch == before.epoch && echoes(true));
	return true;
}

/* As vbusd 0.1 wrote it: shorter, of the version before, with a sum of its own. */
static bool test_a_record_of_before_buses_were_held_is_taken_over(void)
{
	const size_t size = offsetof(struct vbusd_record, generation);
	static struct vbusd_record old;
	struct vbusd_bus_status before;
	uint64_t sum = 0xcbf29ce484222325ull;
	size_t i;

	CHECK(stand() && load(&old, sizeof(old)));
	before = status();
	old.version = VBUSD_RECORD_BEFORE;
	old.size = (uint32_t)size;
	old.checksum = 0;
	for (i = 0; i < size; i++)
		sum = (sum ^ ((uint8_t *)&old)[i]) * 0x100000001b3ull;
	old.checksum = sum;
	CHECK(is_left_alone(&old, size - 1, 0600, "it has another size"));
	rig_lose(&rig, SIGKILL);
	CHECK(store(&old, size, 0600) && rig_again(&rig, NULL));
	CHECK(status().worker == before.worker && !status().held && echoes(true));
	return load(&old, sizeof(old)) && old.version == VBUSD_RECORD_VERSION;
}

static bool lists(uint8_t number, uint32_t count)
{
	struct vbus_enumerate_reply list;

	return !north_enumerate(&north, &list) && list.total == count &&
	       list.entry[count - 1].uuid[0] == number;
}

/* As if vbusd had been killed between the worker's word and the record's. */
static bool test_a_worker_that_knows_another_list_than_the_record_is_told_the_records(void)
{
	static struct vbusd_record one, two;
	struct vbusd_request second = rig_device("venet-loopback", 2),
			     gone = rig_request(VBUSD_DEVICE_REMOVE);

	CHECK(stand() && load(&one, sizeof(one)));
	CHECK(!rig_ask(&rig, &second, NULL) && RIG_UNTIL(lists(2, 2)) && load(&two, sizeof(two)));
	rig_lose(&rig, SIGKILL);
	CHECK(store(&one, sizeof(one), 0600) && rig_again(&rig, NULL));
	CHECK(RIG_UNTIL(lists(1, 1)) && status().devices == 1);

	memset(gone.uuid, 2, sizeof(gone.uuid));
	CHECK(!rig_ask(&rig, &second, NULL) && load(&two, sizeof(two)));
	CHECK(!rig_ask(&rig, &gone, NULL) && RIG_UNTIL(lists(1, 1)));
	rig_lose(&rig, SIGKILL);
	CHECK(store(&two, sizeof(two), 0600) && rig_again(&rig, NULL));
	CHECK(RIG_UNTIL(lists(2, 2)) && status().devices == 2 && echoes(true));
	return true;
}

/* ---- systemd's descriptor store ---- */

static bool loses_both_and_goes_on(void)
{
	struct vbusd_bus_status before = status();
	struct north_echo e = { .count = 300 };

	rig_lose(&rig, SIGKILL);
	kill(before.worker, SIGKILL);
	CHECK(RIG_UNTIL(rig_is_gone(before.worker)));
	store_listen();
	CHECK(rig_again(&rig, store_hand_back));
	CHECK(north_echo(&north, &net, 1, &e) && e.recoveries == 1);
	CHECK(status().sessions == before.sessions && !status().lost && status().connected);
	CHECK(status().epoch != before.epoch);
	CHECK(rig_logged(&rig, "the session is taken over from the descriptor store"));
	return true;
}

/* Window, page, listener, QEMU, eight doorbells each way. */
#define OF_A_SESSION	20u

static bool test_vbusd_and_worker_lost_at_once_are_survived_with_systemds_descriptor_store(void)
{
	struct vbusd_request gone = rig_request(VBUSD_BUS_REMOVE);
	bool ok;

	CHECK(store_start(&rig));
	ok = stand() && RIG_UNTIL(store_count("b") == OF_A_SESSION) && loses_both_and_goes_on() &&
	     loses_both_and_goes_on() && store_count("b") == OF_A_SESSION;
	/* A worker that lives is what the next one goes by; stored copies do not pile up. */
	rig_lose(&rig, SIGKILL);
	ok = ok && rig_again(&rig, store_hand_back) && status().takeovers == 1 && echoes(true) &&
	     store_count("b") == OF_A_SESSION;
	ok = ok && !rig_ask(&rig, &gone, NULL) && RIG_UNTIL(!store_count("b"));
	store_stop();
	return ok;
}

static bool holds_a_session_without_qemu(void)
{
	return store_count("b") == OF_A_SESSION - 1;
}

static bool test_a_session_that_ended_is_not_stored_any_more(void)
{
	bool ok;

	CHECK(store_start(&rig));
	ok = stand() && RIG_UNTIL(store_count("b") == OF_A_SESSION);
	north_close(&north);
	ok = ok && RIG_UNTIL(holds_a_session_without_qemu());
	store_stop();
	return ok;
}

static bool test_stored_descriptors_of_a_bus_that_is_no_more_are_given_up(void)
{
	bool ok;

	CHECK(store_start(&rig));
	store_put(eventfd(0, EFD_CLOEXEC), "zz");
	store_put(eventfd(0, EFD_CLOEXEC), "zz/3");
	rig_lose(&rig, SIGKILL);
	ok = store_count("zz") == 1 && rig_again(&rig, store_hand_back) &&
	     RIG_UNTIL(!store_count("zz") && !store_count("zz/3"));
	store_stop();
	return ok;
}

static bool outlives_a_record_that_is_left_alone(void)
{
	static struct vbusd_record good, bad;
	struct north_echo e = { .count = 300 };
	pid_t worker = status().worker;

	CHECK(load(&good, sizeof(good)));
	bad = good;
	bad.version++;
	rig_lose(&rig, SIGKILL);
	kill(worker, SIGKILL);
	CHECK(RIG_UNTIL(rig_is_gone(worker)) && store(&bad, sizeof(bad), 0600));
	store_listen();
	CHECK(rig_again(&rig, store_hand_back) && rig_logged(&rig, "b.bus is left alone"));
	CHECK(store_count("b") == OF_A_SESSION);
	rig_lose(&rig, SIGKILL);
	CHECK(store(&good, sizeof(good), 0600) && rig_again(&rig, store_hand_back));
	CHECK(north_echo(&north, &net, 1, &e) && e.recoveries == 1 && !status().lost);
	return true;
}

static bool test_stored_descriptors_of_a_record_that_is_left_alone_are_kept(void)
{
	bool ok;

	CHECK(store_start(&rig));
	ok = stand() && RIG_UNTIL(store_count("b") == OF_A_SESSION) &&
	     outlives_a_record_that_is_left_alone();
	store_stop();
	return ok;
}

static const struct tap_test tests[] = {
	TEST(test_a_worker_that_hands_back_what_it_never_got_is_killed_and_the_session_is_lost),
	TEST(test_a_worker_that_hands_back_no_qemu_is_replaced_and_the_next_qemu_is_served),
	TEST(test_another_users_connection_to_a_worker_is_refused_and_vbusds_is_not),
	TEST(test_a_second_vbusd_with_the_same_records_is_refused),
	TEST(test_a_record_that_does_not_fit_is_refused_in_words_and_left),
	TEST(test_a_record_of_before_buses_were_held_is_taken_over),
	TEST(test_a_worker_that_knows_another_list_than_the_record_is_told_the_records),
	TEST(test_vbusd_and_worker_lost_at_once_are_survived_with_systemds_descriptor_store),
	TEST(test_a_session_that_ended_is_not_stored_any_more),
	TEST(test_stored_descriptors_of_a_bus_that_is_no_more_are_given_up),
	TEST(test_stored_descriptors_of_a_record_that_is_left_alone_are_kept),
};

int main(int argc, char **argv)
{
	if (argc > 0 && !strcmp(argv[0], "vbus-worker"))
		return lying_worker();
	return TAP_RUN(tests, setup, teardown);
}
