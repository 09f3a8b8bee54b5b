// SPDX-License-Identifier: MIT
/*
 * vbusd_hold.c - a bus that moves between hosts: while it is held it has a session and no worker.
 *
 * A receipt says that nothing writes here any more: the worker has drained, synced and ended, all
 * images could be locked, and it is on record.  What a worker says is not enough for that.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "fail_point.h"
#include "log.h"
#include "vbusd_record.h"

#define RELEASE_MS	5000u	/* for I/O in flight and its way to the disk */

static const char not_recorded[] = "it is held, and its receipt not recorded: ask again";

static bool is_hex(const char *text, size_t len)
{
	return strspn(text, "0123456789abcdef") == len;
}

static bool is_receipt(const char *text)
{
	return is_hex(text, VBUSD_TICKET_LEN) && text[VBUSD_TICKET_LEN] == ':' &&
	       is_hex(&text[VBUSD_TICKET_LEN + 1], VBUSD_RECEIPT_LEN - VBUSD_TICKET_LEN - 1) &&
	       strlen(text) == VBUSD_RECEIPT_LEN;
}

static void write_receipt(const struct vbusd_bus *bus, char *text)
{
	snprintf(text, VBUSD_TEXT_LEN, "%s:%016llx", bus->ticket,
		 (unsigned long long)bus->generation);
}

int vbusd_hold_new(struct vbusd_bus *bus, char *text)
{
	uint64_t drawn[2];

	if (bus->connector == VBUSD_FILE) {
		snprintf(text, VBUSD_TEXT_LEN, "held: a bus of the file connector does not move");
		return -1;
	}
	if (getrandom(drawn, sizeof(drawn), 0) != (ssize_t)sizeof(drawn)) {
		snprintf(text, VBUSD_TEXT_LEN, "no ticket can be drawn: %s", strerror(errno));
		return -1;
	}
	snprintf(bus->ticket, sizeof(bus->ticket), "%016llx%016llx", (unsigned long long)drawn[0],
		 (unsigned long long)drawn[1]);
	bus->hold = VBUSD_HOLD_NEW;
	return 0;
}

bool vbusd_hold_freezes(const struct vbusd_bus *bus)
{
	return bus->after == VBUSD_AFTER_RELEASE || bus->hold > VBUSD_HOLD_NEW ||
	       (bus->hold && bus->qemu >= 0);
}

/* Nobody, here or on another host, has one of them; of a network file system as far as that knows. */
static bool images_are_free(const struct vbusd_bus *bus, char *text)
{
	const struct vbusd_device *dev;
	int fd;

	for (dev = bus->device; dev < bus->device + VBUSD_DEVICES; dev++) {
		if (!dev->used || dev->klass->backend != VBUS_BACKEND_IMAGE)
			continue;
		fd = vbusd_backend_open_alone(dev, text);
		if (fd < 0)
			return false;
		close(fd);
	}
	return true;
}

static void close_backends(struct vbusd_bus *bus)
{
	uint32_t i;

	for (i = 0; i < VBUSD_DEVICES; i++) {
		struct vbusd_device *dev = &bus->device[i];

		bus->page->device[i].state = bus->page->device[i].running = 0;
		dev->lost = false;
		if (dev->fd < 0)
			continue;
		vbusd_store_forget_device(bus, i);
		close(dev->fd);
		dev->fd = -1;
	}
}

void vbusd_release_fail(struct vbusd_bus *bus, const char *why)
{
	char text[VBUSD_TEXT_LEN];

	snprintf(text, sizeof(text), "bus %s: no receipt, the bus stays (%.90s)", bus->name, why);
	vbus_log(bus->name, "no receipt, the bus stays (%s)", why);
	bus->after = VBUSD_AFTER_HANDOVER;
	vbusd_worker_signal(bus, SIGKILL);
	vbusd_admin_answer(bus, VBUSD_SYSTEM, text);
}

void vbusd_release_heard(struct vbusd_bus *bus, const struct vbus_worker_notice *n)
{
	char why[VBUSD_TEXT_LEN];

	VBUS_FAIL_POINT(RELEASE_HEARD);
	if (bus->after != VBUSD_AFTER_RELEASE)
		return;
	bus->drained = !n->error;
	if (bus->drained) {
		vbusd_worker_signal(bus, SIGKILL);
		return;
	}
	snprintf(why, sizeof(why), "image %.60s: %s", bus->device[n->slot % VBUSD_DEVICES].argument,
		 strerror((int)n->error));
	vbusd_release_fail(bus, why);
}

