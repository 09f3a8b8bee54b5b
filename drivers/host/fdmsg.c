// SPDX-License-Identifier: MIT
/* fdmsg.c - see fdmsg.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fdmsg.h"

union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(VBUS_FDMSG_MAX * sizeof(int))];
};

int vbus_fdmsg_send(int sock, const void *msg, size_t len, const int *fds, unsigned int count)
{
	struct iovec io = { .iov_base = (void *)msg, .iov_len = len };
	struct msghdr head = { .msg_iov = &io, .msg_iovlen = 1 };
	struct cmsghdr *first;
	union control control;
	ssize_t done;

	if (count > VBUS_FDMSG_MAX) {
		errno = EINVAL;
		return -1;
	}
	if (count) {
		memset(&control, 0, sizeof(control));
		head.msg_control = control.room;
		head.msg_controllen = CMSG_SPACE(count * sizeof(int));
		first = CMSG_FIRSTHDR(&head);
		first->cmsg_level = SOL_SOCKET;
		first->cmsg_type = SCM_RIGHTS;
		first->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(first), fds, count * sizeof(int));
	}
	do {
		done = sendmsg(sock, &head, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (done < 0 && errno == EINTR);
	if (done >= 0 && (size_t)done != len) {
		errno = EMSGSIZE;
		return -1;
	}
	return done < 0 ? -1 : 0;
}

/* Keep up to @max descriptors, close the others; false when there were others. */
static _Bool keep(struct msghdr *head, int *fds, unsigned int max, unsigned int *count)
{
	struct cmsghdr *c;
	_Bool fits = 1;
	size_t i, n;
	int fd;

	for (c = CMSG_FIRSTHDR(head); c; c = CMSG_NXTHDR(head, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (*count < max) {
				fds[(*count)++] = fd;
			} else {
				close(fd);
				fits = 0;
			}
		}
	}
	return fits;
}

long vbus_fdmsg_receive(int sock, void *msg, size_t len, int *fds, unsigned int max,
			unsigned int *count)
{
	struct iovec io = { .iov_base = msg, .iov_len = len };
	union control control;
	struct msghdr head = {
		.msg_iov = &io,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room),
	};
	unsigned int got = 0;
	_Bool fits;
	ssize_t done;

	do {
		done = recvmsg(sock, &head, MSG_CMSG_CLOEXEC);
	} while (done < 0 && errno == EINTR);
	if (done < 0)
		return -1;

	fits = keep(&head, fds, max, &got);
	if (!fits || (head.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
		while (got)
			close(fds[--got]);
		errno = EMSGSIZE;
		done = -1;
	}
	if (count)
		*count = got;
	return done;
}
