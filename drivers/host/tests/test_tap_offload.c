// SPDX-License-Identifier: MIT
/* What a tap's kernel leaves to the guest, and the guest to it; a network namespace of its own. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "north_card.h"
#include "tap.h"

#define TAP	"vbtest1"
#define ALL	(VENET_SG | VENET_SG_TSO4 | VENET_SG_TSO6 | VENET_SG_ECN)
#define SLOTS	256u
#define PORT	7000u
#define MSS	1460u
#define HEADS	54u		/* Ethernet, IPv4, TCP without options */
#define IP_AT	14u
#define TCP_AT	34u

static struct rig rig;
static struct vbus_client north;
static struct north_card card;
static int wire = -1;
/* Such that what is behind an Ethernet header lies well. */
static uint8_t rooms[2][2 + VENET_FRAME_MAX + 1] __attribute__((aligned(4)));
static uint8_t *const frame = rooms[0] + 2, *const got = rooms[1] + 2;
static struct venet_header head;
static uint32_t got_len;

static void add_device(void)
{
	struct vbusd_request bus = rig_request(VBUSD_BUS_ADD);
	struct vbusd_request dev = rig_device("venet-tap", 1);

	bus.window_mib = 16;
	bus.vectors = 8;
	memcpy(bus.argument, rig.qemu_path, sizeof(bus.argument));
	strcpy(dev.argument, TAP);
	if (rig_ask(&rig, &bus, NULL) || rig_ask(&rig, &dev, NULL))
		fprintf(stderr, "# there is no device\n");
}

/* The kernel of the namespace is 10.77.0.1, and the guest .2. */
static void setup(void)
{
	if (!rig_start(&rig))
		fprintf(stderr, "# vbusd does not start\n");
	add_device();
	wire = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (system("ip address add 10.77.0.1/24 dev " TAP " && ip link set " TAP " up && "
		   "ip neighbour replace 10.77.0.2 lladdr 52:00:00:00:00:01 dev " TAP) ||
	    !north_open(&north, &rig, 8))
		fprintf(stderr, "# the rig does not stand\n");
}

static void teardown(void)
{
	close(wire);
	north_close(&north);
	rig_stop(&rig);
}

static bool open_card(uint32_t offloads, uint32_t pairs)
{
	if (!north_negotiate(&north))
		return false;
	card = (struct north_card){
		.sg = offloads, .l4ro = offloads, .config = VENET_CONFIG_PAIRS, .pairs = pairs,
		.slots = SLOTS, .buffers = SLOTS,
	};
	return north_card_open(&north, &card, 1) && card.l4ro == offloads;
}

static bool has(uint32_t what)
{
	struct ethtool_value value = { .cmd = what };
	struct ifreq request = { .ifr_name = TAP, .ifr_data = (char *)&value };

	return !ioctl(wire, SIOCETHTOOL, &request) && value.data;
}

static bool leaves_nothing(void)
{
	return !has(ETHTOOL_GTXCSUM) && !has(ETHTOOL_GTSO);
}

static bool leaves_all(void)
{
	return has(ETHTOOL_GTXCSUM) && has(ETHTOOL_GTSO);
}

static int use(uint32_t bits)
{
	return north_devcall(&north, card.handle, VENET_FUNC_OFFLOADS, &bits, sizeof(bits), NULL,
			     0);
}

static bool test_the_interface_leaves_to_the_guest_what_it_takes_and_as_long_as_it_does(void)
{
	CHECK(leaves_nothing() && open_card(0, 1) && leaves_nothing());
	CHECK(open_card(ALL, 1) && leaves_all());
	CHECK(!use(VENET_SG) && has(ETHTOOL_GTXCSUM) && !has(ETHTOOL_GTSO));
	CHECK(!use(0) && leaves_nothing());
	CHECK(!use(ALL) && leaves_all());
	CHECK(!north_devcall(&north, card.handle, VENET_FUNC_LINKDOWN, NULL, 0, NULL, 0));
	CHECK(leaves_nothing());
	CHECK(!north_link_up(&north, card.handle, 1) && leaves_all());
	CHECK(!vbus_client_dev_close(&north, card.handle) && leaves_nothing());
	return true;
}

static bool test_a_guest_that_is_gone_leaves_no_offloads_behind(void)
{
	CHECK(open_card(ALL, 1) && leaves_all());
	north_close(&north);
	CHECK(RIG_UNTIL(leaves_nothing()));
	CHECK(RIG_UNTIL(north_open(&north, &rig, 8)));
	return true;
}

