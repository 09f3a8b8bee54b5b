// SPDX-License-Identifier: GPL-2.0-only
/*
 * session.c - one connection to the host: negotiate, enumerate, and start again when it is lost.
 *
 * A crash of the worker, an upgrade, a migration and a resumed image look the same from here: the
 * window carries another epoch.  Two works under one mutex do all that follows from it:
 *
 * vbus_session_work() recovers.  The root file system may be on this bus, so it waits neither for
 * memory that a disk would have to free, nor for a lock whose holder may wait for a disk: rtnl is
 * one, and so is the CPUs'.
 *
 * vbus_session_roll() lets devices come and go, which may wait for anything.
 */
#include <linux/random.h>
#include <linux/sched/mm.h>
#include "bridge.h"

#define VBUS_ROUNDS		8	/* a host that never settles gets a pause in between */
#define VBUS_RETRY_DELAY	(HZ / 10)
#define VBUS_SILENCE_S		30u	/* of a host that has lost all it shared with us */

static int negotiate(struct vbus_bridge *bridge)
{
	struct vbus_negotiate_request request = {
		.version = cpu_to_le32(VBUS_VERSION),
	};
	struct vbus_negotiate_reply reply;

	/* Unplugged, or another window since the guest went to sleep: write nothing. */
	if (vbus_read32(&bridge->host->magic) != VBUS_MAGIC ||
	    vbus_read32(&bridge->host->version) != VBUS_VERSION ||
	    vbus_read64(&bridge->host->window_size) != bridge->size)
		return -ENXIO;
	bridge->epoch = vbus_read64(&bridge->host->epoch);
	bridge->nonce = get_random_u64() | 1;

	/* Our words first: the host starts from what it finds when it handles NEGOTIATE. */
	shm_signal_init(&bridge->signals,
			bridge->window + VBUS_SIGNALS_NORTH, bridge->window + VBUS_SIGNALS_SOUTH);
	shm_signal_bind(&bridge->signals, VBUS_SIGNAL_BUS, 0);
	shm_signal_enable(&bridge->signals, VBUS_SIGNAL_BUS);

	vbus_write32(&bridge->guest->version, VBUS_VERSION);
	vbus_write64(&bridge->guest->nonce, bridge->nonce);
	vbus_write32(&bridge->guest->magic, VBUS_GUEST_MAGIC);

	return vbus_call(bridge, VBUS_CALL_NEGOTIATE, &request, sizeof(request), &reply,
			 sizeof(reply));
}

static int register_queues(struct vbus_bridge *bridge)
{
	struct vbus_qreg_request request = {
		.count = cpu_to_le32(bridge->queues),
		.priority = { 7 },	/* calls and list changes first, devices alike */
	};

	return vbus_call(bridge, VBUS_CALL_QREG, &request, sizeof(request), NULL, 0);
}

/* Connect under the epoch that the window carries now; session held, not live. */
static int start_session(struct vbus_bridge *bridge)
{
	int err;

	err = negotiate(bridge);
	if (err)
		return err;
	vbus_device_settle(bridge);
	err = register_queues(bridge);
	if (err)
		return err;
	/* Only now: a driver that asks before is told to try again. */
	WRITE_ONCE(bridge->live, true);

	/* The host waits for this echo before it stops knocking. */
	vbus_write64(&bridge->guest->epoch, bridge->epoch);
	return 0;
}

static struct vbus_device *find_device(struct vbus_bridge *bridge,
				       const struct vbus_device_entry *entry)
{
	struct vbus_device *vdev;

	list_for_each_entry(vdev, &bridge->devices, link)
		if (!memcmp(&vdev->uuid, entry->uuid, sizeof(entry->uuid)))
			return vdev;
	return NULL;
}

/*
 * In a new connection a device is known by its name and kind; later another instance of the name is
 * another device.
 */
static int mark_entry(struct vbus_bridge *bridge, const struct vbus_device_entry *entry,
		      bool connecting)
{
	struct vbus_device *vdev = find_device(bridge, entry);

	if (!vdev || vdev->version != le32_to_cpu(entry->version) ||
	    strncmp(vdev->type, entry->type, sizeof(entry->type)) ||
	    (!connecting && vdev->instance != le32_to_cpu(entry->instance)))
		return 0;
	vdev->instance = le32_to_cpu(entry->instance);
	vdev->present = true;
	return 0;
}

static int add_entry(struct vbus_bridge *bridge, const struct vbus_device_entry *entry,
		     bool connecting)
{
	return find_device(bridge, entry) ? 0 : vbus_device_add(bridge, entry);
}

typedef int follow_fn(struct vbus_bridge *bridge, const struct vbus_device_entry *entry,
		      bool connecting);

