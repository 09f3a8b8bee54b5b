// SPDX-License-Identifier: MIT
/*
 * A guest that lies in a request: each field in turn closes the disk, and garbage everywhere harms
 * neither worker nor image.  Seeded: VBUS_SEED repeats a run, VBUS_ROUNDS makes it longer.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "north_disk.h"
#include "tap.h"
#include "vbus_port.h"

#define SIZE	(1u << 20)

static struct rig rig;
static struct vbus_client north;
static struct north_disk disk;
static char image[64];
static int backing = -1;
static uint64_t seed = 1;

static uint32_t draw(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16);
}

static void setup(void)
{
	struct vbusd_request dev = rig_device("vblk-file", 1);

	strcpy(image, "/tmp/vblk-hostile-XXXXXX");
	backing = mkostemp(image, O_CLOEXEC);
	strcpy(dev.argument, image);
	dev.block_size = 1024;
	if (backing < 0 || ftruncate(backing, SIZE) < 0 || !rig_start(&rig) || !rig_add_bus(&rig) ||
	    rig_ask(&rig, &dev, NULL) || !north_open(&north, &rig, 8))
		fprintf(stderr, "# the rig does not stand\n");
}

static void teardown(void)
{
	north_close(&north);
	rig_stop(&rig);
	unlink(image);
	close(backing);
}

static struct vbusd_device_status device(void)
{
	struct vbusd_device_status s = { 0 };

	rig_device_status(&rig, "b", 0, &s);
	return s;
}

static uint32_t restarts(void)
{
	struct vbusd_bus_status s = { .restarts = 99 };

	rig_bus_status(&rig, 0, &s);
	return s.restarts;
}

/* One lie: what it spoils of an honest request, in @q; or of its descriptor, in @addr and @len. */
struct lie {
	const char *what;
	enum vblk_op op;
	void (*tell)(struct vblk_request *q, uint64_t *addr, uint32_t *len);
};

#define LIE(name, statement) \
	static void name(struct vblk_request *q, uint64_t *addr, uint32_t *len) \
	{ \
		(void)q; \
		(void)addr; \
		(void)len; \
		statement; \
	}

LIE(unknown_op, q->op = VBLK_NR_OPS)
LIE(last_op, q->op = 255)
LIE(fua, q->flags = VBLK_FUA)
LIE(unmap, q->flags = VBLK_UNMAP)
LIE(unknown_flag, q->flags = 0x80)
LIE(no_segments, q->segments = 0; *len = VBLK_REQUEST_SIZE(0))
LIE(a_segment, q->segments = 1; *len = VBLK_REQUEST_SIZE(1))
LIE(more_segments, q->segments = 2)
LIE(all_segments, q->segments = 65535)
LIE(too_many_segments, q->segments = 65; *len = VBLK_REQUEST_SIZE(65))
LIE(some_sectors, q->sectors = 2)
LIE(no_sectors, q->sectors = 0)
LIE(odd_sectors, q->sectors = 3)
LIE(too_many_sectors, q->sectors = (1u << 21) + 2)
LIE(odd_sector, q->sector = 1)
LIE(last_sector, q->sector = UINT64_MAX)
LIE(some_sector, q->sector = 2)
LIE(below_the_pool, q->segment[0].addr = VBUS_POOL - 1024)
LIE(south_page, q->segment[0].addr = VBUS_SIGNALS_SOUTH)
LIE(over_the_end, q->segment[0].addr = (1 << 20) - 1024; q->segment[0].len = 2048)
LIE(far_away, q->segment[0].addr = 1ull << 40)
LIE(wrapping, q->segment[0].addr = UINT64_MAX - 1023)
LIE(odd_place, q->segment[0].addr += 512)
LIE(odd_length, q->segment[0].len = 512)
LIE(no_length, q->segment[0].len = 0)
LIE(too_long, q->segment[0].len = (256u << 10) + 1024)
LIE(all_lengths, q->segment[0].len = UINT32_MAX - 1023)
LIE(reserved, q->segment[0].reserved = 1)
LIE(request_below, *addr = VBUS_POOL - 8)
LIE(request_over_end, *addr = (1 << 20) - 16)
LIE(request_far, *addr = UINT64_MAX - 15)
LIE(short_request, *len = 15)
LIE(other_length, *len += 1)
LIE(huge_request, *len = UINT32_MAX)

