// SPDX-License-Identifier: MIT
/*
 * A bus between two hosts: held without a worker, released by one that has written all, started by a
 * receipt.  Nobody ever writes who gave a receipt, and nobody loses the bus who did not.
 *
 * Called vbus-worker, this program is a worker that says it has drained at once, and whose image is
 * still somebody's after its end: whoever listens at the socket that HELD_IMAGE names.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#ifdef VBUS_FAILPOINTS
#include "fail.h"
#endif
#include "client.h"
#include "fdmsg.h"
#include "image.h"
#include "north_disk.h"
#include "slow_disk.h"
#include "store.h"
#include "tap.h"
#include "worker_abi.h"

#define TICKET	"0123456789abcdef0123456789abcdef"
#define OTHER	"fedcba9876543210fedcba9876543210"
#define NEVER	":0000000000000000"
#define THERE	0x7777777777777777ull	/* the other host's epoch */

static struct rig rig;
static struct vbus_client north;
static struct north_disk disk;
static struct slow_disk *slow;
static pid_t server;
static char dir[64], image[80];

static void setup(void)
{
	strcpy(dir, "/tmp/vblk-held-XXXXXX");
	memset(&north, 0, sizeof(north));
	server = mkdtemp(dir) ? slow_disk_start(dir, &slow) : -1;
	snprintf(image, sizeof(image), "%s/disk", dir);
	if (server < 0 || !rig_start(&rig))
		fprintf(stderr, "# the rig does not stand\n");
}

static void teardown(void)
{
	if (server > 0)
		atomic_store(&slow->shut, 0);
	north_close(&north);
	rig_stop(&rig);
	slow_disk_stop(server, slow);
	rmdir(dir);
}

static struct vbusd_bus_status status(void)
{
	struct vbusd_bus_status s = { 0 };

	rig_bus_status(&rig, 0, &s);
	return s;
}

static struct vbusd_request move(enum vbusd_op op, uint32_t flags, const char *argument)
{
	struct vbusd_request q = rig_request(op);

	q.flags = flags;
	snprintf(q.argument, sizeof(q.argument), "%s", argument);
	return q;
}

/* RELEASE or START; what is said goes to @text, VBUSD_TEXT_LEN bytes. */
static enum vbusd_result ask(enum vbusd_op op, uint32_t flags, const char *argument, char *text)
{
	struct vbusd_request q = move(op, flags, argument);

	return rig_ask(&rig, &q, text);
}

static bool is_refused(enum vbusd_op op, const char *argument, enum vbusd_result how, const char *why)
{
	char text[VBUSD_TEXT_LEN] = "";

	if (ask(op, 0, argument, text) == how && strstr(text, why))
		return true;
	fprintf(stderr, "# said: %s\n", text);
	return false;
}

static struct vbusd_request a_disk(void)
{
	struct vbusd_request dev = rig_device("vblk-file", 1);

	snprintf(dev.argument, sizeof(dev.argument), "%s", image);
	return dev;
}

static bool use_disk(void)
{
	return north_negotiate(&north) && north_disk_open(&north, &disk, 1, DISK_ALL);
}

static bool stand(void)
{
	struct vbusd_request dev = a_disk();

	return rig_add_bus(&rig) && !rig_ask(&rig, &dev, NULL) && north_open(&north, &rig, 8) &&
	       use_disk();
}

/* QEMU, with its memory loaded from another host: the client library would wait for an epoch. */
static bool come(void)
{
	struct vbus_host_header h = {
		.magic = VBUS_MAGIC, .version = VBUS_VERSION, .epoch = THERE,
		.window_size = 1 << 20, .vectors = 8,
	};
	uint32_t i;

	north = (struct vbus_client){
		.link = -1, .window = -1, .epoll = epoll_create1(EPOLL_CLOEXEC),
		.timeout_ms = RIG_DEADLINE_MS, .size = 1 << 20,
		.queues = { .count = 4, .priority = { 7, 3, 5, 0 } },
	};
	if (vbus_client_find_ivshmem(&north, rig.qemu_path) || north.vectors != 8)
		return false;
	north.base = mmap(NULL, north.size, PROT_READ | PROT_WRITE, MAP_SHARED, north.window, 0);
	for (i = 0; i < north.vectors; i++) {
		struct epoll_event e = { .events = EPOLLIN | EPOLLET, .data.u32 = i };

		if (epoll_ctl(north.epoll, EPOLL_CTL_ADD, north.to_guest[i], &e) < 0)
			return false;
	}
	memcpy(north.base + VBUS_HOST_HEADER, &h, sizeof(h));
	vbus_client_reset(&north);
	return true;
}

