// SPDX-License-Identifier: MIT
/* venet with headers, offloads, pairs and receive modes, over what sends everything back. */
#include <string.h>

#include "north_card.h"
#include "tap.h"
#include "vbus_port.h"

#define ALL	(VENET_SG | VENET_SG_TSO4 | VENET_SG_TSO6 | VENET_SG_ECN | VENET_SG_USO)
#define CONFIG	(VENET_CONFIG_MTU | VENET_CONFIG_PAIRS | VENET_CONFIG_RXMODE)
#define JUMBO	2u		/* number of the card with another MTU */
#define JUMBO_MTU	9000u
#define SLOTS	64u

static struct rig rig;
static struct vbus_client north;
static struct north_card card;
static uint8_t sent[VENET_FRAME_MAX], got[VENET_FRAME_MAX];
static struct venet_header head;
static uint32_t got_len;

/* A call may overtake what vbusd told its worker. */
static bool has_both(void)
{
	struct vbus_enumerate_reply all;

	return !north_enumerate(&north, &all) && vbus_le32_to_cpu(all.total) == 2;
}

static void setup(void)
{
	struct vbusd_request bus = rig_request(VBUSD_BUS_ADD);
	struct vbusd_request dev = rig_device("venet-loopback", 1);
	struct vbusd_request jumbo = rig_device("venet-loopback", JUMBO);

	jumbo.mtu = JUMBO_MTU;
	bus.window_mib = 16;
	bus.vectors = 8;
	if (!rig_start(&rig))
		fprintf(stderr, "# vbusd does not start\n");
	memcpy(bus.argument, rig.qemu_path, sizeof(bus.argument));
	if (rig_ask(&rig, &bus, NULL) || rig_ask(&rig, &dev, NULL) || rig_ask(&rig, &jumbo, NULL) ||
	    !north_open(&north, &rig, 8) || !north_negotiate(&north) || !RIG_UNTIL(has_both()))
		fprintf(stderr, "# the rig does not stand\n");
}

static void teardown(void)
{
	north_close(&north);
	rig_stop(&rig);
}

static struct vbusd_device_counters counters(uint8_t number)
{
	struct vbusd_device_status s = { 0 };

	rig_device_status(&rig, "b", number - 1u, &s);
	return s.counters;
}

/* A new session, of which nothing is left but what it counts. */
static bool open_card(uint8_t number, uint32_t sg, uint32_t l4ro, uint32_t pairs)
{
	if (!north_negotiate(&north))
		return false;
	card = (struct north_card){
		.sg = sg, .l4ro = l4ro, .config = CONFIG, .pairs = pairs, .slots = SLOTS,
		.buffers = SLOTS,
	};
	return north_card_open(&north, &card, number) && card.pairs == pairs;
}

static void fill(uint32_t len, uint32_t number)
{
	uint32_t i;

	for (i = 0; i < len; i++)
		sent[i] = (uint8_t)(number + i * 7 + i / 251);
	/* No flow, and to nobody's address. */
	memset(sent, 2, 14);
}

static bool take(uint32_t pair)
{
	return RIG_UNTIL(north_card_take(&card, pair, &head, got, &got_len));
}

static bool comes_back(uint32_t pair, const struct venet_header *with, uint32_t len)
{
	north_card_send(&card, pair, with, sent, len);
	CHECK(take(pair));
	CHECK(got_len == len && !memcmp(got, sent, len));
	return true;
}

static int ask(uint32_t func, uint32_t value)
{
	return north_devcall(&north, card.handle, func, &value, sizeof(value), NULL, 0);
}

/* ---- What the guest says ---- */

struct bad {
	uint32_t sg;
	struct venet_header head;
	uint32_t len;
	const char *why;
};

static bool closes(const struct bad *bad)
{
	uint64_t before = counters(1).violations;

	CHECK(open_card(1, bad->sg, 0, 1));
	fill(bad->len, 0);
	north_card_send(&card, 0, &bad->head, sent, bad->len);
	if (RIG_UNTIL(counters(1).violations == before + 1))
		return true;
	fprintf(stderr, "# a frame was taken: %s\n", bad->why);
	return false;
}

