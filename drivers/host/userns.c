// SPDX-License-Identifier: MIT
/* userns.c - see userns.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "userns.h"

int vbus_userns_write(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CLOEXEC), err;
	ssize_t done;

	if (fd < 0)
		return -1;
	done = write(fd, text, strlen(text));
	err = errno;
	close(fd);
	errno = err;
	return done == (ssize_t)strlen(text) ? 0 : -1;
}

int vbus_userns_name_self(uid_t uid, gid_t gid)
{
	char users[32], groups[32];

	snprintf(users, sizeof(users), "%u %u 1", uid, uid);
	snprintf(groups, sizeof(groups), "%u %u 1", gid, gid);
	/* Whoever could leave a group would get past a file that only that group may not read. */
	if (vbus_userns_write(AT_FDCWD, "/proc/self/setgroups", "deny") < 0 ||
	    vbus_userns_write(AT_FDCWD, "/proc/self/uid_map", users) < 0)
		return -1;
	return vbus_userns_write(AT_FDCWD, "/proc/self/gid_map", groups);
}
