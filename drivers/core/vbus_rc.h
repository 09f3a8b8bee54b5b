/* SPDX-License-Identifier: MIT */
/* What the portable core says; each port translates it once, at its own border. */
#ifndef VBUS_RC_H
#define VBUS_RC_H

enum vbus_rc {
	VBUS_OK = 0,
	VBUS_FULL,	/* no free slot: try again after a completion */
	VBUS_EMPTY,	/* nothing to consume */
	VBUS_CORRUPT,	/* the peer broke the contract: stop using this object */
	VBUS_INVALID,	/* the caller broke the contract */
	VBUS_BUSY,	/* done already, and only once allowed */
};

#endif /* VBUS_RC_H */
