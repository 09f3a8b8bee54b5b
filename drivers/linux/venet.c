// SPDX-License-Identifier: GPL-2.0-only
/*
 * venet.c - a virtual Ethernet card on the bus.
 *
 * One copy each way: a frame is copied into the window when it is sent and out of it when it is
 * received; nothing that the stack holds ever points into the window.
 */
#include <linux/etherdevice.h>
#include <linux/module.h>
#include <linux/rtnetlink.h>
#include "vbus_compat.h"
#include "venet.h"

#define VENET_CARRIER_PATIENCE	(5 * HZ)	/* a faster recovery leaves the carrier alone */

static void venet_lost(struct work_struct *work)
{
	netif_carrier_off(container_of(to_delayed_work(work), struct venet, lost)->netdev);
}

static int venet_share_status(struct venet *venet)
{
	int err;

	if (!(venet->features.eventq & VENET_EVENTQ_LINKSTATE))
		return 0;
	err = vbus_device_share(venet->vdev, &venet->status_region);
	if (!err)
		vbus_region_enable(venet->vdev, &venet->status_region);
	return err;
}

/* ---- The device ---- */

static int venet_share(struct venet *venet)
{
	int err;

	err = venet_pairs_share(venet);
	return err ? err : venet_share_status(venet);
}

static void venet_unshare(struct venet *venet)
{
	vbus_device_unshare(venet->vdev, &venet->status_region);
	venet_pairs_unshare(venet);
}

static int venet_alloc_status(struct venet *venet)
{
	void *page;

	if (!(venet->features.eventq & VENET_EVENTQ_LINKSTATE))
		return 0;
	venet->status_region = (struct vbus_region){
		.number = VENET_REGION_STATUS,
		.south_len = sizeof(struct venet_status),
	};
	page = vbus_device_alloc(venet->vdev, PAGE_SIZE, &venet->status_region.south);
	venet->status = page;
	return page ? vbus_region_map_irq(venet->vdev, &venet->status_region) : -ENOMEM;
}

static int venet_alloc(struct venet *venet, u32 pairs)
{
	int err;

	err = venet_pairs_alloc(venet, pairs);
	return err ? err : venet_alloc_status(venet);
}

static void venet_free(struct venet *venet)
{
	vbus_region_unmap_irq(&venet->status_region);
	vbus_device_free(venet->vdev, (void *)venet->status, PAGE_SIZE);
	venet_pairs_free(venet);
}

/* ---- Probe and remove ---- */

static struct net_device *venet_create(struct vbus_device *vdev)
{
	u32 queues = min(num_possible_cpus(), VENET_PAIRS_MAX);
	struct net_device *netdev = alloc_etherdev_mqs(sizeof(struct venet), queues, queues);
	struct venet *venet;

	if (!netdev)
		return NULL;
	venet = netdev_priv(netdev);
	venet->vdev = vdev;
	venet->netdev = netdev;
	venet->features = venet_wanted;
	netdev->netdev_ops = &venet_netdev_ops;
	netdev->ethtool_ops = &venet_ethtool_ops;
	SET_NETDEV_DEV(netdev, &vdev->dev);
	INIT_WORK(&venet->mode, venet_mode_work);
	INIT_DELAYED_WORK(&venet->lost, venet_lost);
	INIT_DELAYED_WORK(&venet->watch, venet_watch);
	dev_set_drvdata(&vdev->dev, venet);
	return netdev;
}

/* As many pairs as there are CPUs, unless the host serves fewer or the memory pays for fewer. */
static int venet_size(struct venet *venet)
{
	u32 pairs;
	int err;

	err = venet_ask_pairs(venet, &pairs);
	if (err)
		return err;
	pairs = min3(pairs, venet->netdev->num_tx_queues, venet_pairs_paid(venet->vdev));
	err = venet_alloc(venet, pairs);
	if (err)
		return err;
	return venet_set_pairs(venet, min(pairs, num_online_cpus()));
}

static int venet_probe(struct vbus_device *vdev)
{
	struct net_device *netdev = venet_create(vdev);
	struct venet *venet;
	int err;

	if (!netdev)
		return -ENOMEM;
	venet = netdev_priv(netdev);
	err = venet_connect(venet, &venet->features);
	if (err)
		goto err_netdev;
	err = venet_size(venet);
	if (err)
		goto err_unshare;
	err = venet_share(venet);
	if (err)
		goto err_unshare;
	err = venet_configure(venet);
	if (err)
		goto err_unshare;

	netif_carrier_off(netdev);
	vbus_device_set_state(vdev, VBUS_OPEN);
	vbus_xdp_features(netdev);
	err = register_netdev(netdev);
	if (err)
		goto err_unshare;
	return 0;

err_unshare:
	/* As far as it came: what is not there is not given back. */
	venet_unshare(venet);
	/* The host lets go of the memory before anybody else gets it. */
	vbus_device_close(vdev);
	venet_free(venet);
err_netdev:
	free_netdev(netdev);
	return err;
}