static void too_much(struct vblk_request *q, uint64_t *addr, uint32_t *len)
{
	uint32_t i;

	(void)addr;
	q->segments = 5;
	for (i = 0; i < 5; i++)
		q->segment[i] = (struct vblk_segment){ .addr = VBUS_POOL, .len = 256 << 10 };
	*len = VBLK_REQUEST_SIZE(5);
}

#define TOLD(op, name) { #op " " #name, VBLK_OP_##op, name }

static const struct lie lies[] = {
	TOLD(READ, unknown_op), TOLD(READ, last_op), TOLD(READ, fua), TOLD(READ, unknown_flag),
	TOLD(WRITE, unmap), TOLD(FLUSH, fua), TOLD(DISCARD, unmap), TOLD(DISCARD, fua),
	TOLD(READ, no_segments), TOLD(WRITE, no_segments), TOLD(FLUSH, a_segment),
	TOLD(DISCARD, a_segment), TOLD(ZEROES, a_segment), TOLD(READ, more_segments),
	TOLD(READ, all_segments), TOLD(READ, too_many_segments), TOLD(READ, some_sectors),
	TOLD(FLUSH, some_sectors), TOLD(DISCARD, no_sectors), TOLD(ZEROES, no_sectors),
	TOLD(DISCARD, odd_sectors), TOLD(ZEROES, too_many_sectors), TOLD(WRITE, odd_sector),
	TOLD(READ, last_sector), TOLD(FLUSH, some_sector), TOLD(READ, below_the_pool),
	TOLD(READ, south_page), TOLD(WRITE, over_the_end), TOLD(READ, far_away),
	TOLD(READ, wrapping), TOLD(READ, odd_place), TOLD(READ, odd_length), TOLD(READ, no_length),
	TOLD(READ, too_long), TOLD(READ, all_lengths), TOLD(WRITE, reserved), TOLD(READ, too_much),
	TOLD(READ, request_below), TOLD(READ, request_over_end), TOLD(READ, request_far),
	TOLD(READ, short_request), TOLD(READ, other_length), TOLD(READ, huge_request),
};

/* An honest request of this operation. */
static void prepare(enum vblk_op op)
{
	north_disk_prepare(&disk, 0, op, 0, op == VBLK_OP_FLUSH ? 0 : 2,
			   op == VBLK_OP_FLUSH ? 0 : 2048);
}

static bool test_each_lie_in_a_request_closes_the_disk(void)
{
	struct vbus_enumerate_reply list;
	uint32_t i, len;
	uint64_t addr;

	for (i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		CHECK(north_negotiate(&north) && north_disk_open(&north, &disk, 1, DISK_ALL));
		prepare(lies[i].op);
		addr = disk.request;
		len = VBLK_REQUEST_SIZE(north_disk_request(&disk, 0)->segments);
		lies[i].tell(north_disk_request(&disk, 0), &addr, &len);
		north_disk_push(&disk, 0, addr, len, 0);
		if (!RIG_UNTIL(device().counters.violations == i + 1)) {
			fprintf(stderr, "# %s\n", lies[i].what);
			return false;
		}
		/* The ring was left alone; a call that came after is answered, so it has been. */
		CHECK(!north_enumerate(&north, &list));
		CHECK(!vbus_read32(&disk.ring[0].south->inuse));
	}
	CHECK(!restarts() && !device().counters.reads && !device().counters.writes);
	return true;
}

static bool test_the_same_requests_without_a_lie_are_carried_out(void)
{
	enum vblk_op op;

	CHECK(north_negotiate(&north) && north_disk_open(&north, &disk, 1, DISK_ALL));
	for (op = VBLK_OP_READ; op < VBLK_NR_OPS; op++) {
		struct ioq_buffer done;

		prepare(op);
		north_disk_post(&disk, 0, 0);
		CHECK(north_disk_await(&disk, 0, &done) && !done.status);
	}
	CHECK(!device().counters.violations);
	return true;
}

