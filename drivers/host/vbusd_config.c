// SPDX-License-Identifier: MIT
/* vbusd_config.c - what the administrator may change; every refusal says why. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "image.h"
#include "listen.h"
#include "log.h"
#include "vbusd_record.h"
#include "venet_abi.h"

enum vbusd_result vbusd_deny(char *text, enum vbusd_result result, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, VBUSD_TEXT_LEN, fmt, args);
	va_end(args);
	return result;
}

/* A name can stand in a path and in a log line. */
static bool name_is_ok(const char *name)
{
	const char *ok = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

	return name[0] && name[0] != '.' && strspn(name, ok) == strlen(name);
}

static bool is_power_of_two(uint32_t n)
{
	return n && !(n & (n - 1));
}

struct vbusd_bus *vbusd_bus_find(const char *name)
{
	uint32_t i;

	for (i = 0; i < VBUSD_BUSES; i++)
		if (vbusd.bus[i].used && !strcmp(vbusd.bus[i].name, name))
			return &vbusd.bus[i];
	return NULL;
}

static struct vbusd_device *device_find(struct vbusd_bus *bus, const uint8_t *uuid)
{
	uint32_t i;

	for (i = 0; i < VBUSD_DEVICES; i++)
		if (bus->device[i].used && !memcmp(bus->device[i].uuid, uuid, VBUS_UUID_LEN))
			return &bus->device[i];
	return NULL;
}

void vbusd_bus_clear(struct vbusd_bus *bus)
{
	uint32_t i;

	memset(bus, 0, sizeof(*bus));
	bus->listener = bus->folder = bus->qemu = bus->alive = bus->window = -1;
	bus->pidfd = bus->control = bus->respawn = bus->fence = bus->reopen = -1;
	bus->page_fd = bus->asker = -1;
	for (i = 0; i < VBUS_VECTORS_MAX; i++)
		bus->from_guest[i] = bus->to_guest[i] = -1;
	for (i = 0; i < VBUSD_DEVICES; i++)
		bus->device[i].fd = -1;
}

