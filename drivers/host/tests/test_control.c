// SPDX-License-Identifier: MIT
/*
 * vbus-control is lost, alone at each of its steps and with its neighbours, and replaced: what it
 * was asked for is done once or not at all, and the guest's frames go on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control_rig.h"
#include "north.h"
#include "tap.h"
#ifdef VBUS_FAILPOINTS
#include "fail.h"
#endif

#define FRAMES	1000u
/* The device that the guest knows as number 1 is called by its UUID. */
#define CARD	"01010101-0101-0101-0101-010101010101"

static struct rig rig;
static struct control_rig control;
static struct vbus_client north;
static struct vbus_client_net net;

static struct vbusd_bus_status status(void)
{
	struct vbusd_bus_status s = { 0 };

	rig_bus_status(&rig, 0, &s);
	return s;
}

/* A bus with a guest's card on it, and a device that is only named. */
static bool stand(void)
{
	return control_rig_start(&control, &rig) &&
	       !control_rig_do(&control, "bus.add",
			       json_pack("{s:s, s:i}", "bus", "b", "window_mib", 1)) &&
	       !control_rig_do(&control, "device.add",
			       json_pack("{s:s, s:s, s:s}", "device", CARD, "type",
					 "venet-loopback", "bus", "b")) &&
	       !control_rig_do(&control, "device.add",
			       json_pack("{s:s, s:s}", "device", "spare", "type", "venet-tap")) &&
	       north_open(&north, &rig, 8) && north_negotiate(&north) &&
	       north_net_open(&north, &net, 1);
}

static void setup(void)
{
#ifdef VBUS_FAILPOINTS
	if (!fail_open())
		fprintf(stderr, "# no fail points\n");
#endif
	if (!stand())
		fprintf(stderr, "# the rig does not stand\n");
}

static void teardown(void)
{
	north_close(&north);
	control_rig_stop(&control);
#ifdef VBUS_FAILPOINTS
	fail_close();
#endif
}

/* {name: [uuid, type, bus]} of all devices. */
static json_t *names(void)
{
	json_t *all = json_object(), *list, *one;
	size_t i;
	int err;

	list = control_rig_ask(&control, "device.list", NULL, &err);
	json_array_foreach(list, i, one)
		json_object_set_new(all, json_string_value(json_object_get(one, "name")),
				    json_pack("[O, O, O]", json_object_get(one, "uuid"),
					      json_object_get(one, "type"),
					      json_object_get(one, "bus")));
	json_decref(list);
	return all;
}

/* The names and one tree, as before; and it can still be told something. */
static bool serves(json_t *before)
{
	json_t *now = names();
	bool same = json_object_size(now) == 2 && json_equal(before, now);

	json_decref(now);
	CHECK(same && control_rig_mounts(&control) == 1);
	CHECK(!strcmp(control_rig_read(&control, "instances/b/" CARD "/bus"), "b\n"));
	CHECK(!strcmp(control_rig_read(&control, "devices/spare/type"), "venet-tap\n"));
	CHECK(!control_rig_write(&control, "devices/" CARD "/enabled", "1"));
	return true;
}

/* ---- Together with others ---- */

struct loss {
	uint32_t at;
	bool (*replace)(uint32_t round);
	uint32_t round;
	bool done, ok;
};

static void lose_in_the_middle(struct north_echo *e, void *ctx)
{
	struct loss *l = ctx;

	if (l->done || e->received < l->at)
		return;
	l->done = true;
	l->ok = l->replace(l->round);
}

/* Each time in the middle of a transfer that goes round whole; @recoveries: of the guest, each. */
static bool survives(bool (*replace)(uint32_t round), uint32_t recoveries)
{
	json_t *before = names();
	uint32_t round;
	bool ok = true;

	srand(1);
	for (round = 0; ok && round < 1 + rig_kills() / 5; round++) {
		struct loss l = {
			.at = (uint32_t)rand() % (FRAMES / 2), .replace = replace, .round = round,
		};
		struct north_echo e = { .count = FRAMES, .each = lose_in_the_middle, .ctx = &l };

		ok = north_echo(&north, &net, 1, &e) && l.ok && e.recoveries == recoveries &&
		     serves(before);
		if (!ok)
			fprintf(stderr, "# round %u: %u of %u frames, replaced %d, %u recoveries\n",
				round, e.received, e.count, l.ok, e.recoveries);
	}
	json_decref(before);
	return ok;
}