static bool test_requests_of_one_id_are_each_completed(void)
{
	struct ioq_buffer done;
	uint32_t i;

	CHECK(north_negotiate(&north) && north_disk_open(&north, &disk, 1, DISK_ALL));
	prepare(VBLK_OP_READ);
	for (i = 0; i < NORTH_RING; i++)
		north_disk_push(&disk, 0, disk.request, VBLK_REQUEST_SIZE(1), 0xffffffff);
	for (i = 0; i < NORTH_RING; i++)
		CHECK(north_disk_await(&disk, 0, &done) && done.id == 0xffffffff && !done.status);
	CHECK(!device().counters.violations && device().counters.reads == NORTH_RING);
	return true;
}

static bool test_an_index_that_lies_closes_the_disk(void)
{
	CHECK(north_negotiate(&north) && north_disk_open(&north, &disk, 1, DISK_ALL));
	vbus_write32(&disk.ring[0].north->valid, NORTH_RING + 1);
	north_inject(&north, disk.signal[0]);
	CHECK(RIG_UNTIL(device().counters.violations == 1) && !restarts());
	return true;
}

static uint64_t nasty(void)
{
	static const uint64_t picks[] = {
		0, 1, 2, 4, 16, 32, 64, 65, 512, 1024, 4096, 65535, VBUS_POOL, VBUS_POOL - 1024,
		1 << 20, (1 << 20) - 1024, UINT32_MAX, UINT32_MAX - 1023, UINT64_MAX,
		UINT64_MAX - 1023, 1ull << 63, 2047, 2048,
	};

	return draw() % 4 ? picks[draw() % (sizeof(picks) / sizeof(picks[0]))] : draw();
}

static void garble(struct vblk_request *q)
{
	switch (draw() % 8) {
	case 0:
		q->op = (uint8_t)nasty();
		break;
	case 1:
		q->flags = (uint8_t)nasty();
		break;
	case 2:
		q->segments = (uint16_t)nasty();
		break;
	case 3:
		q->sectors = (uint32_t)nasty();
		break;
	case 4:
		q->sector = nasty();
		break;
	case 5:
		q->segment[0].addr = nasty();
		break;
	case 6:
		q->segment[0].len = (uint32_t)nasty();
		break;
	default:
		break;
	}
}

/* The worker has come to the end of the ring, or has closed the disk for what it found there. */
static bool is_judged(uint64_t violations)
{
	return vbus_read32(&disk.ring[0].south->inuse) == disk.ring[0].valid ||
	       device().counters.violations > violations;
}

static bool litter(uint32_t requests)
{
	uint64_t before = device().counters.violations;
	uint32_t i, slot;

	CHECK(north_negotiate(&north) && north_disk_open(&north, &disk, 1, DISK_ALL));
	for (i = 0; i < requests; i++) {
		slot = draw() % DISK_SLOTS;
		north_disk_prepare(&disk, slot, draw() % VBLK_NR_OPS, 0, draw() % 2048, 2048);
		garble(north_disk_request(&disk, slot));
		north_disk_post(&disk, 0, slot);
		/* While it may be read. */
		garble(north_disk_request(&disk, slot));
	}
	/* A session that ends takes with it what was not looked at yet. */
	return RIG_UNTIL(is_judged(before));
}

static bool test_garbage_kills_no_worker(void)
{
	const char *word = getenv("VBUS_ROUNDS");
	uint32_t i, n = word ? (uint32_t)strtoul(word, NULL, 10) : 3000;

	for (i = 0; i < n; i += 20)
		CHECK(litter(20));
	CHECK(north_negotiate(&north) && north_disk_open(&north, &disk, 1, DISK_ALL));
	CHECK(!north_disk_do(&disk, VBLK_OP_READ, 0, 0, 4096));
	CHECK(!restarts());
	CHECK(device().counters.violations);
	/* A thread may still be at what the garbage asked for. */
	CHECK(RIG_UNTIL(!device().counters.in_flight));
	CHECK(lseek(backing, 0, SEEK_END) == SIZE);
	return true;
}

