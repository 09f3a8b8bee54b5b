// SPDX-License-Identifier: MIT
/*
 * control_mount.c - the mount that root makes before it stops being root.
 *
 * What is left of root is the guard: a child that waits for the end of this process, whatever ends
 * it, and unmounts that very mount.  It reads nothing and cannot be told anything.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control.h"

#define STALE_MAX	16u	/* on top of each other */

static pid_t guard_pid;
static int alive[2];	/* a pipe: the guard's end, and one that is open while this process lives */

static int open_folder(const char *mountpoint, char *path, size_t size)
{
	int fd = open(mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);

	snprintf(path, size, "/proc/self/fd/%d", fd);
	return fd;
}

static int unmount_as_user(const char *mountpoint)
{
	char *const argv[] = { "fusermount3", "-u", "-z", (char *)mountpoint, NULL };
	char *const env[] = { "PATH=/usr/bin:/bin", NULL };
	int status = 0;
	pid_t pid;

	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, env) || waitpid(pid, &status, 0) < 0)
		return -1;
	return status ? -1 : 0;
}

/*
 * What a predecessor left: a folder that answers "not connected".  Its guard may be about to unmount
 * it as well, so a failure says nothing before the next look.
 */
int control_unmount_stale(const char *mountpoint, bool as_root)
{
	bool stale = true;
	char path[32];
	struct stat st;
	uint32_t i;
	int fd, err = 0;

	for (i = 0; i < STALE_MAX && stale; i++) {
		fd = open_folder(mountpoint, path, sizeof(path));
		if (fd < 0) {
			err = errno;
			break;
		}
		stale = fstat(fd, &st) < 0 && errno == ENOTCONN;
		if (stale && (as_root ? umount2(path, MNT_DETACH) : unmount_as_user(mountpoint)) < 0)
			err = errno;
		close(fd);
	}
	if (!stale)
		return 0;
	return control_refuse(EIO, "%.90s: cannot be mounted on (%s)", mountpoint, strerror(err));
}

static _Noreturn void guard(int end, int tree)
{
	char byte;

	/* Whoever kills the group of the one that it guards does not mean it. */
	setsid();
	if (dup2(end, 0) < 0 || dup2(tree, 1) < 0 || close_range(3, ~0u, 0) < 0)
		_exit(1);
	while (read(0, &byte, 1) < 0 && errno == EINTR)
		;
	umount2("/proc/self/fd/1", MNT_DETACH);
	_exit(0);
}

static int start_guard(const char *mountpoint)
{
	int tree = open(mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (tree < 0)
		return -1;
	if (!pipe2(alive, O_CLOEXEC)) {
		guard_pid = fork();
		if (!guard_pid)
			guard(alive[0], tree);
		close(alive[0]);
	}
	close(tree);
	return guard_pid > 0 ? 0 : -1;
}

void control_unmount(void)
{
	if (guard_pid <= 0)
		return;
	close(alive[1]);
	while (waitpid(guard_pid, NULL, 0) < 0 && errno == EINTR)
		;
}

int control_mount(const char *mountpoint, bool allow_other)
{
	int folder, fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	char options[128], path[32];

	folder = open_folder(mountpoint, path, sizeof(path));
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=%u,group_id=0,default_permissions%s", fuse,
		 control.owner, allow_other ? ",allow_other" : "");
	if (fuse < 0 || folder < 0 ||
	    mount("vbus", path, "fuse.vbus", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) < 0) {
		control_refuse(EIO, "%.90s: cannot be mounted on (%s)", mountpoint,
			       strerror(errno));
		goto err_close;
	}
	if (start_guard(mountpoint) < 0) {
		control_refuse(EIO, "%.90s: has no guard (%s)", mountpoint, strerror(errno));
		umount2(path, MNT_DETACH);
		goto err_close;
	}
	close(folder);
	return fuse;

err_close:
	if (fuse >= 0)
		close(fuse);
	if (folder >= 0)
		close(folder);
	return -1;
}
