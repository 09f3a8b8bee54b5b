// SPDX-License-Identifier: MIT
/* venet_judge.c - what a frame's first bytes say, of the guest's and of those for the guest. */
#include <string.h>

#include "vbus_port.h"
#include "venet.h"

#define VLAN		0x8100u
#define PROVIDER_VLAN	0x88a8u
#define IPV4		0x0800u
#define IPV6		0x86ddu
#define TCP		6u
#define UDP		17u

static const struct {
	uint8_t type;
	uint32_t bit;
} segmentations[] = {
	{ VENET_GSO_TCPV4, VENET_SG_TSO4 },
	{ VENET_GSO_TCPV6, VENET_SG_TSO6 },
	{ VENET_GSO_UDP_L4, VENET_SG_USO },
};

uint32_t venet_depend(uint32_t gid, uint32_t bits)
{
	if (gid != VENET_GROUP_SG && gid != VENET_GROUP_L4RO)
		return bits;
	if (!(bits & VENET_SG))
		return 0;
	return bits & (VENET_SG_TSO4 | VENET_SG_TSO6) ? bits : bits & ~VENET_SG_ECN;
}

/* The bits that a header needs; all of them, also unknown ones, for what nobody knows. */
static uint32_t needs(const struct venet_header *head)
{
	uint32_t type = head->gso_type & ~VENET_GSO_ECN, bits, i;
	bool is_tcp = type == VENET_GSO_TCPV4 || type == VENET_GSO_TCPV6;

	bits = head->flags & VENET_NEEDS_CSUM ? VENET_SG : 0;
	if (head->gso_type & VENET_GSO_ECN)
		bits |= is_tcp ? VENET_SG_ECN : UINT32_MAX;
	if (type == VENET_GSO_NONE)
		return bits;
	for (i = 0; i < sizeof(segmentations) / sizeof(segmentations[0]); i++)
		if (segmentations[i].type == type)
			return bits | segmentations[i].bit;
	return UINT32_MAX;
}

static bool is_too_long(const struct venet *v, const struct venet_header *head, uint32_t len)
{
	return len > (head->gso_type ? VENET_FRAME_MAX : venet_longest(v));
}

const char *venet_objection(const struct venet *v, const struct venet_header *head, uint32_t len)
{
	uint32_t sum = (uint32_t)vbus_le16_to_cpu(head->csum_start) +
		       vbus_le16_to_cpu(head->csum_offset);

	if ((head->flags & ~VENET_NEEDS_CSUM) || head->buffers || head->reserved)
		return "a header has bits that nobody knows";
	if (needs(head) & ~v->sg)
		return "a header asks for what was not negotiated";
	if (head->flags & VENET_NEEDS_CSUM && sum + 2 > len)
		return "a checksum lies behind its frame";
	if (head->gso_type && !head->gso_size)
		return "a segment has no bytes";
	if (head->gso_type && len / vbus_le16_to_cpu(head->gso_size) > VENET_SEGMENTS_MAX)
		return "a frame has too many segments";
	if (vbus_le16_to_cpu(head->hdr_len) > len)
		return "the headers are longer than their frame";
	return is_too_long(v, head, len) ? "a frame is too long" : NULL;
}

bool venet_takes(const struct venet *v, const struct venet_header *head, uint32_t len)
{
	return len >= VENET_FRAME_MIN && !(needs(head) & ~v->offloads) &&
	       !is_too_long(v, head, len);
}

static bool is_group_asked_for(const struct venet *v, const uint8_t *to)
{
	uint32_t i;

	for (i = 0; i < vbus_le16_to_cpu(v->rxmode.groups); i++)
		if (!memcmp(v->rxmode.group[i], to, 6))
			return true;
	return false;
}

bool venet_wants(const struct venet *v, const uint8_t *to)
{
	static const uint8_t all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	uint32_t flags = vbus_le32_to_cpu(v->rxmode.flags);

	if (!v->has_rxmode || flags & VENET_PROMISC)
		return true;
	if (!(to[0] & 1))
		return !memcmp(to, v->rxmode.mac, 6);
	return flags & VENET_ALLMULTI || !memcmp(to, all, 6) || is_group_asked_for(v, to);
}

static uint32_t word16(const uint8_t *at)
{
	return (uint32_t)at[0] << 8 | at[1];
}

/* Both ends into one number, whichever comes first. */
static uint32_t fold(const uint8_t *one, const uint8_t *other, uint32_t len)
{
	uint32_t sum = 0, i;

	for (i = 0; i < len; i++)
		sum = (sum << 5 | sum >> 27) ^ (uint32_t)(one[i] ^ other[i]) * 0x9e3779b1u;
	return sum;
}

/* Two addresses of @each bytes, and two ports behind each other, if there are any. */
static uint32_t hash(const uint8_t *addresses, uint32_t each, const uint8_t *ports)
{
	uint32_t sum = fold(addresses, addresses + each, each);

	if (ports)
		sum = sum * 31 + fold(ports, ports + 2, 2);
	sum ^= sum >> 16;
	return (sum ^ sum >> 8) % VENET_FLOWS;
}

static bool has_ports(uint32_t protocol)
{
	return protocol == TCP || protocol == UDP;
}

static uint32_t flow_of_ipv4(const uint8_t *ip, uint32_t len)
{
	uint32_t head;
	bool is_whole;

	if (len < 20)
		return 0;
	head = 4 * (ip[0] & 15u);
	/* Only the first fragment has ports: all go by the addresses alone. */
	is_whole = !(word16(ip + 6) & 0x3fff);
	if (!is_whole || !has_ports(ip[9]) || head < 20 || len < head + 4)
		return hash(ip + 12, 4, NULL);
	return hash(ip + 12, 4, ip + head);
}

static uint32_t flow_of_ipv6(const uint8_t *ip, uint32_t len)
{
	if (len < 40)
		return 0;
	return hash(ip + 8, 16, has_ports(ip[6]) && len >= 44 ? ip + 40 : NULL);
}

uint32_t venet_flow(const uint8_t *frame, uint32_t len)
{
	uint32_t at = 12, type = word16(frame + at);

	while ((type == VLAN || type == PROVIDER_VLAN) && at + 6 <= len && at < 20) {
		at += 4;
		type = word16(frame + at);
	}
	at += 2;
	if (type == IPV4)
		return flow_of_ipv4(frame + at, len - at);
	return type == IPV6 ? flow_of_ipv6(frame + at, len - at) : 0;
}
