// SPDX-License-Identifier: MIT
/* vblk-file on a plain file: what is written is read, by either engine, and nothing is lost. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef VBUS_FAILPOINTS
#include "fail.h"
#endif
#include "north_disk.h"
#include "tap.h"
#include "vbus_port.h"

#define SIZE	(8u << 20)
#define SECTORS	(SIZE / VBLK_SECTOR)

static struct rig rig;
static struct vbus_client north;
static struct north_disk disk;
static char image[64];
static int backing = -1;		/* the image, opened by this test, which never locks */
static uint8_t model[SIZE];		/* what must be on it */
static uint64_t seed = 1;

static uint32_t draw(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16);
}

static struct vbusd_request disk_request(uint8_t number, const char *path, uint32_t flags)
{
	struct vbusd_request q = rig_device("vblk-file", number);

	q.flags = flags;
	memcpy(q.serial, "SERIAL-OF-20-LETTERS", sizeof(q.serial));
	snprintf(q.argument, sizeof(q.argument), "%s", path);
	return q;
}

static bool stand(uint32_t flags, uint32_t block_size)
{
	struct vbusd_request dev = disk_request(1, image, flags);

	dev.block_size = block_size;
	return rig_start(&rig) && rig_add_bus(&rig) && !rig_ask(&rig, &dev, NULL) &&
	       north_open(&north, &rig, 8);
}

static void setup(void)
{
	strcpy(image, "/tmp/vblk-test-XXXXXX");
	backing = mkostemp(image, O_CLOEXEC);
	memset(model, 0, sizeof(model));
	memset(&north, 0, sizeof(north));
	if (backing < 0 || ftruncate(backing, SIZE) < 0)
		fprintf(stderr, "# no image\n");
}

static void teardown(void)
{
	north_close(&north);
	rig_stop(&rig);
	unlink(image);
	close(backing);
}

static bool open_disk(struct disk_wish wish)
{
	return stand(0, 0) && north_negotiate(&north) && north_disk_open(&north, &disk, 1, wish);
}

static struct vbusd_device_counters counters(void)
{
	struct vbusd_device_status s = { 0 };

	rig_device_status(&rig, "b", 0, &s);
	return s.counters;
}

static pid_t worker(void)
{
	struct vbusd_bus_status s = { 0 };

	rig_bus_status(&rig, 0, &s);
	return s.worker;
}

static void fill(uint8_t *at, uint32_t bytes)
{
	uint32_t i;

	for (i = 0; i < bytes; i++)
		at[i] = (uint8_t)draw();
}

/* The image's bytes, read past the guest. */
static bool image_is_the_model(void)
{
	static uint8_t have[SIZE];

	return pread(backing, have, SIZE, 0) == SIZE && !memcmp(have, model, SIZE);
}

static bool is_zero(uint32_t sector, uint32_t bytes)
{
	static const uint8_t none[DISK_DATA];

	return north_disk_do(&disk, VBLK_OP_READ, 0, sector, bytes) == VBUS_STATUS_OK &&
	       !memcmp(north_disk_data(&disk, 0), none, bytes);
}

/* Somewhere on the disk, of some length. */
static void pick(uint32_t *sector, uint32_t *bytes)
{
	*bytes = (1 + draw() % (DISK_DATA / VBLK_SECTOR)) * VBLK_SECTOR;
	*sector = draw() % (SECTORS - *bytes / VBLK_SECTOR + 1);
}

static bool test_the_engine_is_the_one_that_was_asked_for(void)
{
	char path[64], target[64];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	CHECK(open_disk(DISK_ALL));
	if (geteuid())
		return true;	/* nobody but root sees what a worker has open */
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)worker());
	dir = opendir(path);
	CHECK(dir);
	while ((entry = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		target[n < 0 ? 0 : n] = 0;
		found |= strstr(target, "io_uring") != NULL;
	}
	closedir(dir);
	CHECK(found == !getenv("VBUS_IO_POOL"));
	return true;
}

