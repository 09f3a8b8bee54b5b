// SPDX-License-Identifier: MIT
/* Classes as modules: added, used through a window, replaced, and refused. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "north.h"
#include "tap.h"
#include "vbus_port.h"

#define COUNT	64u

static struct rig rig;
static struct vbus_client north;
static char module[VBUSD_ARGUMENT_LEN];

/* What came out of another folder, under a name of this test's own, with @mode. */
static bool copy(const char *from, const char *name, mode_t mode)
{
	char bytes[4096];
	int in, out;
	ssize_t n;

	snprintf(module, sizeof(module), "%s/%s", rig.dir, name);
	in = open(from, O_RDONLY | O_CLOEXEC);
	out = open(module, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (in < 0 || out < 0)
		return false;
	while ((n = read(in, bytes, sizeof(bytes))) > 0)
		if (write(out, bytes, (size_t)n) != n)
			return false;
	fchmod(out, mode);
	close(in);
	close(out);
	return true;
}

static void setup(void)
{
	if (!rig_start(&rig) || chmod(rig.dir, 0755) || !rig_add_bus(&rig) ||
	    !copy(getenv("ECHO_CLASS"), "echo.so", 0644) || !north_open(&north, &rig, 8))
		fprintf(stderr, "# the rig does not stand\n");
}

static void teardown(void)
{
	unlink(module);
	north_close(&north);
	rig_stop(&rig);
}

static enum vbusd_result add(const char *path, char *text)
{
	struct vbusd_request q = rig_request(VBUSD_CLASS_ADD);

	snprintf(q.argument, sizeof(q.argument), "%s", path);
	return rig_ask(&rig, &q, text);
}

static enum vbusd_result remove_class(const char *name, char *text)
{
	struct vbusd_request q = rig_request(VBUSD_CLASS_REMOVE);

	snprintf(q.klass, sizeof(q.klass), "%s", name);
	return rig_ask(&rig, &q, text);
}

static enum vbusd_result add_device(const char *klass, uint8_t number)
{
	struct vbusd_request q = rig_device(klass, number);

	return rig_ask(&rig, &q, NULL);
}

static enum vbusd_result remove_device(uint8_t number)
{
	struct vbusd_request q = rig_device("", number);

	q.op = VBUSD_DEVICE_REMOVE;
	return rig_ask(&rig, &q, NULL);
}

static struct vbusd_bus_status status(void)
{
	struct vbusd_bus_status s = { 0 };

	rig_bus_status(&rig, 0, &s);
	return s;
}

static bool class_status(const char *name, struct vbusd_class_status *out)
{
	struct vbusd_request q = rig_request(VBUSD_CLASS_STATUS);
	struct {
		struct vbusd_reply head;
		struct vbusd_class_status klass;
	} a;

	for (q.index = 0; rig_tell(&rig, &q, &a, sizeof(a)) == (long)sizeof(a); q.index++)
		if (!strcmp(a.klass.name, name)) {
			*out = a.klass;
			return true;
		}
	return false;
}

static uint32_t open_device(uint8_t number)
{
	struct vbus_devopen_request open = { .version = 1 };
	struct vbus_devopen_reply opened = { 0 };

	memset(open.uuid, number, sizeof(open.uuid));
	if (north_call(&north, VBUS_CALL_DEVOPEN, &open, sizeof(open), &opened, sizeof(opened)))
		return 0;
	return opened.handle;
}

static bool call_comes_back(uint32_t handle)
{
	uint8_t out[17] = { 0 };

	return !north_devcall(&north, handle, 16, "seventeen letters", 17, out, 17) &&
	       !memcmp(out, "seventeen letters", 17);
}

/* @rounds times, all buffers of a ring go and come back, in order. */
static bool ring_comes_back(uint32_t handle, uint32_t rounds)
{
	uint32_t len = IOQ_PART_SIZE(COUNT), signal, i;
	uint64_t at = north_alloc(&north, len), south = north_alloc(&north, len);
	struct ioq_buffer done;
	struct ioq ring;

	CHECK(!ioq_north_init(&ring, (void *)(north.base + at), (void *)(north.base + south),
			      COUNT));
	CHECK(!north_share(&north, handle, 0, at, south, len, len, &signal));
	while (rounds--) {
		for (i = 0; i < COUNT; i++)
			CHECK(!ioq_push(&ring, VBUS_POOL, 100 + i, i));
		ioq_push_publish(&ring);
		north_inject(&north, signal);
		for (i = 0; i < COUNT; i++)
			CHECK(RIG_UNTIL(!ioq_pop(&ring, &done)) && done.id == i &&
			      done.len == 100 + i && done.status == VBUS_STATUS_OK);
	}
	return true;
}

static bool works(uint8_t number)
{
	uint32_t handle;

	CHECK(north_negotiate(&north));
	handle = open_device(number);
	CHECK(handle && call_comes_back(handle) && ring_comes_back(handle, 100));
	return true;
}

/* A device of a class that is new to the bus, once the next worker serves. */
static bool add_new(const char *klass, uint8_t number)
{
	uint64_t before = north_epoch(&north);

	return add_device(klass, number) == VBUSD_OK && RIG_UNTIL(north_epoch(&north) != before);
}

static bool test_a_class_is_added_used_through_the_window_and_removed(void)
{
	struct vbusd_class_status s;
	char text[VBUSD_TEXT_LEN];

	CHECK(!class_status("echo", &s) && add_device("echo", 1) == VBUSD_UNKNOWN);
	CHECK(add(module, NULL) == VBUSD_OK && class_status("echo", &s));
	CHECK(!strcmp(s.type, "echo") && s.version == 1 && !s.backend && !s.devices &&
	      !strcmp(s.path, module));
	CHECK(add_new("echo", 1) && add_device("echo", 2) == VBUSD_OK);
	CHECK(works(1) && works(2));

	CHECK(class_status("echo", &s) && s.devices == 2);
	CHECK(remove_class("echo", text) == VBUSD_BUSY && strstr(text, "in use by 2 devices;"));
	CHECK(works(1));
	CHECK(remove_device(1) == VBUSD_OK && remove_class("echo", text) == VBUSD_BUSY);
	CHECK(remove_device(2) == VBUSD_OK && remove_class("echo", text) == VBUSD_OK);
	CHECK(!class_status("echo", &s) && add_device("echo", 1) == VBUSD_UNKNOWN);
	CHECK(remove_class("echo", text) == VBUSD_NO_ENTRY);
	return true;
}

static bool test_a_second_device_of_a_class_comes_without_a_hand_over(void)
{
	pid_t worker;

	CHECK(add(module, NULL) == VBUSD_OK && add_device("echo", 1) == VBUSD_OK);
	CHECK(RIG_UNTIL(status().handovers == 1 && status().worker > 0));
	worker = status().worker;
	CHECK(add_device("echo", 2) == VBUSD_OK);
	CHECK(add_device("venet-loopback", 3) == VBUSD_OK);
	CHECK(remove_device(1) == VBUSD_OK && add_device("echo", 1) == VBUSD_OK);
	CHECK(status().worker == worker && status().handovers == 1 && !status().restarts);
	return true;
}

/* Adds the class, a device of it, and takes both away, in the middle of a transfer. */
static void add_in_between(struct north_echo *e, void *ctx)
{
	uint32_t *times = ctx;

	if (e->received < (*times + 1) * 1000 || *times == 3)
		return;
	(*times)++;
	if (add(module, NULL) || add_device("echo", 1) ||
	    !RIG_UNTIL(status().handovers == *times) || remove_device(1) ||
	    remove_class("echo", NULL))
		e->count = 0;
}

static bool test_a_transfer_of_another_device_loses_nothing_while_a_class_is_added(void)
{
	uint32_t times = 0;
	struct north_echo echo = { .count = 5000, .each = add_in_between, .ctx = &times };
	struct vbus_client_net net;

	CHECK(add_device("venet-loopback", 9) == VBUSD_OK);
	CHECK(north_negotiate(&north) && RIG_UNTIL(north_net_open(&north, &net, 9)));
	CHECK(north_echo(&north, &net, 9, &echo) && echo.received == 5000);
	CHECK(times == 3 && echo.recoveries == 3);
	CHECK(status().handovers == 3 && !status().restarts);
	return true;
}

static bool test_many_hand_overs_are_no_crashes_and_are_not_slowed_down(void)
{
	uint32_t i;

	for (i = 0; i < 30; i++) {
		CHECK(add(module, NULL) == VBUSD_OK && add_device("echo", 1) == VBUSD_OK);
		CHECK(RIG_UNTIL(status().handovers == i + 1 && status().worker > 0));
		CHECK(remove_device(1) == VBUSD_OK && remove_class("echo", NULL) == VBUSD_OK);
	}
	CHECK(status().handovers == 30 && !status().restarts);
	CHECK(rig_count_logged(&rig, "is to make room (echo is new to it)") == 30);
	return true;
}

static bool test_the_worker_after_a_crash_has_the_class_though_its_file_is_gone(void)
{
	CHECK(add(module, NULL) == VBUSD_OK && add_new("echo", 1) && works(1));
	unlink(module);
	kill(status().worker, SIGKILL);
	CHECK(RIG_UNTIL(north_epoch(&north) != north.epoch) && works(1));
	CHECK(status().restarts == 1 && status().handovers == 1);
	return true;
}

static bool test_the_next_vbusd_has_the_class_and_takes_its_worker_over(void)
{
	struct vbusd_class_status s;
	pid_t worker;

	CHECK(add(module, NULL) == VBUSD_OK && add_new("echo", 1) && works(1));
	worker = status().worker;
	rig_lose(&rig, SIGKILL);
	CHECK(rig_again(&rig, NULL) && status().worker == worker);
	CHECK(class_status("echo", &s) && s.devices == 1 && !strcmp(s.path, module));
	CHECK(works(1) && add_device("echo", 2) == VBUSD_OK && works(2));
	CHECK(status().handovers == 1);
	/* When its file is gone by then, the worker goes on alone, until the file is back. */
	CHECK(!unlink(module));
	rig_lose(&rig, SIGKILL);
	CHECK(rig_again(&rig, NULL) && !class_status("echo", &s) && !status().worker);
	CHECK(rig_logged(&rig, "a class is left out") && rig_logged(&rig, "is left alone") && works(1));
	CHECK(!rig_add_bus(&rig));	/* its worker's record is nobody else's */
	CHECK(copy(getenv("ECHO_CLASS"), "echo.so", 0644));
	rig_lose(&rig, SIGKILL);
	CHECK(rig_again(&rig, NULL) && status().worker == worker && works(1));
	return true;
}

/* Without its file for as long as a vbusd that starts looks. */
static bool leave_out(void)
{
	struct vbusd_class_status s;

	CHECK(!unlink(module));
	rig_lose(&rig, SIGKILL);
	CHECK(rig_again(&rig, NULL) && !class_status("echo", &s));
	return true;
}

static bool has_taken_over(pid_t worker)
{
	rig_lose(&rig, SIGKILL);
	return rig_again(&rig, NULL) && status().worker == worker && works(1);
}

static bool test_a_class_that_was_left_out_keeps_its_line_and_its_place(void)
{
	char path[VBUSD_ARGUMENT_LEN];
	struct vbusd_class_status s;
	pid_t worker;

	CHECK(add(module, NULL) == VBUSD_OK && add_new("echo", 1) && works(1));
	worker = status().worker;
	/* Another one takes another place, and writes all down. */
	CHECK(leave_out());
	snprintf(path, sizeof(path), "%s/many_1.so", getenv("BAD_CLASSES"));
	CHECK(copy(path, "many.so", 0644) && add(module, NULL) == VBUSD_OK && !unlink(module));
	CHECK(copy(getenv("ECHO_CLASS"), "echo.so", 0644) && has_taken_over(worker));
	CHECK(class_status("echo", &s) && s.devices == 1 && !class_status("many-1", &s));
	/* Added again, it is what its worker has loaded. */
	CHECK(leave_out() && copy(getenv("ECHO_CLASS"), "echo.so", 0644));
	CHECK(add(module, NULL) == VBUSD_OK && has_taken_over(worker));
	CHECK(add_device("echo", 2) == VBUSD_OK && works(2) && status().worker == worker);
	return true;
}

static bool test_an_end_leaves_what_was_left_alone_and_says_so(void)
{
	struct vbusd_class_status s;
	pid_t worker;

	CHECK(add(module, NULL) == VBUSD_OK && add_new("echo", 1) && works(1));
	worker = status().worker;
	CHECK(!unlink(module));
	rig_lose(&rig, SIGKILL);
	CHECK(rig_again(&rig, NULL) && !status().worker);
	rig_lose(&rig, SIGINT);
	CHECK(rig_logged(&rig, "b.bus is left, and its worker goes on") && works(1));
	CHECK(copy(getenv("ECHO_CLASS"), "echo.so", 0644) && rig_again(&rig, NULL));
	CHECK(status().worker == worker && class_status("echo", &s) && works(1));
	/* All of it is ended when nothing is left alone. */
	rig_lose(&rig, SIGINT);
	CHECK(rig_count_logged(&rig, "b.bus is left, and") == 1);
	CHECK(rig_again(&rig, NULL) && !class_status("echo", &s) && !status().worker);
	return true;
}

static bool test_a_worker_whose_devices_need_no_module_has_none(void)
{
	char command[128];

	CHECK(add(module, NULL) == VBUSD_OK && add_device("venet-loopback", 1) == VBUSD_OK);
	snprintf(command, sizeof(command), "! grep -q echo.so /proc/%d/maps", (int)status().worker);
	CHECK(!system(command));
	CHECK(add_new("echo", 2) && works(2));
	snprintf(command, sizeof(command), "grep -q echo.so /proc/%d/maps", (int)status().worker);
	CHECK(!system(command));
	return true;
}

static bool test_built_in_classes_are_listed_and_stay(void)
{
	struct vbusd_class_status s;
	char text[VBUSD_TEXT_LEN];

	CHECK(class_status("venet-tap", &s) && !s.path[0] && !strcmp(s.type, "venet"));
	CHECK(s.feature[0].gid == 1 && s.feature[0].bits == 1 && s.rings == 16 && s.mtu);
	CHECK(class_status("venet-passt", &s) && class_status("venet-loopback", &s));
	CHECK(remove_class("venet-tap", text) == VBUSD_BUSY && strstr(text, "is built in"));
	return true;
}

static bool refused(const char *path, enum vbusd_result result, const char *why)
{
	char text[VBUSD_TEXT_LEN] = { 0 };
	enum vbusd_result got = add(path, text);

	if (got != result || !strstr(text, why))
		fprintf(stderr, "# %d: %s\n", (int)got, text);
	return got == result && strstr(text, why);
}

static bool test_a_file_that_others_could_change_is_no_class(void)
{
	CHECK(refused("echo.so", VBUSD_SYSTEM, "absolute path"));
	CHECK(refused(rig.dir, VBUSD_SYSTEM, "is no file"));
	CHECK(!chmod(module, 0664) && refused(module, VBUSD_SYSTEM, "can be changed by others"));
	CHECK(!chmod(module, 0646) && refused(module, VBUSD_SYSTEM, "can be changed by others"));
	CHECK(!chmod(module, 0644) && !chmod(rig.dir, 0777) &&
	      refused(module, VBUSD_SYSTEM, "folder can be changed by others"));
	CHECK(!chmod(rig.dir, 0755) && add(module, NULL) == VBUSD_OK);
	return true;
}

static bool test_a_file_of_another_user_is_no_class(void)
{
	if (geteuid())
		return true;
	CHECK(!chown(module, 12345, 0) &&
	      refused(module, VBUSD_SYSTEM, "can be changed by others"));
	return true;
}

static bool test_what_is_no_class_is_refused_and_says_why(void)
{
	static const struct {
		const char *name;
		enum vbusd_result result;
		const char *why;
	} bad[] = {
		{ "abi", VBUSD_UNKNOWN, "is built for classes of version 99" },
		{ "name", VBUSD_UNKNOWN, "its name or type is no word" },
		{ "groups", VBUSD_UNKNOWN, "feature groups are out of range" },
		{ "ops", VBUSD_UNKNOWN, "lacks an operation" },
		{ "none", VBUSD_UNKNOWN, "exports no vbus_class" },
		{ "taken", VBUSD_EXISTS, "class venet-tap: exists" },
		{ "crash", VBUSD_SYSTEM, "did not say what it is" },
		{ "hang", VBUSD_SYSTEM, "did not say what it is" },
		{ "root", VBUSD_UNKNOWN, "exports no vbus_class" },
	};
	char path[VBUSD_ARGUMENT_LEN];
	uint32_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(path, sizeof(path), "%s/bad_%s.so", getenv("BAD_CLASSES"), bad[i].name);
		unlink(module);
		CHECK(copy(path, "bad.so", 0644));
		CHECK(refused(module, bad[i].result, bad[i].why));
	}
	unlink(module);
	CHECK(copy("/etc/hostname", "bad.so", 0644) && refused(module, VBUSD_UNKNOWN, "bad.so"));
	CHECK(status().worker > 0 && !status().restarts);
	return true;
}

