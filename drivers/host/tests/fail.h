/* SPDX-License-Identifier: MIT */
/* fail.h - a test's end of fail_point.h: arm a point, see that it took one program. */
#ifndef FAIL_H
#define FAIL_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fail_point.h"

#define FAIL_ENTRY(name)	#name,
static const char *const fail_names[] = { "NONE", VBUS_FAIL_POINTS(FAIL_ENTRY) };

static struct vbus_fail *fail;

/* Before anything is started that is to share it. */
static inline bool fail_open(void)
{
	char path[] = "/tmp/vbus-fail-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	if (fd < 0 || ftruncate(fd, sizeof(*fail)) < 0 || setenv("VBUS_FAIL_FILE", path, 1) < 0)
		return false;
	fail = mmap(NULL, sizeof(*fail), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return fail != MAP_FAILED;
}

static inline void fail_close(void)
{
	unlink(getenv("VBUS_FAIL_FILE"));
	munmap(fail, sizeof(*fail));
}

static inline void fail_arm(enum vbus_fail_at point)
{
	__atomic_store_n(&fail->armed, point, __ATOMIC_SEQ_CST);
}

/* Programs that ended at @point up to now. */
static inline uint32_t fail_kills(enum vbus_fail_at point)
{
	return __atomic_load_n(&fail->killed[point], __ATOMIC_SEQ_CST);
}

#endif /* FAIL_H */