static enum vbusd_result add_held(char *ticket)
{
	struct vbusd_request q = move(VBUSD_BUS_ADD, VBUSD_HELD, rig.qemu_path);

	q.window_mib = 1;
	q.vectors = 8;
	return rig_ask(&rig, &q, ticket);
}

/* As another host would open it. */
static bool can_be_locked(void)
{
	int fd = open(image, O_RDWR | O_CLOEXEC);
	bool can = fd >= 0 && !vbus_image_lock(fd, false);

	close(fd);
	return can;
}

static bool writes(uint8_t with)
{
	memset(north_disk_data(&disk, 0), with, 512);
	return !north_disk_do(&disk, VBLK_OP_WRITE, 0, 0, 512) && slow->data[0] == with;
}

static bool is_held(void)
{
	struct vbusd_bus_status s = status();

	return s.held && !s.worker && can_be_locked();
}

/* By a worker that writes to the disk, under an epoch other than @before. */
static bool is_served(uint64_t before)
{
	CHECK(!status().held && RIG_UNTIL(north_epoch(&north) && north_epoch(&north) != before));
	CHECK(use_disk() && writes(0x5a) && !can_be_locked());
	return true;
}

static void receipt_of(const char *ticket, char *text)
{
	snprintf(text, VBUSD_TEXT_LEN, "%s:%016llx", ticket, (unsigned long long)status().epoch);
}

static bool test_a_held_bus_has_qemu_and_no_worker_until_it_is_started(void)
{
	struct vbusd_request dev = a_disk();
	char ticket[VBUSD_TEXT_LEN], receipt[VBUSD_TEXT_LEN + sizeof(NEVER)];

	CHECK(!add_held(ticket) && strlen(ticket) == VBUSD_TICKET_LEN && is_held());
	CHECK(!rig_ask(&rig, &dev, NULL) && is_held() && status().devices == 1);
	CHECK(come() && is_held() && status().connected);
	snprintf(receipt, sizeof(receipt), "%s" NEVER, ticket);
	CHECK(is_refused(VBUSD_START, OTHER NEVER, VBUSD_BUSY, "for another receipt"));
	CHECK(is_refused(VBUSD_START, ticket, VBUSD_RANGE, "TICKET:EPOCH"));
	CHECK(is_refused(VBUSD_RELEASE, ticket, VBUSD_BUSY, "held already") && is_held());
	CHECK(north_epoch(&north) == THERE);
	CHECK(!ask(VBUSD_START, 0, receipt, NULL) && is_served(THERE));
	CHECK(is_refused(VBUSD_START, receipt, VBUSD_BUSY, "is not held"));
	return true;
}

static bool test_tickets_are_not_drawn_twice(void)
{
	char one[VBUSD_TEXT_LEN], two[VBUSD_TEXT_LEN];
	struct vbusd_request gone = rig_request(VBUSD_BUS_REMOVE);

	CHECK(!add_held(one) && !rig_ask(&rig, &gone, NULL) && !add_held(two));
	CHECK(strcmp(one, two));
	return true;
}

static bool test_a_receipt_is_given_once_and_gives_the_bus_back(void)
{
	char want[VBUSD_TEXT_LEN], receipt[VBUSD_TEXT_LEN];
	uint64_t epoch;

	CHECK(stand() && writes(0x11) && !can_be_locked());
	epoch = north_epoch(&north);
	receipt_of(TICKET, want);
	CHECK(is_refused(VBUSD_RELEASE, "0123", VBUSD_RANGE, "32 hexadecimal digits"));
	CHECK(is_refused(VBUSD_START, want, VBUSD_BUSY, "is not held"));
	CHECK(!ask(VBUSD_RELEASE, 0, TICKET, receipt) && !strcmp(receipt, want) && is_held());
	CHECK(is_refused(VBUSD_RELEASE, TICKET, VBUSD_BUSY, "given once"));
	CHECK(is_refused(VBUSD_RELEASE, OTHER, VBUSD_BUSY, "given once"));
	CHECK(is_refused(VBUSD_START, OTHER NEVER, VBUSD_BUSY, "for another receipt"));
	CHECK(is_refused(VBUSD_START, TICKET NEVER, VBUSD_BUSY, "for another receipt"));
	CHECK(is_held() && status().connected && !status().restarts);
	CHECK(!ask(VBUSD_START, 0, receipt, NULL) && is_served(epoch));
	return true;
}