static bool test_the_worker_after_a_killed_one_takes_its_offloads_back(void)
{
	struct vbusd_bus_status s;

	CHECK(open_card(ALL, 1) && leaves_all() && rig_bus_status(&rig, 0, &s));
	kill(s.worker, SIGKILL);
	CHECK(RIG_UNTIL(north_epoch(&north) != north.epoch) && leaves_nothing());
	CHECK(open_card(ALL, 1) && leaves_all());
	return true;
}

static uint32_t masked(uint32_t gid)
{
	struct vbusd_device_status s = { 0 };
	uint32_t i;

	rig_device_status(&rig, "b", 0, &s);
	for (i = 0; i < s.groups; i++)
		if (s.group[i].gid == gid)
			return s.group[i].masked;
	return 0;
}

/* The worker gets a list of masks that ends in zeroes, and 0 is this group's number. */
static bool test_a_bit_of_group_0_is_masked_like_any_other(void)
{
	struct vbusd_request q = rig_request(VBUSD_MASK);

	q.flags = VBUSD_ALL_DEVICES;
	q.mask[0] = (struct vbus_mask){ VENET_GROUP_SG, VENET_SG_TSO4 };
	CHECK(rig_ask(&rig, &q, NULL) == VBUSD_OK);
	CHECK(RIG_UNTIL(masked(VENET_GROUP_SG) == VENET_SG_TSO4));
	CHECK(open_card(ALL, 1) && card.sg == (ALL & ~VENET_SG_TSO4));
	return true;
}

/* ---- TCP ---- */

static uint32_t sum_of(const uint8_t *at, uint32_t len, uint32_t sum)
{
	for (; len > 1; at += 2, len -= 2)
		sum += (uint32_t)at[0] << 8 | at[1];
	if (len)
		sum += (uint32_t)at[0] << 8;
	return sum;
}

static uint16_t folded(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)sum);
}

/**
 * struct peer - the guest's end of a connection
 * @next: what it sends next; @want: what it is sent next; @begin: of the kernel's data
 * @port: the kernel's, in network order
 */
static struct {
	uint32_t next, want, begin;
	uint16_t port;
} peer;

static uint8_t byte_at(uint32_t i)
{
	return (uint8_t)(i * 31 + i / 256);
}

/* With a sum that is left to the kernel, and its segments too when there is more than one. */
static void send_tcp(uint8_t flags, const uint8_t *data, uint32_t len)
{
	struct venet_header with = {
		.flags = VENET_NEEDS_CSUM, .csum_start = TCP_AT, .csum_offset = 16,
	};
	uint32_t options = flags & TH_SYN ? 8 : 0, all = HEADS + options + len;
	struct ip *ip = (void *)(frame + IP_AT);
	struct tcphdr *tcp = (void *)(frame + TCP_AT);
	/* An MSS, and a window of which the unit is 128. */
	static const uint8_t asks[8] = { 2, 4, MSS >> 8, MSS & 0xff, 3, 3, 7, 0 };

	memset(frame, 0, all);
	/* To where the last frame came from. */
	memcpy(frame, got + 6, 6);
	memcpy(frame + 6, "\x52\0\0\0\0\1\x08", 7);
	*ip = (struct ip){
		.ip_hl = 5, .ip_v = 4, .ip_len = htons((uint16_t)(all - IP_AT)), .ip_ttl = 64,
		.ip_p = IPPROTO_TCP, .ip_src.s_addr = inet_addr("10.77.0.2"),
		.ip_dst.s_addr = inet_addr("10.77.0.1"),
	};
	ip->ip_sum = (uint16_t)~folded(sum_of((uint8_t *)ip, sizeof(*ip), 0));
	*tcp = (struct tcphdr){
		.th_sport = htons(PORT), .th_dport = peer.port, .th_seq = htonl(peer.next),
		.th_ack = htonl(peer.want), .th_off = (5 + options / 4) & 15,
		.th_flags = flags | TH_ACK, .th_win = htons(65535),
	};
	tcp->th_sum = folded(sum_of((uint8_t *)&ip->ip_src, 8, IPPROTO_TCP + all - TCP_AT));
	memcpy(frame + HEADS, asks, options);
	if (len)
		memcpy(frame + HEADS + options, data, len);
	if (len > MSS) {
		with.gso_type = VENET_GSO_TCPV4;
		with.gso_size = MSS;
		with.hdr_len = HEADS;
	}
	north_card_send(&card, 0, &with, frame, all);
	peer.next += len + !!(flags & TH_SYN);
}

/* The next frame on any pair. */
static bool take(void)
{
	uint32_t i;

	for (i = 0; i < card.pairs; i++)
		if (north_card_take(&card, i, &head, got, &got_len)) {
			north_card_post(&card, i, head.buffers);
			return true;
		}
	return false;
}

