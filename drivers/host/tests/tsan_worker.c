// SPDX-License-Identifier: MIT
/*
 * tsan_worker.c - the worker as it is, but a function, without sandbox, and over the very mapping
 * that the north has: TSan tells threads apart, not mappings.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tsan_worker.h"
#include "vbus_port.h"
#include "worker.h"

_Thread_local struct vbus_tsan vbus_tsan;

/* The linker sends everybody here who wants to map something. */
void *__real_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t offset);

void *__wrap_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static struct { ino_t file; void *at; } known[16];
	struct stat st;
	unsigned int i;
	void *found;

	if (fstat(fd, &st) < 0)
		return MAP_FAILED;
	pthread_mutex_lock(&lock);
	for (i = 0; i < 15 && known[i].file && known[i].file != st.st_ino; i++)
		;
	if (!known[i].file) {
		known[i].at = __real_mmap64(at, len, prot, flags, fd, offset);
		known[i].file = st.st_ino;
	}
	found = known[i].at;
	pthread_mutex_unlock(&lock);
	return found;
}

void vbus_sandbox(struct vbus_bus *bus, uid_t uid)
{
	(void)bus;
	(void)uid;
}

void vbus_sandbox_judge(const struct vbus_bus *bus, bool required)
{
	(void)bus;
	(void)required;
}

/* A vbusd that goes takes this one along. */
int vbus_keep_alone(void)
{
	return 0;
}

void vbus_keep_serving(struct vbus_bus *bus)
{
	vbus_leave(bus, NULL);
}

void vbus_keep_meet(struct vbus_bus *bus)
{
	(void)bus;
}

void vbus_seccomp(struct vbus_bus *bus)
{
	(void)bus;
}

/* Behind the worker's first descriptor are this program's own, no modules of classes. */
#define vbus_classes_load(bus) ((void)(bus))
#define main tsan_worker
#include "../worker_main.c"
