/* SPDX-License-Identifier: MIT */
/*
 * venet_abi.h - the virtual Ethernet device: functions, features, regions, frames.
 *
 * Numbers that the original had keep their meaning (venet.h, 2009 to 2012).
 */
#ifndef VENET_ABI_H
#define VENET_ABI_H

#include "vbus_abi.h"

#define VENET_TYPE		"venet"
#define VENET_VERSION		1u
#define VENET_PAIRS_MAX		16u	/* of receive and transmit rings */
#define VENET_MTU_MIN		68u
#define VENET_MTU_DEFAULT	1500u
#define VENET_MTU_MAX		65521u	/* such that a frame fits into VENET_FRAME_MAX */
#define VENET_OVERHEAD		22u	/* Ethernet header and two VLAN tags */
#define VENET_FRAME_MIN		14u	/* an Ethernet header */
#define VENET_FRAME_MAX		65557u	/* 64 KiB less 1 that wait for segmentation, and OVERHEAD */
#define VENET_SEGMENTS_MAX	2048u	/* that a frame may wait to be cut into */
#define VENET_BUFFER_MIN	2048u	/* room of a receive buffer, header included */

/* DEVCALL functions; VBUS_FUNC_NEGCAP is 3. */
#define VENET_FUNC_LINKUP	0u	/* le32 pairs; rings 0 to pairs - 1 must be registered */
#define VENET_FUNC_LINKDOWN	1u
#define VENET_FUNC_MACQUERY	2u	/* -> 6 bytes */
#define VENET_FUNC_MTUQUERY	16u	/* -> le32; needs VENET_CONFIG_MTU */
#define VENET_FUNC_PAIRSQUERY	17u	/* -> le32, at most; needs VENET_CONFIG_PAIRS */
#define VENET_FUNC_RXMODE	18u	/* struct venet_rxmode; needs VENET_CONFIG_RXMODE */
#define VENET_FUNC_OFFLOADS	19u	/* le32: bits of L4RO in use now, of those active */

/*
 * Feature groups and their bits.  SG is what the north sends, L4RO what it takes.  All others of
 * these two need SG of their group, ECN one of TSO4 and TSO6.
 */
#define VENET_GROUP_SG		0u
#define VENET_GROUP_EVENTQ	1u
#define VENET_GROUP_L4RO	2u
#define VENET_GROUP_CONFIG	3u

#define VENET_SG		(1u << 0)	/* checksums may be partial: NEEDS_CSUM */
#define VENET_SG_TSO4		(1u << 1)
#define VENET_SG_TSO6		(1u << 2)
#define VENET_SG_ECN		(1u << 3)
#define VENET_SG_USO		(1u << 6)	/* bits 4 and 5 were the original's UFO and PMTD */
#define VENET_EVENTQ_LINKSTATE	(1u << 0)	/* the status region tells link changes */
#define VENET_CONFIG_MTU	(1u << 0)	/* the host tells the MTU */
#define VENET_CONFIG_PAIRS	(1u << 1)	/* more than one pair of rings */
#define VENET_CONFIG_RXMODE	(1u << 2)	/* the host leaves out what nobody asked for */

/* DEVSHM regions: the rings of pair n are 2n and 2n + 1, named from the guest's view. */
#define VENET_REGION_RX(n)	(2u * (n))	/* IOQ; room for frames */
#define VENET_REGION_TX(n)	(2u * (n) + 1u)	/* IOQ; a descriptor is a frame */
#define VENET_REGION_STATUS	101u	/* south: struct venet_status; needs LINKSTATE */

#define VENET_LINK_DOWN		0u
#define VENET_LINK_UP		1u

struct venet_status {
	vbus_le32 link;		/* VENET_LINK_* */
	vbus_le32 reserved;
};

/* venet_header's flags and types: virtio 1.2, 5.1.6. */
#define VENET_NEEDS_CSUM	(1u << 0)
#define VENET_DATA_VALID	(1u << 1)	/* to the north: the checksum was found right */
#define VENET_GSO_NONE		0u
#define VENET_GSO_TCPV4		1u
#define VENET_GSO_TCPV6		4u
#define VENET_GSO_UDP_L4	5u
#define VENET_GSO_ECN		0x80u

/**
 * struct venet_header - before each frame, in both directions; all 0 without SG and L4RO
 *
 * Its first ten bytes are virtio's, so that kernels on both sides judge and fill them with what
 * they have for that (virtio 1.2, 5.1.6: struct virtio_net_hdr).
 *
 * @flags:       VENET_NEEDS_CSUM, VENET_DATA_VALID
 * @gso_type:    VENET_GSO_*; more than one segment in the frame
 * @hdr_len:     bytes of all headers, a hint
 * @gso_size:    payload of a segment, bytes
 * @csum_start, @csum_offset: from the frame's first byte; from there
 * @buffers:     to the north: so many completions in a row hold the frame; from the north 0
 */
struct venet_header {
	uint8_t flags;
	uint8_t gso_type;
	vbus_le16 hdr_len;
	vbus_le16 gso_size;
	vbus_le16 csum_start;
	vbus_le16 csum_offset;
	vbus_le16 buffers;
	vbus_le32 reserved;
};
VBUS_STATIC_ASSERT(offsetof(struct venet_header, csum_offset) == 8);
VBUS_STATIC_ASSERT(offsetof(struct venet_header, buffers) == 10);
VBUS_STATIC_ASSERT(sizeof(struct venet_header) == 16);

#define VENET_PROMISC		(1u << 0)	/* everything */
#define VENET_ALLMULTI		(1u << 1)	/* every group */
#define VENET_GROUPS_MAX	32u

/**
 * struct venet_rxmode - what the north wants to receive, besides broadcasts
 * @flags:  VENET_PROMISC, VENET_ALLMULTI
 * @groups: used of @group
 * @mac:    its address now
 */
struct venet_rxmode {
	vbus_le32 flags;
	vbus_le16 groups;
	uint8_t mac[6];
	uint8_t group[VENET_GROUPS_MAX][6];
};
VBUS_STATIC_ASSERT(offsetof(struct venet_rxmode, mac) == 6);
VBUS_STATIC_ASSERT(offsetof(struct venet_rxmode, group) == 12);
VBUS_STATIC_ASSERT(sizeof(struct venet_rxmode) == 204);

#endif /* VENET_ABI_H */
