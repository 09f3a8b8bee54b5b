// SPDX-License-Identifier: MIT
/*
 * A worker that was killed and cannot end: its read of a disk hangs, as a dead NFS server has it.  Its
 * own bus waits for the disk; vbusd and the other buses do not.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "north_disk.h"
#include "slow_disk.h"
#include "tap.h"

static struct rig rig;
static struct rig other;	/* the same vbusd, with the socket of the bus "other" */
static struct vbus_client north, neighbour;
static struct north_disk disk;
static struct vbus_client_net net;
static struct slow_disk *slow;
static pid_t server;
static char dir[64];

static struct vbusd_request about_other(struct vbusd_request q)
{
	strcpy(q.bus, "other");
	return q;
}

static bool add_disk(void)
{
	struct vbusd_request dev = rig_device("vblk-file", 1);

	snprintf(dev.argument, sizeof(dev.argument), "%s/disk", dir);
	return !rig_ask(&rig, &dev, NULL);
}

static bool add_other(void)
{
	struct vbusd_request bus = about_other(rig_request(VBUSD_BUS_ADD)),
			     dev = about_other(rig_device("venet-loopback", 2));

	other = rig;
	snprintf(other.qemu_path, sizeof(other.qemu_path), "%s/other", rig.dir);
	bus.window_mib = 1;
	bus.vectors = 8;
	memcpy(bus.argument, other.qemu_path, sizeof(bus.argument));
	return !rig_ask(&rig, &bus, NULL) && !rig_ask(&rig, &dev, NULL) &&
	       north_open(&neighbour, &other, 8) && north_negotiate(&neighbour) &&
	       north_net_open(&neighbour, &net, 2);
}

static bool use_disk(void)
{
	return north_negotiate(&north) && north_disk_open(&north, &disk, 1, DISK_ALL);
}

static void setup(void)
{
	strcpy(dir, "/tmp/vblk-hung-XXXXXX");
	memset(&north, 0, sizeof(north));
	memset(&neighbour, 0, sizeof(neighbour));
	server = mkdtemp(dir) ? slow_disk_start(dir, &slow) : -1;
	if (server < 0 || !rig_start(&rig) || !rig_add_bus(&rig) || !add_disk() || !add_other() ||
	    !north_open(&north, &rig, 8) || !use_disk())
		fprintf(stderr, "# the rig does not stand\n");
}

static void teardown(void)
{
	if (server > 0)
		atomic_store(&slow->shut, 0);
	north_close(&north);
	north_close(&neighbour);
	rig_stop(&rig);
	slow_disk_stop(server, slow);
	rmdir(dir);
}

static bool status_of(const char *name, struct vbusd_bus_status *out)
{
	uint32_t i;

	for (i = 0; rig_bus_status(&rig, i, out); i++)
		if (!strcmp(out->name, name))
			return true;
	*out = (struct vbusd_bus_status){ 0 };
	return false;
}

static struct vbusd_bus_status status(void)
{
	struct vbusd_bus_status s;

	status_of("b", &s);
	return s;
}

static bool has_worker_but(pid_t before)
{
	struct vbusd_bus_status s = status();

	return s.worker > 0 && s.worker != before;
}

/* Its worker's read stands before the gate, which is where a signal does not reach it. */
static bool hang(void)
{
	atomic_store(&slow->shut, 1);
	north_disk_prepare(&disk, 0, VBLK_OP_READ, 0, 0, 512);
	north_disk_post(&disk, 0, 0);
	return RIG_UNTIL(atomic_load(&slow->waiting) == 1);
}

static bool comes_back(void)
{
	north_close(&north);
	return north_open(&north, &rig, 8) && use_disk() &&
	       !north_disk_do(&disk, VBLK_OP_READ, 0, 0, 512);
}

/* All that an administrator does, a guest's frames, and a worker that is replaced. */
static bool the_other_bus_is_served(void)
{
	struct vbusd_request dev = about_other(rig_device("venet-loopback", 3)), gone = dev,
			     renew = about_other(rig_request(VBUSD_RENEW));
	struct vbusd_bus_status before, s;
	struct north_echo e = { .count = 300 };

	CHECK(status_of("other", &before));
	gone.op = VBUSD_DEVICE_REMOVE;
	CHECK(!rig_ask(&rig, &dev, NULL) && !rig_ask(&rig, &gone, NULL));
	CHECK(!rig_ask(&rig, &renew, NULL));
	CHECK(RIG_UNTIL(status_of("other", &s) && s.worker && s.worker != before.worker));
	CHECK(north_echo(&neighbour, &net, 2, &e) && e.received == e.count);
	/* And its next QEMU. */
	north_close(&neighbour);
	CHECK(north_open(&neighbour, &other, 8) && north_negotiate(&neighbour) &&
	      north_net_open(&neighbour, &net, 2) && north_echo(&neighbour, &net, 2, &e));
	return true;
}

