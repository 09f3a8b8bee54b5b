/* SPDX-License-Identifier: MIT */
/* slow_disk.h - a file in memory behind FUSE, whose reads and writes wait at a gate. */
#ifndef SLOW_DISK_H
#define SLOW_DISK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define SLOW_SIZE	(1u << 20)

/**
 * struct slow_disk - shared with the process that serves it
 * @shut:    the gate; @waiting before it
 * @reads, @writes, @syncs: that have passed it
 * @refuses_direct: O_DIRECT is answered EINVAL
 * @loses: a sync is answered EIO
 */
struct slow_disk {
	atomic_int shut;
	atomic_int waiting;
	atomic_int reads;
	atomic_int writes;
	atomic_int syncs;
	atomic_int refuses_direct;
	atomic_int loses;
	uint8_t data[SLOW_SIZE];
};

/* Mounted on @dir, which then has one file, "disk".  The process, or -1. */
pid_t slow_disk_start(const char *dir, struct slow_disk **out);
/* The gate opens for good. */
void slow_disk_stop(pid_t pid, struct slow_disk *slow);

#endif /* SLOW_DISK_H */
