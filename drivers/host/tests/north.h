/* SPDX-License-Identifier: MIT */
/*
 * north.h - what tests want of the client library beside what it is for: devices by number,
 * numbered frames, waits with the tests' deadline.
 */
#ifndef NORTH_H
#define NORTH_H

#include "rig.h"
#include "vbus_client.h"

#define NORTH_RING	VBUS_CLIENT_RING

/* False when it was refused, or has other than @vectors doorbells. */
bool north_open(struct vbus_client *c, struct rig *r, uint32_t vectors);
/* What the south has signalled meanwhile is seen. */
void north_scan(struct vbus_client *c);
/* Take the doorbells that came, for at most @ms, and scan nothing. */
bool north_wait(struct vbus_client *c, int ms);
/* The first part of the list. */
int north_enumerate(struct vbus_client *c, struct vbus_enumerate_reply *out);
int north_share(struct vbus_client *c, uint32_t handle, uint32_t region, uint64_t at,
		uint64_t south, uint32_t north_len, uint32_t south_len, uint32_t *signal);
/* The device whose uuid is @number everywhere. */
bool north_net_open(struct vbus_client *c, struct vbus_client_net *net, uint8_t number);

/*
 * Send @count frames and receive as many, contents and order compared; on a new epoch negotiate,
 * open again and resend what did not come back.  @each, when given, is called before each round.
 */
struct north_echo {
	uint32_t count;
	uint32_t sent, received;
	uint32_t duplicates;
	uint32_t recoveries;
	uint32_t replays;	/* frames that were in flight at a recovery, and sent again */
	void (*each)(struct north_echo *e, void *ctx);
	void *ctx;
};
bool north_echo(struct vbus_client *c, struct vbus_client_net *net, uint8_t number,
		struct north_echo *e);

/* The library's own, by the short names that the tests use. */
static inline void north_close(struct vbus_client *c)
{
	vbus_client_close(c);
}

static inline bool north_negotiate(struct vbus_client *c)
{
	return !vbus_client_negotiate(c);
}

static inline int north_call(struct vbus_client *c, uint32_t func, const void *in, uint32_t len,
			     void *out, uint32_t out_len)
{
	return vbus_client_call(c, func, in, len, out, out_len);
}

static inline int north_devcall(struct vbus_client *c, uint32_t handle, uint32_t func,
				const void *in, uint32_t len, void *out, uint32_t out_len)
{
	return vbus_client_dev_call(c, handle, func, in, len, out, out_len);
}

static inline int north_link_up(struct vbus_client *c, uint32_t handle, uint32_t pairs)
{
	return vbus_client_dev_call(c, handle, VENET_FUNC_LINKUP, &pairs, sizeof(pairs), NULL, 0);
}

static inline uint64_t north_epoch(const struct vbus_client *c)
{
	return vbus_client_epoch(c);
}

static inline uint64_t north_alloc(struct vbus_client *c, uint32_t len)
{
	return vbus_client_alloc(c, len);
}

static inline void north_inject(struct vbus_client *c, uint32_t signal)
{
	vbus_client_inject(c, signal);
}

static inline void north_ring(struct vbus_client *c, uint32_t vector)
{
	vbus_client_ring(c, vector);
}

#endif /* NORTH_H */
