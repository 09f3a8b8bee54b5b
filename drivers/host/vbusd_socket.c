// SPDX-License-Identifier: MIT
/* vbusd_socket.c - who comes to a listening socket. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "vbusd.h"

static void keep_spare(void)
{
	if (vbusd.spare < 0)
		vbusd.spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/*
 * When no descriptor is left, the spare one makes room for the connection, so that it can be
 * refused: left in the queue, it would wake the loop for ever.
 */
int vbusd_accept(int listener)
{
	int s;

	keep_spare();
	s = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (s >= 0) {
		vbusd.told_full = false;
		return s;
	}
	if ((errno != EMFILE && errno != ENFILE) || vbusd.spare < 0)
		return -1;
	if (!vbusd.told_full)
		vbus_log(NULL, "connections are refused (%s; told once)", strerror(errno));
	vbusd.told_full = true;
	close(vbusd.spare);
	vbusd.spare = -1;
	s = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (s < 0)
		keep_spare();
	return s;
}

void vbusd_refuse(int s)
{
	close(s);
	keep_spare();
}
