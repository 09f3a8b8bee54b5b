/* SPDX-License-Identifier: MIT */
/*
 * fail_point.h - places where a test has the program killed; none in what is shipped.
 *
 * With meson's option `failpoints` the file that VBUS_FAIL_FILE names is a struct vbus_fail, shared
 * by the test and all that it starts.  Whoever comes to the armed point disarms it and is gone.
 */
#ifndef VBUS_FAIL_POINT_H
#define VBUS_FAIL_POINT_H

#include "vbus_types.h"

#define VBUS_FAIL_POINTS(X) \
	/* A worker: starts, is told of devices, makes room. */ \
	X(EPOCH_WRITTEN) X(EPOCH_TOLD) X(DEVICE_ADDED) X(DEVICE_REMOVED) \
	X(FINISH_TAKEN) X(RELEASE_TAKEN) X(RELEASE_SYNCED) \
	/* Calls. */ \
	X(CALL_READ) X(CALL_JUDGED) X(REPLY_WRITTEN) X(REPLY_SEQ) X(REPLY_TOLD) \
	X(NEGOTIATE_BEFORE) X(NEGOTIATE_RESET) X(DEVOPEN) X(DEVSHM) \
	/* Frames. */ \
	X(FRAME_TAKEN) X(FRAME_GIVEN) X(FRAME_PUBLISHED) X(FRAME_TOLD) \
	/* Requests to a disk. */ \
	X(DISK_TAKEN) X(DISK_STARTED) X(DISK_ENDED) X(DISK_GIVEN) X(DISK_PUBLISHED) X(DISK_TOLD) \
	/* vbusd: a guest comes, a worker in place of another, a request, a former vbusd's bus. */ \
	X(QEMU_GREETED) \
	X(WORKER_FINISHED) X(WORKER_GONE) X(WORKER_SPAWNED) X(WORKER_RECORDED) X(WORKER_TOLD) \
	X(REQUEST_DONE) X(REQUEST_RECORDED) \
	X(RELEASE_HEARD) X(RELEASE_HELD) X(RELEASE_RECORDED) X(RELEASE_GIVEN) X(START_TAKEN) \
	X(TAKEOVER_FOUND) X(TAKEOVER_HEARD) X(TAKEOVER_ADOPTED) X(TAKEOVER_RECONCILED) \
	X(TAKEOVER_RECORDED) \
	/* vbus-control: a name, a change that vbusd was asked for. */ \
	X(NAMES_WRITTEN) X(NAMES_KEPT) X(VBUSD_ASKED)

#define VBUS_FAIL_ENTRY(name)	VBUS_FAIL_##name,
enum vbus_fail_at { VBUS_FAIL_NONE, VBUS_FAIL_POINTS(VBUS_FAIL_ENTRY) VBUS_NR_FAIL };

struct vbus_fail {
	uint32_t armed;
	uint32_t killed[VBUS_NR_FAIL];
};

#ifdef VBUS_FAILPOINTS
void vbus_fail_at(enum vbus_fail_at point);
#define VBUS_FAIL_POINT(name)	vbus_fail_at(VBUS_FAIL_##name)
#else
#define VBUS_FAIL_POINT(name)	((void)0)
#endif

#endif /* VBUS_FAIL_POINT_H */
