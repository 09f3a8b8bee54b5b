// SPDX-License-Identifier: MIT
/*
 * I/O that goes on after whoever asked for it has gone: a worker that was killed, a session that is
 * over.  The disk behind it is as slow as the test wants.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "north_disk.h"
#include "slow_disk.h"
#include "tap.h"
#include "vbus_port.h"

#define SLOT	9u	/* of a call whose answer is not waited for */

static struct rig rig;
static struct vbus_client north;
static struct north_disk disk;
static struct slow_disk *slow;
static pid_t server;
static char dir[64];
static uint32_t flags;		/* of the disk */

static void setup(void)
{
	struct vbusd_request dev = rig_device("vblk-file", 1);
	struct vbusd_request net = rig_device("venet-loopback", 2);

	strcpy(dir, "/tmp/vblk-slow-XXXXXX");
	memset(&north, 0, sizeof(north));
	dev.flags = flags;
	server = mkdtemp(dir) ? slow_disk_start(dir, &slow) : -1;
	snprintf(dev.argument, sizeof(dev.argument), "%s/disk", dir);
	if (server < 0 || !rig_start(&rig) || !rig_add_bus(&rig) || rig_ask(&rig, &dev, NULL) ||
	    rig_ask(&rig, &net, NULL) || !north_open(&north, &rig, 8) || !north_negotiate(&north))
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
	unsetenv("VBUS_PATIENCE_MS");
	flags = 0;
}

static struct vbusd_bus_status status(void)
{
	struct vbusd_bus_status s = { 0 };

	rig_bus_status(&rig, 0, &s);
	return s;
}

/* One request of slot 0 stands before the gate. */
static bool stuck(enum vblk_op op, uint8_t with)
{
	atomic_store(&slow->shut, 1);
	memset(north_disk_data(&disk, 0), with, 512);
	north_disk_prepare(&disk, 0, op, 0, 0, 512);
	north_disk_post(&disk, 0, 0);
	return RIG_UNTIL(atomic_load(&slow->waiting) == 1);
}

static int landed(void)
{
	return atomic_load(&slow->reads) + atomic_load(&slow->writes);
}

/* Nothing can end this wait: that nothing happens is what is looked at. */
static void linger(void)
{
	poll(NULL, 0, 200);
}

/* Put a call into SLOT; its sequence. */
static uint32_t post(enum vbus_call func, const void *in, uint32_t len)
{
	struct vbus_call_request *q = (void *)(north.base + VBUS_CALLS_NORTH);
	const struct vbus_call_reply *a = (const void *)(north.base + VBUS_CALLS_SOUTH);
	uint32_t seq = vbus_read32(&a[SLOT].seq) + 1;

	q += SLOT;
	vbus_write16(&q->func, func);
	vbus_write16(&q->len, (uint16_t)len);
	vbus_write64(&q->epoch, north.epoch);
	vbus_write64(&q->nonce, north.nonce);
	memcpy(q->data, in, len);
	vbus_wmb();
	vbus_write32(&q->seq, seq);
	north_ring(&north, 0);
	return seq;
}

static bool is_answered(uint32_t seq)
{
	const struct vbus_call_reply *a = (const void *)(north.base + VBUS_CALLS_SOUTH);

	return vbus_read32(&a[SLOT].seq) == seq;
}

/* The call @func is judged at once and answered when what stands before the gate has passed. */
static bool waits_for_the_gate(enum vbus_call func, const void *in, uint32_t len)
{
	uint64_t calls = status().counters.buscalls;
	uint32_t seq = post(func, in, len);
	int before = landed();

	CHECK(RIG_UNTIL(status().counters.buscalls == calls + 1));
	linger();
	CHECK(!is_answered(seq) && landed() == before);
	atomic_store(&slow->shut, 0);
	CHECK(RIG_UNTIL(is_answered(seq)) && landed() == before + 1);
	return true;
}

static bool works(void)
{
	int before = landed();

	return !north_disk_do(&disk, VBLK_OP_READ, 0, 0, 512) && landed() == before + 1;
}

