// SPDX-License-Identifier: MIT
/* state.c - see state.h. */
#include "state.h"

#define TO(state)	(1u << VBUS_##state)

static const uint8_t allowed[VBUS_NR_STATES] = {
	[VBUS_CLOSED]  = TO(OPENING) | TO(LOST) | TO(GONE),
	[VBUS_OPENING] = TO(OPEN) | TO(CLOSED) | TO(LOST) | TO(FAILED) | TO(GONE),
	[VBUS_OPEN]    = TO(CLOSED) | TO(LOST) | TO(FAILED) | TO(GONE),
	[VBUS_LOST]    = TO(REPLAY) | TO(CLOSED) | TO(FAILED) | TO(GONE),
	[VBUS_REPLAY]  = TO(OPEN) | TO(LOST) | TO(CLOSED) | TO(FAILED) | TO(GONE),
	[VBUS_FAILED]  = TO(LOST) | TO(CLOSED) | TO(GONE),
	[VBUS_GONE]    = 0,
};

static const char *const names[VBUS_NR_STATES] = {
	[VBUS_CLOSED]  = "closed",
	[VBUS_OPENING] = "opening",
	[VBUS_OPEN]    = "open",
	[VBUS_LOST]    = "lost",
	[VBUS_REPLAY]  = "replay",
	[VBUS_FAILED]  = "failed",
	[VBUS_GONE]    = "gone",
};

bool vbus_state_may(enum vbus_state from, enum vbus_state to)
{
	return from < VBUS_NR_STATES && to < VBUS_NR_STATES && (allowed[from] & 1u << to);
}

const char *vbus_state_name(enum vbus_state state)
{
	return state < VBUS_NR_STATES ? names[state] : "?";
}