static bool replace_worker_and_control(uint32_t round)
{
	(void)round;
	kill(status().worker, SIGKILL);
	control_rig_lose(&control, SIGKILL);
	return control_rig_again(&control);
}

static bool test_a_worker_and_control_killed_at_once_cost_no_frame_and_no_name(void)
{
	CHECK(survives(replace_worker_and_control, 1));
	CHECK(status().restarts == 1 + rig_kills() / 5 && status().sessions == 1);
	return true;
}

/* Either comes back first. */
static bool replace_vbusd_and_control(uint32_t round)
{
	control_rig_lose(&control, SIGKILL);
	rig_lose(&rig, SIGKILL);
	if (round & 1)
		return rig_again(&rig, NULL) && control_rig_again(&control);
	return control_rig_again(&control) && rig_again(&rig, NULL);
}

static bool test_vbusd_and_control_killed_at_once_are_not_noticed_and_cost_no_name(void)
{
	pid_t worker = status().worker;

	CHECK(survives(replace_vbusd_and_control, 0));
	CHECK(status().worker == worker && !status().restarts && status().sessions == 1);
	return true;
}

/* Beside the one that runs, and then in its place, as a package does it. */
static bool put_program(const char *path)
{
	int in = open(getenv("VBUS_CONTROL"), O_RDONLY | O_CLOEXEC), out;
	char new[160];
	struct stat st;
	ssize_t n = 1;

	snprintf(new, sizeof(new), "%s.new", path);
	out = open(new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	if (in < 0 || out < 0 || fstat(in, &st) < 0)
		return false;
	while (n > 0 && st.st_size)
		st.st_size -= n = sendfile(out, in, NULL, (size_t)st.st_size);
	close(in);
	close(out);
	return n > 0 && !rename(new, path);
}

static bool runs(const char *program)
{
	struct stat on_disk, in_memory;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)control.pid);
	return !stat(program, &on_disk) && !stat(path, &in_memory) &&
	       on_disk.st_ino == in_memory.st_ino;
}

static bool upgrade(uint32_t round)
{
	int end;

	(void)round;
	CHECK(runs(control.program) && put_program(control.program) && !runs(control.program));
	end = control_rig_lose(&control, SIGTERM);
	CHECK(WIFEXITED(end) && !WEXITSTATUS(end) && !control_rig_mounts(&control));
	CHECK(control_rig_again(&control) && runs(control.program));
	return true;
}

static bool test_control_is_upgraded_in_place_without_a_guest_or_a_name_noticing(void)
{
	char program[128];
	bool ok;

	snprintf(program, sizeof(program), "%s/vbus-control", rig.dir);
	CHECK(put_program(program));
	control.program = program;
	control_rig_lose(&control, SIGTERM);
	ok = control_rig_again(&control) && survives(upgrade, 0);
	unlink(program);
	CHECK(ok && !status().restarts && status().sessions == 1);
	return true;
}

#ifdef VBUS_FAILPOINTS
/* ---- Alone, at each step of a request ---- */

static int in_tree(char *path, size_t size, const char *file)
{
	return snprintf(path, size, "%s/%s", control.tree, file);
}

static int outcome(int rc)
{
	return rc ? errno : 0;
}

static int make_folder(const char *file)
{
	char path[256];

	in_tree(path, sizeof(path), file);
	return outcome(mkdir(path, 0755));
}

static int remove_folder(const char *file)
{
	char path[256];

	in_tree(path, sizeof(path), file);
	return outcome(rmdir(path));
}

static int add_device(void)
{
	return control_rig_do(&control, "device.add",
			      json_pack("{s:s, s:s, s:s, s:s, s:s}", "device", "eth", "type",
					"venet-loopback", "bus", "b", "mask", "1 1", "enabled",
					"0"));
}

static int connect_device(void)
{
	return control_rig_do(&control, "device.add",
			      json_pack("{s:s, s:s}", "device", "eth", "bus", "b"));
}

static int remove_device(void)
{
	return control_rig_do(&control, "device.remove", json_pack("{s:s}", "device", "eth"));
}

static int make_device(void)
{
	return make_folder("devices/eth");
}

