/* SPDX-License-Identifier: MIT */
/* fuzz_south.h - a worker's bus without a worker: its devices, what vbusd says, what I/O does. */
#ifndef VBUS_FUZZ_SOUTH_H
#define VBUS_FUZZ_SOUTH_H

#include "worker.h"

#define SOUTH_WINDOW	(256u << 10)
#define SOUTH_VECTORS	8u
#define SOUTH_DEVICES	5u	/* loopback, disk, read-only disk, two fuzzed cards */

extern struct vbus_bus south;
extern uint8_t south_window[SOUTH_WINDOW];

/* A bus with an epoch, and with its cards; disks are added by south_hear(). */
void south_begin(void);
/* All I/O ends, all devices go; what is left then was leaked. */
void south_end(void);
/* What vbusd has to say, by the input. */
void south_hear(void);
/* One operation ends, by the input. */
void south_io_end(void);
/* Timers and descriptors, by the input. */
void south_event(void);

#endif /* VBUS_FUZZ_SOUTH_H */
