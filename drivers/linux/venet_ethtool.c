// SPDX-License-Identifier: GPL-2.0-only
/* venet_ethtool.c - what an administrator sees of a card and may change while it runs. */
#include <linux/ethtool.h>
#include "venet.h"

static void venet_get_drvinfo(struct net_device *netdev, struct ethtool_drvinfo *info)
{
	struct venet *venet = netdev_priv(netdev);

	strscpy(info->driver, KBUILD_MODNAME, sizeof(info->driver));
	strscpy(info->version, VBUS_RELEASE, sizeof(info->version));
	strscpy(info->bus_info, dev_name(&venet->vdev->dev), sizeof(info->bus_info));
}

/* ---- Channels: pairs in use ---- */

static void venet_get_channels(struct net_device *netdev, struct ethtool_channels *channels)
{
	struct venet *venet = netdev_priv(netdev);

	channels->max_combined = venet->pairs_max;
	channels->combined_count = venet->pairs;
}

/* The kernel has judged that it is 1 to the maximum. */
static int venet_set_channels(struct net_device *netdev, struct ethtool_channels *channels)
{
	return venet_set_pairs(netdev_priv(netdev), channels->combined_count);
}

/* ---- Rings: how much of them is in use ---- */

static void venet_get_ringparam(struct net_device *netdev, struct ethtool_ringparam *rings,
				struct kernel_ethtool_ringparam *more,
				struct netlink_ext_ack *extack)
{
	struct venet *venet = netdev_priv(netdev);

	rings->rx_max_pending = venet->pair->rx.ring.count;
	rings->tx_max_pending = venet->pair->tx.ring.count;
	rings->rx_pending = venet->pair->rx.limit;
	rings->tx_pending = venet->pair->tx.limit;
}

static int venet_set_ringparam(struct net_device *netdev, struct ethtool_ringparam *rings,
			       struct kernel_ethtool_ringparam *more,
			       struct netlink_ext_ack *extack)
{
	struct venet *venet = netdev_priv(netdev);
	u32 i;

	if (rings->rx_pending < VENET_RING_MIN || rings->tx_pending < VENET_RING_MIN) {
		NL_SET_ERR_MSG_MOD(extack, "a ring has 64 descriptors at least: a long frame takes 33");
		return -EINVAL;
	}
	for (i = 0; i < venet->pairs_max; i++) {
		WRITE_ONCE(venet->pair[i].rx.limit, rings->rx_pending);
		WRITE_ONCE(venet->pair[i].tx.limit, rings->tx_pending);
	}
	/* Buffers that the host may have now, and did not get. */
	local_bh_disable();
	for (i = 0; venet->running && i < venet->pairs; i++)
		napi_schedule(&venet->pair[i].napi);
	local_bh_enable();
	return 0;
}

/* ---- Coalescing: SIGROUTE's, for the event queue of each pair ---- */

int venet_tell_coalesce(struct venet *venet)
{
	u32 events = venet->coalesce.events, us = venet->coalesce.microseconds;
	int err = 0;
	u32 i;

	for (i = 0; i < venet->pairs && !err; i++) {
		const struct venet_pair *pair = &venet->pair[i];

		err = vbus_device_coalesce(venet->vdev, READ_ONCE(pair->rx.ring.region.queue),
					   events, us);
		if (!err)
			err = vbus_device_coalesce(venet->vdev,
						   READ_ONCE(pair->tx.ring.region.queue),
						   events, us);
	}
	return err;
}

static int venet_get_coalesce(struct net_device *netdev, struct ethtool_coalesce *coalesce,
			      struct kernel_ethtool_coalesce *more,
			      struct netlink_ext_ack *extack)
{
	struct venet *venet = netdev_priv(netdev);

	coalesce->rx_coalesce_usecs = venet->coalesce.microseconds;
	coalesce->rx_max_coalesced_frames = venet->coalesce.events;
	return 0;
}

static int venet_set_coalesce(struct net_device *netdev, struct ethtool_coalesce *coalesce,
			      struct kernel_ethtool_coalesce *more,
			      struct netlink_ext_ack *extack)
{
	struct venet *venet = netdev_priv(netdev);
	u32 events = coalesce->rx_max_coalesced_frames, us = coalesce->rx_coalesce_usecs;