static int forget_device(void)
{
	return remove_folder("devices/eth");
}

static int write_type(void)
{
	return control_rig_write(&control, "devices/eth/type", "venet-loopback\n");
}

static int write_mask(void)
{
	return control_rig_write(&control, "devices/eth/mask", "1 1\n");
}

static int link_device(void)
{
	char path[256];

	in_tree(path, sizeof(path), "instances/b/eth");
	return outcome(symlink("../../devices/eth", path));
}

static int unlink_device(void)
{
	char path[256];

	in_tree(path, sizeof(path), "instances/b/eth");
	return outcome(unlink(path));
}

static int make_bus(void)
{
	return make_folder("instances/c");
}

static int remove_bus(void)
{
	return remove_folder("instances/c");
}

static int nothing(void)
{
	return 0;
}

static int make_card(void)
{
	int err = make_device();

	return err ? err : write_type();
}

static int link_card(void)
{
	int err = make_card();

	return err ? err : link_device();
}

/**
 * struct step - a request, and how things stand when it was made twice
 * @lead:  what is there before
 * @ask:   the request, during which control ends
 * @again: what it says the second time: 0, or the errno of one that was done already
 * @then:  how the rest is done when the first one was cut short
 * @named: the device has its name; @connected: vbusd has it; @masked: as it was asked for
 */
static const struct step {
	enum vbus_fail_at point;
	int (*lead)(void);
	int (*ask)(void);
	int again;
	int (*then)(void);
	uint32_t named, connected, masked, buses;
} steps[] = {
	{ VBUS_FAIL_NAMES_WRITTEN, nothing, add_device, 0, nothing, 1, 1, 1, 1 },
	{ VBUS_FAIL_NAMES_KEPT, nothing, add_device, EEXIST, connect_device, 1, 1, 1, 1 },
	{ VBUS_FAIL_NAMES_KEPT, make_device, add_device, EEXIST, connect_device, 1, 1, 1, 1 },
	{ VBUS_FAIL_VBUSD_ASKED, nothing, add_device, EEXIST, nothing, 1, 1, 1, 1 },
	{ VBUS_FAIL_VBUSD_ASKED, add_device, remove_device, 0, nothing, 0, 0, 0, 1 },
	{ VBUS_FAIL_NAMES_WRITTEN, add_device, remove_device, 0, nothing, 0, 0, 0, 1 },
	{ VBUS_FAIL_NAMES_KEPT, add_device, remove_device, ENOENT, nothing, 0, 0, 0, 1 },
	{ VBUS_FAIL_NAMES_WRITTEN, nothing, make_device, 0, nothing, 1, 0, 0, 1 },
	{ VBUS_FAIL_NAMES_KEPT, nothing, make_device, EEXIST, nothing, 1, 0, 0, 1 },
	{ VBUS_FAIL_NAMES_WRITTEN, make_card, forget_device, 0, nothing, 0, 0, 0, 1 },
	{ VBUS_FAIL_NAMES_KEPT, make_card, forget_device, ENOENT, nothing, 0, 0, 0, 1 },
	{ VBUS_FAIL_NAMES_WRITTEN, make_device, write_type, 0, link_device, 1, 1, 0, 1 },
	{ VBUS_FAIL_NAMES_KEPT, make_device, write_type, EINVAL, link_device, 1, 1, 0, 1 },
	{ VBUS_FAIL_NAMES_WRITTEN, make_card, write_mask, 0, link_device, 1, 1, 1, 1 },
	{ VBUS_FAIL_NAMES_KEPT, make_card, write_mask, 0, link_device, 1, 1, 1, 1 },
	{ VBUS_FAIL_VBUSD_ASKED, link_card, write_mask, 0, nothing, 1, 1, 1, 1 },
	{ VBUS_FAIL_VBUSD_ASKED, make_card, link_device, EEXIST, nothing, 1, 1, 0, 1 },
	{ VBUS_FAIL_VBUSD_ASKED, link_card, unlink_device, ENOENT, nothing, 1, 0, 0, 1 },
	{ VBUS_FAIL_VBUSD_ASKED, nothing, make_bus, EEXIST, nothing, 0, 0, 0, 2 },
	{ VBUS_FAIL_VBUSD_ASKED, make_bus, remove_bus, ENOENT, nothing, 0, 0, 0, 1 },
};