static bool test_there_is_an_end_of_classes(void)
{
	char path[VBUSD_ARGUMENT_LEN], text[VBUSD_TEXT_LEN];
	uint32_t i;

	for (i = 0; i < VBUSD_MODULES; i++) {
		snprintf(path, sizeof(path), "%s/many_%u.so", getenv("BAD_CLASSES"), i);
		CHECK(!unlink(module) && copy(path, "many.so", 0644));
		CHECK(add(module, text) == VBUSD_OK);
	}
	CHECK(refused(module, VBUSD_FULL, "16 classes already"));
	/* Out of the middle: the others stay, each itself. */
	CHECK(remove_class("many-7", text) == VBUSD_OK && add_new("many-8", 8) &&
	      add_new("many-15", 15) && add_new("many-0", 3));
	CHECK(works(8) && works(15) && works(3) && status().handovers == 3);
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_a_class_is_added_used_through_the_window_and_removed),
	TEST(test_a_second_device_of_a_class_comes_without_a_hand_over),
	TEST(test_a_transfer_of_another_device_loses_nothing_while_a_class_is_added),
	TEST(test_many_hand_overs_are_no_crashes_and_are_not_slowed_down),
	TEST(test_the_worker_after_a_crash_has_the_class_though_its_file_is_gone),
	TEST(test_the_next_vbusd_has_the_class_and_takes_its_worker_over),
	TEST(test_a_class_that_was_left_out_keeps_its_line_and_its_place),
	TEST(test_an_end_leaves_what_was_left_alone_and_says_so),
	TEST(test_a_worker_whose_devices_need_no_module_has_none),
	TEST(test_built_in_classes_are_listed_and_stay),
	TEST(test_a_file_that_others_could_change_is_no_class),
	TEST(test_a_file_of_another_user_is_no_class),
	TEST(test_what_is_no_class_is_refused_and_says_why),
	TEST(test_there_is_an_end_of_classes),
};

int main(void)
{
	return TAP_RUN(tests, setup, teardown);
}
