/* SPDX-License-Identifier: MIT */
/* state.h - the life of a device on the bus, one table for all ports. */
#ifndef VBUS_STATE_H
#define VBUS_STATE_H

#include "vbus_types.h"

enum vbus_state {
	VBUS_CLOSED,	/* known, not in use */
	VBUS_OPENING,	/* DEVOPEN, features, regions under way */
	VBUS_OPEN,	/* moving data */
	VBUS_LOST,	/* the south lost its state: fast paths are frozen */
	VBUS_REPLAY,	/* opened again, pending work is handed over anew */
	VBUS_FAILED,	/* cannot go on; the reason is in the log */
	VBUS_GONE,	/* removed, by the host or by the guest */
	VBUS_NR_STATES
};

bool vbus_state_may(enum vbus_state from, enum vbus_state to);
const char *vbus_state_name(enum vbus_state state);

#endif /* VBUS_STATE_H */
