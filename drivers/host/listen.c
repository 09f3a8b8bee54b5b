// SPDX-License-Identifier: MIT
/* listen.c - see listen.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "listen.h"

/*
 * Who can rename what lies in the folder decides what a path of ours means; root must not follow.
 */
int vbus_judge_folder(const char *path, char *text)
{
	char folder[PATH_MAX];
	struct stat st;
	size_t len = (size_t)(strrchr(path, '/') - path);

	if (len >= sizeof(folder)) {
		snprintf(text, VBUS_LISTEN_TEXT, "%.90s...: is too long for a path", path);
		return -1;
	}
	memcpy(folder, path, len ? len : 1);
	folder[len ? len : 1] = 0;
	if (stat(folder, &st) < 0) {
		snprintf(text, VBUS_LISTEN_TEXT, "%.100s: %s", path, strerror(errno));
		return -1;
	}
	if ((st.st_uid && st.st_uid != geteuid()) ||
	    ((st.st_mode & (S_IWGRP | S_IWOTH)) && !(st.st_mode & S_ISVTX))) {
		snprintf(text, VBUS_LISTEN_TEXT,
			 "%.90s: its folder can be changed by others; use one that root owns",
			 path);
		return -1;
	}
	return 0;
}

/*
 * Whoever called listen() on the other end is dead.  A child that a killed vbusd had just forked keeps
 * the socket open until it becomes the worker; nobody will answer there.  A pid of 0 is in another
 * namespace, and alive for all we know.
 */
static bool is_orphan(int connected)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return !getsockopt(connected, SOL_SOCKET, SO_PEERCRED, &peer, &len) && peer.pid > 0 &&
	       kill(peer.pid, 0) < 0 && errno == ESRCH;
}

/*
 * What a program that was killed left behind goes away; what somebody serves, or is no socket, stays.
 */
static int clear(const struct sockaddr_un *at, int type, char *text)
{
	struct stat st;
	int probe, err;

	if (lstat(at->sun_path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode)) {
		snprintf(text, VBUS_LISTEN_TEXT, "%.100s: is there and is no socket", at->sun_path);
		return -1;
	}
	probe = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (probe < 0)
		return 0;
	err = connect(probe, (const struct sockaddr *)at, sizeof(*at)) < 0 ? errno : 0;
	if (!err && is_orphan(probe))
		err = ECONNREFUSED;
	close(probe);
	if (err != ECONNREFUSED) {
		snprintf(text, VBUS_LISTEN_TEXT, "%.100s: somebody serves it already", at->sun_path);
		return -1;
	}
	unlink(at->sun_path);
	return 0;
}

int vbus_listen(const char *path, int type, uid_t owner, char *text)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	mode_t mask;
	int s, rc;

	if (path[0] != '/' || strlen(path) >= sizeof(at.sun_path)) {
		snprintf(text, VBUS_LISTEN_TEXT, "a socket needs an absolute path below %zu bytes",
			 sizeof(at.sun_path));
		return -1;
	}
	strcpy(at.sun_path, path);
	if (vbus_judge_folder(path, text) < 0 || clear(&at, type, text) < 0)
		return -1;

	s = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0)
		goto err_say;
	/* Never reachable for others, not even between bind and chmod. */
	mask = umask(0177);
	rc = bind(s, (struct sockaddr *)&at, sizeof(at));
	umask(mask);
	if (rc < 0)
		goto err_close;
	if (owner != geteuid() && lchown(path, owner, (gid_t)-1) < 0)
		goto err_unlink;
	if (listen(s, 4) < 0)
		goto err_unlink;
	return s;

err_unlink:
	unlink(path);
err_close:
	close(s);
err_say:
	snprintf(text, VBUS_LISTEN_TEXT, "%.100s: %s", path, strerror(errno));
	return -1;
}

int vbus_user_find(const char *word, uid_t *uid, gid_t *gid)
{
	const struct passwd *entry = getpwnam(word);
	unsigned long number;

	if (entry) {
		*uid = entry->pw_uid;
		if (gid)
			*gid = entry->pw_gid;
		return 0;
	}
	/* No sign, no blank; the largest number means "nobody" to the kernel. */
	if (!*word || strspn(word, "0123456789") != strlen(word))
		return -1;
	errno = 0;
	number = strtoul(word, NULL, 10);
	if (errno || number >= (uid_t)-1)
		return -1;
	*uid = (uid_t)number;
	if (gid)
		*gid = (gid_t)number;
	return 0;
}
