// SPDX-License-Identifier: MIT
/* fail_point.c - see fail_point.h; not part of what is shipped. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fail_point.h"

static struct vbus_fail *shared;

/* Before main(): a sandbox opens no files. */
__attribute__((constructor)) static void map_shared(void)
{
	const struct rlimit none = { 0, 0 };
	const char *path = getenv("VBUS_FAIL_FILE");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *at;

	if (fd < 0)
		return;
	at = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at != MAP_FAILED && !setrlimit(RLIMIT_CORE, &none))
		shared = at;
	close(fd);
}

/*
 * A trap: the first process of a namespace cannot kill itself, and its filter knows no kill().  Like
 * SIGKILL it ends the process where it stands.
 */
void vbus_fail_at(enum vbus_fail_at point)
{
	uint32_t armed = point;

	if (!shared || !__atomic_compare_exchange_n(&shared->armed, &armed, VBUS_FAIL_NONE, false,
						    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return;
	__atomic_fetch_add(&shared->killed[point], 1, __ATOMIC_SEQ_CST);
	__builtin_trap();
}