static bool test_an_administrators_word_stands_for_a_receipt(void)
{
	char receipt[VBUSD_TEXT_LEN];

	CHECK(stand() && !ask(VBUSD_RELEASE, 0, TICKET, receipt));
	CHECK(!ask(VBUSD_START, VBUSD_FENCED, "", NULL) && is_served(north.epoch));
	return true;
}

static bool test_a_bus_is_not_started_over_an_image_that_somebody_has(void)
{
	char receipt[VBUSD_TEXT_LEN], text[VBUSD_TEXT_LEN];
	int fd;

	CHECK(stand() && !ask(VBUSD_RELEASE, 0, TICKET, receipt));
	fd = open(image, O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0 && !vbus_image_lock(fd, false));
	CHECK(ask(VBUSD_START, 0, receipt, text) == VBUSD_SYSTEM && strstr(text, "has it"));
	CHECK(ask(VBUSD_START, VBUSD_FENCED, "", text) == VBUSD_SYSTEM && status().held);
	close(fd);
	CHECK(!ask(VBUSD_START, 0, receipt, NULL) && is_served(north.epoch));
	return true;
}

/* Each request that changes what the other host has a copy of. */
static bool nothing_changes(void)
{
	struct vbusd_request add = rig_device("venet-loopback", 2), mask = rig_request(VBUSD_MASK);
	enum vbusd_op ops[] = { VBUSD_DEVICE_REMOVE, VBUSD_LINK, VBUSD_RESIZE, VBUSD_RENEW };
	char text[VBUSD_TEXT_LEN];
	size_t i;

	mask.flags = VBUSD_ALL_DEVICES;
	CHECK(rig_ask(&rig, &add, text) == VBUSD_BUSY && strstr(text, "is being moved"));
	CHECK(rig_ask(&rig, &mask, NULL) == VBUSD_BUSY);
	for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		struct vbusd_request q = a_disk();

		q.op = ops[i];
		CHECK(rig_ask(&rig, &q, NULL) == VBUSD_BUSY);
	}
	return status().devices == 1;
}

static bool test_devices_come_before_qemu_and_not_while_the_bus_moves(void)
{
	struct vbusd_request dev = a_disk(), gone = a_disk();
	char ticket[VBUSD_TEXT_LEN], receipt[VBUSD_TEXT_LEN];

	gone.op = VBUSD_DEVICE_REMOVE;
	CHECK(!add_held(ticket) && !rig_ask(&rig, &dev, NULL) && !rig_ask(&rig, &gone, NULL));
	strcat(dev.argument, "-none");
	CHECK(rig_ask(&rig, &dev, NULL) == VBUSD_SYSTEM);
	dev = a_disk();
	CHECK(!rig_ask(&rig, &dev, NULL) && come() && nothing_changes());
	CHECK(!ask(VBUSD_START, VBUSD_FENCED, "", NULL) && is_served(THERE));
	CHECK(!ask(VBUSD_RELEASE, 0, TICKET, receipt) && nothing_changes() && is_held());
	return true;
}

static bool test_a_bus_of_the_file_connector_does_not_move(void)
{
	struct vbusd_request q = move(VBUSD_BUS_ADD, VBUSD_HELD, dir);
	char text[VBUSD_TEXT_LEN];

	q.window_mib = 1;
	q.vectors = 8;
	q.connector = VBUSD_FILE;
	CHECK(rig_ask(&rig, &q, text) == VBUSD_SYSTEM && strstr(text, "does not move"));
	snprintf(q.argument, sizeof(q.argument), "%s/files", rig.dir);
	q.flags = 0;
	CHECK(!mkdir(q.argument, 0700) && !rig_ask(&rig, &q, text));
	CHECK(is_refused(VBUSD_RELEASE, TICKET, VBUSD_UNKNOWN, "does not move"));
	q.op = VBUSD_BUS_REMOVE;
	CHECK(!rig_ask(&rig, &q, NULL) && !rmdir(q.argument));
	return true;
}

