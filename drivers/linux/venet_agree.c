// SPDX-License-Identifier: GPL-2.0-only
/* venet_agree.c - what the host offers and tells of a card, at first and after a recovery. */
#include <linux/etherdevice.h>
#include <linux/virtio_net.h>
#include "venet.h"

/* Segments of UDP are the headers' business, and older kernels' do not know them. */
#ifdef VIRTIO_NET_HDR_GSO_UDP_L4
#define VENET_WANTED_USO	VENET_SG_USO
#else
#define VENET_WANTED_USO	0
#endif

#define VENET_ONE_BUFFER_MTU \
	(VENET_BUFFER_MIN - (u32)sizeof(struct venet_header) - VENET_OVERHEAD)

/* Features that this driver makes use of. */
const struct venet_features venet_wanted = {
	.sg = VENET_SG | VENET_SG_TSO4 | VENET_SG_TSO6 | VENET_SG_ECN | VENET_WANTED_USO,
	.eventq = VENET_EVENTQ_LINKSTATE,
	.l4ro = VENET_SG | VENET_SG_TSO4 | VENET_SG_TSO6 | VENET_SG_ECN | VENET_WANTED_USO,
	.config = VENET_CONFIG_MTU | VENET_CONFIG_PAIRS | VENET_CONFIG_RXMODE,
};

/* ---- Features ---- */

static int venet_negotiate(struct vbus_device *vdev, struct venet_features *features)
{
	const struct {
		u32 group;
		u32 *bits;
	} groups[] = {
		{ VENET_GROUP_SG, &features->sg },
		{ VENET_GROUP_EVENTQ, &features->eventq },
		{ VENET_GROUP_L4RO, &features->l4ro },
		{ VENET_GROUP_CONFIG, &features->config },
	};
	int err = 0;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(groups) && !err; i++)
		err = vbus_device_negcap(vdev, groups[i].group, *groups[i].bits, groups[i].bits);
	return err;
}

int venet_connect(struct venet *venet, struct venet_features *features)
{
	int err;

	err = vbus_device_open(venet->vdev, VENET_VERSION);
	if (err)
		return err;
	err = venet_negotiate(venet->vdev, features);
	if (err)
		vbus_device_close(venet->vdev);
	return err;
}

bool venet_may(u32 bits, const struct venet_header *header)
{
	if (header->flags & ~(VENET_NEEDS_CSUM | VENET_DATA_VALID))
		return false;
	if (header->flags && !(bits & VENET_SG))
		return false;
	if (header->gso_type & VENET_GSO_ECN && !(bits & VENET_SG_ECN))
		return false;

	switch (header->gso_type & ~VENET_GSO_ECN) {
	case VENET_GSO_NONE:	return !header->gso_type;
	case VENET_GSO_TCPV4:	return bits & VENET_SG_TSO4;
	case VENET_GSO_TCPV6:	return bits & VENET_SG_TSO6;
	case VENET_GSO_UDP_L4:	return bits & VENET_SG_USO;
	}
	return false;
}

/* ---- What the host tells of the card ---- */

int venet_ask_pairs(struct venet *venet, u32 *pairs)
{
	__le32 said = cpu_to_le32(1);
	int err = 0;

	if (venet->features.config & VENET_CONFIG_PAIRS)
		err = vbus_device_call(venet->vdev, VENET_FUNC_PAIRSQUERY, NULL, 0, &said,
				       sizeof(said));
	*pairs = clamp(le32_to_cpu(said), 1u, VENET_PAIRS_MAX);
	return err;
}