static bool test_a_new_session_is_granted_when_the_reads_of_the_old_one_have_landed(void)
{
	struct vbus_negotiate_request hello = { .version = VBUS_VERSION };

	CHECK(north_disk_open(&north, &disk, 1, DISK_ALL) && stuck(VBLK_OP_READ, 0x11));
	memset(slow->data, 0x22, 512);
	CHECK(waits_for_the_gate(VBUS_CALL_NEGOTIATE, &hello, sizeof(hello)));
	CHECK(*north_disk_data(&disk, 0) == 0x22);	/* before the answer, and never after */
	CHECK(north_negotiate(&north) && north_disk_open(&north, &disk, 1, DISK_ALL));
	/* The old request is nobody's: the ring has the new one alone. */
	CHECK(works() && vbus_read32(&disk.ring[0].south->inuse) == 1);
	return true;
}

static bool test_a_disk_is_closed_when_its_writes_have_landed(void)
{
	struct vbus_devclose_request close;

	CHECK(north_disk_open(&north, &disk, 1, DISK_ALL) && stuck(VBLK_OP_WRITE, 0x33));
	close = (struct vbus_devclose_request){ .handle = disk.handle };
	CHECK(waits_for_the_gate(VBUS_CALL_DEVCLOSE, &close, sizeof(close)));
	CHECK(slow->data[0] == 0x33);
	vbus_client_free_all(&north);	/* its pages are the north's again */
	CHECK(north_disk_open(&north, &disk, 1, DISK_ALL) && works());
	return true;
}

static bool test_after_a_broken_contract_the_next_open_waits_too(void)
{
	struct vbus_devopen_request open = { .version = VBLK_VERSION };

	CHECK(north_disk_open(&north, &disk, 1, DISK_ALL) && stuck(VBLK_OP_READ, 0));
	north_disk_push(&disk, 0, disk.request, 7, 1);
	CHECK(RIG_UNTIL(status().counters.violations == 1));
	memset(open.uuid, 1, sizeof(open.uuid));
	CHECK(waits_for_the_gate(VBUS_CALL_DEVOPEN, &open, sizeof(open)));
	return true;
}

static bool test_a_disk_removed_with_a_read_in_flight_keeps_its_lock_until_it_has_landed(void)
{
	struct vbusd_request remove = rig_device("", 1), add = rig_device("vblk-file", 3);
	struct vbus_enumerate_request from = { 0 };
	char text[VBUSD_TEXT_LEN];

	snprintf(add.argument, sizeof(add.argument), "%s/disk", dir);
	remove.op = VBUSD_DEVICE_REMOVE;
	CHECK(north_disk_open(&north, &disk, 1, DISK_ALL) && stuck(VBLK_OP_READ, 0));
	CHECK(rig_ask(&rig, &remove, NULL) == VBUSD_OK);
	CHECK(RIG_UNTIL(((struct vbus_host_header *)north.base)->list_generation == 4));
	CHECK(rig_ask(&rig, &add, text) == VBUSD_SYSTEM && strstr(text, "another bus"));
	CHECK(waits_for_the_gate(VBUS_CALL_ENUMERATE, &from, sizeof(from)));
	CHECK(RIG_UNTIL(rig_ask(&rig, &add, NULL) == VBUSD_OK));
	CHECK(!status().restarts);
	return true;
}

/* The next worker is there, and waits for what the dead one's request still does. */
static bool next_waits(void)
{
	uint64_t epoch = north.epoch;
	int before = landed();

	kill(status().worker, SIGKILL);
	linger();
	CHECK(north_epoch(&north) == epoch && landed() == before);
	atomic_store(&slow->shut, 0);
	CHECK(RIG_UNTIL(north_epoch(&north) != epoch) && landed() == before + 1);
	CHECK(north_negotiate(&north) && north_disk_open(&north, &disk, 1, DISK_ALL));
	return true;
}