	if (events > VBUS_COALESCE_EVENTS || us > VBUS_COALESCE_US) {
		NL_SET_ERR_MSG_MOD(extack, "at most 4096 frames and 100000 microseconds");
		return -EINVAL;
	}
	if (events > 1 && !us) {
		NL_SET_ERR_MSG_MOD(extack, "frames would wait for ever without rx-usecs");
		return -EINVAL;
	}
	/* Only a time: as many frames as come in it. */
	if (us && events <= 1)
		events = VBUS_COALESCE_EVENTS;
	venet->coalesce.events = us ? events : 0;
	venet->coalesce.microseconds = us;
	return venet_is_served(venet) ? venet_told(venet_tell_coalesce(venet)) : 0;
}

/* ---- Counters; frames, bytes and drops as the host names its own ---- */

static const char *const rx_names[VENET_RX_COUNTERS] = {
	[VENET_RX_FRAMES] = "frames",
	[VENET_RX_BYTES] = "bytes",
	[VENET_RX_DROPS] = "drops",
	[VENET_RX_ERRORS] = "errors",
	[VENET_RX_XDP_FRAMES] = "xdp_frames",
	[VENET_RX_XDP_DROPS] = "xdp_drops",
	[VENET_RX_XDP_TX] = "xdp_tx",
	[VENET_RX_XDP_REDIRECTS] = "xdp_redirects",
};

static const char *const tx_names[VENET_TX_COUNTERS] = {
	[VENET_TX_FRAMES] = "frames",
	[VENET_TX_BYTES] = "bytes",
	[VENET_TX_DROPS] = "drops",
	[VENET_TX_STOPS] = "stops",
	[VENET_TX_XDP_FRAMES] = "xdp_frames",
	[VENET_TX_XDP_DROPS] = "xdp_drops",
};

static int venet_get_sset_count(struct net_device *netdev, int set)
{
	struct venet *venet = netdev_priv(netdev);

	if (set != ETH_SS_STATS)
		return -EOPNOTSUPP;
	return venet->pairs_max * (VENET_RX_COUNTERS + VENET_TX_COUNTERS);
}

static void venet_get_strings(struct net_device *netdev, u32 set, u8 *to)
{
	struct venet *venet = netdev_priv(netdev);
	u32 i, n;

	if (set != ETH_SS_STATS)
		return;
	for (i = 0; i < venet->pairs_max; i++) {
		for (n = 0; n < VENET_RX_COUNTERS; n++, to += ETH_GSTRING_LEN)
			snprintf(to, ETH_GSTRING_LEN, "rx%u_%s", i, rx_names[n]);
		for (n = 0; n < VENET_TX_COUNTERS; n++, to += ETH_GSTRING_LEN)
			snprintf(to, ETH_GSTRING_LEN, "tx%u_%s", i, tx_names[n]);
	}
}

static void venet_get_counters(struct net_device *netdev, struct ethtool_stats *stats, u64 *value)
{
	struct venet *venet = netdev_priv(netdev);
	u32 i;

	for (i = 0; i < venet->pairs_max; i++) {
		venet_stats_read(&venet->pair[i].rx.stats, value, VENET_RX_COUNTERS);
		value += VENET_RX_COUNTERS;
		venet_stats_read(&venet->pair[i].tx.stats, value, VENET_TX_COUNTERS);
		value += VENET_TX_COUNTERS;
	}
}

const struct ethtool_ops venet_ethtool_ops = {
	.supported_coalesce_params = ETHTOOL_COALESCE_RX_USECS | ETHTOOL_COALESCE_RX_MAX_FRAMES,
	.get_drvinfo = venet_get_drvinfo,
	.get_link = ethtool_op_get_link,
	.get_ts_info = ethtool_op_get_ts_info,
	.get_channels = venet_get_channels,
	.set_channels = venet_set_channels,
	.get_ringparam = venet_get_ringparam,
	.set_ringparam = venet_set_ringparam,
	.get_coalesce = venet_get_coalesce,
	.set_coalesce = venet_set_coalesce,
	.get_sset_count = venet_get_sset_count,
	.get_strings = venet_get_strings,
	.get_ethtool_stats = venet_get_counters,
};