static bool test_a_header_with_any_wrong_field_closes_the_device(void)
{
	static const struct bad bad[] = {
		{ 0, { .flags = VENET_NEEDS_CSUM }, 60, "a sum without SG" },
		{ 0, { .gso_type = VENET_GSO_TCPV4, .gso_size = 1 }, 60, "a giant without SG" },
		{ ALL, { .flags = VENET_DATA_VALID }, 60, "a flag of the other direction" },
		{ ALL, { .flags = 0x80 }, 60, "an unknown flag" },
		{ ALL, { .buffers = 1 }, 60, "buffers" },
		{ ALL, { .reserved = 1 }, 60, "reserved" },
		{ ALL, { .gso_type = 2, .gso_size = 1 }, 60, "an unknown type" },
		{ ALL, { .gso_type = VENET_GSO_ECN, .gso_size = 1 }, 60, "ECN of no segments" },
		{ ALL, { .gso_type = VENET_GSO_UDP_L4 | VENET_GSO_ECN, .gso_size = 1 }, 60,
		  "ECN of UDP" },
		{ VENET_SG | VENET_SG_TSO6, { .gso_type = VENET_GSO_TCPV4, .gso_size = 1 }, 60,
		  "TSO4" },
		{ VENET_SG | VENET_SG_TSO4, { .gso_type = VENET_GSO_TCPV6, .gso_size = 1 }, 60,
		  "TSO6" },
		{ ALL & ~VENET_SG_USO, { .gso_type = VENET_GSO_UDP_L4, .gso_size = 1 }, 60, "USO" },
		{ ALL & ~VENET_SG_ECN,
		  { .gso_type = VENET_GSO_TCPV4 | VENET_GSO_ECN, .gso_size = 1 }, 60, "ECN" },
		{ ALL, { .gso_type = VENET_GSO_TCPV4 }, 60, "segments of nothing" },
		{ ALL, { .flags = VENET_NEEDS_CSUM, .csum_start = 60 }, 60, "a sum's begin" },
		{ ALL, { .flags = VENET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 25 }, 60,
		  "a sum that lies half outside" },
		{ ALL, { .flags = VENET_NEEDS_CSUM, .csum_start = 65535, .csum_offset = 65535 },
		  60, "a sum that wraps" },
		{ ALL, { .hdr_len = 61 }, 60, "headers longer than the frame" },
		{ ALL, { 0 }, VBUS_CLIENT_FRAME + 1, "longer than the MTU" },
		{ ALL, { .flags = VENET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16 },
		  VBUS_CLIENT_FRAME + 1, "longer than the MTU, with a sum" },
		{ ALL, { 0 }, 13, "no Ethernet header" },
	};
	uint32_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(closes(&bad[i]));
	CHECK(!counters(1).tx_frames && !counters(1).drops);
	return true;
}

static bool test_a_header_is_taken_up_to_its_very_edge(void)
{
	const struct venet_header edge = {
		.flags = VENET_NEEDS_CSUM, .hdr_len = 60, .csum_start = 34, .csum_offset = 24,
	};

	CHECK(open_card(1, ALL, ALL, 1));
	fill(VBUS_CLIENT_FRAME, 1);
	CHECK(comes_back(0, &edge, 60));
	CHECK(comes_back(0, NULL, VENET_FRAME_MIN) && comes_back(0, NULL, VBUS_CLIENT_FRAME));
	return true;
}

/* ---- What the guest gets ---- */