/* Nobody else had made this tap: it is there as long as it is open. */
static bool test_a_held_bus_has_no_tap_open(void)
{
	struct vbusd_request tap = rig_device("venet-tap", 2);
	char ticket[VBUSD_TEXT_LEN];

	strcpy(tap.argument, "held0");
	CHECK(!add_held(ticket) && !rig_ask(&rig, &tap, NULL) && !if_nametoindex("held0"));
	CHECK(!ask(VBUSD_START, VBUSD_FENCED, "", NULL) && if_nametoindex("held0"));
	CHECK(!ask(VBUSD_RELEASE, 0, TICKET, NULL) && !if_nametoindex("held0"));
	CHECK(!ask(VBUSD_START, VBUSD_FENCED, "", NULL) && if_nametoindex("held0"));
	return true;
}

/* ---- What keeps a receipt back. ---- */

static bool stuck(uint8_t with)
{
	atomic_store(&slow->shut, 1);
	memset(north_disk_data(&disk, 0), with, 512);
	north_disk_prepare(&disk, 0, VBLK_OP_WRITE, 0, 0, 512);
	north_disk_post(&disk, 0, 0);
	return RIG_UNTIL(atomic_load(&slow->waiting) == 1);
}

static bool send_release(void)
{
	struct vbusd_request q = move(VBUSD_RELEASE, 0, TICKET);

	return send(rig.admin, &q, sizeof(q), MSG_NOSIGNAL) == (ssize_t)sizeof(q) &&
	       rig_logged(&rig, "is to release it");
}

static bool hear(struct vbusd_reply *a)
{
	return recv(rig.admin, a, sizeof(*a), 0) == (ssize_t)sizeof(*a);
}

static bool test_a_receipt_comes_when_what_was_begun_is_on_the_disk(void)
{
	struct pollfd word = { .events = POLLIN };
	struct vbusd_reply a;
	uint64_t epoch;
	int syncs;

	CHECK(stand() && stuck(0x33));
	epoch = north_epoch(&north);
	syncs = atomic_load(&slow->syncs);
	CHECK(send_release());
	/* Nothing can end this wait: that nothing happens is what is looked at. */
	word.fd = rig.admin;
	CHECK(!poll(&word, 1, 200) && slow->data[0] == 0);
	atomic_store(&slow->shut, 0);
	CHECK(hear(&a) && !a.result && !strncmp(a.text, TICKET ":", VBUSD_TICKET_LEN + 1));
	CHECK(slow->data[0] == 0x33 && atomic_load(&slow->writes) == 1);
	CHECK(atomic_load(&slow->syncs) == syncs + 1 && is_held());
	/* What is handed over now nobody takes. */
	north_disk_prepare(&disk, 1, VBLK_OP_WRITE, 0, 8, 512);
	north_disk_post(&disk, 0, 1);
	poll(NULL, 0, 200);
	CHECK(atomic_load(&slow->writes) == 1 && !atomic_load(&slow->waiting));
	CHECK(north_epoch(&north) == epoch);
	CHECK(!ask(VBUSD_START, 0, a.text, NULL) && is_served(epoch));
	return true;
}

/* Writes and a release at any moment: what was answered is there, and all that is there stays. */
static bool test_all_that_was_answered_is_there_when_a_receipt_comes_under_load(void)
{
	static uint8_t after[SLOW_SIZE];
	char receipt[VBUSD_TEXT_LEN];
	struct ioq_buffer done;
	uint32_t round, i, k;

	CHECK(stand());
	for (round = 0; round < 8; round++) {
		memset(slow->data, 0, SLOW_SIZE);
		for (i = 0; i < DISK_SLOTS; i++) {
			memset(north_disk_data(&disk, i), (int)(round * DISK_SLOTS + i + 1), 4096);
			north_disk_prepare(&disk, i, VBLK_OP_WRITE, 0, i * 8, 4096);
			north_disk_post(&disk, 0, i);
		}
		for (k = 0; k < round * 2; k++)
			CHECK(north_disk_await(&disk, 0, &done) && !done.status);
		CHECK(!ask(VBUSD_RELEASE, 0, TICKET, receipt));
		memcpy(after, slow->data, SLOW_SIZE);
		CHECK(is_held());
		while (north_disk_pop(&disk, 0, &done) > 0)
			;
		for (i = 0; i < DISK_SLOTS; i++)
			CHECK((disk.posted & 1u << i) ||
			      slow->data[i * 4096] == (uint8_t)(round * DISK_SLOTS + i + 1));
		CHECK(!memcmp(after, slow->data, SLOW_SIZE));
		CHECK(!ask(VBUSD_START, 0, receipt, NULL) && is_served(north.epoch));
	}
	return true;
}