static bool test_what_is_written_anywhere_is_read_there(void)
{
	uint32_t i, sector, bytes;

	CHECK(open_disk(DISK_ALL));
	for (i = 0; i < 500; i++) {
		pick(&sector, &bytes);
		fill(north_disk_data(&disk, 0), bytes);
		memcpy(model + sector * VBLK_SECTOR, north_disk_data(&disk, 0), bytes);
		CHECK(!north_disk_do(&disk, VBLK_OP_WRITE, i % 7 ? 0 : VBLK_FUA, sector, bytes));
		pick(&sector, &bytes);
		CHECK(!north_disk_do(&disk, VBLK_OP_READ, 0, sector, bytes));
		CHECK(!memcmp(north_disk_data(&disk, 0), model + sector * VBLK_SECTOR, bytes));
	}
	CHECK(!north_disk_do(&disk, VBLK_OP_FLUSH, 0, 0, 0));
	CHECK(image_is_the_model());
	CHECK(counters().reads == 500 && counters().writes == 500 && counters().flushes == 1);
	CHECK(counters().write_bytes > 500 * VBLK_SECTOR && !counters().errors);
	CHECK(counters().in_flight == 0);
	return true;
}

static bool test_a_request_of_many_segments_moves_each_to_its_place(void)
{
	struct vblk_request *q;
	struct ioq_buffer done;
	uint32_t i;

	CHECK(open_disk(DISK_ALL));
	fill(model, VBLK_SEGMENTS_MAX * VBLK_SECTOR);
	CHECK(pwrite(backing, model, SIZE, 0) == SIZE);
	north_disk_prepare(&disk, 0, VBLK_OP_READ, 0, 0, VBLK_SECTOR);
	q = north_disk_request(&disk, 0);
	q->segments = VBLK_SEGMENTS_MAX;
	/* From the last place to the first. */
	for (i = 0; i < VBLK_SEGMENTS_MAX; i++)
		q->segment[i] = (struct vblk_segment){
			.addr = disk.data + (VBLK_SEGMENTS_MAX - 1 - i) * VBLK_SECTOR,
			.len = VBLK_SECTOR,
		};
	north_disk_post(&disk, 0, 0);
	CHECK(north_disk_await(&disk, 0, &done) && !done.status &&
	      done.len == VBLK_SEGMENTS_MAX * VBLK_SECTOR);
	for (i = 0; i < VBLK_SEGMENTS_MAX; i++)
		CHECK(!memcmp(north_disk_data(&disk, 0) + i * VBLK_SECTOR,
			      model + (VBLK_SEGMENTS_MAX - 1 - i) * VBLK_SECTOR, VBLK_SECTOR));
	return true;
}

static bool test_sixteen_rings_are_served_and_one_without_the_feature(void)
{
	struct disk_wish all = { ~0u, ~0u, VBLK_QUEUES_MAX }, one = { ~0u, VBLK_CONFIG_RESIZE, 1 };
	struct vbusd_device_status s = { 0 };
	struct ioq_buffer done;
	uint32_t i, signal;
	uint64_t at;

	CHECK(open_disk(all) && disk.query.queues == VBLK_QUEUES_MAX);
	CHECK(rig_device_status(&rig, "b", 0, &s) && s.running == VBLK_QUEUES_MAX);
	for (i = 0; i < VBLK_QUEUES_MAX; i++) {
		fill(north_disk_data(&disk, i), VBLK_SECTOR);
		memcpy(model + i * VBLK_SECTOR, north_disk_data(&disk, i), VBLK_SECTOR);
		north_disk_prepare(&disk, i, VBLK_OP_WRITE, 0, i, VBLK_SECTOR);
		north_disk_post(&disk, i, i);
	}
	for (i = 0; i < VBLK_QUEUES_MAX; i++)
		CHECK(north_disk_await(&disk, i, &done) && done.id == i && !done.status);
	CHECK(image_is_the_model());

	CHECK(north_negotiate(&north) && north_disk_open(&north, &disk, 1, one));
	CHECK(disk.query.queues == 1);
	CHECK(rig_device_status(&rig, "b", 0, &s) && s.running == 1);
	at = north_alloc(&north, 2 * VBUS_PAGE_SIZE);
	CHECK(north_share(&north, disk.handle, 1, at, at + VBUS_PAGE_SIZE, IOQ_PART_SIZE(64),
			  IOQ_PART_SIZE(64), &signal) == VBUS_STATUS_INVALID);
	return true;
}