static bool test_giants_of_every_kind_and_length_come_in_full_buffers_and_as_they_were(void)
{
	static const uint8_t types[] = {
		VENET_GSO_TCPV4, VENET_GSO_TCPV6, VENET_GSO_UDP_L4, VENET_GSO_TCPV4 | VENET_GSO_ECN,
	};
	/* What fits into one buffer, and one byte more; two; all that there is. */
	static const uint32_t lens[] = { 60, 2032, 2033, 4080, 4081, 40000, VENET_FRAME_MAX };
	struct venet_header want = {
		.flags = VENET_NEEDS_CSUM, .hdr_len = 54, .gso_size = 1448, .csum_start = 34,
		.csum_offset = 16,
	};
	uint32_t i, k, buffers;

	CHECK(open_card(1, ALL, ALL, 1));
	for (i = 0; i < sizeof(types); i++)
		for (k = 0; k < sizeof(lens) / sizeof(lens[0]); k++) {
			want.gso_type = types[i];
			fill(lens[k], i * 16 + k);
			CHECK(comes_back(0, &want, lens[k]));
			buffers = (VBUS_CLIENT_HEADER + lens[k] + VBUS_CLIENT_BUFFER - 1) /
				  VBUS_CLIENT_BUFFER;
			CHECK(head.buffers == buffers);
			head.buffers = 0;
			CHECK(!memcmp(&head, &want, sizeof(head)));
			north_card_post(&card, 0, buffers);
		}
	CHECK(!counters(1).drops && counters(1).rx_frames == 28 && counters(1).tx_frames == 28);
	return true;
}

static bool test_the_client_library_takes_what_comes_in_many_buffers(void)
{
	const struct venet_header want = {
		.flags = VENET_NEEDS_CSUM, .gso_type = VENET_GSO_TCPV6, .gso_size = 1000,
	};
	uint8_t uuid[VBUS_UUID_LEN];
	struct vbus_client_net net;
	uint32_t len, i;

	memset(uuid, 1, sizeof(uuid));
	CHECK(!vbus_client_net_open_with(&north, &net, uuid, ALL, ALL));
	for (i = 0; i < 100; i++) {
		len = 60 + i * 655;
		fill(len, i);
		CHECK(!vbus_client_net_send_with(&net, &want, sent, len, false));
		CHECK(RIG_UNTIL(!vbus_client_net_receive_with(&net, &head, got, &got_len)));
		CHECK(got_len == len && !memcmp(got, sent, len));
		CHECK(head.gso_type == want.gso_type && head.gso_size == want.gso_size);
	}
	return true;
}

static bool test_what_the_guest_does_not_take_is_dropped_and_the_next_frame_comes(void)
{
	static const struct venet_header asks[] = {
		{ .flags = VENET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16 },
		{ .gso_type = VENET_GSO_TCPV4, .gso_size = 1000 },
		{ .gso_type = VENET_GSO_UDP_L4, .gso_size = 1000 },
	};
	static const struct venet_header numbers = {
		.hdr_len = 54, .gso_size = 9, .csum_start = 34, .csum_offset = 16,
	};
	uint32_t i;

	CHECK(open_card(1, ALL, 0, 1));
	fill(1000, 9);
	for (i = 0; i < sizeof(asks) / sizeof(asks[0]); i++) {
		north_card_send(&card, 0, &asks[i], sent, 1000);
		CHECK(RIG_UNTIL(counters(1).drops == i + 1));
	}
	/* Numbers that no flag speaks of are not passed on either. */
	CHECK(comes_back(0, &numbers, 1000) && head.buffers == 1);
	head.buffers = 0;
	CHECK(!memcmp(&head, &(struct venet_header){ 0 }, sizeof(head)));
	return true;
}