/* ---- Double fetch: another thread changes the request that the worker judges ---- */

/* Between the last page of a side and the pool: nobody ever writes there. */
#define NOBODYS	(VBUS_SIGNALS_SOUTH + VBUS_PAGE_SIZE)
#define CANARY	0xa5
#define FLIPPED	4u	/* slots */

static bool flips, stop;

/* More often right than wrong: a disk that is closed judges nothing. */
static void *flip(void *arg)
{
	struct vblk_request *q;
	uint32_t turn, slot;

	(void)arg;
	for (turn = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); turn++)
		for (slot = 0; slot < FLIPPED; slot++) {
			q = north_disk_request(&disk, slot);
			vbus_write64(&q->segment[0].addr,
				     turn % 3 ? disk.data + slot * DISK_DATA : NOBODYS);
			vbus_write32(&q->segment[0].len, turn / 3 % 8 ? 2048 : UINT32_MAX - 1023);
			vbus_write16(&q->segments, turn / 5 % 8 ? 1 : 65535);
			__atomic_store_n(&flips, true, __ATOMIC_RELAXED);
		}
	return NULL;
}

/* All have come back, or the disk was closed. */
static bool is_through(uint64_t violations, uint32_t *back)
{
	struct ioq_buffer done;

	while (north_disk_pop(&disk, 0, &done) > 0)
		++*back;
	return *back == FLIPPED || device().counters.violations > violations;
}

static bool read_flipped(void)
{
	uint64_t violations = device().counters.violations;
	uint32_t slot, back = 0;
	pthread_t thread;
	bool ok;

	for (slot = 0; slot < FLIPPED; slot++)
		north_disk_prepare(&disk, slot, VBLK_OP_READ, 0, 2, 2048);
	flips = stop = false;
	if (pthread_create(&thread, NULL, flip, NULL))
		return false;
	ok = RIG_UNTIL(__atomic_load_n(&flips, __ATOMIC_RELAXED));
	for (slot = 0; slot < FLIPPED; slot++)
		north_disk_push(&disk, 0, disk.request + slot * VBUS_PAGE_SIZE,
				VBLK_REQUEST_SIZE(1), slot);
	ok = ok && RIG_UNTIL(is_through(violations, &back));
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	return ok;
}

static bool is_untouched(void)
{
	uint64_t at;

	for (at = NOBODYS; at < VBUS_POOL; at++)
		if (north.base[at] != CANARY)
			return false;
	return true;
}

static bool was_both(void)
{
	struct vbusd_device_status s = device();

	return s.counters.violations && s.counters.reads;
}

static bool test_a_request_that_changes_while_it_is_judged_leads_nowhere_else(void)
{
	uint32_t i;

	memset(north.base + NOBODYS, CANARY, VBUS_POOL - NOBODYS);
	/* At least until it was found right and wrong: who runs when is not ours to say. */
	for (i = 0; i < 200 || (i < 5000 && !was_both()); i++) {
		CHECK(north_negotiate(&north) && north_disk_open(&north, &disk, 1, DISK_ALL));
		CHECK(read_flipped());
	}
	/* What was still in flight has landed when this is answered. */
	CHECK(north_negotiate(&north) && is_untouched() && !restarts());
	CHECK(was_both());
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_each_lie_in_a_request_closes_the_disk),
	TEST(test_the_same_requests_without_a_lie_are_carried_out),
	TEST(test_requests_of_one_id_are_each_completed),
	TEST(test_an_index_that_lies_closes_the_disk),
	TEST(test_garbage_kills_no_worker),
	TEST(test_a_request_that_changes_while_it_is_judged_leads_nowhere_else),
};

int main(void)
{
	const char *word = getenv("VBUS_SEED");

	if (word && strtoull(word, NULL, 0))
		seed = strtoull(word, NULL, 0);
	fprintf(stderr, "# VBUS_SEED=%#llx\n", (unsigned long long)seed);
	return TAP_RUN(tests, setup, teardown);
}
