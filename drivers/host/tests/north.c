// SPDX-License-Identifier: MIT
/* north.c - see north.h. */
#include <stdio.h>
#include <string.h>

#include "north.h"

bool north_open(struct vbus_client *c, struct rig *r, uint32_t vectors)
{
	if (vbus_client_connect(c, r->qemu_path))
		return false;
	c->timeout_ms = RIG_DEADLINE_MS;
	return c->vectors == vectors;
}

static void nothing(void *ctx, uint32_t signal)
{
	(void)ctx;
	(void)signal;
}

void north_scan(struct vbus_client *c)
{
	uint32_t q;

	for (q = 0; q < 4; q++)
		while (shm_signal_wakeup(&c->signals, q, nothing, NULL))
			;
}

bool north_wait(struct vbus_client *c, int ms)
{
	uint32_t rang;

	return !vbus_client_take_bells(c, ms, &rang);
}

int north_enumerate(struct vbus_client *c, struct vbus_enumerate_reply *out)
{
	struct vbus_enumerate_request q = { 0 };

	return vbus_client_call(c, VBUS_CALL_ENUMERATE, &q, sizeof(q), out, sizeof(*out));
}

int north_share(struct vbus_client *c, uint32_t handle, uint32_t region, uint64_t at,
		uint64_t south, uint32_t north_len, uint32_t south_len, uint32_t *signal)
{
	struct vbus_devshm_request q = {
		.handle = handle, .region = region, .queue = region ? 2 : 1,
		.north = at, .south = south, .north_len = north_len, .south_len = south_len,
	};

	return vbus_client_share(c, &q, signal);
}

bool north_net_open(struct vbus_client *c, struct vbus_client_net *net, uint8_t number)
{
	uint8_t uuid[VBUS_UUID_LEN];

	memset(uuid, number, sizeof(uuid));
	return !vbus_client_net_open(c, net, uuid);
}

/* A frame that tells its number, of a length and contents that follow from it. */
static uint32_t frame_len(uint32_t number)
{
	return 60 + number * 37 % (VBUS_CLIENT_FRAME - 60 + 1);
}

static uint8_t frame_byte(uint32_t number, uint32_t i)
{
	return i < 4 ? (uint8_t)(number >> 8 * i) : (uint8_t)(number * 7 + i * 13);
}

/* What stops it: no room, no more to send, or an error. */
static int send_some(struct vbus_client_net *net, struct north_echo *e)
{
	uint8_t frame[VBUS_CLIENT_FRAME];
	uint32_t len, i;
	int rc = 0;

	while (!rc && e->sent < e->count) {
		len = frame_len(e->sent);
		for (i = 0; i < len; i++)
			frame[i] = frame_byte(e->sent, i);
		rc = vbus_client_net_send(net, frame, len, e->sent + 1 < e->count);
		if (!rc)
			e->sent++;
	}
	return rc == VBUS_CLIENT_AGAIN ? 0 : rc;
}

/* The next frame, or one seen before; anything else is a lie. */
static bool judge(struct north_echo *e, const uint8_t *frame, uint32_t len)
{
	uint32_t number, i;

	memcpy(&number, frame, sizeof(number));
	if (number > e->received || len != frame_len(number))
		return false;
	for (i = 0; i < len; i++)
		if (frame[i] != frame_byte(number, i))
			return false;
	if (number == e->received)
		e->received++;
	else
		e->duplicates++;
	return true;
}

static int receive_some(struct vbus_client_net *net, struct north_echo *e)
{
	uint8_t frame[VBUS_CLIENT_FRAME];
	uint32_t len;
	int rc;

	while (!(rc = vbus_client_net_receive(net, frame, &len)))
		if (!judge(e, frame, len))
			return VBUS_CLIENT_CORRUPT;
	return rc == VBUS_CLIENT_AGAIN ? 0 : rc;
}

static bool recover(struct vbus_client *c, struct vbus_client_net *net, uint8_t number)
{
	return north_negotiate(c) && north_net_open(c, net, number);
}

/* One round; only a doorbell goes on from its end, and the deadline is for a lost one. */
static int echo_round(struct vbus_client *c, struct vbus_client_net *net, struct north_echo *e)
{
	uint32_t before = e->received;
	int rc;

	rc = send_some(net, e);
	if (!rc)
		rc = receive_some(net, e);
	if (!rc && e->received == before)
		rc = vbus_client_wait(c, RIG_DEADLINE_MS);
	return rc;
}

bool north_echo(struct vbus_client *c, struct vbus_client_net *net, uint8_t number,
		struct north_echo *e)
{
	uint64_t end = rig_now_ms() + RIG_DEADLINE_MS;
	int rc;

	while (e->received < e->count) {
		if (rig_now_ms() > end)
			return false;
		if (e->each)
			e->each(e, e->ctx);
		rc = echo_round(c, net, e);
		if (rc == VBUS_STATUS_STALE) {
			e->recoveries++;
			e->replays += e->sent - e->received;
			e->sent = e->received;
			if (!RIG_UNTIL(recover(c, net, number)))
				return false;
		} else if (rc) {
			fprintf(stderr, "# echo: %s\n", vbus_client_text(rc));
			return false;
		}
	}
	return true;
}
