// SPDX-License-Identifier: MIT
/*
 * A worker, or vbusd, is killed after each step of what it does, in the middle of a transfer: every
 * frame comes back, once and as it was sent.
 *
 * Built with the option `failpoints` only.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "fail.h"
#include "north.h"
#include "store.h"
#include "tap.h"

#define FRAMES	1000u

static struct rig rig;
static struct vbus_client north;
static struct vbus_client_net net;

static void setup(void)
{
	if (!fail_open())
		fprintf(stderr, "# no fail points\n");
}

static void teardown(void)
{
	fail_close();
}

/* In a rig that stands already. */
static bool stand_here(void)
{
	struct vbusd_request dev = rig_device("venet-loopback", 1);

	memset(fail, 0, sizeof(*fail));
	return rig_add_bus(&rig) && !rig_ask(&rig, &dev, NULL) &&
	       north_open(&north, &rig, 8) && north_negotiate(&north) &&
	       north_net_open(&north, &net, 1);
}

static bool stand(void)
{
	return rig_start(&rig) && stand_here();
}

static void leave(void)
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

/* Devices 1 to @count, as the guest is told: not what vbusd says that there is. */
static bool lists(uint32_t count)
{
	struct vbus_enumerate_reply list;
	uint32_t i;

	if (north_enumerate(&north, &list) || list.total != count || list.count != count)
		return false;
	for (i = 0; i < count; i++)
		if (list.entry[i].uuid[0] != i + 1)
			return false;
	return true;
}

/* ---- What leads to a point. ---- */

/* The frames of the transfer do. */
static void just_go_on(void)
{
}

static void renew(void)
{
	struct vbusd_request q = rig_request(VBUSD_RENEW);

	rig_ask(&rig, &q, NULL);
}

static void add_device(void)
{
	struct vbusd_request q = rig_device("venet-loopback", 2);

	rig_ask(&rig, &q, NULL);
}

static void add_and_remove_device(void)
{
	struct vbusd_request q = rig_request(VBUSD_DEVICE_REMOVE);

	add_device();
	memset(q.uuid, 2, sizeof(q.uuid));
	rig_ask(&rig, &q, NULL);
}

/* ---- The worker ---- */

/**
 * struct step
 * @losses: workers that end: with the armed one the one that makes room for it
 */
static const struct step {
	enum vbus_fail_at point;
	void (*lead)(void);
	uint32_t losses;
	uint32_t devices;
} steps[] = {
	{ VBUS_FAIL_EPOCH_WRITTEN, renew, 2, 1 },
	{ VBUS_FAIL_EPOCH_TOLD, renew, 2, 1 },
	{ VBUS_FAIL_DEVICE_ADDED, add_device, 1, 2 },
	{ VBUS_FAIL_DEVICE_REMOVED, add_and_remove_device, 1, 1 },
	{ VBUS_FAIL_FINISH_TAKEN, renew, 1, 1 },
	{ VBUS_FAIL_CALL_READ, renew, 2, 1 },
	{ VBUS_FAIL_CALL_JUDGED, renew, 2, 1 },
	{ VBUS_FAIL_REPLY_WRITTEN, renew, 2, 1 },
	{ VBUS_FAIL_REPLY_SEQ, renew, 2, 1 },
	{ VBUS_FAIL_REPLY_TOLD, renew, 2, 1 },
	{ VBUS_FAIL_NEGOTIATE_BEFORE, renew, 2, 1 },
	{ VBUS_FAIL_NEGOTIATE_RESET, renew, 2, 1 },
	{ VBUS_FAIL_DEVOPEN, renew, 2, 1 },
	{ VBUS_FAIL_DEVSHM, renew, 2, 1 },
	{ VBUS_FAIL_FRAME_TAKEN, just_go_on, 1, 1 },
	{ VBUS_FAIL_FRAME_GIVEN, just_go_on, 1, 1 },
	{ VBUS_FAIL_FRAME_PUBLISHED, just_go_on, 1, 1 },
	{ VBUS_FAIL_FRAME_TOLD, just_go_on, 1, 1 },
};

#define STEPS	(sizeof(steps) / sizeof(steps[0]))

static void arm_in_the_middle(struct north_echo *e, void *ctx)
{
	const struct step **step = ctx;

	if (!*step || e->received < FRAMES / 3)
		return;
	fail_arm((*step)->point);
	(*step)->lead();
	*step = NULL;
}

static bool has_ended(uint32_t losses)
{
	struct vbusd_bus_status s = status();

	return s.restarts + s.handovers == losses && s.worker > 0;
}