static bool test_a_sync_that_fails_gives_no_receipt_and_the_bus_stays(void)
{
	uint64_t epoch;

	CHECK(stand() && writes(0x22));
	epoch = north_epoch(&north);
	atomic_store(&slow->loses, 1);
	CHECK(is_refused(VBUSD_RELEASE, TICKET, VBUSD_SYSTEM, "disk: Input/output error"));
	CHECK(rig_logged(&rig, "no receipt, the bus stays"));
	atomic_store(&slow->loses, 0);
	CHECK(RIG_UNTIL(status().worker) && is_served(epoch));
	CHECK(!ask(VBUSD_RELEASE, 0, TICKET, NULL) && is_held());
	return true;
}

static bool test_a_disk_that_hangs_gives_no_receipt_and_the_bus_stays(void)
{
	uint64_t epoch;

	CHECK(stand() && stuck(0x44));
	epoch = north_epoch(&north);
	CHECK(is_refused(VBUSD_RELEASE, TICKET, VBUSD_SYSTEM, "a disk holds it up"));
	CHECK(!status().held && status().connected);
	atomic_store(&slow->shut, 0);
	CHECK(RIG_UNTIL(north_epoch(&north) != epoch) && is_served(epoch));
	return true;
}

static bool test_a_worker_that_dies_on_the_way_gives_no_receipt_and_the_bus_stays(void)
{
	struct vbusd_reply a;
	uint64_t epoch;

	CHECK(stand() && stuck(0x55));
	epoch = north_epoch(&north);
	pid_t worker = status().worker;
	CHECK(send_release() && !kill(worker, SIGKILL));
	if (getenv("VBUS_IO_POOL"))
		atomic_store(&slow->shut, 0);	/* its thread hangs with the write */
	CHECK(hear(&a) && a.result == VBUSD_SYSTEM && strstr(a.text, "its worker died"));
	atomic_store(&slow->shut, 0);
	CHECK(is_served(epoch) && status().restarts == 1);
	return true;
}

static bool test_what_cannot_be_recorded_gives_no_receipt_and_the_bus_stays(void)
{
	char fresh[128];
	uint64_t epoch;

	CHECK(stand());
	epoch = north_epoch(&north);
	/* Where the record is written before it gets its name. */
	snprintf(fresh, sizeof(fresh), "%s/b.new", rig.dir);
	CHECK(!mkdir(fresh, 0700));
	CHECK(is_refused(VBUSD_RELEASE, TICKET, VBUSD_SYSTEM, "it cannot be recorded"));
	CHECK(!rmdir(fresh) && is_served(epoch));
	return true;
}

static bool test_a_qemu_that_goes_on_the_way_leaves_no_receipt(void)
{
	struct vbusd_reply a;

	CHECK(stand() && stuck(0x66) && send_release());
	north_close(&north);
	CHECK(hear(&a) && a.result == VBUSD_SYSTEM && strstr(a.text, "its QEMU is gone"));
	atomic_store(&slow->shut, 0);
	CHECK(RIG_UNTIL(status().worker) && !status().held);
	CHECK(north_open(&north, &rig, 8) && is_served(0));
	return true;
}

static bool test_who_asked_and_went_gets_the_receipt_by_asking_again(void)
{
	char fresh[128], receipt[VBUSD_TEXT_LEN], want[VBUSD_TEXT_LEN];

	CHECK(stand() && stuck(0x66) && send_release());
	receipt_of(TICKET, want);
	close(rig.admin);
	CHECK(rig_reach(&rig));
	atomic_store(&slow->shut, 0);
	CHECK(rig_logged(&rig, "who asked is not told") && is_held());
	snprintf(fresh, sizeof(fresh), "%s/b.new", rig.dir);
	CHECK(!mkdir(fresh, 0700));
	CHECK(is_refused(VBUSD_RELEASE, TICKET, VBUSD_SYSTEM, "ask again") && !rmdir(fresh));
	CHECK(is_refused(VBUSD_RELEASE, OTHER, VBUSD_BUSY, "given once"));
	CHECK(!ask(VBUSD_RELEASE, 0, TICKET, receipt) && !strcmp(receipt, want));
	CHECK(is_refused(VBUSD_RELEASE, TICKET, VBUSD_BUSY, "given once"));
	return true;
}