static bool test_serial_and_shape_are_told(void)
{
	CHECK(stand(0, 4096) && north_negotiate(&north) &&
	      north_disk_open(&north, &disk, 1, DISK_ALL));
	CHECK(!memcmp(disk.query.serial, "SERIAL-OF-20-LETTERS", VBLK_SERIAL_LEN));
	CHECK(disk.query.capacity == SECTORS && disk.query.logical_block == 4096);
	CHECK(disk.query.physical_block == 4096 && disk.query.segments_max == VBLK_SEGMENTS_MAX);
	CHECK(disk.query.bytes_max >= 1 << 20 && disk.query.zeroes_max && !disk.query.flags);
	/* Half a block is no block. */
	CHECK(!north_disk_do(&disk, VBLK_OP_READ, 0, 8, 4096) &&
	      !counters().violations);
	north_disk_prepare(&disk, 0, VBLK_OP_READ, 0, 1, 4096);
	north_disk_post(&disk, 0, 0);
	CHECK(RIG_UNTIL(counters().violations == 1));
	return true;
}

static bool test_a_read_only_disk_is_read_and_never_written(void)
{
	CHECK(stand(VBUSD_READ_ONLY, 0) && north_negotiate(&north));
	fill(model, DISK_DATA);
	CHECK(pwrite(backing, model, SIZE, 0) == SIZE);
	CHECK(north_disk_open(&north, &disk, 1, DISK_ALL) && disk.query.flags == VBLK_READ_ONLY);
	CHECK(!north_disk_do(&disk, VBLK_OP_READ, 0, 0, DISK_DATA));
	CHECK(!memcmp(north_disk_data(&disk, 0), model, DISK_DATA));
	CHECK(north_disk_do(&disk, VBLK_OP_WRITE, 0, 0, 512) == VBUS_STATUS_UNSUPPORTED);
	CHECK(north_disk_do(&disk, VBLK_OP_DISCARD, 0, 0, 512) == VBUS_STATUS_UNSUPPORTED);
	CHECK(north_disk_do(&disk, VBLK_OP_ZEROES, 0, 0, 512) == VBUS_STATUS_UNSUPPORTED);
	CHECK(north_disk_do(&disk, VBLK_OP_FLUSH, 0, 0, 0) == VBUS_STATUS_OK);
	CHECK(image_is_the_model() && counters().errors == 3);
	return true;
}

static bool test_a_discard_and_zeroes_read_as_zeroes_and_nothing_beside_them(void)
{
	struct stat before, after;

	CHECK(open_disk(DISK_ALL));
	fill(model, SIZE);
	CHECK(pwrite(backing, model, SIZE, 0) == SIZE && !fsync(backing) &&
	      !fstat(backing, &before));
	CHECK(!north_disk_do(&disk, VBLK_OP_DISCARD, 0, 2048, 1 << 20) && is_zero(2048, DISK_DATA));
	CHECK(!north_disk_do(&disk, VBLK_OP_ZEROES, 0, 8191, 1024) && is_zero(8191, 1024));
	CHECK(!north_disk_do(&disk, VBLK_OP_ZEROES, VBLK_UNMAP | VBLK_FUA, 10000, 3 << 20) &&
	      is_zero(16000, 4096));
	memset(model + 2048 * 512, 0, 1 << 20);
	memset(model + 8191 * 512, 0, 1024);
	memset(model + 10000 * 512, 0, 3 << 20);
	CHECK(image_is_the_model() && !fstat(backing, &after));
	CHECK(after.st_size == SIZE && after.st_blocks <= before.st_blocks - 3 * 2048);
	CHECK(counters().discards == 3);
	return true;
}

static bool test_commands_that_were_not_picked_are_refused_one_by_one(void)
{
	struct disk_wish none = { 0, 0, 1 };

	CHECK(open_disk(none));
	CHECK(north_disk_do(&disk, VBLK_OP_FLUSH, 0, 0, 0) == VBUS_STATUS_UNSUPPORTED);
	CHECK(north_disk_do(&disk, VBLK_OP_DISCARD, 0, 0, 512) == VBUS_STATUS_UNSUPPORTED);
	CHECK(north_disk_do(&disk, VBLK_OP_ZEROES, 0, 0, 512) == VBUS_STATUS_UNSUPPORTED);
	CHECK(north_disk_do(&disk, VBLK_OP_WRITE, 0, 0, 512) == VBUS_STATUS_OK);
	CHECK(!counters().violations && counters().errors == 3);
	return true;
}

