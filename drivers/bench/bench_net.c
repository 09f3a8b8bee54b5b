// SPDX-License-Identifier: MIT
/* bench_net.c - calls, signals, and frames that come back from venet-loopback. */
#include "bench.h"

#define FRAME_MIN	14u

int bench_calls(struct bench *b)
{
	struct vbus_enumerate_request q = { 0 };
	struct vbus_enumerate_reply a;
	uint64_t since;
	int rc = 0;

	bench_start(b);
	while (!rc && bench_goes_on(b)) {
		since = bench_now();
		rc = vbus_client_call(&b->client, VBUS_CALL_ENUMERATE, &q, sizeof(q), &a,
				      sizeof(a));
		bench_sample(b, since);
	}
	return rc;
}

/* The shortest frame is a signal each way, and next to nothing else. */
static int round_trip(struct bench *b, struct vbus_client_net *net)
{
	static const uint8_t frame[FRAME_MIN];
	uint8_t back[VBUS_CLIENT_FRAME];
	uint32_t len;
	int rc;

	rc = vbus_client_net_send(net, frame, sizeof(frame), false);
	while (!rc && (rc = vbus_client_net_receive(net, back, &len)) == VBUS_CLIENT_AGAIN)
		rc = bench_wait(b);
	/* With AGAIN a doorbell is asked for; the next frame's is then the only one. */
	if (!rc && vbus_client_net_receive(net, back, &len) != VBUS_CLIENT_AGAIN)
		rc = VBUS_CLIENT_CORRUPT;
	return rc;
}

int bench_signals(struct bench *b)
{
	struct vbus_client_net net;
	uint64_t since;
	int rc = vbus_client_net_open(&b->client, &net, b->uuid);

	bench_start(b);
	while (!rc && bench_goes_on(b)) {
		since = bench_now();
		rc = round_trip(b, &net);
		bench_sample(b, since);
	}
	return rc;
}

int bench_packets(struct bench *b)
{
	uint8_t frame[VBUS_CLIENT_FRAME] = { 0 }, back[VBUS_CLIENT_FRAME];
	struct vbus_client_net net;
	uint32_t len;
	int rc = vbus_client_net_open(&b->client, &net, b->uuid);

	bench_start(b);
	while (!rc && bench_goes_on(b)) {
		do
			rc = vbus_client_net_send(&net, frame, b->size, true);
		while (!rc);
		if (rc != VBUS_CLIENT_AGAIN)
			break;
		while (!(rc = vbus_client_net_receive(&net, back, &len))) {
			b->count++;
			b->bytes += len;
		}
		if (rc == VBUS_CLIENT_AGAIN)
			rc = bench_wait(b);
	}
	return rc;
}