static bool test_a_bus_stays_held_when_its_qemu_goes_and_the_next_one_comes(void)
{
	char receipt[VBUSD_TEXT_LEN];

	CHECK(stand() && !ask(VBUSD_RELEASE, 0, TICKET, receipt));
	north_close(&north);
	CHECK(RIG_UNTIL(!status().connected) && is_held());
	CHECK(RIG_UNTIL(come()) && is_held());
	CHECK(!ask(VBUSD_START, 0, receipt, NULL) && is_served(THERE));
	return true;
}

static struct sockaddr_un at_image(const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	strcpy(at.sun_path, path);
	return at;
}

static int lying_worker(void)
{
	const struct vbus_worker_notice done = { .kind = VBUS_NOTICE_RELEASED };
	struct sockaddr_un at = at_image(getenv("HELD_IMAGE"));
	int fds[VBUS_WORKER_FDS], s;
	struct vbus_worker_message m;
	unsigned int count;

	while (vbus_fdmsg_receive(VBUS_WORKER_FD, &m, sizeof(m), fds, VBUS_WORKER_FDS, &count) > 0) {
		if (m.kind == VBUS_WORKER_RELEASE &&
		    vbus_fdmsg_send(VBUS_WORKER_FD, &done, sizeof(done), NULL, 0) < 0)
			return 1;
		if (m.kind != VBUS_WORKER_DEVICE || !count)
			continue;
		s = socket(AF_UNIX, SOCK_SEQPACKET, 0);
		if (connect(s, (struct sockaddr *)&at, sizeof(at)) < 0 ||
		    vbus_fdmsg_send(s, "", 1, fds, 1) < 0)
			return 1;
	}
	return 0;
}

/* The image of the worker that was started last. */
static int take_image(int listener)
{
	int s = accept(listener, NULL, NULL), fd = -1;
	unsigned int count;
	char word;

	vbus_fdmsg_receive(s, &word, 1, &fd, 1, &count);
	close(s);
	return fd;
}

static bool test_a_worker_is_not_believed_while_its_image_is_still_locked(void)
{
	struct vbusd_request dev = a_disk();
	static char self[256];
	struct sockaddr_un at;
	char path[128];
	int listener, fd, next;

	snprintf(path, sizeof(path), "%s/b.worker-image", rig.dir);
	at = at_image(path);
	listener = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	CHECK(!bind(listener, (struct sockaddr *)&at, sizeof(at)) && !listen(listener, 4));
	CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0 && !setenv("HELD_IMAGE", path, 1));
	rig.words[0] = "--worker";
	rig.words[1] = self;
	rig_lose(&rig, SIGKILL);
	CHECK(rig_again(&rig, NULL) && rig_add_bus(&rig) && !rig_ask(&rig, &dev, NULL));
	fd = take_image(listener);
	CHECK(fd >= 0 && is_refused(VBUSD_RELEASE, TICKET, VBUSD_SYSTEM, "has it"));
	CHECK(!status().held && status().handovers == 1);
	next = take_image(listener);
	close(fd);
	close(next);
	CHECK(next >= 0 && !ask(VBUSD_RELEASE, 0, TICKET, NULL) && is_held());
	close(listener);
	return !unlink(path);
}

/* ---- vbusd ---- */

static bool next_one(int number, bool stored)
{
	rig_lose(&rig, number);
	if (stored)
		store_listen();
	return rig_again(&rig, stored ? store_hand_back : NULL);
}

static bool stays_held(int number)
{
	char receipt[VBUSD_TEXT_LEN], text[VBUSD_TEXT_LEN];
	uint64_t epoch;

	CHECK(stand() && !ask(VBUSD_RELEASE, 0, TICKET, receipt));
	epoch = north_epoch(&north);
	CHECK(next_one(number, true) && is_held() && status().connected && !status().lost);
	CHECK(is_refused(VBUSD_RELEASE, TICKET, VBUSD_BUSY, "given once") && nothing_changes());
	CHECK(is_refused(VBUSD_START, OTHER NEVER, VBUSD_BUSY, "for another receipt"));
	CHECK(!ask(VBUSD_START, 0, receipt, text) && is_served(epoch));
	/* It is no longer. */
	CHECK(next_one(number, true) && !status().held && status().worker && writes(0x12));
	return true;
}

