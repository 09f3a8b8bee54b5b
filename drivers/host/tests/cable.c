// SPDX-License-Identifier: MIT
/*
 * cable - a pair of interfaces, CARD and plug, and between plug and a bus this program as the
 * guest's driver: with it a real network stack is the guest of a test.  No tap: those need root.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "north.h"
#include "vbus_port.h"

#define CARD	1u	/* number of the device's UUID */

static struct vbus_client north;
static struct vbus_client_net net;
static int plug;

/* The stack hands over frames as they are on a wire: whole sums, no giants. */
static int switch_off(const char *interface, uint32_t what)
{
	struct ethtool_value off = { .cmd = what };
	struct ifreq request = { .ifr_data = (char *)&off };

	strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
	return ioctl(plug, SIOCETHTOOL, &request);
}

static int open_plug(const char *card)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int on = 1;

	plug = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));
	at.sll_ifindex = (int)if_nametoindex("plug");
	if (plug < 0 || switch_off(card, ETHTOOL_STXCSUM) < 0 || switch_off(card, ETHTOOL_SGSO) < 0)
		return -1;
	if (setsockopt(plug, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) < 0)
		return -1;
	return bind(plug, (struct sockaddr *)&at, sizeof(at));
}

static bool open_card(void)
{
	return north_negotiate(&north) && north_net_open(&north, &net, CARD);
}

/* What the stack sends, as long as the ring has room. */
static void send_frames(void)
{
	struct ioq_buffer done;
	uint32_t slot, sent = 0;
	uint64_t at;
	ssize_t n;

	while (!ioq_pop(&net.tx, &done))
		;
	while (ioq_room(&net.tx)) {
		slot = net.tx.valid & (NORTH_RING - 1);
		at = net.tx_buffer + slot * VBUS_CLIENT_BUFFER;
		memset(north.base + at, 0, VBUS_CLIENT_HEADER);
		n = read(plug, north.base + at + VBUS_CLIENT_HEADER, VBUS_CLIENT_FRAME);
		if (n <= 0)
			break;
		ioq_push(&net.tx, at, VBUS_CLIENT_HEADER + (uint32_t)n, slot);
		sent++;
	}
	if (!sent)
		return;
	ioq_push_publish(&net.tx);
	north_inject(&north, net.tx_signal);
}

static void receive_frames(void)
{
	struct ioq_buffer done;
	uint32_t got = 0;
	uint64_t at;

	while (!ioq_pop(&net.rx, &done)) {
		at = net.rx_buffer + done.id * VBUS_CLIENT_BUFFER;
		if (write(plug, north.base + at + VBUS_CLIENT_HEADER,
			  done.len - VBUS_CLIENT_HEADER) < 0)
			perror("# plug");
		ioq_push(&net.rx, at, VBUS_CLIENT_BUFFER, done.id);
		got++;
	}
	if (!got)
		return;
	ioq_push_publish(&net.rx);
	north_inject(&north, net.rx_signal);
}

/* Doorbells are taken by north_wait(); a ring that is full is looked at again soon. */
static void rest(void)
{
	struct pollfd p[VBUS_VECTORS_MAX + 1];
	uint32_t i;

	for (i = 0; i < north.vectors; i++)
		p[i] = (struct pollfd){ .fd = north.to_guest[i], .events = POLLIN };
	p[i] = (struct pollfd){ .fd = plug, .events = ioq_room(&net.tx) ? POLLIN : 0 };
	poll(p, north.vectors + 1, ioq_room(&net.tx) ? -1 : 1);
	north_wait(&north, 0);
}

static void nothing(void *ctx, uint32_t signal)
{
	(void)ctx;
	(void)signal;
}

int main(int argc, char **argv)
{
	struct rig rig = { 0 };
	uint32_t q;

	if (argc != 3) {
		fprintf(stderr, "usage: cable SOCKET CARD\n");
		return 2;
	}
	strncpy(rig.qemu_path, argv[1], sizeof(rig.qemu_path) - 1);
	if (open_plug(argv[2]) < 0 || !north_open(&north, &rig, 8) || !RIG_UNTIL(open_card())) {
		fprintf(stderr, "cable: no plug, no bus or no card (%s)\n", strerror(errno));
		return 1;
	}
	for (;;) {
		if (north_epoch(&north) != north.epoch && !RIG_UNTIL(open_card()))
			return 1;
		send_frames();
		receive_frames();
		for (q = 0; q < 4; q++)
			while (shm_signal_wakeup(&north.signals, q, nothing, NULL))
				;
		receive_frames();
		rest();
	}
}