static bool test_a_session_that_ends_while_its_disk_hangs_is_followed_when_the_disk_is_back(void)
{
	struct vbusd_request link = rig_request(VBUSD_LINK);
	pid_t worker = status().worker;

	CHECK(hang());
	north_close(&north);
	CHECK(rig_logged(&rig, "is killed and does not end yet (a disk holds it up)"));
	CHECK(the_other_bus_is_served());
	/* Its configuration can be changed, and nobody serves it. */
	memset(link.uuid, 1, sizeof(link.uuid));
	CHECK(!rig_ask(&rig, &link, NULL) && status().worker == worker && !status().connected);
	CHECK(!kill(worker, 0));
	atomic_store(&slow->shut, 0);
	CHECK(RIG_UNTIL(has_worker_but(worker)) && comes_back());
	CHECK(status().sessions == 2 && !status().restarts);
	return true;
}

static bool is_gone(void)
{
	struct vbusd_bus_status s;

	return !status_of("b", &s);
}

static bool test_a_bus_that_is_removed_while_its_disk_hangs_goes_when_the_disk_is_back(void)
{
	struct vbusd_request gone = rig_request(VBUSD_BUS_REMOVE), renew = rig_request(VBUSD_RENEW);
	char text[VBUSD_TEXT_LEN];

	CHECK(hang());
	CHECK(rig_ask(&rig, &gone, text) == VBUSD_BUSY);
	CHECK(strstr(text, "bus b: goes when its worker has ended"));
	CHECK(rig_ask(&rig, &gone, NULL) == VBUSD_BUSY && rig_ask(&rig, &renew, NULL) == VBUSD_BUSY);
	CHECK(!rig_add_bus(&rig) && the_other_bus_is_served());
	CHECK(!is_gone() && !status().connected && access(rig.qemu_path, F_OK));
	atomic_store(&slow->shut, 0);
	CHECK(RIG_UNTIL(is_gone()));
	CHECK(rig_add_bus(&rig) && add_disk() && comes_back());
	return true;
}

static bool test_who_removes_a_bus_is_answered_when_all_of_it_is_released(void)
{
	struct vbusd_request gone = rig_request(VBUSD_BUS_REMOVE);
	pid_t worker = status().worker;
	uint32_t i;

	CHECK(!rig_ask(&rig, &gone, NULL) && kill(worker, 0) < 0 && errno == ESRCH);
	for (i = 0; i < 20; i++)
		CHECK(rig_add_bus(&rig) && add_disk() && !rig_ask(&rig, &gone, NULL));
	return true;
}

/* Before the answer: the seat may be another's by then, who gets nothing. */
static bool test_who_asks_for_the_end_of_a_bus_and_leaves_is_not_missed(void)
{
	struct vbusd_request gone = rig_request(VBUSD_BUS_REMOVE);

	CHECK(hang() && send(rig.admin, &gone, sizeof(gone), 0) == (ssize_t)sizeof(gone));
	close(rig.admin);
	CHECK(rig_reach(&rig));
	CHECK(rig_logged(&rig, "who asked is not told") && the_other_bus_is_served());
	atomic_store(&slow->shut, 0);
	CHECK(RIG_UNTIL(is_gone()));
	return true;
}

static bool test_the_next_vbusd_does_not_wait_for_a_worker_that_hangs(void)
{
	pid_t worker = status().worker;

	CHECK(hang());
	rig_lose(&rig, SIGKILL);
	kill(worker, SIGKILL);
	CHECK(rig_again(&rig, NULL));
	other.admin = rig.admin;
	CHECK(the_other_bus_is_served());
	/* Nobody but the test has killed it. */
	CHECK(rig_count_logged(&rig, "bus b: vbusd and its worker were lost at once") == 1);
	CHECK(!rig_count_logged(&rig, "is killed (") && status().lost == 1);
	CHECK(status().worker == worker && !kill(worker, 0));
	atomic_store(&slow->shut, 0);
	CHECK(RIG_UNTIL(has_worker_but(worker)) && comes_back());
	return true;
}

static bool test_a_vbusd_that_ends_leaves_a_worker_that_hangs_behind_and_says_so(void)
{
	pid_t worker = status().worker;
	char path[128];

	CHECK(hang());
	rig_lose(&rig, SIGINT);
	CHECK(rig_count_logged(&rig, "is killed and ends when a disk that holds it up does") == 1);
	snprintf(path, sizeof(path), "%s/b.bus", rig.dir);
	CHECK(access(path, F_OK) && !kill(worker, 0));
	/* The next one is not kept from its name. */
	CHECK(rig_again(&rig, NULL) && is_gone() && rig_add_bus(&rig));
	atomic_store(&slow->shut, 0);
	CHECK(RIG_UNTIL(kill(worker, 0) < 0));
	CHECK(RIG_UNTIL(add_disk()) && comes_back());
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_a_session_that_ends_while_its_disk_hangs_is_followed_when_the_disk_is_back),
	TEST(test_a_bus_that_is_removed_while_its_disk_hangs_goes_when_the_disk_is_back),
	TEST(test_who_removes_a_bus_is_answered_when_all_of_it_is_released),
	TEST(test_who_asks_for_the_end_of_a_bus_and_leaves_is_not_missed),
	TEST(test_the_next_vbusd_does_not_wait_for_a_worker_that_hangs),
	TEST(test_a_vbusd_that_ends_leaves_a_worker_that_hangs_behind_and_says_so),
};

int main(void)
{
	if (access("/dev/fuse", R_OK | W_OK) || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		printf("1..0 # SKIP FUSE in a mount namespace needs root: %s\n", strerror(errno));
		return 0;
	}
	return TAP_RUN(tests, setup, teardown);
}