static bool test_a_vbusd_that_is_lost_while_a_worker_drains_gives_no_receipt(void)
{
	uint64_t epoch;

	CHECK(stand() && stuck(0x77));
	epoch = north_epoch(&north);
	CHECK(send_release() && next_one(SIGKILL, false) && !status().held && status().connected);
	atomic_store(&slow->shut, 0);
	CHECK(RIG_UNTIL(north_epoch(&north) != epoch) && is_served(epoch) && !status().lost);
	return true;
}

static bool test_a_held_bus_outlives_vbusd_with_its_session_by_systemds_store(void)
{
	int numbers[] = { SIGTERM, SIGKILL };
	bool ok = true;
	size_t i;

	for (i = 0; ok && i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		teardown();
		setup();
		ok = store_start(&rig) && stays_held(numbers[i]);
		store_stop();
	}
	return ok;
}

static bool test_without_a_store_a_held_bus_outlives_vbusd_and_its_session_does_not(void)
{
	char ticket[VBUSD_TEXT_LEN], receipt[VBUSD_TEXT_LEN + sizeof(NEVER)];
	struct vbusd_request dev = a_disk();

	CHECK(!add_held(ticket) && !rig_ask(&rig, &dev, NULL) && come());
	CHECK(next_one(SIGKILL, false) && is_held() && !status().connected && status().lost == 1);
	north_close(&north);
	CHECK(come());
	snprintf(receipt, sizeof(receipt), "%s" NEVER, ticket);
	CHECK(!ask(VBUSD_START, 0, receipt, NULL) && is_served(THERE));
	return true;
}

#ifdef VBUS_FAILPOINTS
/**
 * struct step - vbusd, or the worker, is killed there
 * @held: what the next one finds; else the bus is served on
 * @given: the receipt may have been: only the administrator's word starts it
 */
static const struct step {
	enum vbus_fail_at point;
	bool worker;
	bool held;
	bool given;
} steps[] = {
	{ VBUS_FAIL_RELEASE_TAKEN, .worker = true },
	{ VBUS_FAIL_RELEASE_SYNCED, .worker = true },
	{ .point = VBUS_FAIL_RELEASE_HEARD },
	{ .point = VBUS_FAIL_WORKER_GONE },
	{ .point = VBUS_FAIL_RELEASE_HELD },
	{ VBUS_FAIL_RELEASE_RECORDED, .held = true },
	{ VBUS_FAIL_RELEASE_GIVEN, .held = true, .given = true },
};

static bool was_killed_at(enum vbus_fail_at point)
{
	return fail_kills(point) == 1;
}

static bool survives(const struct step *step)
{
	struct vbusd_request q = move(VBUSD_RELEASE, 0, TICKET);
	struct vbusd_reply a = { 0 };
	char receipt[VBUSD_TEXT_LEN];
	uint64_t epoch;

	memset(fail, 0, sizeof(*fail));
	CHECK(stand() && writes(0x31));
	epoch = north_epoch(&north);
	fail_arm(step->point);
	CHECK(send(rig.admin, &q, sizeof(q), MSG_NOSIGNAL) == (ssize_t)sizeof(q));
	CHECK(RIG_UNTIL(was_killed_at(step->point)));
	/* No receipt: an end, or a no. */
	CHECK(!hear(&a) || a.result == VBUSD_SYSTEM);
	CHECK(step->worker || next_one(SIGKILL, true));
	CHECK(status().held == step->held && status().connected && !status().lost);
	if (step->held && !step->given) {
		CHECK(is_held() && is_refused(VBUSD_RELEASE, OTHER, VBUSD_BUSY, "given once"));
		CHECK(!ask(VBUSD_RELEASE, 0, TICKET, receipt) && is_held());
		CHECK(!ask(VBUSD_START, 0, receipt, NULL));
	} else if (step->held) {
		CHECK(is_held() && is_refused(VBUSD_RELEASE, TICKET, VBUSD_BUSY, "given once"));
		CHECK(!ask(VBUSD_START, VBUSD_FENCED, "", NULL));
	}
	CHECK(is_served(epoch) && slow->data[0] == 0x5a);
	return true;
}

static bool test_killed_at_each_step_the_bus_is_either_served_or_held(void)
{
	bool ok = true;
	size_t i;

	for (i = 0; ok && i < sizeof(steps) / sizeof(steps[0]); i++) {
		teardown();
		CHECK(fail_open());
		setup();
		ok = store_start(&rig) && survives(&steps[i]);
		store_stop();
		if (!ok)
			fprintf(stderr, "# killed at %s\n", fail_names[steps[i].point]);
		fail_close();
	}
	return ok;
}

