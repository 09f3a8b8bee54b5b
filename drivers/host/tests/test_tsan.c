// SPDX-License-Identifier: MIT
/*
 * The client library and a worker as two threads over one mapping, watched by ThreadSanitizer; this
 * program is their vbusd.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fdmsg.h"
#include "north.h"
#include "tap.h"
#include "tsan_worker.h"
#include "worker_abi.h"

#define VECTORS	8u
#define WINDOW	(1u << 20)

static struct rig rig;		/* only its paths */
static struct vbus_client north;
static struct vbus_client_net net;
static int worker = -1;		/* what vbusd says to it */
static int fds[2 + 2 * VECTORS];
static uint32_t reports;

/* TSan calls it for each race; the report itself goes to stderr. */
void __tsan_on_report(void *report);
void __tsan_on_report(void *report)
{
	(void)report;
	__atomic_fetch_add(&reports, 1, __ATOMIC_RELAXED);
}

static bool make(void)
{
	uint32_t i;

	fds[0] = memfd_create("window", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	fds[1] = memfd_create("page", MFD_CLOEXEC);
	if (ftruncate(fds[0], WINDOW) < 0 || fcntl(fds[0], F_ADD_SEALS, F_SEAL_SHRINK) < 0 ||
	    ftruncate(fds[1], sizeof(struct vbus_status_page)) < 0)
		return false;
	for (i = 0; i < 2 * VECTORS; i++)
		fds[2 + i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return fds[1 + 2 * VECTORS] >= 0;
}

static bool tell(enum vbus_worker_kind kind, unsigned int count)
{
	static uint32_t number;
	struct vbus_worker_message m = {
		.kind = kind, .number = ++number, .vectors = VECTORS, .window_size = WINDOW,
		.list_generation = 1, .instance = 1, .mtu = 1500, .name = "tsan",
		.klass = "venet-loopback",
		.link = 1, .mac = { 0x52, 0, 0, 0, 0, 1 },
	};

	memset(m.uuid, 1, sizeof(m.uuid));
	return !vbus_fdmsg_send(worker, &m, sizeof(m), fds, count);
}

static void *work(void *unused)
{
	char *argv[] = { "vbus-worker", "0", "no", NULL };

	(void)unused;
	tsan_worker(3, argv);
	return NULL;
}

/* First of all: the worker's descriptor has its number. */
static bool make_control(void)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return false;
	worker = fcntl(pair[0], F_DUPFD_CLOEXEC, 100);
	return worker >= 0 && dup2(pair[1], VBUS_WORKER_FD) >= 0;
}

static bool start_worker(void)
{
	pthread_t thread;

	return tell(VBUS_WORKER_START, 2 + 2 * VECTORS) && tell(VBUS_WORKER_DEVICE, 0) &&
	       tell(VBUS_WORKER_CONNECTED, 1) && tell(VBUS_WORKER_GO, 0) &&
	       !pthread_create(&thread, NULL, work, NULL);
}

static bool say(int to, int64_t what, const int *fd)
{
	return !vbus_fdmsg_send(to, &what, sizeof(what), fd, fd ? 1 : 0);
}

/* One connection, as vbusd_ivshmem.c does it. */
static void *serve(void *listener)
{
	int s = accept4(*(int *)listener, NULL, NULL, SOCK_CLOEXEC);
	bool said = say(s, 0, NULL) && say(s, 0, NULL) && say(s, -1, &fds[0]);
	uint32_t i;

	for (i = 0; i < 2 * VECTORS; i++)
		said &= say(s, i < VECTORS, &fds[2 + i]);
	/* It stays open: the connection is as long as the program. */
	return said ? listener : NULL;
}

static bool connect_north(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pthread_t server;
	void *said;
	bool connected;

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", rig.qemu_path);
	if (bind(listener, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(listener, 1) < 0 ||
	    pthread_create(&server, NULL, serve, &listener))
		return false;
	connected = north_open(&north, &rig, VECTORS);
	return !pthread_join(server, &said) && said && connected;
}

static bool stand(void)
{
	strcpy(rig.dir, "/tmp/vbusd-test-XXXXXX");
	if (!mkdtemp(rig.dir))
		return false;
	snprintf(rig.qemu_path, sizeof(rig.qemu_path), "%s/qemu", rig.dir);
	return make_control() && make() && start_worker() && connect_north();
}

static bool test_frames_go_round_without_a_race(void)
{
	struct north_echo echo = { .count = 3000 };

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	CHECK(north_echo(&north, &net, 1, &echo) && !echo.recoveries);
	CHECK(!__atomic_load_n(&reports, __ATOMIC_RELAXED));
	return true;
}

static bool test_calls_of_all_kinds_race_with_nothing(void)
{
	struct vbus_device_entry list[4];
	uint32_t count, i;

	for (i = 0; i < 50; i++) {
		CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
		CHECK(!vbus_client_devices(&north, list, 4, &count) && count == 1);
		CHECK(!vbus_client_net_close(&net));
	}
	CHECK(!__atomic_load_n(&reports, __ATOMIC_RELAXED));
	return true;
}

static bool test_a_list_that_changes_and_a_link_that_goes_race_with_nothing(void)
{
	struct north_echo echo = { .count = 500 };
	uint32_t i;

	CHECK(north_negotiate(&north) && north_net_open(&north, &net, 1));
	for (i = 0; i < 20; i++) {
		CHECK(tell(VBUS_WORKER_LINK, 0));
		vbus_client_wait(&north, 100);
	}
	CHECK(north_echo(&north, &net, 1, &echo));
	CHECK(tell(VBUS_WORKER_REMOVE, 0) && tell(VBUS_WORKER_DEVICE, 0));
	CHECK(RIG_UNTIL(north_negotiate(&north) && north_net_open(&north, &net, 1)));
	CHECK(!__atomic_load_n(&reports, __ATOMIC_RELAXED));
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_frames_go_round_without_a_race),
	TEST(test_calls_of_all_kinds_race_with_nothing),
	TEST(test_a_list_that_changes_and_a_link_that_goes_race_with_nothing),
};

int main(void)
{
	int code = 1;

	if (stand())
		code = TAP_RUN(tests, NULL, NULL);
	else
		printf("Bail out! the two sides do not stand\n");
	unlink(rig.qemu_path);
	rmdir(rig.dir);
	/* The worker's thread never ends, and TSan's exit code is told above. */
	fflush(NULL);
	_exit(code);
}