/* -EAGAIN when the list changed meanwhile. */
static int read_list(struct vbus_bridge *bridge, bool connecting, u32 *generation,
		     follow_fn *follow)
{
	struct vbus_enumerate_reply part;
	u32 at = 0, count, total, i;
	int err;

	do {
		struct vbus_enumerate_request request = { .index = cpu_to_le32(at) };

		err = vbus_call(bridge, VBUS_CALL_ENUMERATE, &request, sizeof(request),
				&part, sizeof(part));
		if (err)
			return err;
		if (at && le32_to_cpu(part.generation) != *generation)
			return -EAGAIN;
		*generation = le32_to_cpu(part.generation);
		total = le32_to_cpu(part.total);
		count = le32_to_cpu(part.count);
		if (READ_ONCE(bridge->stopping))
			return -ENODEV;
		if (count > VBUS_ENTRIES || total > VBUS_SIGNALS || (at < total && !count))
			return -EPROTO;

		for (i = 0; i < count; i++) {
			err = follow(bridge, &part.entry[i], connecting);
			if (err)
				return err;
		}
		at += count;
	} while (at < total);
	return 0;
}

/* Which of our devices the host has. */
static int mark_present(struct vbus_bridge *bridge, bool connecting, u32 *generation)
{
	struct vbus_device *vdev;

	list_for_each_entry(vdev, &bridge->devices, link)
		vdev->present = false;
	return read_list(bridge, connecting, generation, mark_entry);
}

/*
 * Make the list of devices what the host says it is; session held.  What went goes before anything
 * comes: the host may give its signals to the next one.
 */
static int enumerate(struct vbus_bridge *bridge)
{
	struct vbus_device *vdev, *next;
	u32 generation, again;
	int err;

	err = mark_present(bridge, false, &generation);
	if (err)
		return err;
	list_for_each_entry_safe(vdev, next, &bridge->devices, link)
		if (!vdev->present)
			vbus_device_remove(vdev);

	err = read_list(bridge, false, &again, add_entry);
	if (err)
		return err;
	if (again != generation)
		return -EAGAIN;
	WRITE_ONCE(bridge->list_generation, generation);
	bridge->listed = true;
	return 0;
}

/* device_lock() held. */
static struct vbus_driver *driver_of(struct vbus_device *vdev)
{
	return vdev->dev.driver ? to_vbus_driver(vdev->dev.driver) : NULL;
}

/* One that has failed stands still already, and stays failed until a host answers. */
void vbus_device_freeze(struct vbus_device *vdev)
{
	struct vbus_driver *driver;

	device_lock(&vdev->dev);
	driver = driver_of(vdev);
	if (driver && driver->freeze && vdev->state == VBUS_OPEN)
		driver->freeze(vdev);
	if (vdev->state != VBUS_CLOSED && vdev->state != VBUS_LOST && vdev->state != VBUS_FAILED)
		vbus_device_set_state(vdev, VBUS_LOST);
	/* The host knows it no longer, and may give its number to another one. */
	vdev->handle = 0;
	device_unlock(&vdev->dev);
}

/* device_lock() held. */
static void fail_device(struct vbus_device *vdev)
{
	struct vbus_driver *driver = driver_of(vdev);

	if (driver && driver->fail)
		driver->fail(vdev);
	vbus_device_set_state(vdev, VBUS_FAILED);
}

/*
 * An error only when the connection is lost again, or -EAGAIN when a lock was not to be had; a
 * device that cannot go on fails alone.
 */
static int replay_device(struct vbus_device *vdev)
{
	struct vbus_driver *driver;
	int err = 0;

	device_lock(&vdev->dev);
	driver = driver_of(vdev);
	/* Whatever it failed for, this is another connection. */
	if (vdev->state == VBUS_FAILED)
		vbus_device_set_state(vdev, VBUS_LOST);
	if (!driver || vdev->state != VBUS_LOST)
		goto out;

	vbus_device_set_state(vdev, VBUS_REPLAY);
	clear_bit(0, &vdev->broken);
	err = driver->replay ? driver->replay(vdev) : -EOPNOTSUPP;
	if (!err) {
		vbus_device_set_state(vdev, VBUS_OPEN);
		vdev->replays++;
	} else if (err == -ESTALE || err == -ETIMEDOUT || err == -EAGAIN) {
		vbus_device_set_state(vdev, VBUS_LOST);
	} else {
		dev_err(&vdev->dev, "cannot go on after the host's restart: %pe\n", ERR_PTR(err));
		fail_device(vdev);
		err = 0;
	}
out:
	device_unlock(&vdev->dev);
	return err;
}