static bool test_another_size_is_told_and_what_lies_beyond_is_refused(void)
{
	struct vbusd_request q = rig_device("", 1);
	uint32_t generation;

	q.op = VBUSD_RESIZE;
	CHECK(open_disk(DISK_ALL) && vbus_read64(&disk.status->capacity) == SECTORS);
	CHECK(north_disk_do(&disk, VBLK_OP_READ, 0, SECTORS, 512) == VBUS_STATUS_INVALID);
	generation = vbus_read32(&disk.status->generation);
	CHECK(!ftruncate(backing, 2 * SIZE) && rig_ask(&rig, &q, NULL) == VBUSD_OK);
	/* The doorbell tells. */
	if (!shm_signal_enable(&north.signals, disk.status_signal))
		CHECK(north_wait(&north, RIG_DEADLINE_MS));
	CHECK(RIG_UNTIL(vbus_read32(&disk.status->generation) == generation + 1));
	CHECK(vbus_read64(&disk.status->capacity) == 2 * SECTORS);
	CHECK(north_disk_do(&disk, VBLK_OP_READ, 0, SECTORS, 512) == VBUS_STATUS_OK);

	CHECK(!ftruncate(backing, SIZE / 2) && rig_ask(&rig, &q, NULL) == VBUSD_OK);
	CHECK(RIG_UNTIL(vbus_read64(&disk.status->capacity) == SECTORS / 2));
	CHECK(north_disk_do(&disk, VBLK_OP_READ, 0, SECTORS / 2 - 1, 1024) == VBUS_STATUS_INVALID);
	CHECK(north_disk_do(&disk, VBLK_OP_READ, 0, ~0ull, 512) == VBUS_STATUS_INVALID);
	CHECK(north_disk_do(&disk, VBLK_OP_READ, 0, 0, 512) == VBUS_STATUS_OK);
	CHECK(!counters().violations);
	return true;
}

static bool test_an_image_cut_short_gives_errors_and_no_crash(void)
{
	pid_t before;

	CHECK(open_disk(DISK_ALL));
	before = worker();
	CHECK(!ftruncate(backing, 4096 + 512));
	CHECK(north_disk_do(&disk, VBLK_OP_READ, 0, 0, 4096) == VBUS_STATUS_OK);
	CHECK(north_disk_do(&disk, VBLK_OP_READ, 0, 8, 4096) == VBUS_STATUS_IO);
	CHECK(north_disk_do(&disk, VBLK_OP_READ, 0, 100, 4096) == VBUS_STATUS_IO);
	CHECK(!unlink(image) && north_disk_do(&disk, VBLK_OP_READ, 0, 0, 512) == VBUS_STATUS_OK);
	/* Without the name no worker gets it again, and the others of the bus go on. */
	kill(before, SIGKILL);
	CHECK(rig_logged(&rig, "cannot be opened"));
	CHECK(RIG_UNTIL(north_epoch(&north) != north.epoch) && north_negotiate(&north));
	CHECK(north_disk_devopen(&north, &disk, 1) == VBUS_STATUS_IO);
	return true;
}

/* One round's requests: each slot reads or writes in its own part of the disk, so order is free. */
struct job {
	bool reads;
	uint32_t sector;
	uint32_t bytes;
	uint8_t data[DISK_DATA];
};

static struct job jobs[DISK_SLOTS];

static void draw_job(uint32_t slot)
{
	uint32_t part = SECTORS / DISK_SLOTS;
	struct job *job = &jobs[slot];

	job->reads = draw() % 3 == 0;
	job->bytes = (1 + draw() % (DISK_DATA / VBLK_SECTOR)) * VBLK_SECTOR;
	job->sector = slot * part + draw() % (part - job->bytes / VBLK_SECTOR);
	if (job->reads)
		return;
	fill(job->data, 64);
	memcpy(model + job->sector * VBLK_SECTOR, job->data, job->bytes);
}

