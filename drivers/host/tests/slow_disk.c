// SPDX-License-Identifier: MIT
/* slow_disk.c - see slow_disk.h. */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rig.h"
#include "slow_disk.h"

static struct slow_disk *disk;

static int look(const char *path, struct stat *st, struct fuse_file_info *info)
{
	(void)info;
	memset(st, 0, sizeof(*st));
	st->st_nlink = 1;
	st->st_mode = S_IFDIR | 0755;
	if (!strcmp(path, "/"))
		return 0;
	st->st_mode = S_IFREG | 0600;
	st->st_size = SLOW_SIZE;
	return strcmp(path, "/disk") ? -ENOENT : 0;
}

static int open_disk(const char *path, struct fuse_file_info *info)
{
	(void)path;
	info->direct_io = 1;
	return 0;
}

static void pass(void)
{
	atomic_fetch_add(&disk->waiting, 1);
	while (atomic_load(&disk->shut))
		rig_pause();
	atomic_fetch_sub(&disk->waiting, 1);
}

static int read_disk(const char *path, char *to, size_t len, off_t at, struct fuse_file_info *info)
{
	(void)path;
	if ((info->flags & O_DIRECT) && atomic_load(&disk->refuses_direct))
		return -EINVAL;
	pass();
	memcpy(to, disk->data + at, len);
	atomic_fetch_add(&disk->reads, 1);
	return (int)len;
}

static int write_disk(const char *path, const char *from, size_t len, off_t at,
		      struct fuse_file_info *info)
{
	(void)path;
	if ((info->flags & O_DIRECT) && atomic_load(&disk->refuses_direct))
		return -EINVAL;
	pass();
	memcpy(disk->data + at, from, len);
	atomic_fetch_add(&disk->writes, 1);
	return (int)len;
}

static int sync_disk(const char *path, int data, struct fuse_file_info *info)
{
	(void)path;
	(void)data;
	(void)info;
	pass();
	atomic_fetch_add(&disk->syncs, 1);
	return atomic_load(&disk->loses) ? -EIO : 0;
}

static const struct fuse_operations operations = {
	.getattr = look,
	.open = open_disk,
	.read = read_disk,
	.write = write_disk,
	.fsync = sync_disk,
};

static bool is_mounted(const char *dir)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/disk", dir);
	return !access(path, F_OK);
}

pid_t slow_disk_start(const char *dir, struct slow_disk **out)
{
	/* allow_other: a worker has given up the user that mounted it. */
	const char *words[] = { "slow_disk", "-f", "-o", "allow_other", dir, NULL };
	pid_t pid;

	disk = mmap(NULL, sizeof(*disk), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (disk == MAP_FAILED)
		return -1;
	*out = disk;
	pid = fork();
	if (!pid) {
		/* By SIGTERM it would wait for what stands before its gate. */
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		_exit(fuse_main(5, (char **)words, &operations, NULL));
	}
	if (pid > 0 && !RIG_UNTIL(is_mounted(dir))) {
		slow_disk_stop(pid, disk);
		return -1;
	}
	return pid;
}

void slow_disk_stop(pid_t pid, struct slow_disk *slow)
{
	if (pid <= 0)
		return;
	atomic_store(&slow->shut, 0);
	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
	munmap(slow, sizeof(*slow));
}