/* A driver whose probe met the loss of the connection gets another try. */
static void attach_device(struct vbus_device *vdev)
{
	bool retry;

	device_lock(&vdev->dev);
	retry = vdev->retry && !vdev->dev.driver;
	vdev->retry = false;
	device_unlock(&vdev->dev);
	if (retry && device_attach(&vdev->dev) < 0)
		dev_warn(&vdev->dev, "its driver did not take it\n");
}

/* The first connection is a recovery with nothing to recover. */
static int connect(struct vbus_bridge *bridge)
{
	struct vbus_device *vdev;
	u32 generation;
	int err;

	vbus_bridge_quiesce(bridge);
	list_for_each_entry(vdev, &bridge->devices, link)
		vbus_device_freeze(vdev);

	err = start_session(bridge);
	if (err)
		return err;
	err = mark_present(bridge, true, &generation);
	if (err)
		return err;
	bridge->replaying = true;
	bridge->listed = false;
	return 0;
}

/* Those that the host has; -EINPROGRESS when one has to wait, which keeps no other one waiting. */
static int replay(struct vbus_bridge *bridge)
{
	struct vbus_device *vdev;
	bool waits = false;
	int err;

	list_for_each_entry(vdev, &bridge->devices, link) {
		err = vdev->present ? replay_device(vdev) : 0;
		if (err && err != -EAGAIN)
			return err;
		waits |= err;
	}
	if (waits)
		return -EINPROGRESS;
	bridge->replaying = false;
	if (bridge->connections++)
		pci_info(bridge->pdev, "connected anew; devices are replayed\n");
	return 0;
}

/* A device whose host lied to it stops for good, in process context. */
static void retire_broken(struct vbus_bridge *bridge)
{
	struct vbus_device *vdev;

	list_for_each_entry(vdev, &bridge->devices, link) {
		device_lock(&vdev->dev);
		if (test_bit(0, &vdev->broken) && vdev->state == VBUS_OPEN) {
			if (driver_of(vdev) && driver_of(vdev)->freeze)
				driver_of(vdev)->freeze(vdev);
			fail_device(vdev);
		}
		device_unlock(&vdev->dev);
	}
}

/* Any question will do; what counts is that somebody answers. */
static int ask(struct vbus_bridge *bridge)
{
	struct vbus_enumerate_request request = { 0 };
	struct vbus_enumerate_reply reply;

	return vbus_call(bridge, VBUS_CALL_ENUMERATE, &request, sizeof(request), &reply,
			 sizeof(reply));
}

/*
 * Nobody will ever look at this window again, or nobody has for too long.  Should a host come after
 * all, its new epoch brings the devices back.
 */
static void give_up(struct vbus_bridge *bridge)
{
	struct vbus_device *vdev;
	u32 failed = 0;

	list_for_each_entry(vdev, &bridge->devices, link) {
		device_lock(&vdev->dev);
		if (vdev->state == VBUS_LOST) {
			fail_device(vdev);
			failed++;
		}
		device_unlock(&vdev->dev);
	}
	if (failed)
		pci_err(bridge->pdev,
			"the host is silent for %u s, %u devices fail; start vbusd, then restart or migrate this guest\n",
			VBUS_SILENCE_S, failed);
}

/* Session held. */
static void watch_silence(struct vbus_bridge *bridge, int err)
{
	if (err != -ETIMEDOUT)
		bridge->silent_at = 0;
	else if (!bridge->silent_at)
		bridge->silent_at = (jiffies - VBUS_CALL_TIMEOUT) | 1;
	else if (time_after(jiffies, bridge->silent_at + VBUS_SILENCE_S * HZ))
		give_up(bridge);
}

static bool is_sound(struct vbus_bridge *bridge)
{
	return bridge->live && !bridge->silent && vbus_bridge_is_current(bridge);
}

/*
 * One round: 0 when there is nothing left to do, -EAGAIN after something was done, -EINPROGRESS
 * when a lock was taken, or an error.
 */
static int follow_once(struct vbus_bridge *bridge)
{
	int err;

	if (!is_sound(bridge)) {
		err = connect(bridge);
		/* Half a connection is none: the next round starts it over. */
		if (err)
			vbus_bridge_quiesce(bridge);
		return err ? err : -EAGAIN;
	}
	if (bridge->replaying) {
		err = replay(bridge);
		if (err)
			return err;
	}
	retire_broken(bridge);
	err = vbus_route_settle(bridge);
	if (err)
		return err;
	if (!xchg(&bridge->suspect, false))
		return 0;
	bridge->silences++;
	return ask(bridge);
}

/* Another connection while this one was being made is no error. */
static int follow(struct vbus_bridge *bridge)
{
	int err = follow_once(bridge);

	return err == -ESTALE ? -EAGAIN : err;
}

