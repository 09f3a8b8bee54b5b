// SPDX-License-Identifier: MIT
/* A thousand devices come and go beside one that is busy all the time: nothing is left of them. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "north_disk.h"
#include "tap.h"

#define ROUNDS		1000u
#define WARM_UP		100u	/* after these all that is kept for good is there */
#define PIECE		50u	/* rounds in one transfer, which has a deadline */
#define OPENED		(ROUNDS / 5)
#define IMAGE_SIZE	(1u << 20)

/* Of a leak of 80 bytes a round it would be more; an allocator's spare pages are less. */
#define GROWTH_KIB	64

#define HOT_ADD_US	20000u

static struct rig rig;
static struct vbus_client north;
static struct vbus_client_net net;
static char image[64];

static void setup(void)
{
	struct vbusd_request dev = rig_device("venet-loopback", 1);
	int fd;

	strcpy(image, "/tmp/churn-test-XXXXXX");
	fd = mkostemp(image, O_CLOEXEC);
	if (fd < 0 || ftruncate(fd, IMAGE_SIZE) < 0 || !rig_start(&rig) || !rig_add_bus(&rig) ||
	    rig_ask(&rig, &dev, NULL) || !north_open(&north, &rig, 8) || !north_negotiate(&north) ||
	    !north_net_open(&north, &net, 1))
		fprintf(stderr, "# the rig does not stand\n");
	close(fd);
}

static void teardown(void)
{
	north_close(&north);
	rig_stop(&rig);
	unlink(image);
}

static struct vbusd_bus_status status(void)
{
	struct vbusd_bus_status s = { 0 };