/* The next frame that is TCP's for us. */
static bool take_tcp(void)
{
	while (take())
		if (got_len >= HEADS && got[12] == 8 && got[IP_AT + 9] == IPPROTO_TCP)
			return true;
	return false;
}

static bool take_syn(void)
{
	const struct tcphdr *tcp = (void *)(got + TCP_AT);

	return take_tcp() && tcp->th_flags & TH_SYN;
}

/* The kernel's end, connected; -1 when it is not. */
static int connect_it(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	const struct tcphdr *tcp = (void *)(got + TCP_AT);
	int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), room = 4 << 20;

	to.sin_addr.s_addr = inet_addr("10.77.0.2");
	setsockopt(s, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	if (connect(s, (struct sockaddr *)&to, sizeof(to)) == 0 || errno != EINPROGRESS ||
	    !RIG_UNTIL(take_syn()))
		return -1;
	peer.next = 1000;
	peer.begin = peer.want = ntohl(tcp->th_seq) + 1;
	peer.port = tcp->th_sport;
	send_tcp(TH_SYN, NULL, 0);
	return s;
}

static bool header_is_right(uint32_t payload)
{
	if (payload <= MSS)
		return !head.gso_type;
	return head.gso_type == VENET_GSO_TCPV4 && head.gso_size && head.gso_size <= MSS &&
	       head.flags & VENET_NEEDS_CSUM && head.csum_start == TCP_AT && head.csum_offset == 16;
}

/* Bytes of the next frame, which are what was sent; 0: it had none, or was none of ours. */
static uint32_t judge(bool *is_right)
{
	const struct tcphdr *tcp = (void *)(got + TCP_AT);
	uint32_t at = TCP_AT + 4u * tcp->th_off, payload, i;

	payload = ntohs(((struct ip *)(void *)(got + IP_AT))->ip_len) + IP_AT - at;
	/* Sent again: our answer was late. */
	if (ntohl(tcp->th_seq) != peer.want)
		return 0;
	*is_right = at + payload <= got_len && header_is_right(payload);
	for (i = 0; *is_right && i < payload; i++)
		*is_right = got[at + i] == byte_at(peer.want - peer.begin + i);
	return payload;
}

/* What the kernel sends until one frame has @least bytes. */
static bool receives_giants(int s, uint32_t least)
{
	static uint8_t data[1 << 20];
	uint64_t end = rig_now_ms() + RIG_DEADLINE_MS;
	uint32_t filled = 0, longest = 0, len, i;
	ssize_t n;

	while (longest < least && rig_now_ms() < end) {
		bool is_right = true;

		for (i = 0; i < sizeof(data); i++)
			data[i] = byte_at(filled + i);
		n = send(s, data, sizeof(data), MSG_DONTWAIT | MSG_NOSIGNAL);
		filled += n > 0 ? (uint32_t)n : 0;
		while (take_tcp()) {
			len = judge(&is_right);
			CHECK(is_right);
			peer.want += len;
			longest = len > longest ? len : longest;
			send_tcp(0, NULL, 0);
		}
		north_wait(&north, 1);
	}
	fprintf(stderr, "# the longest of the kernel's frames had %u bytes\n", longest);
	return longest >= least;
}

static bool sends_a_giant(int s, uint32_t len)
{
	static uint8_t data[65536], back[65536];
	uint32_t have = 0, i;
	ssize_t n;

	for (i = 0; i < len; i++)
		data[i] = byte_at(i + 77);
	send_tcp(TH_PUSH, data, len);
	while (have < len) {
		CHECK(RIG_UNTIL((n = recv(s, back + have, sizeof(back) - have, MSG_DONTWAIT)) > 0));
		have += (uint32_t)n;
	}
	return have == len && !memcmp(data, back, len);
}

static bool test_a_tcp_stream_goes_in_frames_of_64_kib_both_ways(void)
{
	struct vbusd_device_status d;
	int s;

	CHECK(open_card(ALL, 1));
	s = connect_it();
	CHECK(s >= 0 && receives_giants(s, 60000));
	CHECK(sends_a_giant(s, 40000));
	close(s);
	CHECK(rig_device_status(&rig, "b", 0, &d) && !d.counters.drops && !d.counters.violations);
	CHECK(d.counters.rx_bytes > 60000 && d.counters.rx_frames < d.counters.rx_bytes / MSS);
	return true;
}

static bool test_a_tcp_stream_goes_in_frames_of_64_kib_through_a_card_with_two_pairs(void)
{
	int s;

	CHECK(open_card(ALL, 2));
	s = connect_it();
	/* Its SYN came on either; our answer went on the first, and so all comes on that. */
	card.pairs = 1;
	CHECK(s >= 0 && receives_giants(s, 60000));
	close(s);
	return true;
}