static bool test_a_dead_workers_write_lands_before_the_next_one_serves(void)
{
	CHECK(north_disk_open(&north, &disk, 1, DISK_ALL) && stuck(VBLK_OP_WRITE, 0x44));
	CHECK(next_waits() && slow->data[0] == 0x44);
	memset(north_disk_data(&disk, 0), 0x55, 512);
	CHECK(!north_disk_do(&disk, VBLK_OP_WRITE, 0, 0, 512));
	linger();
	CHECK(slow->data[0] == 0x55 && atomic_load(&slow->writes) == 2);
	return true;
}

static bool test_a_dead_workers_read_lands_before_the_next_one_serves(void)
{
	CHECK(north_disk_open(&north, &disk, 1, DISK_ALL) && stuck(VBLK_OP_READ, 0x66));
	CHECK(next_waits() && works());
	return true;
}

static bool test_a_dead_readers_data_never_reaches_the_window(void)
{
	uint8_t *page;

	teardown();
	flags = VBUSD_READ_ONLY;
	setup();
	CHECK(north_disk_open(&north, &disk, 1, DISK_ALL) && stuck(VBLK_OP_READ, 0x66));
	page = north_disk_data(&disk, 0);
	kill(status().worker, SIGKILL);
	/* Readers share their lock, so nobody waits, unless the process cannot die. */
	if (getenv("VBUS_IO_POOL"))
		return true;
	CHECK(RIG_UNTIL(north_epoch(&north) != north.epoch) && landed() == 0);
	atomic_store(&slow->shut, 0);
	CHECK(RIG_UNTIL(landed() == 1));
	linger();
	CHECK(*page == 0x66);
	CHECK(north_negotiate(&north) && north_disk_open(&north, &disk, 1, DISK_ALL) && works());
	CHECK(*north_disk_data(&disk, 0) == 0);
	return true;
}

static bool restart_with_little_patience(void)
{
	teardown();
	setenv("VBUS_PATIENCE_MS", "500", 1);
	setup();
	return north_disk_open(&north, &disk, 1, DISK_ALL);
}

static bool test_a_lock_that_never_comes_costs_one_device_and_only_for_as_long(void)
{
	struct north_echo echo = { .count = 10 };
	struct vbus_client_net net;

	CHECK(restart_with_little_patience() && stuck(VBLK_OP_WRITE, 0x77));
	kill(status().worker, SIGKILL);
	/* A thread in the kernel keeps its process from dying: nobody is there to wait yet. */
	if (getenv("VBUS_IO_POOL"))
		return true;
	CHECK(rig_logged(&rig, "another program has it; tried again each second"));
	CHECK(RIG_UNTIL(north_epoch(&north) != north.epoch) && north_negotiate(&north));
	CHECK(north_disk_devopen(&north, &disk, 1) == VBUS_STATUS_IO);
	CHECK(north_net_open(&north, &net, 2) && north_echo(&north, &net, 2, &echo));
	atomic_store(&slow->shut, 0);
	CHECK(rig_logged(&rig, "can be opened now"));
	CHECK(north_disk_open(&north, &disk, 1, DISK_ALL) && works());
	CHECK(rig_count_logged(&rig, "tried again each second") == 1);
	return true;
}

static bool test_io_that_does_not_end_ends_its_worker(void)
{
	struct vbus_negotiate_request hello = { .version = VBUS_VERSION };

	CHECK(restart_with_little_patience() && stuck(VBLK_OP_WRITE, 0x77));
	post(VBUS_CALL_NEGOTIATE, &hello, sizeof(hello));
	CHECK(rig_logged(&rig, "I/O of a session that is over does not end"));
	atomic_store(&slow->shut, 0);
	CHECK(RIG_UNTIL(status().restarts == 1 && north_epoch(&north) != north.epoch));
	CHECK(north_negotiate(&north));
	CHECK(RIG_UNTIL(north_disk_open(&north, &disk, 1, DISK_ALL)) && works());
	return true;
}