static int open_status(struct vbusd_bus *bus)
{
	bus->page_fd = memfd_create("vbus-status", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (bus->page_fd < 0 || ftruncate(bus->page_fd, sizeof(*bus->page)) < 0)
		return -1;
	/* A worker that turned bad cannot make the one that reads it fault. */
	return fcntl(bus->page_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}

static int map_status(struct vbusd_bus *bus)
{
	bus->page =
		mmap(NULL, sizeof(*bus->page), PROT_READ | PROT_WRITE, MAP_SHARED, bus->page_fd, 0);
	if (bus->page == MAP_FAILED) {
		bus->page = NULL;
		return -1;
	}
	return 0;
}

/* No QEMU, and none comes. */
static void disconnect(struct vbusd_bus *bus)
{
	vbusd_session_close(bus);
	if (bus->listener >= 0)
		unlink(bus->path);
	vbusd_unwatch(&bus->listener);
}

void vbusd_bus_close(struct vbusd_bus *bus)
{
	uint32_t i;

	disconnect(bus);
	for (i = 0; i < VBUSD_DEVICES; i++)
		if (bus->device[i].fd >= 0)
			close(bus->device[i].fd);
	if (bus->folder >= 0)
		close(bus->folder);
	vbusd_unwatch(&bus->pidfd);
	vbusd_unwatch(&bus->control);
	vbusd_unwatch(&bus->respawn);
	vbusd_unwatch(&bus->fence);
	vbusd_unwatch(&bus->reopen);
	if (bus->page)
		munmap(bus->page, sizeof(*bus->page));
	if (bus->page_fd >= 0)
		close(bus->page_fd);
	vbusd_bus_clear(bus);
}

void vbusd_bus_end(struct vbusd_bus *bus)
{
	uint32_t i;

	/* First, so that no worker that serves is ever without a record. */
	vbusd_worker_kill(bus, VBUSD_AFTER_BUS);
	vbusd_store_forget_session(bus);
	for (i = 0; i < VBUSD_DEVICES; i++)
		if (bus->device[i].fd >= 0)
			vbusd_store_forget_device(bus, i);
	vbusd_record_remove(bus);
	disconnect(bus);
	if (bus->worker <= 0)
		vbusd_bus_gone(bus);
}

void vbusd_bus_gone(struct vbusd_bus *bus)
{
	vbusd_event_tell(VBUSD_BUS_REMOVED, bus->name, NULL, 0, 0, "");
	vbusd_admin_answer(bus, VBUSD_OK, NULL);
	vbusd_bus_close(bus);
}

static int watch_listener(struct vbusd_bus *bus)
{
	return vbusd_watch(bus->listener, VBUSD_EVENT_LISTENER, vbusd_bus_index(bus));
}

int vbusd_bus_listen(struct vbusd_bus *bus, char *text)
{
	if (bus->connector == VBUSD_FILE)
		return bus->folder >= 0 ? 0 : vbusd_file_open_folder(bus, text);
	bus->listener = vbus_listen(bus->path, SOCK_STREAM, vbusd.qemu_user, text);
	if (bus->listener < 0)
		return -1;
	if (watch_listener(bus) < 0) {
		snprintf(text, VBUSD_TEXT_LEN, "%.100s: %s", bus->path, strerror(errno));
		close(bus->listener);
		bus->listener = -1;
		return -1;
	}
	return 0;
}

int vbusd_bus_adopt(struct vbusd_bus *bus, char *text)
{
	bus->respawn = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	bus->fence = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	bus->reopen = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (bus->respawn < 0 || bus->fence < 0 || bus->reopen < 0 || map_status(bus) < 0 ||
	    (bus->listener >= 0 && watch_listener(bus) < 0) ||
	    vbusd_watch(bus->reopen, VBUSD_EVENT_REOPEN, vbusd_bus_index(bus)) < 0 ||
	    vbusd_watch(bus->respawn, VBUSD_EVENT_RESPAWN, vbusd_bus_index(bus)) < 0 ||
	    vbusd_watch(bus->fence, VBUSD_EVENT_FENCE, vbusd_bus_index(bus)) < 0 ||
	    (bus->qemu >= 0 &&
	     vbusd_watch(bus->qemu, VBUSD_EVENT_QEMU, vbusd_bus_index(bus)) < 0)) {
		snprintf(text, VBUSD_TEXT_LEN, "bus cannot be set up: %s", strerror(errno));
		return -1;
	}
	return 0;
}

int vbusd_bus_open(struct vbusd_bus *bus, char *text)
{
	if (open_status(bus) < 0) {
		snprintf(text, VBUSD_TEXT_LEN, "no status page: %s", strerror(errno));
		return -1;
	}
	if (vbusd_bus_adopt(bus, text) < 0 || vbusd_bus_listen(bus, text) < 0)
		return -1;
	return vbusd_session_open(bus, text);
}

enum vbusd_result vbusd_bus_add(const struct vbusd_request *q, char *text)
{
	struct vbusd_bus *bus;
	uint32_t i;

	if (!name_is_ok(q->bus))
		return vbusd_deny(text, VBUSD_MALFORMED,
			      "a bus needs a name of letters, digits, - _ and .");
	if (vbusd_bus_find(q->bus))
		return vbusd_deny(text, VBUSD_EXISTS, "bus %s: exists", q->bus);
	if (vbusd_record_exists(q->bus))
		return vbusd_deny(text, VBUSD_EXISTS, "bus %s: a record of it is left alone, the log says why; "
			      "mend that, or remove %s.bus", q->bus, q->bus);
	if (!is_power_of_two(q->window_mib) || q->window_mib > VBUS_WINDOW_MAX >> 20)
		return vbusd_deny(text, VBUSD_RANGE,
			      "window: %u MiB is not a power of two from 1 to %u", q->window_mib,
			      VBUS_WINDOW_MAX >> 20);
	if (q->vectors < VBUS_VECTORS_MIN || q->vectors > VBUS_VECTORS_MAX)
		return vbusd_deny(text, VBUSD_RANGE, "vectors: %u is not from %u to %u", q->vectors,
			      VBUS_VECTORS_MIN, VBUS_VECTORS_MAX);
	if (q->connector != VBUSD_IVSHMEM && q->connector != VBUSD_FILE)
		return vbusd_deny(text, VBUSD_UNKNOWN, "connector %u: is not known", q->connector);
	for (i = 0; i < VBUSD_BUSES && vbusd.bus[i].used; i++)
		;
	if (i == VBUSD_BUSES)
		return vbusd_deny(text, VBUSD_FULL, "there are %u buses already", VBUSD_BUSES);

	bus = &vbusd.bus[i];
	vbusd_bus_clear(bus);
	memcpy(bus->name, q->bus, sizeof(bus->name));
	memcpy(bus->path, q->argument, sizeof(bus->path));
	bus->connector = q->connector;
	bus->window_mib = q->window_mib;
	bus->vectors = q->vectors;
	bus->list_generation = 1;
	if ((q->flags & VBUSD_HELD && vbusd_hold_new(bus, text) < 0) ||
	    vbusd_bus_open(bus, text) < 0) {
		vbusd_bus_close(bus);
		return VBUSD_SYSTEM;
	}
	bus->used = true;
	vbus_log(bus->name, "added%s (%u MiB, %u vectors, %s)", bus->hold ? " and held" : "",
		 bus->window_mib, bus->vectors, bus->path);
	vbusd_event_tell(VBUSD_BUS_ADDED, bus->name, NULL, 0, bus->window_mib, bus->path);
	if (bus->hold)
		vbusd_event_tell(VBUSD_BUS_HELD, bus->name, NULL, 0, 0, "");
	memcpy(text, bus->ticket, sizeof(bus->ticket));
	vbusd_worker_start(bus);
	return VBUSD_OK;
}

enum vbusd_result vbusd_bus_remove(const struct vbusd_request *q, char *text)
{
	struct vbusd_bus *bus = vbusd_bus_find(q->bus);

	(void)text;
	vbus_log(bus->name, "removed (asked for)");
	vbusd_bus_end(bus);
	return bus->used ? VBUSD_LATER : VBUSD_OK;
}

enum vbusd_result vbusd_renew(const struct vbusd_request *q, char *text)
{
	struct vbusd_bus *bus = vbusd_bus_find(q->bus);

	(void)text;
	vbusd_worker_handover(bus, "asked for");
	return VBUSD_OK;
}

enum vbusd_result vbusd_end(const struct vbusd_request *q, char *text)
{
	(void)q;
	(void)text;
	vbusd.ends = vbusd.clears = true;
	return VBUSD_OK;
}

static bool mac_is_ok(const uint8_t *mac)
{
	static const uint8_t none[6];

	return memcmp(mac, none, sizeof(none)) && !(mac[0] & 1);
}

static bool mtu_is_ok(uint32_t mtu)
{
	return !mtu || (mtu >= VENET_MTU_MIN && mtu <= VENET_MTU_MAX);
}

static void hand_over_for(struct vbusd_bus *bus, const struct vbus_class_info *klass)
{
	char why[VBUSD_CLASS_LEN + 16];

	snprintf(why, sizeof(why), "%s is new to it", klass->name);
	vbusd_worker_handover(bus, why);
}

static bool block_size_is_ok(uint32_t bytes)
{
	return !bytes || (is_power_of_two(bytes) && bytes >= VBUS_BLOCK_MIN &&
			  bytes <= VBUS_BLOCK_MAX);
}

/* Replace what is masked in group @gid. */
static bool set_mask(struct vbus_mask *mask, uint32_t gid, uint32_t bits)
{
	struct vbus_mask *free = NULL;
	uint32_t i;

	for (i = 0; i < VBUSD_GROUPS; i++) {
		if (mask[i].bits && mask[i].gid == gid) {
			mask[i].bits = bits;
			return true;
		}
		if (!mask[i].bits && !free)
			free = &mask[i];
	}
	if (!free)
		return !bits;
	*free = (struct vbus_mask){ .gid = gid, .bits = bits };
	return true;
}

/* Bits that any class knows, or @wanted. */
static uint32_t known_bits(const struct vbus_class_info *wanted, uint32_t gid)
{
	uint32_t bits = 0;
	const struct vbus_class_info *klass;
	uint32_t i;

	for (i = 0; (klass = vbus_class_at(i)); i++)
		if (!wanted || wanted == klass)
			bits |= vbus_class_bits(klass, gid);
	return bits;
}

/* Of a device of @klass; NULL: of those of any. */
static enum vbusd_result judge_mask(struct vbus_mask *mask, const struct vbus_class_info *klass,
				    const struct vbus_mask *want, char *text)
{
	uint32_t known = known_bits(klass, want->gid);

	if (!known)
		return vbusd_deny(text, VBUSD_UNKNOWN, "feature group %u: is not known", want->gid);
	if (want->bits & ~known)
		return vbusd_deny(text, VBUSD_UNKNOWN, "feature group %u: bits %#x are not known",
			      want->gid, want->bits & ~known);
	if (!set_mask(mask, want->gid, want->bits))
		return vbusd_deny(text, VBUSD_FULL, "too many groups are masked");
	return VBUSD_OK;
}

/* What does not depend on the bus. */
static enum vbusd_result judge_device(const struct vbusd_request *q, struct vbusd_device *want,
				      char *text)
{
	static const uint8_t none[VBUS_UUID_LEN];
	enum vbusd_result result = VBUSD_OK;
	uint32_t i;

	if (!want->klass)
		return vbusd_deny(text, VBUSD_UNKNOWN, "class %s: is not known", q->klass);
	if (!memcmp(q->uuid, none, sizeof(none)))
		return vbusd_deny(text, VBUSD_MALFORMED, "a device needs a UUID");
	if (vbus_class_is_net(want->klass) && !mac_is_ok(q->mac))
		return vbusd_deny(text, VBUSD_RANGE, "mac: is zero or a multicast address");
	if (!mtu_is_ok(q->mtu))
		return vbusd_deny(text, VBUSD_RANGE, "mtu: %u is not from %u to %u", q->mtu,
			      VENET_MTU_MIN, VENET_MTU_MAX);
	if (!block_size_is_ok(q->block_size))
		return vbusd_deny(text, VBUSD_RANGE,
			      "block size: %u is not a power of two from %u to %u", q->block_size,
			      VBUS_BLOCK_MIN, VBUS_BLOCK_MAX);
	memcpy(want->uuid, q->uuid, sizeof(want->uuid));
	memcpy(want->mac, q->mac, sizeof(want->mac));
	memcpy(want->argument, q->argument, sizeof(want->argument));
	memcpy(want->serial, q->serial, sizeof(want->serial));
	want->link = !(q->flags & VBUSD_LINK_DOWN);
	want->read_only = q->flags & VBUSD_READ_ONLY;
	want->mtu = q->mtu ? q->mtu : VENET_MTU_DEFAULT;
	want->block_size = q->block_size;
	for (i = 0; i < VBUSD_GROUPS && !result; i++)
		if (q->mask[i].bits)
			result = judge_mask(want->mask, want->klass, &q->mask[i], text);
	return result;
}

/* Whether it can be looked at without harm: a stream's other end may take one connection and end. */
static bool is_probed(const struct vbus_class_info *klass)
{
	return klass->backend == VBUS_BACKEND_IMAGE || klass->backend == VBUS_BACKEND_TAP;
}

enum vbusd_result vbusd_device_add(const struct vbusd_request *q, char *text)
{
	struct vbusd_bus *bus = vbusd_bus_find(q->bus);
	const struct vbus_class_info *klass = vbus_class_find(q->klass);
	struct vbusd_device *dev, want = { .used = true, .klass = klass, .fd = -1 };
	enum vbusd_result result;
	bool has_class;
	uint32_t i;
	int fd = -1;

	result = judge_device(q, &want, text);
	if (result)
		return result;
	if (device_find(bus, q->uuid))
		return vbusd_deny(text, VBUSD_EXISTS, "bus %s: a device with this UUID exists", q->bus);
	for (i = 0; i < VBUSD_DEVICES && bus->device[i].used; i++)
		;
	if (i == VBUSD_DEVICES)
		return vbusd_deny(text, VBUSD_FULL, "bus %s: has %u devices already", q->bus,
			      VBUSD_DEVICES);
	if (bus->hold ? is_probed(klass) : klass->backend != VBUS_BACKEND_NONE) {
		fd = bus->hold ? vbusd_backend_open(&want, text) :
				 vbusd_backend_open_alone(&want, text);
		if (fd < 0)
			return VBUSD_SYSTEM;
	}
	/* It is there; whoever serves it now is not disturbed. */
	if (bus->hold && fd >= 0) {
		close(fd);
		fd = -1;
	}

#ifdef VBUS_DEFECT_DESCRIPTOR	/* a planted defect: nobody closes it */
	if (fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0) < 0)
		return VBUSD_SYSTEM;
#endif
	dev = &bus->device[i];
	*dev = want;
	memset(&bus->page->device[i], 0, sizeof(bus->page->device[i]));
	dev->instance = ++bus->list_generation;
	if (vbusd_backend_is_kept(dev)) {
		dev->fd = fd;
		vbusd_store_device(bus, i);
	}
	has_class = !(vbusd_class_needed(bus) & ~bus->modules);
	if (has_class)
		vbusd_worker_tell_device(bus, i, fd);
	if (dev->fd < 0 && fd >= 0)
		close(fd);
	if (!has_class)
		hand_over_for(bus, klass);
	vbus_log(bus->name, "device %02x%02x%02x%02x added (%s %s)", q->uuid[0], q->uuid[1],
		 q->uuid[2], q->uuid[3], q->klass, q->argument);
	vbusd_event_tell(VBUSD_DEVICE_ADDED, bus->name, q->uuid, 0, 0, q->klass);
	return VBUSD_OK;
}

enum vbusd_result vbusd_device_remove(const struct vbusd_request *q, char *text)
{
	struct vbusd_bus *bus = vbusd_bus_find(q->bus);
	struct vbusd_device *dev = device_find(bus, q->uuid);

	if (!dev)
		return vbusd_deny(text, VBUSD_NO_ENTRY, "bus %s: no such device", q->bus);
	dev->used = false;
	bus->list_generation++;
	vbusd_worker_tell(bus, VBUS_WORKER_REMOVE, (uint32_t)(dev - bus->device));
	if (dev->fd >= 0) {
		vbusd_store_forget_device(bus, (uint32_t)(dev - bus->device));
		close(dev->fd);
	}
	dev->fd = -1;
	vbus_log(bus->name, "device %02x%02x%02x%02x removed (asked for)", q->uuid[0], q->uuid[1],
		 q->uuid[2], q->uuid[3]);
	vbusd_event_tell(VBUSD_DEVICE_REMOVED, bus->name, q->uuid, 0, 0, "");
	return VBUSD_OK;
}

enum vbusd_result vbusd_mask(const struct vbusd_request *q, char *text)
{
	struct vbusd_bus *bus = vbusd_bus_find(q->bus);
	bool all = q->flags & VBUSD_ALL_DEVICES;
	struct vbusd_device *dev = all ? NULL : device_find(bus, q->uuid);
	enum vbusd_result result;
	uint32_t i;

	if (!all && !dev)
		return vbusd_deny(text, VBUSD_NO_ENTRY, "bus %s: no such device", q->bus);
	result = judge_mask(all ? bus->mask : dev->mask, all ? NULL : dev->klass, q->mask, text);
	if (result)
		return result;
	for (i = 0; i < VBUSD_DEVICES; i++)
		if (bus->device[i].used && (all || dev == &bus->device[i]))
			vbusd_worker_tell(bus, VBUS_WORKER_MASK, i);
	vbus_log(bus->name, "group %u: bits %#x are masked (asked for)", q->mask->gid,
		 q->mask->bits);
	vbusd_event_tell(VBUSD_MASK_CHANGED, bus->name, all ? NULL : q->uuid, q->mask->gid,
			 q->mask->bits, "");
	return VBUSD_OK;
}

enum vbusd_result vbusd_link(const struct vbusd_request *q, char *text)
{
	struct vbusd_bus *bus = vbusd_bus_find(q->bus);
	struct vbusd_device *dev = device_find(bus, q->uuid);

	if (!dev)
		return vbusd_deny(text, VBUSD_NO_ENTRY, "bus %s: no such device", q->bus);
	dev->link = !(q->flags & VBUSD_LINK_DOWN);
	vbusd_worker_tell(bus, VBUS_WORKER_LINK, (uint32_t)(dev - bus->device));
	vbus_log(bus->name, "device %02x%02x%02x%02x link %s (asked for)", q->uuid[0], q->uuid[1],
		 q->uuid[2], q->uuid[3], dev->link ? "up" : "down");
	vbusd_event_tell(VBUSD_LINK_CHANGED, bus->name, q->uuid, 0, dev->link, "");
	return VBUSD_OK;
}

enum vbusd_result vbusd_resize(const struct vbusd_request *q, char *text)
{
	struct vbusd_bus *bus = vbusd_bus_find(q->bus);
	struct vbusd_device *dev = device_find(bus, q->uuid);

	if (!dev)
		return vbusd_deny(text, VBUSD_NO_ENTRY, "bus %s: no such device", q->bus);
	if (dev->klass->backend != VBUS_BACKEND_IMAGE)
		return vbusd_deny(text, VBUSD_UNKNOWN, "class %s: has no size", dev->klass->name);
	vbusd_worker_tell(bus, VBUS_WORKER_RESIZE, (uint32_t)(dev - bus->device));
	return VBUSD_OK;
}
