// SPDX-License-Identifier: GPL-2.0-only
/*
 * power.c - sleep, hibernation, the next kernel.
 *
 * The host goes on while the guest sleeps, and may be another one when it wakes up.  So each way
 * back is the recovery's: everything stands still before, and a NEGOTIATE starts over after.
 */
#include "bridge.h"

/*
 * No work, no interrupt, no driver of ours looks at the window when this returns, and the host sees
 * that nobody is here: the next interrupt may meet another kernel.
 */
static void stand_still(struct vbus_bridge *bridge)
{
	struct vbus_device *vdev;

	WRITE_ONCE(bridge->stopping, true);
	vbus_session_halt(bridge);

	mutex_lock(&bridge->session);
	vbus_bridge_quiesce(bridge);
	list_for_each_entry(vdev, &bridge->devices, link)
		vbus_device_freeze(vdev);
	vbus_session_leave(bridge);
	mutex_unlock(&bridge->session);
}

static int __maybe_unused vbus_suspend(struct device *dev)
{
	stand_still(dev_get_drvdata(dev));
	return 0;
}

/* The PCI core has put BARs and vectors right.  Nobody waits for the host, as at boot. */
static int __maybe_unused vbus_resume(struct device *dev)
{
	struct vbus_bridge *bridge = dev_get_drvdata(dev);

	/* After hibernation this may be another window. */
	vbus_calls_go_on(bridge);
	WRITE_ONCE(bridge->silent, false);
	WRITE_ONCE(bridge->stopping, false);
	vbus_session_schedule(bridge);
	schedule_work(&bridge->spread);
	return 0;
}

SIMPLE_DEV_PM_OPS(vbus_power_ops, vbus_suspend, vbus_resume);

/* Reboot or kexec: whoever comes next finds nobody here.  No call is waited for. */
void vbus_power_off(struct vbus_bridge *bridge)
{
	WRITE_ONCE(bridge->gone, true);
	wake_up_all(&bridge->answered);
	stand_still(bridge);
}
