// SPDX-License-Identifier: GPL-2.0-only
/* venet_mode.c - what the host shall leave out: addresses that nobody here listens to. */
#include <linux/etherdevice.h>
#include <linux/rtnetlink.h>
#include "venet.h"

/* What the stack wants to receive now. */
static void venet_read_mode(struct net_device *netdev, struct venet_rxmode *mode)
{
	struct netdev_hw_addr *group;
	u32 flags = 0;
	u16 groups = 0;

	memset(mode, 0, sizeof(*mode));
	netif_addr_lock_bh(netdev);
	memcpy(mode->mac, netdev->dev_addr, ETH_ALEN);
	if (netdev->flags & IFF_PROMISC)
		flags |= VENET_PROMISC;
	if (netdev->flags & IFF_ALLMULTI || netdev_mc_count(netdev) > VENET_GROUPS_MAX)
		flags |= VENET_ALLMULTI;
	else
		netdev_for_each_mc_addr(group, netdev)
			memcpy(mode->group[groups++], group->addr, ETH_ALEN);
	netif_addr_unlock_bh(netdev);
	mode->flags = cpu_to_le32(flags);
	mode->groups = cpu_to_le16(groups);
}

/* Rtnl held. */
int venet_tell_mode(struct venet *venet)
{
	struct venet_rxmode mode;

	if (!(venet->features.config & VENET_CONFIG_RXMODE))
		return 0;
	venet_read_mode(venet->netdev, &mode);
	return vbus_device_call(venet->vdev, VENET_FUNC_RXMODE, &mode, sizeof(mode), NULL, 0);
}

void venet_mode_work(struct work_struct *work)
{
	struct venet *venet = container_of(work, struct venet, mode);
	int err = 0;

	rtnl_lock();
	/* One that is not up tells it when it comes up. */
	if (venet_is_served(venet))
		err = venet_told(venet_tell_mode(venet));
	rtnl_unlock();
	if (err)
		netdev_warn(venet->netdev, "the host does not take what to receive: %pe\n",
			    ERR_PTR(err));
}

/* Addresses of ours beyond the first make the stack ask for everything: it has no filter here. */
void venet_set_rx_mode(struct net_device *netdev)
{
	struct venet *venet = netdev_priv(netdev);

	schedule_work(&venet->mode);
}

int venet_set_mac(struct net_device *netdev, void *address)
{
	struct venet *venet = netdev_priv(netdev);
	int err = eth_mac_addr(netdev, address);

	if (!err)
		schedule_work(&venet->mode);
	return err;
}