/* Marked as given first: killed in between, we give none, and the administrator's word is needed. */
static void give_receipt(struct vbusd_bus *bus)
{
	char text[VBUSD_TEXT_LEN];

	write_receipt(bus, text);
	bus->hold = VBUSD_HOLD_GIVEN;
	if (!vbusd_record_write(bus)) {
		VBUS_FAIL_POINT(RELEASE_GIVEN);
		if (vbusd_admin_answer(bus, VBUSD_OK, text))
			return;
	}
	bus->hold = VBUSD_HOLD_RELEASED;
	vbusd_record_write(bus);
	vbusd_admin_answer(bus, VBUSD_SYSTEM, not_recorded);
}

void vbusd_release_ended(struct vbusd_bus *bus)
{
	char why[VBUSD_TEXT_LEN];

	if (!bus->drained) {
		vbusd_release_fail(bus, "its worker died before all was written");
		bus->after = VBUSD_AFTER_CRASH;
		return;
	}
	if (!images_are_free(bus, why)) {
		vbusd_release_fail(bus, why);
		return;
	}
	bus->hold = VBUSD_HOLD_RELEASED;
	bus->generation = bus->page->epoch;
	VBUS_FAIL_POINT(RELEASE_HELD);
	if (vbusd_record_write(bus) < 0) {
		bus->hold = VBUSD_HOLD_NONE;
		vbusd_release_fail(bus, "it cannot be recorded");
		return;
	}
	VBUS_FAIL_POINT(RELEASE_RECORDED);
	bus->after = VBUSD_AFTER_CRASH;
	close_backends(bus);
	vbus_log(bus->name, "held (released; its epoch was %016llx)",
		 (unsigned long long)bus->generation);
	vbusd_event_tell(VBUSD_BUS_HELD, bus->name, NULL, 0, 0, "");
	give_receipt(bus);
}

enum vbusd_result vbusd_release(const struct vbusd_request *q, char *text)
{
	struct vbusd_bus *bus = vbusd_bus_find(q->bus);

	if (!is_hex(q->argument, VBUSD_TICKET_LEN) || q->argument[VBUSD_TICKET_LEN])
		return vbusd_deny(text, VBUSD_RANGE, "bus %s: a ticket is 32 hexadecimal digits", q->bus);
	if (bus->hold == VBUSD_HOLD_RELEASED && !strcmp(bus->ticket, q->argument)) {
		bus->hold = VBUSD_HOLD_GIVEN;
		if (vbusd_record_write(bus) < 0) {
			bus->hold = VBUSD_HOLD_RELEASED;
			return vbusd_deny(text, VBUSD_SYSTEM, "%s", not_recorded);
		}
		write_receipt(bus, text);
		return VBUSD_OK;
	}
	if (bus->hold)
		return vbusd_deny(text, VBUSD_BUSY, "bus %s: is held already; a receipt is given once", q->bus);
	if (bus->connector == VBUSD_FILE)
		return vbusd_deny(text, VBUSD_UNKNOWN, "bus %s: the file connector does not move", q->bus);
	if (bus->worker <= 0 || bus->after)
		return vbusd_deny(text, VBUSD_BUSY, "bus %s: has no worker to be asked; try again", q->bus);
	memcpy(bus->ticket, q->argument, VBUSD_TICKET_LEN);
	bus->drained = false;
	vbus_log(bus->name, "worker %d is to release it (asked for)", (int)bus->worker);
	vbusd_worker_ask_for_end(bus, VBUSD_AFTER_RELEASE, VBUS_WORKER_RELEASE);
	vbusd_arm(bus, bus->fence, RELEASE_MS);
	return VBUSD_LATER;
}

enum vbusd_result vbusd_start(const struct vbusd_request *q, char *text)
{
	struct vbusd_bus *bus = vbusd_bus_find(q->bus);
	bool fenced = q->flags & VBUSD_FENCED;
	char own[VBUSD_TEXT_LEN];

	if (!bus->hold)
		return vbusd_deny(text, VBUSD_BUSY, "bus %s: is not held", q->bus);
	if (!fenced && !is_receipt(q->argument))
		return vbusd_deny(text, VBUSD_RANGE, "bus %s: a receipt is TICKET:EPOCH", q->bus);
	/* Which epoch the other host had nobody knows here. */
	write_receipt(bus, own);
	if (!fenced && strncmp(own, q->argument, bus->hold == VBUSD_HOLD_NEW ? VBUSD_TICKET_LEN :
			       VBUSD_RECEIPT_LEN))
		return vbusd_deny(text, VBUSD_BUSY, "bus %s: is held for another receipt", q->bus);
	if (!images_are_free(bus, text))
		return VBUSD_SYSTEM;
	bus->hold = VBUSD_HOLD_NONE;
	memset(bus->ticket, 0, sizeof(bus->ticket));
	VBUS_FAIL_POINT(START_TAKEN);
	vbus_log(bus->name, "started (%s)", fenced ? "the other host is said to be fenced" :
		 "by receipt");
	vbusd_event_tell(VBUSD_BUS_STARTED, bus->name, NULL, 0, 0, "");
	vbusd_worker_start(bus);
	return VBUSD_OK;
}