static void venet_remove(struct vbus_device *vdev)
{
	struct venet *venet = dev_get_drvdata(&vdev->dev);

	unregister_netdev(venet->netdev);
	cancel_work_sync(&venet->mode);
	cancel_delayed_work_sync(&venet->lost);
	venet_unshare(venet);
	vbus_device_close(vdev);
	venet_free(venet);
	free_netdev(venet->netdev);
}

/* ---- Recovery ---- */

/*
 * Not under rtnl, whose holder may wait for a disk that this recovery brings back.  So fast paths
 * may run on, over rings that nobody looks at, until the replay halts them; the queues are stopped,
 * so that frames wait.
 */
static void venet_freeze(struct vbus_device *vdev)
{
	struct venet *venet = dev_get_drvdata(&vdev->dev);

	WRITE_ONCE(venet->frozen, true);
	netif_tx_stop_all_queues(venet->netdev);
	/* The numbers of these signals may be another device's from the next connection on. */
	venet_unshare(venet);
	vbus_device_queue_work(vdev, &venet->lost, VENET_CARRIER_PATIENCE);
}

/* What was in flight counts as sent; the carrier does not change.  Rtnl held. */
static int venet_reconnect(struct venet *venet)
{
	struct venet_features now = venet->features;
	int err;

	venet_halt(venet);
	netif_tx_disable(venet->netdev);
	err = venet_connect(venet, &now);
	if (err)
		return err;
	err = venet_compare(venet, &now);
	if (err)
		return err;
	err = venet_share(venet);
	if (err)
		return err;
	/* Before a ring moves: a queue that stops while this is set would not be woken again. */
	WRITE_ONCE(venet->frozen, false);
	if (netif_running(venet->netdev))
		err = venet_start(venet);
	if (err)
		WRITE_ONCE(venet->frozen, true);
	return err;
}

static int venet_replay(struct vbus_device *vdev)
{
	struct venet *venet = dev_get_drvdata(&vdev->dev);
	int err;

	if (!rtnl_trylock())
		return -EAGAIN;
	err = venet_reconnect(venet);
	rtnl_unlock();
	if (err) {
		venet_unshare(venet);
		vbus_device_close(vdev);
		vbus_device_queue_work(vdev, &venet->lost, VENET_CARRIER_PATIENCE);
	} else {
		cancel_delayed_work_sync(&venet->lost);
	}
	return err;
}

static void venet_fail(struct vbus_device *vdev)
{
	struct venet *venet = dev_get_drvdata(&vdev->dev);

	cancel_delayed_work_sync(&venet->lost);
	netif_carrier_off(venet->netdev);
}

/* ---- Sleep: before the bus itself, and after it ---- */

static int __maybe_unused venet_suspend(struct device *dev)
{
	struct venet *venet = dev_get_drvdata(dev);

	rtnl_lock();
	if (venet->running)
		venet_end(venet, 0);
	netif_tx_disable(venet->netdev);
	rtnl_unlock();
	return 0;
}

/* A replay starts the card, unless the bus did not sleep. */
static int __maybe_unused venet_resume(struct device *dev)
{
	struct venet *venet = dev_get_drvdata(dev);

	rtnl_lock();
	if (!READ_ONCE(venet->frozen) && netif_running(venet->netdev) && !venet->running &&
	    venet_start(venet))
		vbus_device_broken(venet->vdev, "a link that slept does not come up");
	rtnl_unlock();
	return 0;
}

static SIMPLE_DEV_PM_OPS(venet_power_ops, venet_suspend, venet_resume);

static struct vbus_driver venet_driver = {
	.driver = { .name = "venet", .pm = &venet_power_ops },
	.type = VENET_TYPE,
	.probe = venet_probe,
	.remove = venet_remove,
	.freeze = venet_freeze,
	.replay = venet_replay,
	.fail = venet_fail,
};

static int __init venet_init(void)
{
	return vbus_driver_register(&venet_driver, THIS_MODULE);
}
module_init(venet_init);

static void __exit venet_exit(void)
{
	vbus_driver_unregister(&venet_driver);
}
module_exit(venet_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("the vbuskit authors");
MODULE_DESCRIPTION("venet: a virtual Ethernet card on vbus");
MODULE_VERSION(VBUS_RELEASE);
MODULE_ALIAS("vbus:" VENET_TYPE);
