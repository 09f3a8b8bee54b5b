// SPDX-License-Identifier: MIT
/* bench_tap.c - venet-tap, one way at a time; the other end is a packet socket of the interface. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

#define ETHERTYPE	0x88b5u	/* IEEE 802: for local experiments */
#define IN_FLIGHT	48u	/* fewer than the ring's and the interface's queue: none is lost */

/* Frames of the kernel's own, such as IPv6's, are of another type. */
static void make_frame(uint8_t *frame)
{
	memset(frame, 0, VBUS_CLIENT_FRAME);
	memset(frame, 0xff, 6);
	frame[6] = 0x52;
	frame[12] = ETHERTYPE >> 8;
	frame[13] = ETHERTYPE & 0xff;
}

static bool is_ours(const uint8_t *frame)
{
	return frame[12] == ETHERTYPE >> 8 && frame[13] == (ETHERTYPE & 0xff);
}

int bench_tap_out(struct bench *b)
{
	struct vbus_client_net net;
	uint8_t frame[VBUS_CLIENT_FRAME];
	int rc = vbus_client_net_open(&b->client, &net, b->uuid);

	make_frame(frame);
	bench_start(b);
	while (!rc && bench_goes_on(b)) {
		while (!(rc = vbus_client_net_send(&net, frame, b->size, true)))
			b->count++;
		if (rc == VBUS_CLIENT_AGAIN)
			rc = bench_wait(b);
	}
	b->count -= (uint64_t)__builtin_popcountll(net.tx_flying) + net.tx_errors;
	b->bytes = b->count * b->size;
	return rc;
}

/* It only sends: with protocol 0 it receives nothing. */
static int open_other_end(const char *interface)
{
	struct sockaddr_ll at = {
		.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(interface),
	};
	int s = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (s >= 0 && !bind(s, (struct sockaddr *)&at, sizeof(at)))
		return s;
	if (s >= 0)
		close(s);
	return -1;
}

static int take_frames(struct bench *b, struct vbus_client_net *net, uint32_t *flying)
{
	uint8_t back[VBUS_CLIENT_FRAME];
	uint32_t len;
	int rc;

	while (!(rc = vbus_client_net_receive(net, back, &len))) {
		if (!is_ours(back))
			continue;
		b->count++;
		b->bytes += len;
		--*flying;
	}
	return rc == VBUS_CLIENT_AGAIN ? 0 : rc;
}

int bench_tap_in(struct bench *b)
{
	struct vbus_client_net net;
	uint8_t frame[VBUS_CLIENT_FRAME];
	uint32_t flying = 0;
	int s, rc = vbus_client_net_open(&b->client, &net, b->uuid);

	if (rc)
		return rc;
	s = open_other_end(b->interface);
	if (s < 0)
		return VBUS_CLIENT_SYSTEM;
	make_frame(frame);
	bench_start(b);
	while (!rc && bench_goes_on(b)) {
		for (; flying < IN_FLIGHT; flying++)
			if (send(s, frame, b->size, 0) < 0) {
				rc = VBUS_CLIENT_SYSTEM;
				goto out;
			}
		rc = take_frames(b, &net, &flying);
		if (!rc && flying)
			rc = bench_wait(b);
	}
out:
	close(s);
	return rc;
}
