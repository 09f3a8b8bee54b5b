// SPDX-License-Identifier: MIT
/* ivshmem.c - the descriptors, from the socket that vbusd serves for QEMU. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client.h"
#include "fdmsg.h"

#define SOUTH	1	/* ivshmem's name for vbusd; the client is 0 */

/* Eight bytes, and a descriptor when @fd is not NULL. */
static int hear(int sock, int64_t *what, int *fd)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };
	unsigned int count = 0;
	long n;

	if (fd)
		*fd = -1;
	n = poll(&p, 1, VBUS_CLIENT_TIMEOUT_MS);
	if (n != 1)
		return n ? VBUS_CLIENT_SYSTEM : VBUS_CLIENT_SILENT;
	n = vbus_fdmsg_receive(sock, what, sizeof(*what), fd, fd ? 1 : 0, &count);
	if (n < 0)
		return VBUS_CLIENT_SYSTEM;
	if (!n)
		return VBUS_CLIENT_ENDED;
	return n == (long)sizeof(*what) && count == (fd ? 1 : 0) ? 0 : VBUS_CLIENT_CORRUPT;
}

static int dial(const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int s, err;

	if (strlen(path) >= sizeof(at.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(at.sun_path, path);
	s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s < 0 || !connect(s, (struct sockaddr *)&at, sizeof(at)))
		return s;
	err = errno;
	close(s);
	errno = err;
	return -1;
}

/* Version, our number, the window. */
static int greet(struct vbus_client *c)
{
	int64_t what;
	int rc;

	rc = hear(c->link, &what, NULL);
	if (rc)
		return rc;
	if (what)
		return VBUS_CLIENT_REFUSED;
	rc = hear(c->link, &what, NULL);
	if (rc)
		return rc;
	if (what)
		return VBUS_CLIENT_CORRUPT;
	rc = hear(c->link, &what, &c->window);
	return rc ? rc : what == -1 ? 0 : VBUS_CLIENT_CORRUPT;
}

/* The south's doorbells, then as many of ours. */
static int take_doorbells(struct vbus_client *c)
{
	uint32_t ours = 0;
	int64_t peer;
	int rc, fd;

	do {
		rc = hear(c->link, &peer, &fd);
		if (rc)
			return rc;
		if (peer == SOUTH && !ours && c->vectors < VBUS_VECTORS_MAX) {
			c->to_south[c->vectors++] = fd;
		} else if (!peer && ours < c->vectors) {
			c->to_guest[ours++] = fd;
		} else {
			close(fd);
			return VBUS_CLIENT_CORRUPT;
		}
	} while (ours < c->vectors);
	return 0;
}

int vbus_client_find_ivshmem(struct vbus_client *c, const char *path)
{
	int rc;

	c->link = dial(path);
	if (c->link < 0)
		return VBUS_CLIENT_SYSTEM;
	rc = greet(c);
	return rc ? rc : take_doorbells(c);
}
