// SPDX-License-Identifier: GPL-2.0-only
/* netif_napi_add() takes no weight; since 6.1. */
#include <linux/netdevice.h>

void probe(struct net_device *netdev, struct napi_struct *napi,
	   int (*poll)(struct napi_struct *napi, int budget));
void probe(struct net_device *netdev, struct napi_struct *napi,
	   int (*poll)(struct napi_struct *napi, int budget))
{
	netif_napi_add(netdev, napi, poll);
}
