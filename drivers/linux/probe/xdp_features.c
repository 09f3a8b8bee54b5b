// SPDX-License-Identifier: GPL-2.0-only
/* net_device.xdp_features says what a card does with XDP; since 6.3, and redirects ask it. */
#include <linux/netdevice.h>

void probe(struct net_device *netdev);
void probe(struct net_device *netdev)
{
	netdev->xdp_features = NETDEV_XDP_ACT_BASIC | NETDEV_XDP_ACT_REDIRECT |
			       NETDEV_XDP_ACT_NDO_XMIT;
}
