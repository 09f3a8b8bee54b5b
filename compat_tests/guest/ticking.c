/* SPDX-License-Identifier: MIT */
/* The whole user land of a tiny guest: a number a tenth of a second, one up each time, on its console. */
#include <stdio.h>
#include <time.h>

int main(void)
{
	const struct timespec tenth = { .tv_nsec = 100000000 };
	unsigned int tick;

	for (tick = 1;; tick++) {
		printf("tick %u\n", tick);
		fflush(stdout);
		nanosleep(&tenth, NULL);
	}
}