static bool test_a_frame_that_needs_more_buffers_than_there_are_waits_for_them(void)
{
	const struct venet_header giant = { .gso_type = VENET_GSO_TCPV4, .gso_size = 1448 };
	const uint32_t len = 9000;	/* five buffers */

	CHECK(north_negotiate(&north));
	card = (struct north_card){
		.sg = ALL, .l4ro = ALL, .pairs = 1, .slots = SLOTS, .buffers = 3,
	};
	CHECK(north_card_open(&north, &card, 1));
	fill(len, 5);
	north_card_send(&card, 0, &giant, sent, len);
	CHECK(RIG_UNTIL(counters(1).tx_frames == 1));
	/* A call is served after what was found before it: nothing came, and nothing was lost. */
	CHECK(!ask(VENET_FUNC_OFFLOADS, ALL) && !card.pair[0].rx.south->inuse);
	north_card_post(&card, 0, 1);
	CHECK(!ask(VENET_FUNC_OFFLOADS, ALL) && !card.pair[0].rx.south->inuse);
	north_card_post(&card, 0, 1);
	CHECK(take(0) && got_len == len && !memcmp(got, sent, len) && head.buffers == 5);
	CHECK(!counters(1).drops);
	return true;
}

static bool test_a_frame_that_waits_is_gone_when_the_guest_does_not_take_it_any_more(void)
{
	const struct venet_header giant = { .gso_type = VENET_GSO_TCPV4, .gso_size = 1448 };

	CHECK(north_negotiate(&north));
	card = (struct north_card){
		.sg = ALL, .l4ro = ALL, .pairs = 1, .slots = SLOTS, .buffers = 3,
	};
	CHECK(north_card_open(&north, &card, 1));
	fill(9000, 5);
	north_card_send(&card, 0, &giant, sent, 9000);
	CHECK(RIG_UNTIL(counters(1).tx_frames == 1));
	CHECK(!ask(VENET_FUNC_OFFLOADS, 0) && RIG_UNTIL(counters(1).drops == 1));
	CHECK(comes_back(0, NULL, 1000));
	return true;
}

static bool test_a_frame_that_a_ring_can_never_hold_is_dropped_and_the_next_one_comes(void)
{
	const struct venet_header giant = { .gso_type = VENET_GSO_TCPV4, .gso_size = 1448 };

	CHECK(north_negotiate(&north));
	card = (struct north_card){ .sg = ALL, .l4ro = ALL, .pairs = 1, .slots = 4, .buffers = 4 };
	CHECK(north_card_open(&north, &card, 1));
	fill(9000, 5);
	north_card_send(&card, 0, &giant, sent, 9000);
	CHECK(RIG_UNTIL(counters(1).drops == 1));
	CHECK(comes_back(0, &giant, 8000) && head.buffers == 4);
	return true;
}

static bool test_offloads_are_turned_off_and_on_while_frames_go(void)
{
	const struct venet_header giant = { .gso_type = VENET_GSO_TCPV4, .gso_size = 1448 };
	const uint32_t some = ALL & ~VENET_SG_USO;

	CHECK(open_card(1, ALL, some, 1));
	fill(4000, 1);
	CHECK(comes_back(0, &giant, 4000));
	CHECK(!ask(VENET_FUNC_OFFLOADS, VENET_SG));
	north_card_send(&card, 0, &giant, sent, 4000);
	CHECK(RIG_UNTIL(counters(1).drops == 1));
	CHECK(!ask(VENET_FUNC_OFFLOADS, some) && comes_back(0, &giant, 4000));
	CHECK(ask(VENET_FUNC_OFFLOADS, ALL) == VBUS_STATUS_INVALID);
	CHECK(ask(VENET_FUNC_OFFLOADS, VENET_SG_TSO4) == VBUS_STATUS_INVALID);
	CHECK(comes_back(0, &giant, 4000));
	CHECK(!ask(VENET_FUNC_LINKDOWN, 0) &&
	      ask(VENET_FUNC_OFFLOADS, some) == VBUS_STATUS_INVALID);
	return true;
}