static bool starts_again(enum vbus_fail_at point)
{
	struct vbusd_request q = move(VBUSD_START, 0, "");
	char receipt[VBUSD_TEXT_LEN];
	uint64_t epoch;

	memset(fail, 0, sizeof(*fail));
	CHECK(stand() && !ask(VBUSD_RELEASE, 0, TICKET, receipt));
	epoch = north_epoch(&north);
	memcpy(q.argument, receipt, VBUSD_RECEIPT_LEN);
	fail_arm(point);
	CHECK(send(rig.admin, &q, sizeof(q), MSG_NOSIGNAL) == (ssize_t)sizeof(q));
	CHECK(RIG_UNTIL(was_killed_at(point)) && next_one(SIGKILL, true));
	/* Either it has not begun, and is asked once more, or it has. */
	CHECK(!status().held || !ask(VBUSD_START, 0, receipt, NULL));
	CHECK(is_served(epoch) && !status().lost);
	return true;
}

static bool test_killed_while_it_starts_a_bus_vbusd_starts_it_once(void)
{
	static const enum vbus_fail_at points[] = {
		VBUS_FAIL_START_TAKEN, VBUS_FAIL_WORKER_SPAWNED, VBUS_FAIL_WORKER_RECORDED,
		VBUS_FAIL_WORKER_TOLD, VBUS_FAIL_REQUEST_DONE, VBUS_FAIL_REQUEST_RECORDED,
	};
	bool ok = true;
	size_t i;

	for (i = 0; ok && i < sizeof(points) / sizeof(points[0]); i++) {
		teardown();
		CHECK(fail_open());
		setup();
		ok = store_start(&rig) && starts_again(points[i]);
		store_stop();
		if (!ok)
			fprintf(stderr, "# killed at %s\n", fail_names[points[i]]);
		fail_close();
	}
	return ok;
}
#endif

static const struct tap_test tests[] = {
	TEST(test_a_held_bus_has_qemu_and_no_worker_until_it_is_started),
	TEST(test_tickets_are_not_drawn_twice),
	TEST(test_a_receipt_is_given_once_and_gives_the_bus_back),
	TEST(test_an_administrators_word_stands_for_a_receipt),
	TEST(test_a_bus_is_not_started_over_an_image_that_somebody_has),
	TEST(test_devices_come_before_qemu_and_not_while_the_bus_moves),
	TEST(test_a_bus_of_the_file_connector_does_not_move),
	TEST(test_a_held_bus_has_no_tap_open),
	TEST(test_a_receipt_comes_when_what_was_begun_is_on_the_disk),
	TEST(test_all_that_was_answered_is_there_when_a_receipt_comes_under_load),
	TEST(test_a_sync_that_fails_gives_no_receipt_and_the_bus_stays),
	TEST(test_a_disk_that_hangs_gives_no_receipt_and_the_bus_stays),
	TEST(test_a_worker_that_dies_on_the_way_gives_no_receipt_and_the_bus_stays),
	TEST(test_what_cannot_be_recorded_gives_no_receipt_and_the_bus_stays),
	TEST(test_a_qemu_that_goes_on_the_way_leaves_no_receipt),
	TEST(test_who_asked_and_went_gets_the_receipt_by_asking_again),
	TEST(test_a_bus_stays_held_when_its_qemu_goes_and_the_next_one_comes),
	TEST(test_a_worker_is_not_believed_while_its_image_is_still_locked),
	TEST(test_a_vbusd_that_is_lost_while_a_worker_drains_gives_no_receipt),
	TEST(test_a_held_bus_outlives_vbusd_with_its_session_by_systemds_store),
	TEST(test_without_a_store_a_held_bus_outlives_vbusd_and_its_session_does_not),
#ifdef VBUS_FAILPOINTS
	TEST(test_killed_at_each_step_the_bus_is_either_served_or_held),
	TEST(test_killed_while_it_starts_a_bus_vbusd_starts_it_once),
#endif
};

int main(int argc, char **argv)
{
	if (argc > 0 && !strcmp(argv[0], "vbus-worker"))
		return lying_worker();
	if (access("/dev/fuse", R_OK | W_OK) || unshare(CLONE_NEWNS | CLONE_NEWNET) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		printf("1..0 # SKIP FUSE and taps in namespaces need root: %s\n", strerror(errno));
		return 0;
	}
	return TAP_RUN(tests, setup, teardown);
}