	rig_bus_status(&rig, 0, &s);
	return s;
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/**
 * struct churn
 * @round, @end: done, and to be done in this transfer
 * @busy: rounds that began with frames in flight
 * @signals: that the opened devices got, over all
 * @us: from vbusd's answer to the answer of DEVOPEN
 */
struct churn {
	uint32_t round, end;
	uint32_t busy;
	uint32_t generation;
	uint32_t signals;
	uint32_t first_signal[2];
	uint32_t opened;
	uint32_t us[OPENED + WARM_UP / 5];
	bool ok;
};

static bool has_generation(uint32_t generation)
{
	return vbus_client_generation(&north) == generation;
}

/* The signal is the lowest that is free: of a leaked one the next would be higher. */
static bool is_the_first_again(uint32_t *first, uint32_t signal)
{
	if (!*first)
		*first = signal;
	return signal == *first;
}

/* What the guest does with its pages is the library's for a net, and the tests' for a disk. */
static bool use_disk(struct churn *c, uint64_t since, bool closes)
{
	static uint8_t used[sizeof(north.used)];
	struct north_disk disk;

	memcpy(used, north.used, sizeof(used));
	CHECK(!north_disk_devopen(&north, &disk, 2));
	c->us[c->opened++] = (uint32_t)(now_us() - since);
	CHECK(!vbus_client_dev_close(&north, disk.handle));
	CHECK(north_disk_open(&north, &disk, 2, DISK_ALL));
	c->signals += 2;
	CHECK(is_the_first_again(&c->first_signal[0], disk.signal[0]));
	memset(north_disk_data(&disk, 0), (int)c->round, 4096);
	CHECK(!north_disk_do(&disk, VBLK_OP_WRITE, 0, 0, 4096));
	if (closes)
		CHECK(!vbus_client_dev_close(&north, disk.handle));
	memcpy(north.used, used, sizeof(used));
	return true;
}

static bool use_net(struct churn *c, uint64_t since, bool closes, struct vbus_client_net *second)
{
	uint8_t uuid[VBUS_UUID_LEN];
	uint32_t handle;

	memset(uuid, 2, sizeof(uuid));
	CHECK(!vbus_client_dev_open(&north, uuid, VENET_VERSION, &handle, NULL));
	c->us[c->opened++] = (uint32_t)(now_us() - since);
	CHECK(!vbus_client_dev_close(&north, handle) && north_net_open(&north, second, 2));
	c->signals += 3;
	CHECK(is_the_first_again(&c->first_signal[1], second->tx_signal));
	if (closes)
		CHECK(!vbus_client_net_close(second));
	return true;
}

/* Every tenth is a disk and every fifth is opened; each second of these goes while it is open. */
static bool come_and_go(struct churn *c)
{
	bool is_disk = !(c->round % 10), opens = !(c->round % 5), closes = c->round / 10 % 2;
	struct vbusd_request add = rig_device(is_disk ? "vblk-file" : "venet-loopback", 2),
			     gone = rig_request(VBUSD_DEVICE_REMOVE);
	struct vbus_client_net second;
	uint64_t since;

	memset(gone.uuid, 2, sizeof(gone.uuid));
	if (is_disk)
		snprintf(add.argument, sizeof(add.argument), "%s", image);
	CHECK(!rig_ask(&rig, &add, NULL));
	since = now_us();
	c->generation++;
	if (opens) {
		CHECK(RIG_UNTIL(has_generation(c->generation)));
		CHECK(is_disk ? use_disk(c, since, closes) : use_net(c, since, closes, &second));
	}
	CHECK(!rig_ask(&rig, &gone, NULL));
	c->generation++;
	if (opens)
		CHECK(RIG_UNTIL(has_generation(c->generation)));
	if (opens && !is_disk && !closes)
		CHECK(vbus_client_net_close(&second) == VBUS_STATUS_NO_ENTRY);
	return true;
}

static void one_round(struct north_echo *e, void *ctx)
{
	struct churn *c = ctx;

	if (!c->ok || c->round == c->end)
		return;
	c->busy += e->sent > e->received;
	c->ok = come_and_go(c);
	c->round++;
	/* The transfer does not end before. */
	e->count = e->sent + 200;
}

static bool play(struct churn *c, struct north_echo *e, uint32_t rounds)
{
	uint32_t last = c->round + rounds;

	while (c->round < last) {
		c->end = c->round + PIECE;
		e->count += 200;
		CHECK(north_echo(&north, &net, 1, e) && c->ok && c->round == c->end);
	}
	return true;
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static bool is_empty(const uint8_t *bits, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (bits[i])
			return false;
	return true;
}

/* How much more of its own a process has now. */
static long grown(pid_t pid, long before)
{
	long kib = rig_proc_number(pid, "RssAnon");

	return kib < 0 || before <= 0 ? GROWTH_KIB + 1 : kib - before;
}

static bool test_a_thousand_devices_come_and_go_under_traffic_and_leave_nothing(void)
{
	static struct churn c = { .ok = true };
	static uint8_t empty[sizeof(north.used)], used[sizeof(north.used)];
	struct north_echo e = { .each = one_round, .ctx = &c };
	struct vbusd_bus_status before = status();
	uint32_t of_vbusd, of_worker;
	long kib_vbusd, kib_worker;

	CHECK(before.worker > 0);
	c.generation = vbus_client_generation(&north);
	memcpy(used, north.used, sizeof(used));
	CHECK(play(&c, &e, WARM_UP));
	of_vbusd = rig_descriptors(rig.vbusd);
	of_worker = rig_descriptors(before.worker);
	kib_vbusd = rig_proc_number(rig.vbusd, "RssAnon");
	kib_worker = rig_proc_number(before.worker, "RssAnon");

	CHECK(play(&c, &e, ROUNDS));
	fprintf(stderr, "# %u of %u rounds with frames under way\n", c.busy, c.round);
	CHECK(e.received == e.count && !e.recoveries && !e.duplicates && c.busy > ROUNDS / 20);
	CHECK(has_generation(c.generation) && status().worker == before.worker);
	CHECK(status().devices == 1 && !status().counters.violations);
	/* An image that I/O still holds is closed when that has ended. */
	CHECK(RIG_UNTIL(rig_descriptors(before.worker) == of_worker));
	CHECK(rig_descriptors(rig.vbusd) == of_vbusd);
	fprintf(stderr, "# %ld and %ld KiB more in vbusd and worker\n", grown(rig.vbusd, kib_vbusd),
		grown(before.worker, kib_worker));
#ifndef __SANITIZE_ADDRESS__
	CHECK(grown(rig.vbusd, kib_vbusd) <= GROWTH_KIB);
	CHECK(grown(before.worker, kib_worker) <= GROWTH_KIB);
#endif
	/* All signals would have been used up by now. */
	CHECK(c.signals > VBUS_SIGNALS);
	CHECK(!memcmp(north.used, used, sizeof(used)) && !is_empty(used, sizeof(used)));
	CHECK(!vbus_client_net_close(&net) && !memcmp(north.used, empty, sizeof(empty)));

	qsort(c.us, c.opened, sizeof(c.us[0]), by_size);
	fprintf(stderr, "# hot add to DEVOPEN: median %u us, worst %u us of %u\n",
		c.us[c.opened / 2], c.us[c.opened - 1], c.opened);
	/* What a driver does then is not in it; the rest of the machine is, hence the median. */
	CHECK(c.us[c.opened / 2] <= HOT_ADD_US);
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_a_thousand_devices_come_and_go_under_traffic_and_leave_nothing),
};

int main(void)
{
	return TAP_RUN(tests, setup, teardown);
}