static int venet_ask_mtu(struct venet *venet, u32 *mtu)
{
	__le32 said = cpu_to_le32(VENET_MTU_DEFAULT);
	int err = 0;

	if (venet->features.config & VENET_CONFIG_MTU)
		err = vbus_device_call(venet->vdev, VENET_FUNC_MTUQUERY, NULL, 0, &said,
				       sizeof(said));
	*mtu = clamp(le32_to_cpu(said), VENET_MTU_MIN, VENET_MTU_MAX);
	/* Without L4RO a frame comes in one buffer, and ours are short. */
	if (!(venet->features.l4ro & VENET_SG))
		*mtu = min(*mtu, VENET_ONE_BUFFER_MTU);
	return err;
}

/* Bits of the wire are features of the stack; ethtool -K chooses among them and changes no bit. */
static void venet_offer(struct venet *venet)
{
	struct net_device *netdev = venet->netdev;
	u32 sg = venet->features.sg, l4ro = venet->features.l4ro;

	if (sg & VENET_SG)
		netdev->hw_features |= NETIF_F_SG | NETIF_F_HW_CSUM;
	if (sg & VENET_SG_TSO4)
		netdev->hw_features |= NETIF_F_TSO;
	if (sg & VENET_SG_TSO6)
		netdev->hw_features |= NETIF_F_TSO6;
	if (sg & VENET_SG_ECN)
		netdev->hw_features |= NETIF_F_TSO_ECN;
	if (sg & VENET_SG_USO)
		netdev->hw_features |= NETIF_F_GSO_UDP_L4;
	netdev->vlan_features = netdev->hw_features | NETIF_F_HIGHDMA;

	if (l4ro & VENET_SG)
		netdev->hw_features |= NETIF_F_RXCSUM;
	if (l4ro & (VENET_SG_TSO4 | VENET_SG_TSO6 | VENET_SG_USO))
		netdev->hw_features |= NETIF_F_GRO_HW;
	netdev->features = netdev->hw_features | NETIF_F_HIGHDMA;
	netdev->priv_flags |= IFF_LIVE_ADDR_CHANGE;
}

int venet_configure(struct venet *venet)
{
	struct net_device *netdev = venet->netdev;
	u8 mac[ETH_ALEN];
	u32 mtu;
	int err;

	err = vbus_device_call(venet->vdev, VENET_FUNC_MACQUERY, NULL, 0, mac, sizeof(mac));
	if (err)
		return err;
	if (!is_valid_ether_addr(mac)) {
		dev_err(&venet->vdev->dev, "the host tells of a card that cannot be: MAC address\n");
		return -ENODEV;
	}
#ifdef VBUS_DEFECT_MAC	/* a planted defect: not the address that the card was given */
	mac[ETH_ALEN - 1] ^= 0x80;
#endif
	eth_hw_addr_set(netdev, mac);

	err = venet_ask_mtu(venet, &mtu);
	if (err)
		return err;
	netdev->min_mtu = VENET_MTU_MIN;
	netdev->max_mtu = mtu;
	netdev->mtu = mtu;
	venet_offer(venet);
	return 0;
}

/* What is in use is not taken away: the stack above was told of it when the card was found. */
int venet_compare(struct venet *venet, const struct venet_features *now)
{
	const struct venet_features *old = &venet->features;
	struct device *dev = &venet->vdev->dev;
	u32 pairs, mtu;
	int err;

	if (memcmp(now, old, sizeof(*now))) {
		dev_err(dev,
			"the host no longer offers what is in use: %#x:%#x:%#x:%#x, now %#x:%#x:%#x:%#x\n",
			old->sg, old->eventq, old->l4ro, old->config,
			now->sg, now->eventq, now->l4ro, now->config);
		return -EPROTO;
	}
	err = venet_ask_pairs(venet, &pairs);
	if (!err)
		err = venet_ask_mtu(venet, &mtu);
	if (err)
		return err;
	if (pairs < venet->pairs_max || mtu < venet->netdev->mtu) {
		dev_err(dev, "the host takes less than what is in use: %u pairs, MTU %u\n",
			pairs, mtu);
		return -EPROTO;
	}
	venet->netdev->max_mtu = mtu;
	return 0;
}
