// SPDX-License-Identifier: GPL-2.0-only
/* venet_link.c - the card goes up and down, and what the stack may change of it meanwhile. */
#include <linux/etherdevice.h>
#include "vbus_port.h"
#include "venet.h"

void venet_update_carrier(struct venet *venet)
{
	u32 link = venet->status ? vbus_read32(&venet->status->link) : VENET_LINK_UP;

	if (!vbus_device_is_current(venet->vdev))
		return;
	if (link == VENET_LINK_DOWN)
		netif_carrier_off(venet->netdev);
	else
		netif_carrier_on(venet->netdev);
}

/* ---- What the host is told when the link comes up; rtnl held ---- */

/* Bits that were negotiated, and that the stack wants now. */
static u32 venet_offloads(const struct venet *venet, netdev_features_t features, bool one_page)
{
	if (one_page || !(features & NETIF_F_RXCSUM))
		return 0;
	return features & NETIF_F_GRO_HW ? venet->features.l4ro : venet->features.l4ro & VENET_SG;
}

int venet_tell_offloads(struct venet *venet, netdev_features_t features, bool one_page)
{
	__le32 bits = cpu_to_le32(venet_offloads(venet, features, one_page));

	if (!venet->features.l4ro)
		return 0;
	return vbus_device_call(venet->vdev, VENET_FUNC_OFFLOADS, &bits, sizeof(bits), NULL, 0);
}

static int venet_tell(struct venet *venet)
{
	int err = venet_tell_mode(venet);

	/* Everything that was negotiated is in use from LINKUP on. */
	if (!err)
		err = venet_tell_offloads(venet, venet->netdev->features,
					  rcu_access_pointer(venet->xdp));
	if (!err && venet->coalesce.events)
		err = venet_tell_coalesce(venet);
	return err;
}

/* ---- Up and down; rtnl held ---- */

static void venet_forget_rxqs(struct venet *venet)
{
	u32 i;

	for (i = 0; i < venet->pairs_max; i++)
		if (xdp_rxq_info_is_reg(&venet->pair[i].rx.info))
			xdp_rxq_info_unreg(&venet->pair[i].rx.info);
}

static int venet_add_rxqs(struct venet *venet)
{
	int err = 0;
	u32 i;

	for (i = 0; i < venet->pairs && !err; i++) {
		struct xdp_rxq_info *info = &venet->pair[i].rx.info;

		err = xdp_rxq_info_reg(info, venet->netdev, i, venet->pair[i].napi.napi_id);
		if (!err)
			err = xdp_rxq_info_reg_mem_model(info, MEM_TYPE_PAGE_SHARED, NULL);
	}
	if (err)
		venet_forget_rxqs(venet);
	return err;
}

static void venet_run(struct venet *venet)
{
	u32 i;

	WRITE_ONCE(venet->running, true);
	for (i = 0; i < venet->pairs; i++)
		napi_enable(&venet->pair[i].napi);
	netif_tx_wake_all_queues(venet->netdev);
	/* A ring is scanned once when it is registered, whatever was signalled. */
	local_bh_disable();
	for (i = 0; i < venet->pairs; i++)
		napi_schedule(&venet->pair[i].napi);
	local_bh_enable();
}

/* The device is up for the host from LINKUP on; frames may come at once. */
int venet_start(struct venet *venet)
{
	__le32 pairs = cpu_to_le32(venet->pairs);
	int err;
	u32 i;

	for (i = 0; i < venet->pairs; i++)
		venet_rx_fill(&venet->pair[i].rx);
	err = vbus_device_call(venet->vdev, VENET_FUNC_LINKUP, &pairs, sizeof(pairs), NULL, 0);
	if (err)
		return err;
	err = venet_tell(venet);
	if (!err)
		err = venet_add_rxqs(venet);
	if (err) {
		vbus_device_call(venet->vdev, VENET_FUNC_LINKDOWN, NULL, 0, NULL, 0);
		return err;
	}
	venet_update_carrier(venet);
	venet_run(venet);
	return 0;
}

/* No fast path runs when this returns.  NAPI first: it would wake the queues. */
void venet_halt(struct venet *venet)
{
	u32 i;

	if (!venet->running)
		return;
	WRITE_ONCE(venet->running, false);
	for (i = 0; i < venet->pairs; i++)
		napi_disable(&venet->pair[i].napi);
	/* This waits for whoever has the transmit lock, and so for XDP frames of other cards. */
	netif_tx_disable(venet->netdev);
	cancel_delayed_work_sync(&venet->watch);
	venet_forget_rxqs(venet);
	for (i = 0; i < venet->pairs; i++) {
		vbus_region_disable(venet->vdev, &venet->pair[i].rx.ring.region);
		vbus_region_disable(venet->vdev, &venet->pair[i].tx.ring.region);
	}
}

