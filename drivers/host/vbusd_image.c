// SPDX-License-Identifier: MIT
/* vbusd_image.c - a disk image, opened for one worker. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image.h"
#include "vbusd.h"

static int __attribute__((format(printf, 3, 4))) refuse(int fd, char *text, const char *fmt, ...)
{
	va_list args;

	if (fd >= 0)
		close(fd);
	va_start(args, fmt);
	vsnprintf(text, VBUSD_TEXT_LEN, fmt, args);
	va_end(args);
	return -1;
}

int vbusd_image_open(const struct vbusd_device *dev, char *text)
{
	const char *path = dev->argument;
	struct vbus_image_shape shape;
	struct stat st;
	int fd;

	if (path[0] != '/')
		return refuse(-1, text, "image %s: is no absolute path", path);
	/* O_NONBLOCK: what turns out to be a FIFO must not keep us here. */
	fd = open(path, (dev->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return refuse(fd, text, "image %s: cannot be opened (%s)", path, strerror(errno));
	if (fstat(fd, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)))
		return refuse(fd, text, "image %s: is neither a file nor a block device", path);
	if (vbus_image_look(fd, dev->block_size, &shape) < 0)
		return refuse(fd, text, "image %s: tells no size (%s)", path, strerror(errno));
	if (!shape.size)
		return refuse(fd, text, "image %s: is smaller than a block; make it larger first",
			      path);
	/* Where there is none, data goes through the page cache, and flushes see to the rest. */
	if (fcntl(fd, F_SETFL, shape.direct ? O_DIRECT : 0) < 0 && fcntl(fd, F_SETFL, 0) < 0)
		return refuse(fd, text, "image %s: cannot be set up (%s)", path, strerror(errno));
	return fd;
}

/* The lock goes along to the worker: it belongs to the open file description. */
int vbusd_image_lock(const struct vbusd_device *dev, int fd, char *text)
{
	if (!vbus_image_lock(fd, dev->read_only))
		return 0;
	if (errno == EAGAIN)
		return refuse(-1, text,
			      "image %s: another bus, QEMU or qemu-img has it; end that, or "
			      "add it read-only to all", dev->argument);
	return refuse(-1, text, "image %s: cannot be locked (%s)", dev->argument, strerror(errno));
}