static bool survives(const struct step *step, uint32_t *replays)
{
	const struct step *left = step;
	struct north_echo e = { .count = FRAMES, .each = arm_in_the_middle, .ctx = &left };
	struct vbusd_bus_status s;

	CHECK(stand() && north_echo(&north, &net, 1, &e) && !left);
	CHECK(RIG_UNTIL(has_ended(step->losses)));
	/* The last of it may have come after the last frame. */
	e.count = 2 * FRAMES;
	CHECK(north_echo(&north, &net, 1, &e) && e.received == 2 * FRAMES);
	CHECK(fail_kills(step->point) == 1 && e.recoveries >= 1 && e.recoveries <= step->losses);
	s = status();
	CHECK(s.devices == step->devices && !s.lost && s.sessions == 1 && s.confirmed);
	CHECK(has_ended(step->losses) && RIG_UNTIL(lists(step->devices)));
	*replays += e.replays;
	return true;
}

static bool test_a_worker_killed_after_each_step_loses_no_frame(void)
{
	uint32_t replays = 0;
	bool ok;
	size_t i;

	for (i = 0; i < STEPS; i++) {
		ok = survives(&steps[i], &replays);
		leave();
		if (!ok) {
			fprintf(stderr, "# killed at %s\n", fail_names[steps[i].point]);
			return false;
		}
	}
	fprintf(stderr, "# %zu workers killed, each at its point, %u frames replayed\n", STEPS,
		replays);
	/* Each met a transfer. */
	CHECK(replays >= STEPS);
	return true;
}

/* ---- vbusd ---- */

static void kill_worker(void)
{
	kill(status().worker, SIGKILL);
}

/**
 * struct vbusd_step
 * @lead: NULL: the next vbusd comes to the point, taking over
 * @recoveries: of the guest
 * @alone: survived without systemd's descriptor store; else only vbusd holds the session just then
 */
static const struct vbusd_step {
	enum vbus_fail_at point;
	void (*lead)(void);
	uint32_t recoveries;
	uint32_t devices;
	bool alone;
} vbusd_steps[] = {
	{ VBUS_FAIL_WORKER_FINISHED, renew, 1, 1, true },
	{ VBUS_FAIL_WORKER_GONE, renew, 1, 1, false },
	{ VBUS_FAIL_WORKER_GONE, kill_worker, 1, 1, false },
	{ VBUS_FAIL_WORKER_SPAWNED, kill_worker, 1, 1, false },
	{ VBUS_FAIL_WORKER_RECORDED, kill_worker, 1, 1, false },
	{ VBUS_FAIL_WORKER_TOLD, kill_worker, 1, 1, true },
	{ VBUS_FAIL_REQUEST_DONE, add_device, 0, 1, true },
	{ VBUS_FAIL_REQUEST_RECORDED, add_device, 0, 2, true },
	{ VBUS_FAIL_TAKEOVER_FOUND, NULL, 0, 1, true },
	{ VBUS_FAIL_TAKEOVER_HEARD, NULL, 0, 1, true },
	{ VBUS_FAIL_TAKEOVER_ADOPTED, NULL, 0, 1, true },
	{ VBUS_FAIL_TAKEOVER_RECONCILED, NULL, 0, 1, true },
	{ VBUS_FAIL_TAKEOVER_RECORDED, NULL, 0, 1, true },
};

#define VBUSD_STEPS	(sizeof(vbusd_steps) / sizeof(vbusd_steps[0]))

struct vbusd_loss {
	const struct vbusd_step *step;
	bool stored;
	bool done;
	bool ok;
};

static bool next_one(bool stored)
{
	rig_lose(&rig, SIGKILL);
	if (stored)
		store_listen();
	return rig_again(&rig, stored ? store_hand_back : NULL);
}

static bool was_killed_at(enum vbus_fail_at point)
{
	return fail_kills(point) == 1;
}

static bool lose_vbusd(const struct vbusd_loss *l)
{
	if (!l->step->lead)
		rig_lose(&rig, SIGKILL);
	fail_arm(l->step->point);
	if (l->step->lead)
		l->step->lead();
	else
		next_one(l->stored);
	return RIG_UNTIL(was_killed_at(l->step->point)) && next_one(l->stored);
}

static void lose_vbusd_in_the_middle(struct north_echo *e, void *ctx)
{
	struct vbusd_loss *l = ctx;

	if (l->done || e->received < FRAMES / 3)
		return;
	l->ok = lose_vbusd(l);
	l->done = true;
}