void venet_end(struct venet *venet, u32 first)
{
	bool served = venet_is_served(venet);
	u32 i;

	venet_halt(venet);
	if (served)
		vbus_device_call(venet->vdev, VENET_FUNC_LINKDOWN, NULL, 0, NULL, 0);
	for (i = first; i < venet->pairs; i++)
		venet_rx_discard(&venet->pair[i].rx);
}

int venet_set_pairs(struct venet *venet, u32 pairs)
{
	bool running = venet->running;
	int err;

	if (running)
		venet_end(venet, pairs);
	err = netif_set_real_num_tx_queues(venet->netdev, pairs);
	if (!err)
		err = netif_set_real_num_rx_queues(venet->netdev, pairs);
	if (!err)
		venet->pairs = pairs;
	else
		netif_set_real_num_tx_queues(venet->netdev, venet->pairs);
	if (running && !READ_ONCE(venet->frozen) && venet_start(venet))
		/* A lost connection is no lie, and a recovery goes on from here. */
		vbus_device_broken(venet->vdev, "a link that went down does not come up");
	return err;
}

/* ---- What the stack asks for ---- */

static int venet_open(struct net_device *netdev)
{
	struct venet *venet = netdev_priv(netdev);
	int err;

	err = venet_request_irqs(venet);
	if (err)
		return err;
	if (!READ_ONCE(venet->frozen))
		err = venet_start(venet);
	/* In the middle of a recovery: the replay starts what is up by then. */
	if (err && !READ_ONCE(venet->frozen))
		venet_free_irqs(venet);
	else
		err = 0;
	return err;
}

static int venet_stop(struct net_device *netdev)
{
	struct venet *venet = netdev_priv(netdev);

	if (venet->running)
		venet_end(venet, 0);
	venet_free_irqs(venet);
	return 0;
}

static int venet_change_mtu(struct net_device *netdev, int mtu)
{
	struct venet *venet = netdev_priv(netdev);

	if (rcu_access_pointer(venet->xdp) && mtu > venet_xdp_mtu_max()) {
		netdev_err(netdev, "an XDP program sees frames of MTU %u at most; detach it first\n",
			   venet_xdp_mtu_max());
		return -EINVAL;
	}
	WRITE_ONCE(netdev->mtu, mtu);
	return 0;
}

/* What was negotiated stays; the host is told what of it is wanted. */
static int venet_set_features(struct net_device *netdev, netdev_features_t features)
{
	struct venet *venet = netdev_priv(netdev);
	netdev_features_t changed = features ^ netdev->features;

	if (!venet_is_served(venet) || !(changed & (NETIF_F_RXCSUM | NETIF_F_GRO_HW)))
		return 0;
	return venet_told(venet_tell_offloads(venet, features, rcu_access_pointer(venet->xdp)));
}

static void venet_get_stats(struct net_device *netdev, struct rtnl_link_stats64 *sum)
{
	struct venet *venet = netdev_priv(netdev);
	u64 rx[VENET_RX_COUNTERS], tx[VENET_TX_COUNTERS];
	u32 i;

	for (i = 0; i < venet->pairs_max; i++) {
		venet_stats_read(&venet->pair[i].rx.stats, rx, VENET_RX_COUNTERS);
		venet_stats_read(&venet->pair[i].tx.stats, tx, VENET_TX_COUNTERS);
		sum->rx_packets += rx[VENET_RX_FRAMES];
		sum->rx_bytes += rx[VENET_RX_BYTES];
		sum->rx_dropped += rx[VENET_RX_DROPS] + rx[VENET_RX_XDP_DROPS];
		sum->rx_errors += rx[VENET_RX_ERRORS];
		sum->rx_frame_errors += rx[VENET_RX_ERRORS];
		sum->tx_packets += tx[VENET_TX_FRAMES];
		sum->tx_bytes += tx[VENET_TX_BYTES];
		sum->tx_dropped += tx[VENET_TX_DROPS] + tx[VENET_TX_XDP_DROPS];
	}
}

const struct net_device_ops venet_netdev_ops = {
	.ndo_open = venet_open,
	.ndo_stop = venet_stop,
	.ndo_start_xmit = venet_xmit,
	.ndo_features_check = venet_features_check,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_set_mac_address = venet_set_mac,
	.ndo_set_rx_mode = venet_set_rx_mode,
	.ndo_change_mtu = venet_change_mtu,
	.ndo_set_features = venet_set_features,
	.ndo_get_stats64 = venet_get_stats,
	.ndo_bpf = venet_bpf,
	.ndo_xdp_xmit = venet_xdp_xmit,
};
