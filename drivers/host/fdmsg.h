/* SPDX-License-Identifier: MIT */
/* fdmsg.h - one message with descriptors over a UNIX socket. */
#ifndef VBUS_FDMSG_H
#define VBUS_FDMSG_H

#include <stddef.h>

#define VBUS_FDMSG_MAX	128u	/* descriptors a message; the kernel takes 253 */

/* 0, or -1 with errno; never blocks, never raises SIGPIPE. */
int vbus_fdmsg_send(int sock, const void *msg, size_t len, const int *fds, unsigned int count);

/*
 * Bytes received, 0 at the end of the stream, or -1 with errno.  @fds takes up to @max descriptors,
 * close-on-exec; more than that, or a message longer than @len, is an error and leaves none open.
 */
long vbus_fdmsg_receive(int sock, void *msg, size_t len, int *fds, unsigned int max,
			unsigned int *count);

#endif /* VBUS_FDMSG_H */