/* As long as a round changed something; the host may change it again.  Session held. */
static int in_rounds(struct vbus_bridge *bridge, int (*round)(struct vbus_bridge *bridge))
{
	unsigned int noio = memalloc_noio_save();
	int err = -EAGAIN, i;

	for (i = 0; i < VBUS_ROUNDS && !READ_ONCE(bridge->stopping); i++) {
		err = round(bridge);
		if (err != -EAGAIN)
			break;
	}
	memalloc_noio_restore(noio);
	return err;
}

/* Session held. */
static void report(struct vbus_bridge *bridge, int err)
{
	bool lost = err && err != -EINPROGRESS;

	if (lost && !bridge->told)
		pci_warn(bridge->pdev, "no connection to the host: %pe; is vbusd running?\n",
			 ERR_PTR(err));
	bridge->told = lost;
	watch_silence(bridge, err);
	if (err)
		queue_delayed_work(bridge->worker, &bridge->retry, VBUS_RETRY_DELAY);
}

static bool list_is_old(struct vbus_bridge *bridge)
{
	return !bridge->listed ||
	       vbus_read32(&bridge->host->list_generation) != bridge->list_generation;
}

void vbus_session_work(struct work_struct *work)
{
	struct vbus_bridge *bridge = container_of(work, struct vbus_bridge, work);
	int err;

	mutex_lock(&bridge->session);
	err = in_rounds(bridge, follow);
	if (!READ_ONCE(bridge->stopping)) {
		if (!err && list_is_old(bridge))
			queue_work(system_long_wq, &bridge->roll);
		else
			report(bridge, err);
	}
	mutex_unlock(&bridge->session);
}

void vbus_session_roll(struct work_struct *work)
{
	struct vbus_bridge *bridge = container_of(work, struct vbus_bridge, roll);
	struct vbus_device *vdev;
	int err;

	mutex_lock(&bridge->session);
	if (is_sound(bridge) && !bridge->replaying && !READ_ONCE(bridge->stopping)) {
		list_for_each_entry(vdev, &bridge->devices, link)
			attach_device(vdev);
		err = in_rounds(bridge, enumerate);
		/* Who lost the connection on the way has it again first. */
		if (err == -ESTALE || err == -ETIMEDOUT)
			vbus_session_schedule(bridge);
		else if (!READ_ONCE(bridge->stopping))
			report(bridge, err);
	}
	mutex_unlock(&bridge->session);
}

void vbus_session_retry(struct work_struct *work)
{
	struct vbus_bridge *bridge = container_of(to_delayed_work(work), struct vbus_bridge, retry);

	vbus_session_schedule(bridge);
}

void vbus_device_suspect(struct vbus_device *vdev)
{
	WRITE_ONCE(vdev->bridge->suspect, true);
	vbus_session_schedule(vdev->bridge);
}
EXPORT_SYMBOL_GPL(vbus_device_suspect);

/* Any context. */
void vbus_session_schedule(struct vbus_bridge *bridge)
{
	queue_work(bridge->worker, &bridge->work);
}

/* The host sees that nobody is here. */
void vbus_session_leave(struct vbus_bridge *bridge)
{
	vbus_write32(&bridge->guest->magic, 0);
	vbus_write64(&bridge->guest->epoch, 0);
	vbus_bridge_ring(bridge, 0);
}

/* None of the works runs when this returns: each arms the next one only while none is @stopping. */
void vbus_session_halt(struct vbus_bridge *bridge)
{
	cancel_work_sync(&bridge->spread);
	cancel_work_sync(&bridge->work);
	cancel_work_sync(&bridge->roll);
	cancel_delayed_work_sync(&bridge->retry);
	cancel_work_sync(&bridge->work);
}

/* The bus goes: no new work, no devices, and the host sees that nobody is here. */
void vbus_session_end(struct vbus_bridge *bridge)
{
	struct vbus_device *vdev, *next;

	WRITE_ONCE(bridge->stopping, true);
	/* Without a connection, or a device, there is nobody to take leave of. */
	if (!READ_ONCE(bridge->live) || READ_ONCE(bridge->silent) ||
	    !pci_device_is_present(bridge->pdev))
		WRITE_ONCE(bridge->gone, true);
	wake_up_all(&bridge->answered);
	vbus_session_halt(bridge);

	mutex_lock(&bridge->session);
	list_for_each_entry_safe(vdev, next, &bridge->devices, link)
		vbus_device_remove(vdev);
	vbus_device_settle(bridge);
	WRITE_ONCE(bridge->gone, true);
	vbus_bridge_quiesce(bridge);
	vbus_session_leave(bridge);
	mutex_unlock(&bridge->session);
	vbus_session_halt(bridge);
}