#define STEPS	(sizeof(steps) / sizeof(steps[0]))

static uint32_t count_buses(void)
{
	struct vbusd_bus_status s;
	uint32_t count = 0;

	while (rig_bus_status(&rig, count, &s))
		count++;
	return count;
}

/* The other device than the guest's card that vbusd has, as often as it has one. */
static uint32_t count_connected(struct vbusd_device_status *found)
{
	struct vbusd_device_status s;
	uint32_t count = 0, i;

	for (i = 0; rig_device_status(&rig, "b", i, &s); i++)
		if (s.uuid[0] != 1 || s.uuid[1] != 1) {
			*found = s;
			count++;
		}
	return count;
}

static uint32_t count_named(const char *text)
{
	return control_rig_read(&control, text)[0] != 0;
}

/* What vbusd has and what the tree shows, after each start. */
static bool agree(void)
{
	struct vbusd_device_status s;
	uint32_t connected = count_connected(&s);

	CHECK(connected <= 1);
	CHECK(!strcmp(control_rig_read(&control, "devices/eth/bus"), "b\n") == !!connected);
	CHECK(count_named("instances/b/eth/uuid") == connected);
	CHECK(count_named("instances/c/socket") == count_buses() - 1);
	CHECK(control_rig_mounts(&control) == 1);
	return true;
}

static bool is_masked(uint32_t masked)
{
	struct vbusd_device_status s;

	return count_connected(&s) == 1 && s.groups && s.group[0].masked == masked;
}

static bool was_killed(enum vbus_fail_at point)
{
	return fail_kills(point) == 1;
}

static bool is_done_once(const struct step *step)
{
	struct vbusd_device_status s = { .link = 1 };

	CHECK(!step->lead());
	fail_arm(step->point);
	CHECK(step->ask() && RIG_UNTIL(was_killed(step->point)));
	control_rig_lose(&control, 0);
	CHECK(control_rig_again(&control));
	/* What vbusd was asked for it does, and a bus ends once its worker has. */
	CHECK(step->point != VBUS_FAIL_VBUSD_ASKED || RIG_UNTIL(count_buses() == step->buses));
	CHECK(agree());
	CHECK(step->ask() == step->again && agree() && !step->then() && agree());
	CHECK(count_named("devices/eth/uuid") == step->named);
	CHECK(count_connected(&s) == step->connected && count_buses() == step->buses);
	CHECK(!step->connected || RIG_UNTIL(is_masked(step->masked)));
	CHECK(step->ask != add_device || !s.link);
	/* Nothing half made is left that cannot be removed. */
	CHECK(!step->named || !remove_device());
	CHECK(step->buses == 1 || !remove_bus());
	CHECK(!count_connected(&s) && count_buses() == 1 && agree());
	return true;
}

static bool test_control_killed_at_any_step_of_a_request_has_done_it_once_or_not_at_all(void)
{
	struct north_echo e = { .count = FRAMES };
	json_t *before = names();
	bool ok = true;
	size_t i;

	for (i = 0; ok && i < STEPS; i++) {
		memset(fail, 0, sizeof(*fail));
		ok = is_done_once(&steps[i]) && serves(before);
		if (!ok)
			fprintf(stderr, "# step %zu: killed at %s\n", i,
				fail_names[steps[i].point]);
	}
	json_decref(before);
	CHECK(ok && north_echo(&north, &net, 1, &e) && !e.recoveries && !status().restarts);
	return true;
}
#endif

static const struct tap_test tests[] = {
	TEST(test_a_worker_and_control_killed_at_once_cost_no_frame_and_no_name),
	TEST(test_vbusd_and_control_killed_at_once_are_not_noticed_and_cost_no_name),
	TEST(test_control_is_upgraded_in_place_without_a_guest_or_a_name_noticing),
#ifdef VBUS_FAILPOINTS
	TEST(test_control_killed_at_any_step_of_a_request_has_done_it_once_or_not_at_all),
#endif
};

int main(void)
{
	if (geteuid() || access("/dev/fuse", R_OK | W_OK) || !control_rig_alone()) {
		puts("1..0 # SKIP a tree that root mounts needs root and /dev/fuse");
		return 0;
	}
	return TAP_RUN(tests, setup, teardown);
}