/* Hand over what is in @todo, for the first time or once more. */
static void post_all(uint32_t todo, uint32_t queues)
{
	uint32_t slot;

	for (slot = 0; slot < DISK_SLOTS; slot++) {
		const struct job *job = &jobs[slot];

		if (!(todo & 1u << slot))
			continue;
		memcpy(north_disk_data(&disk, slot), job->data, job->bytes);
		north_disk_prepare(&disk, slot, job->reads ? VBLK_OP_READ : VBLK_OP_WRITE, 0,
				   job->sector, job->bytes);
		north_disk_post(&disk, slot % queues, slot);
	}
}

static bool is_right(const struct ioq_buffer *done)
{
	const struct job *job = &jobs[done->id % DISK_SLOTS];

	return !done->status && (!job->reads ||
	       !memcmp(north_disk_data(&disk, done->id), model + job->sector * VBLK_SECTOR,
		       job->bytes));
}

/* Take what was completed out of @todo; false when something of it is wrong. */
static bool collect(uint32_t *todo, uint32_t queues)
{
	struct ioq_buffer done;
	uint32_t ring;

	for (ring = 0; ring < queues; ring++)
		while (north_disk_pop(&disk, ring, &done) > 0) {
			if (!is_right(&done))
				return false;
			*todo &= ~(1u << done.id);
		}
	return true;
}

static bool recover(struct disk_wish wish)
{
	return north_negotiate(&north) && north_disk_open(&north, &disk, 1, wish);
}

/**
 * struct losses - what a loop of requests met
 * @lost: workers; each with requests in flight
 * @replays: requests that were handed over again
 * @disturb: called when a round's requests are handed over
 */
struct losses {
	uint32_t lost;
	uint32_t replays;
	void (*disturb)(uint32_t round, const void *ctx);
	const void *ctx;
};

static const struct disk_wish four_rings = { ~0u, ~0u, 4 };

/* Hand over one request a slot, and get all of them back, whoever is lost meanwhile. */
static bool play_round(uint32_t round, struct losses *l)
{
	uint32_t slot, todo = (1u << DISK_SLOTS) - 1;

	for (slot = 0; slot < DISK_SLOTS; slot++)
		draw_job(slot);
	post_all(todo, four_rings.queues);
	/* Should all be completed already, the next round meets the loss. */
	l->disturb(round, l->ctx);
	while (todo) {
		CHECK(collect(&todo, four_rings.queues));
		if (north_epoch(&north) != north.epoch) {
			l->lost++;
			CHECK(RIG_UNTIL(recover(four_rings)));
			l->replays += (uint32_t)__builtin_popcount(todo);
			post_all(todo, four_rings.queues);
		}
		north_wait(&north, todo ? 1 : 0);
		north_scan(&north);
	}
	return true;
}

/* Through the guest's eyes, and past them. */
static bool disk_is_the_model(void)
{
	uint32_t sector;

	for (sector = 0; sector < SECTORS; sector += DISK_DATA / VBLK_SECTOR) {
		CHECK(!north_disk_do(&disk, VBLK_OP_READ, 0, sector, DISK_DATA));
		CHECK(!memcmp(north_disk_data(&disk, 0), model + sector * VBLK_SECTOR, DISK_DATA));
	}
	return image_is_the_model();
}

/* In each tenth round, at a moment of its own: before, while or after the disk moves. */
static void kill_worker(uint32_t round, const void *ctx)
{
	(void)ctx;
	if (round % 10 != 5)
		return;
	usleep(draw() % 300);
	kill(worker(), SIGKILL);
}

static bool test_workers_killed_at_random_moments_with_requests_in_flight_lose_nothing(void)
{
	struct losses l = { .disturb = kill_worker };
	uint32_t kills = rig_kills(), round;

	CHECK(open_disk(four_rings));
	for (round = 0; round < 10 * kills; round++)
		CHECK(play_round(round, &l));
	fprintf(stderr, "# %u workers lost with requests in flight, %u requests replayed\n", l.lost,
		l.replays);
	CHECK(l.lost == kills && l.replays >= kills);
	return disk_is_the_model();
}

#ifdef VBUS_FAILPOINTS
static const enum vbus_fail_at disk_points[] = {
	VBUS_FAIL_DISK_TAKEN, VBUS_FAIL_DISK_STARTED, VBUS_FAIL_DISK_ENDED, VBUS_FAIL_DISK_GIVEN,
	VBUS_FAIL_DISK_PUBLISHED, VBUS_FAIL_DISK_TOLD,
};

