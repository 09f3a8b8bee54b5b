// SPDX-License-Identifier: MIT
/* file.c - the same descriptors, from the names of a folder; host/vbusd_file.c says which. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client.h"

static int open_in(int folder, const char *name, int access)
{
	return openat(folder, name, access | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
}

/* As many as there are. */
static int open_doorbells(struct vbus_client *c, int folder)
{
	char name[24];
	uint32_t i;

	for (i = 0; i < VBUS_VECTORS_MAX; i++) {
		snprintf(name, sizeof(name), "to-host-%u", i);
		/* Open both ways: a write without a reader would raise SIGPIPE. */
		c->to_south[i] = open_in(folder, name, O_RDWR);
		if (c->to_south[i] < 0)
			break;
		c->vectors++;
		snprintf(name, sizeof(name), "to-guest-%u", i);
		c->to_guest[i] = open_in(folder, name, O_RDONLY);
		if (c->to_guest[i] < 0)
			return VBUS_CLIENT_SYSTEM;
	}
	return i == VBUS_VECTORS_MAX || errno == ENOENT ? 0 : VBUS_CLIENT_SYSTEM;
}

/*
 * Whose window still has its name when its last file was opened had all of them: a session's files
 * are removed before the next one's are made.
 */
static bool is_one_session(struct vbus_client *c, int folder)
{
	struct stat ours, theirs;

	return !fstat(c->window, &ours) &&
	       !fstatat(folder, "window", &theirs, AT_SYMLINK_NOFOLLOW) &&
	       ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

static int take_place(struct vbus_client *c, int folder)
{
	int reader, rc = VBUS_CLIENT_AGAIN;

	c->link = open_in(folder, "alive", O_WRONLY);
	if (c->link < 0)
		return errno == ENOENT ? VBUS_CLIENT_REFUSED : VBUS_CLIENT_SYSTEM;
	/* A reader of our own, for the one write: SIGPIPE again. */
	reader = open_in(folder, "alive", O_RDONLY);
	if (reader < 0)
		return errno == ENOENT ? VBUS_CLIENT_REFUSED : VBUS_CLIENT_SYSTEM;
	if (is_one_session(c, folder))
		rc = write(c->link, "", 1) == 1 ? 0 : VBUS_CLIENT_SYSTEM;
	close(reader);
	return rc;
}

static int open_all(struct vbus_client *c, int folder)
{
	int rc;

	c->drains = true;
	c->window = open_in(folder, "window", O_RDWR);
	if (c->window < 0)
		return VBUS_CLIENT_SYSTEM;
	rc = open_doorbells(c, folder);
	return rc ? rc : take_place(c, folder);
}

int vbus_client_find_files(struct vbus_client *c, const char *path)
{
	int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc, err;

	if (folder < 0)
		return VBUS_CLIENT_SYSTEM;
	rc = open_all(c, folder);
	err = errno;
	close(folder);
	errno = err;
	return rc;
}
