// SPDX-License-Identifier: MIT
/* unruly.c - the only program of a guest that does what no guest should; -DMODE says what. */
#include <stdio.h>
#include <sys/reboot.h>
#include <unistd.h>

enum { HANG, SPIN, FLOOD, RESTART, SHELL, PANIC, OFF };

int main(void)
{
	printf("unruly %d\n", MODE);
	if (MODE == SHELL)
		printf("ALERT!  /dev/vda does not exist.  Dropping to a shell!\n(initramfs) ");
	fflush(stdout);
	switch (MODE) {
	case FLOOD:
		for (;;)
			puts("A line that says nothing, and is followed by another one that says no more.");
	case RESTART:
		return reboot(RB_AUTOBOOT);
	case OFF:
		return reboot(RB_POWER_OFF);
	case SPIN:
		for (volatile int turns = 0;; turns++)
			;
	case PANIC:
		return 1;
	default:
		break;
	}
	for (;;)
		pause();
}