#define DISK_POINTS	(sizeof(disk_points) / sizeof(disk_points[0]))

static void arm_point(uint32_t round, const void *ctx)
{
	if (round == 5)
		fail_arm(*(const enum vbus_fail_at *)ctx);
}

static bool survives(enum vbus_fail_at point, uint32_t *replays)
{
	struct losses l = { .disturb = arm_point, .ctx = &point };
	uint32_t round;

	CHECK(open_disk(four_rings));
	for (round = 0; round < 20; round++)
		CHECK(play_round(round, &l));
	CHECK(fail_kills(point) == 1 && l.lost == 1 && disk_is_the_model());
	*replays += l.replays;
	return true;
}

static bool test_a_worker_killed_after_each_step_of_a_request_loses_nothing(void)
{
	uint32_t replays = 0;
	bool ok = fail_open();
	size_t i;

	for (i = 0; ok && i < DISK_POINTS; i++) {
		if (i)
			setup();
		ok = survives(disk_points[i], &replays);
		if (!ok)
			fprintf(stderr, "# killed at %s\n", fail_names[disk_points[i]]);
		if (i + 1 < DISK_POINTS)
			teardown();
	}
	fail_close();
	fprintf(stderr, "# %zu workers killed, each at its point, %u requests replayed\n", i,
		replays);
	return ok;
}
#endif

/* Nothing can end this wait: that nobody wakes it is what is looked at. */
static bool sleeps_for_a_second(void)
{
	long before = rig_proc_number(worker(), "voluntary_ctxt_switches");

	poll(NULL, 0, 1000);
	return before > 0 && rig_proc_number(worker(), "voluntary_ctxt_switches") == before;
}

static bool test_an_idle_worker_with_four_disks_sleeps_and_is_small(void)
{
	char other[3][80];
	long kib;
	uint32_t i, sector, bytes;

	CHECK(open_disk(DISK_ALL));
	for (i = 0; i < 3; i++) {
		struct vbusd_request q;

		snprintf(other[i], sizeof(other[i]), "%s.%u", image, i);
		close(open(other[i], O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
		q = disk_request((uint8_t)(i + 2), other[i], 0);
		CHECK(!truncate(other[i], SIZE) && !rig_ask(&rig, &q, NULL));
	}
	for (i = 0; i < 100; i++) {
		pick(&sector, &bytes);
		CHECK(!north_disk_do(&disk, VBLK_OP_READ, 0, sector, bytes));
	}
	for (i = 0; i < 3; i++)
		unlink(other[i]);
	kib = rig_proc_number(worker(), "RssAnon") + rig_proc_number(worker(), "RssFile");
	fprintf(stderr, "# %ld KiB, and %ld KiB pinned\n", kib, rig_proc_number(worker(), "VmPin"));
	/* A thread may still be telling of the last read. */
	CHECK(sleeps_for_a_second() || sleeps_for_a_second());
#ifndef __SANITIZE_ADDRESS__
	CHECK(kib > 0 && kib + rig_proc_number(worker(), "VmPin") <= 4096);
#endif
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_an_idle_worker_with_four_disks_sleeps_and_is_small),
	TEST(test_the_engine_is_the_one_that_was_asked_for),
	TEST(test_what_is_written_anywhere_is_read_there),
	TEST(test_a_request_of_many_segments_moves_each_to_its_place),
	TEST(test_sixteen_rings_are_served_and_one_without_the_feature),
	TEST(test_serial_and_shape_are_told),
	TEST(test_a_read_only_disk_is_read_and_never_written),
	TEST(test_a_discard_and_zeroes_read_as_zeroes_and_nothing_beside_them),
	TEST(test_commands_that_were_not_picked_are_refused_one_by_one),
	TEST(test_another_size_is_told_and_what_lies_beyond_is_refused),
	TEST(test_an_image_cut_short_gives_errors_and_no_crash),
	TEST(test_workers_killed_at_random_moments_with_requests_in_flight_lose_nothing),
#ifdef VBUS_FAILPOINTS
	TEST(test_a_worker_killed_after_each_step_of_a_request_loses_nothing),
#endif
};

int main(void)
{
	return TAP_RUN(tests, setup, teardown);
}