static bool test_a_bit_that_needs_another_is_not_active_without_it(void)
{
	struct vbusd_request q = rig_device("", 1);

	CHECK(open_card(1, ALL & ~VENET_SG, VENET_SG | VENET_SG_ECN | VENET_SG_USO, 1));
	CHECK(!card.sg && card.l4ro == (VENET_SG | VENET_SG_USO));
	CHECK(open_card(1, VENET_SG | VENET_SG_ECN | VENET_SG_TSO6, ALL, 1));
	CHECK(card.sg == (VENET_SG | VENET_SG_ECN | VENET_SG_TSO6) && card.l4ro == ALL);
	/* And not what the administrator took the ground from. */
	q.op = VBUSD_MASK;
	q.mask[0].gid = VENET_GROUP_L4RO;
	q.mask[0].bits = VENET_SG;
	CHECK(rig_ask(&rig, &q, NULL) == VBUSD_OK && open_card(1, ALL, ALL, 1));
	CHECK(card.sg == ALL && !card.l4ro);
	return true;
}

/* ---- Pairs ---- */

/* TCP over IPv4, or over IPv6, or what has no ports. */
static uint32_t make_flow(uint32_t version, uint8_t from, uint8_t to)
{
	uint8_t *ip = sent + 14, *address, *port;
	uint32_t each = version == 4 ? 4 : 16;

	memset(sent, 0, 100);
	sent[12] = version == 4 ? 0x08 : 0x86;
	sent[13] = version == 4 ? 0x00 : 0xdd;
	ip[0] = version == 4 ? 0x45 : 0x60;
	ip[version == 4 ? 9 : 6] = 6;
	address = ip + (version == 4 ? 12 : 8);
	address[each - 1] = from;
	address[2 * each - 1] = to;
	port = ip + (version == 4 ? 20 : 40);
	port[1] = from;
	port[3] = to;
	return 100;
}

static bool flow_comes_on(uint32_t pair)
{
	CHECK(take(pair) && got_len == 100 && !memcmp(got, sent, 100));
	north_card_post(&card, pair, 1);
	return true;
}

static bool test_a_flow_comes_back_on_the_pair_that_it_was_last_sent_on(void)
{
	struct vbusd_device_status s = { 0 };
	uint32_t i, pair, version;

	CHECK(open_card(1, 0, 0, VENET_PAIRS_MAX));
	CHECK(rig_device_status(&rig, "b", 0, &s) && s.running == VENET_PAIRS_MAX);
	for (version = 4; version <= 6; version += 2)
		for (i = 0; i < 100; i++) {
			pair = i * 5 % VENET_PAIRS_MAX;
			make_flow(version, (uint8_t)i, (uint8_t)(i + 100));
			north_card_send(&card, pair, NULL, sent, 100);
			CHECK(flow_comes_on(pair));
		}
	CHECK(!counters(1).drops && counters(1).rx_frames == 200);
	return true;
}

static bool test_more_pairs_than_there_are_or_were_negotiated_are_refused(void)
{
	uint32_t most = 0, signal;
	uint64_t at;

	CHECK(north_negotiate(&north));
	card = (struct north_card){ .config = VENET_CONFIG_PAIRS, .pairs = 2, .slots = SLOTS };
	CHECK(north_card_share(&north, &card, 1));
	CHECK(!north_devcall(&north, card.handle, VENET_FUNC_PAIRSQUERY, NULL, 0, &most, 4) &&
	      most == VENET_PAIRS_MAX);
	CHECK(north_link_up(&north, card.handle, 3) == VBUS_STATUS_INVALID);
	CHECK(north_link_up(&north, card.handle, 0) == VBUS_STATUS_INVALID);
	CHECK(north_link_up(&north, card.handle, UINT32_MAX) == VBUS_STATUS_INVALID);
	CHECK(north_devcall(&north, card.handle, VENET_FUNC_LINKUP, NULL, 0, NULL, 0) ==
	      VBUS_STATUS_INVALID);
	at = north_alloc(&north, 2 * VBUS_PAGE_SIZE);
	CHECK(north_share(&north, card.handle, VENET_REGION_RX(VENET_PAIRS_MAX), at,
			  at + VBUS_PAGE_SIZE, IOQ_PART_SIZE(64), IOQ_PART_SIZE(64), &signal) ==
	      VBUS_STATUS_INVALID);
	CHECK(!north_link_up(&north, card.handle, 2));
	CHECK(north_link_up(&north, card.handle, 2) == VBUS_STATUS_BUSY);
	CHECK(!ask(VENET_FUNC_LINKDOWN, 0) && !north_link_up(&north, card.handle, 1));

	CHECK(north_negotiate(&north));
	card = (struct north_card){ .pairs = 2, .slots = SLOTS };
	CHECK(!north_card_share(&north, &card, 1));
	CHECK(north_link_up(&north, card.handle, 2) == VBUS_STATUS_INVALID);
	CHECK(!north_link_up(&north, card.handle, 1));
	CHECK(north_devcall(&north, card.handle, VENET_FUNC_PAIRSQUERY, NULL, 0, &most, 4) ==
	      VBUS_STATUS_UNSUPPORTED);
	return true;
}