static bool vbusd_survives(const struct vbusd_step *step, bool stored, uint32_t *replays)
{
	struct vbusd_loss l = { .step = step, .stored = stored };
	struct north_echo e = { .count = FRAMES, .each = lose_vbusd_in_the_middle, .ctx = &l };
	struct vbusd_bus_status s;

	CHECK(north_echo(&north, &net, 1, &e) && l.ok && fail_kills(step->point) == 1);
	CHECK(e.recoveries == step->recoveries && (e.recoveries || !e.duplicates));
	s = status();
	CHECK(s.devices == step->devices && !s.lost && s.sessions == 1 && s.connected);
	CHECK(RIG_UNTIL(lists(step->devices)));
	/* And it serves whoever comes next. */
	e.count = 2 * FRAMES;
	CHECK(north_echo(&north, &net, 1, &e) && e.recoveries == step->recoveries);
	*replays += e.replays;
	return true;
}

static bool test_vbusd_killed_after_each_step_that_a_worker_outlives_is_not_missed(void)
{
	uint32_t replays = 0, kills = 0;
	bool ok = true;
	size_t i;

	for (i = 0; ok && i < VBUSD_STEPS; i++) {
		if (!vbusd_steps[i].alone)
			continue;
		ok = stand() && vbusd_survives(&vbusd_steps[i], false, &replays);
		leave();
		kills++;
		if (!ok)
			fprintf(stderr, "# killed at %s\n", fail_names[vbusd_steps[i].point]);
	}
	fprintf(stderr, "# %u vbusds killed, %u frames replayed\n", kills, replays);
	return ok;
}

static bool test_vbusd_killed_after_any_step_under_systemd_loses_nothing(void)
{
	uint32_t replays = 0;
	bool ok = true;
	size_t i;

	for (i = 0; ok && i < VBUSD_STEPS; i++) {
		ok = rig_start(&rig) && store_start(&rig) && stand_here() &&
		     vbusd_survives(&vbusd_steps[i], true, &replays);
		store_stop();
		leave();
		if (!ok)
			fprintf(stderr, "# killed at %s\n", fail_names[vbusd_steps[i].point]);
	}
	fprintf(stderr, "# %zu vbusds killed, %u frames replayed\n", i, replays);
	return ok;
}

/* The guest may say its first word before vbusd has a time slice for anything else. */
static bool test_vbusd_killed_when_a_guest_has_just_come_is_not_missed(void)
{
	struct vbusd_request dev = rig_device("venet-loopback", 1);
	struct north_echo e = { .count = FRAMES };

	CHECK(rig_start(&rig) && rig_add_bus(&rig) && !rig_ask(&rig, &dev, NULL));
	memset(fail, 0, sizeof(*fail));
	fail_arm(VBUS_FAIL_QEMU_GREETED);
	CHECK(north_open(&north, &rig, 8) && RIG_UNTIL(was_killed_at(VBUS_FAIL_QEMU_GREETED)));
	CHECK(next_one(false) && north_negotiate(&north) && north_net_open(&north, &net, 1));
	CHECK(north_echo(&north, &net, 1, &e) && !e.recoveries);
	CHECK(!status().lost && status().sessions == 1 && status().connected);
	leave();
	return true;
}

/* What the store is for: just then nobody else holds the session, and the log says what to do. */
static bool is_lost_and_told(const struct vbusd_step *step)
{
	struct vbusd_loss l = { .step = step };

	CHECK(stand() && lose_vbusd(&l) && fail_kills(step->point) == 1);
	CHECK(rig_logged(&rig, "the guest's devices fail; restart or migrate the guest"));
	CHECK(status().lost == 1 && status().sessions == 1);
	north_close(&north);
	CHECK(north_open(&north, &rig, 8) && north_negotiate(&north) &&
	      north_net_open(&north, &net, 1));
	return true;
}

static bool test_vbusd_killed_between_two_workers_without_a_store_is_told(void)
{
	bool ok = true;
	size_t i;

	for (i = 0; ok && i < VBUSD_STEPS; i++) {
		if (vbusd_steps[i].alone)
			continue;
		ok = is_lost_and_told(&vbusd_steps[i]);
		leave();
		if (!ok)
			fprintf(stderr, "# killed at %s\n", fail_names[vbusd_steps[i].point]);
	}
	return ok;
}

static const struct tap_test tests[] = {
	TEST(test_a_worker_killed_after_each_step_loses_no_frame),
	TEST(test_vbusd_killed_after_each_step_that_a_worker_outlives_is_not_missed),
	TEST(test_vbusd_killed_after_any_step_under_systemd_loses_nothing),
	TEST(test_vbusd_killed_when_a_guest_has_just_come_is_not_missed),
	TEST(test_vbusd_killed_between_two_workers_without_a_store_is_told),
};

int main(void)
{
	return TAP_RUN(tests, setup, teardown);
}
