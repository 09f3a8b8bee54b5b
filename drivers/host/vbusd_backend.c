// SPDX-License-Identifier: MIT
/*
 * vbusd_backend.c - what a device stands on, opened with vbusd's rights for a worker that has none.
 *
 * An image's open file description belongs to one worker alone: the lock that it takes there is what
 * the next worker waits for, and a description that vbusd kept would outlive the first one's writes.
 */
#include <stdio.h>
#include <unistd.h>

#include "vbusd.h"

bool vbusd_backend_is_kept(const struct vbusd_device *dev)
{
	return dev->klass->backend == VBUS_BACKEND_TAP;
}

bool vbusd_backend_is(const struct vbusd_device *dev, int fd)
{
	return vbusd_backend_is_kept(dev) && vbusd_tap_is(fd, dev->argument);
}

int vbusd_backend_open(const struct vbusd_device *dev, char *text)
{
	switch ((enum vbus_backend)dev->klass->backend) {
	case VBUS_BACKEND_TAP:
		return vbusd_tap_open(dev->argument, text);
	case VBUS_BACKEND_SOCKET:
		return vbusd_stream_open(dev->argument, text);
	case VBUS_BACKEND_IMAGE:
		return vbusd_image_open(dev, text);
	case VBUS_BACKEND_NONE:
		break;
	}
	snprintf(text, VBUSD_TEXT_LEN, "%s: has no back end to open", dev->klass->name);
	return -1;
}

int vbusd_backend_open_alone(const struct vbusd_device *dev, char *text)
{
	int fd = vbusd_backend_open(dev, text);

	if (fd < 0 || dev->klass->backend != VBUS_BACKEND_IMAGE ||
	    !vbusd_image_lock(dev, fd, text))
		return fd;
	close(fd);
	return -1;
}