/* ---- Receive modes ---- */

static const uint8_t ours[6] = { 0x52, 0, 0, 0, 0, 1 }, another[6] = { 0x52, 0, 0, 0, 0, 9 };
static const uint8_t group[6] = { 1, 0, 0x5e, 0, 0, 1 }, other_group[6] = { 1, 0, 0x5e, 0, 0, 2 };
static const uint8_t everybody[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

static int set_mode(uint32_t flags, uint16_t groups)
{
	struct venet_rxmode mode = { .flags = flags, .groups = groups };

	memcpy(mode.mac, ours, sizeof(ours));
	memcpy(mode.group[groups && groups <= VENET_GROUPS_MAX ? groups - 1 : 0], group,
	       sizeof(group));
	return north_devcall(&north, card.handle, VENET_FUNC_RXMODE, &mode, sizeof(mode), NULL, 0);
}

static bool comes(const uint8_t *to)
{
	fill(60, 1);
	memcpy(sent, to, 6);
	if (!comes_back(0, NULL, 60))
		return false;
	north_card_post(&card, 0, 1);
	return true;
}

static bool is_left_out(const uint8_t *to)
{
	uint64_t before = counters(1).filtered;

	fill(60, 1);
	memcpy(sent, to, 6);
	north_card_send(&card, 0, NULL, sent, 60);
	return RIG_UNTIL(counters(1).filtered == before + 1);
}

static bool test_what_nobody_asked_for_is_left_out_and_counted(void)
{
	CHECK(open_card(1, 0, 0, 1));
	CHECK(comes(another) && comes(group) && comes(everybody));
	CHECK(!set_mode(0, 0));
	CHECK(comes(ours) && comes(everybody));
	CHECK(is_left_out(another) && is_left_out(group));
	CHECK(!set_mode(0, 1) && comes(group) && is_left_out(other_group));
	CHECK(!set_mode(0, VENET_GROUPS_MAX) && comes(group) && is_left_out(other_group));
	CHECK(!set_mode(VENET_ALLMULTI, 0) && comes(other_group) && is_left_out(another));
	CHECK(!set_mode(VENET_PROMISC, 0) && comes(other_group) && comes(another));
	CHECK(!counters(1).drops);
	return true;
}

static bool test_a_receive_mode_outlives_linkdown_and_not_a_close(void)
{
	CHECK(open_card(1, 0, 0, 1) && !set_mode(0, 0) && is_left_out(another));
	CHECK(!ask(VENET_FUNC_LINKDOWN, 0) && !north_link_up(&north, card.handle, 1));
	CHECK(is_left_out(another));
	CHECK(!vbus_client_dev_close(&north, card.handle));
	CHECK(open_card(1, 0, 0, 1) && comes(another));
	return true;
}

static bool test_a_receive_mode_that_makes_no_sense_is_refused_and_changes_nothing(void)
{
	uint8_t short_one[sizeof(struct venet_rxmode) - 1] = { 0 };

	CHECK(open_card(1, 0, 0, 1) && !set_mode(0, 1));
	CHECK(set_mode(4, 0) == VBUS_STATUS_INVALID);
	CHECK(set_mode(VENET_PROMISC, VENET_GROUPS_MAX + 1) == VBUS_STATUS_INVALID);
	CHECK(north_devcall(&north, card.handle, VENET_FUNC_RXMODE, short_one, sizeof(short_one),
			    NULL, 0) == VBUS_STATUS_INVALID);
	CHECK(comes(group) && is_left_out(another));
	return true;
}

/* ---- MTU ---- */

static bool test_the_administrators_mtu_is_told_and_holds(void)
{
	const struct bad too_long = { 0, { 0 }, JUMBO_MTU + VENET_OVERHEAD + 1, "longer" };
	struct vbusd_device_status s;
	uint8_t uuid[VBUS_UUID_LEN];
	struct vbus_client_net net;

	memset(uuid, JUMBO, sizeof(uuid));
	CHECK(rig_device_status(&rig, "b", JUMBO - 1, &s) && s.mtu == JUMBO_MTU);
	/* Without offloads: one buffer has room for all of it. */
	CHECK(!vbus_client_net_open(&north, &net, uuid) && net.mtu == JUMBO_MTU);
	fill(too_long.len, 3);
	CHECK(!vbus_client_net_send(&net, sent, too_long.len - 1, false));
	CHECK(RIG_UNTIL(!vbus_client_net_receive(&net, got, &got_len)));
	CHECK(got_len == too_long.len - 1 && !memcmp(got, sent, got_len));

	CHECK(open_card(JUMBO, 0, ALL, 1));
	CHECK(comes_back(0, NULL, too_long.len - 1) && head.buffers == 5);
	north_card_send(&card, 0, NULL, sent, too_long.len);
	CHECK(RIG_UNTIL(counters(JUMBO).violations == 1));
	return true;
}

static bool test_a_frame_longer_than_the_one_buffer_it_may_have_is_dropped(void)
{
	CHECK(open_card(JUMBO, 0, 0, 1));
	fill(3000, 3);
	north_card_send(&card, 0, NULL, sent, 3000);
	CHECK(RIG_UNTIL(counters(JUMBO).drops == 1));
	CHECK(comes_back(0, NULL, VBUS_CLIENT_BUFFER - VBUS_CLIENT_HEADER) && head.buffers == 1);
	return true;
}

static const struct tap_test tests[] = {
	TEST(test_a_header_with_any_wrong_field_closes_the_device),
	TEST(test_a_header_is_taken_up_to_its_very_edge),
	TEST(test_giants_of_every_kind_and_length_come_in_full_buffers_and_as_they_were),
	TEST(test_the_client_library_takes_what_comes_in_many_buffers),
	TEST(test_what_the_guest_does_not_take_is_dropped_and_the_next_frame_comes),
	TEST(test_a_frame_that_needs_more_buffers_than_there_are_waits_for_them),
	TEST(test_a_frame_that_waits_is_gone_when_the_guest_does_not_take_it_any_more),
	TEST(test_a_frame_that_a_ring_can_never_hold_is_dropped_and_the_next_one_comes),
	TEST(test_offloads_are_turned_off_and_on_while_frames_go),
	TEST(test_a_bit_that_needs_another_is_not_active_without_it),
	TEST(test_a_flow_comes_back_on_the_pair_that_it_was_last_sent_on),
	TEST(test_more_pairs_than_there_are_or_were_negotiated_are_refused),
	TEST(test_what_nobody_asked_for_is_left_out_and_counted),
	TEST(test_a_receive_mode_outlives_linkdown_and_not_a_close),
	TEST(test_a_receive_mode_that_makes_no_sense_is_refused_and_changes_nothing),
	TEST(test_the_administrators_mtu_is_told_and_holds),
	TEST(test_a_frame_longer_than_the_one_buffer_it_may_have_is_dropped),
};

int main(void)
{
	return TAP_RUN(tests, setup, teardown);
}