static bool test_a_file_system_that_refuses_o_direct_is_served_without(void)
{
	struct ioq_buffer done;
	uint32_t i;

	atomic_store(&slow->refuses_direct, 1);
	CHECK(north_disk_open(&north, &disk, 1, DISK_ALL));
	for (i = 0; i < DISK_SLOTS; i++) {
		memset(north_disk_data(&disk, i), (int)i + 1, 4096);
		north_disk_prepare(&disk, i, VBLK_OP_WRITE, 0, i * 8, 4096);
		north_disk_post(&disk, 0, i);
	}
	for (i = 0; i < DISK_SLOTS; i++)
		CHECK(north_disk_await(&disk, 0, &done) && !done.status);
	for (i = 0; i < DISK_SLOTS; i++)
		CHECK(slow->data[i * 4096] == i + 1 && slow->data[i * 4096 + 4095] == i + 1);
	CHECK(rig_count_logged(&rig, "goes through the page cache") == 1);
	return true;
}

/* Such a request syncs the image so many times, none of them after it was completed. */
static bool syncs(enum vblk_op op, uint8_t how, int times)
{
	bool has_data = op != VBLK_OP_FLUSH;
	int before = atomic_load(&slow->syncs);
	int status = north_disk_do(&disk, op, how, 0, has_data ? 4096 : 0);

	if (!status && atomic_load(&slow->syncs) == before + times)
		return true;
	fprintf(stderr, "# operation %d: status %d, synced %d times\n", op, status,
		atomic_load(&slow->syncs) - before);
	return false;
}

static bool test_what_must_be_durable_is_synced_before_it_is_completed(void)
{
	struct disk_wish through = { VBLK_COMMANDS_ZEROES, 0, 1 };
	struct ioq_buffer done;

	CHECK(north_disk_open(&north, &disk, 1, DISK_ALL));
	CHECK(syncs(VBLK_OP_WRITE, 0, 0) && syncs(VBLK_OP_ZEROES, 0, 0));
	CHECK(syncs(VBLK_OP_WRITE, VBLK_FUA, 1) && syncs(VBLK_OP_ZEROES, VBLK_FUA, 1));
	CHECK(syncs(VBLK_OP_FLUSH, 0, 1) && syncs(VBLK_OP_READ, 0, 0));

	/* A flush that is not through is not completed. */
	atomic_store(&slow->shut, 1);
	north_disk_prepare(&disk, 0, VBLK_OP_FLUSH, 0, 0, 0);
	north_disk_post(&disk, 0, 0);
	CHECK(RIG_UNTIL(atomic_load(&slow->waiting) == 1));
	linger();
	CHECK(!north_disk_pop(&disk, 0, &done));
	atomic_store(&slow->shut, 0);
	CHECK(north_disk_await(&disk, 0, &done) && !done.status);

	/* Who has no flush gets writes that need none. */
	CHECK(north_negotiate(&north) && north_disk_open(&north, &disk, 1, through));
	CHECK(syncs(VBLK_OP_WRITE, 0, 1) && syncs(VBLK_OP_ZEROES, 0, 1));
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_what_must_be_durable_is_synced_before_it_is_completed),
	TEST(test_a_new_session_is_granted_when_the_reads_of_the_old_one_have_landed),
	TEST(test_a_disk_is_closed_when_its_writes_have_landed),
	TEST(test_after_a_broken_contract_the_next_open_waits_too),
	TEST(test_a_disk_removed_with_a_read_in_flight_keeps_its_lock_until_it_has_landed),
	TEST(test_a_dead_workers_write_lands_before_the_next_one_serves),
	TEST(test_a_dead_workers_read_lands_before_the_next_one_serves),
	TEST(test_a_dead_readers_data_never_reaches_the_window),
	TEST(test_a_lock_that_never_comes_costs_one_device_and_only_for_as_long),
	TEST(test_io_that_does_not_end_ends_its_worker),
	TEST(test_a_file_system_that_refuses_o_direct_is_served_without),
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