static bool test_without_offloads_the_kernel_does_all_itself(void)
{
	int s;

	CHECK(open_card(VENET_SG, 1));
	CHECK(!use(0));
	s = connect_it();
	CHECK(s >= 0 && receives_giants(s, 1400));
	CHECK(!memcmp(&head, &(struct venet_header){ .buffers = 1 }, sizeof(head)));
	close(s);
	return true;
}

static bool test_a_worker_that_outlives_its_vbusd_goes_on_with_its_offloads(void)
{
	struct vbusd_bus_status s;
	int sock;

	CHECK(open_card(ALL, 1));
	rig_lose(&rig, SIGKILL);
	CHECK(leaves_all() && rig_again(&rig, NULL) && leaves_all());
	CHECK(rig_bus_status(&rig, 0, &s) && s.takeovers == 1);
	CHECK(north_epoch(&north) == north.epoch && !rig_count_logged(&rig, "has no back end"));
	sock = connect_it();
	CHECK(sock >= 0 && receives_giants(sock, 60000));
	close(sock);
	return true;
}

/* ---- Pairs ---- */

static void make_udp(uint8_t from, uint8_t to)
{
	struct ip *ip = (void *)(frame + IP_AT);

	memset(frame, 0, 100);
	memset(frame, 0xff, 6);
	frame[12] = 8;
	*ip = (struct ip){
		.ip_hl = 5, .ip_v = 4, .ip_len = htons(86), .ip_ttl = 64, .ip_p = IPPROTO_UDP,
		.ip_src.s_addr = htonl(0x0a4d0000u + from),
		.ip_dst.s_addr = htonl(0x0a4d0000u + to),
	};
	frame[TCP_AT + 1] = from;
	frame[TCP_AT + 3] = to;
}

static bool wire_sends(void)
{
	struct sockaddr_ll at = {
		.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(TAP), .sll_halen = 6,
	};

	return sendto(wire, frame, 100, 0, (struct sockaddr *)&at, sizeof(at)) == 100;
}

static uint64_t tx_frames(void)
{
	struct vbusd_device_status d = { 0 };

	rig_device_status(&rig, "b", 0, &d);
	return d.counters.tx_frames;
}

/* Among what the kernel has to say besides. */
static bool has_come(uint32_t pair)
{
	while (north_card_take(&card, pair, &head, got, &got_len))
		if (got_len == 100 && !memcmp(got, frame, 100))
			return true;
	return false;
}

static bool test_an_answer_comes_on_the_pair_that_its_question_was_sent_on(void)
{
	uint32_t i, pair;

	CHECK(open_card(0, 4));
	for (i = 0; i < 40; i++) {
		pair = i * 3 % 4;
		make_udp((uint8_t)(100 + i), 50);
		north_card_send(&card, pair, NULL, frame, 100);
		CHECK(RIG_UNTIL(tx_frames() == i + 1));
		make_udp(50, (uint8_t)(100 + i));
		CHECK(wire_sends());
		CHECK(RIG_UNTIL(has_come(pair)));
	}
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_the_interface_leaves_to_the_guest_what_it_takes_and_as_long_as_it_does),
	TEST(test_a_guest_that_is_gone_leaves_no_offloads_behind),
	TEST(test_the_worker_after_a_killed_one_takes_its_offloads_back),
	TEST(test_a_bit_of_group_0_is_masked_like_any_other),
	TEST(test_a_tcp_stream_goes_in_frames_of_64_kib_both_ways),
	TEST(test_a_tcp_stream_goes_in_frames_of_64_kib_through_a_card_with_two_pairs),
	TEST(test_without_offloads_the_kernel_does_all_itself),
	TEST(test_a_worker_that_outlives_its_vbusd_goes_on_with_its_offloads),
	TEST(test_an_answer_comes_on_the_pair_that_its_question_was_sent_on),
};

/* No router solicitations and the like: only what the test sends. */
static void be_quiet(void)
{
	FILE *f = fopen("/proc/sys/net/ipv6/conf/default/disable_ipv6", "we");

	if (!f)
		return;
	fputs("1", f);
	fclose(f);
}

int main(void)
{
	if (access("/dev/net/tun", R_OK | W_OK)) {
		printf("1..0 # SKIP /dev/net/tun: %s\n", strerror(errno));
		return 0;
	}
	if (unshare(CLONE_NEWNET) < 0) {
		printf("1..0 # SKIP a network namespace needs root: %s\n", strerror(errno));
		return 0;
	}
	be_quiet();
	return TAP_RUN(tests, setup, teardown);
}
