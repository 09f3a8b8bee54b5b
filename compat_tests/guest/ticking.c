/* SPDX-License-Identifier: MIT */
/*
 * The whole user land of a tiny guest: it loads the bus' driver, then says a number each tenth of a
 * second on its console, one up each time.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
	const struct timespec tenth = { .tv_nsec = 100000000 };
	int module = open("/vbus.ko", O_RDONLY | O_CLOEXEC);
	unsigned int tick;

	if (syscall(SYS_finit_module, module, "", 0))
		perror("vbus.ko");
	for (tick = 1;; tick++) {
		printf("tick %u\n", tick);
		fflush(stdout);
		nanosleep(&tenth, NULL);
	}
}
