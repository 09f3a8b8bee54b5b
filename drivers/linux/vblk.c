// SPDX-License-Identifier: GPL-2.0-only
/*
 * vblk.c - a virtual disk on the bus.
 *
 * One copy each way: the block layer's pages and the window's never meet otherwise.  A request
 * stays with its ring until the host's completion was believed; a new connection gets it once more.
 */
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include "vblk.h"
#include "vbus_port.h"

/* Features that this driver makes use of, per group. */
#define VBLK_WANTED_COMMANDS \
	(VBLK_COMMANDS_FLUSH | VBLK_COMMANDS_DISCARD | VBLK_COMMANDS_ZEROES)
#define VBLK_WANTED_CONFIG	(VBLK_CONFIG_RESIZE | VBLK_CONFIG_QUEUES)

/* ---- The host's disk ---- */

static int vblk_query(struct vblk *vblk, struct vblk_limits *limits)
{
	struct vblk_query_reply reply;
	const char *wrong;
	int err;

	err = vbus_device_call(vblk->vdev, VBLK_FUNC_QUERY, NULL, 0, &reply, sizeof(reply));
	if (err)
		return err;
	wrong = vblk_limits_judge(limits, &reply, vblk->commands);
	if (wrong) {
		dev_err(&vblk->vdev->dev, "the host tells of a disk that cannot be: %s\n", wrong);
		return -ENODEV;
	}
	return 0;
}

/* Open, negotiate: the same on the first day and after each recovery. */
static int vblk_connect(struct vblk *vblk, u32 *commands, u32 *config)
{
	struct vbus_device *vdev = vblk->vdev;
	int err;

	err = vbus_device_open(vdev, VBLK_VERSION);
	if (err)
		return err;
	err = vbus_device_negcap(vdev, VBLK_GROUP_COMMANDS, *commands, commands);
	if (err)
		goto err_close;
	err = vbus_device_negcap(vdev, VBLK_GROUP_CONFIG, *config, config);
	if (err)
		goto err_close;
	return 0;

err_close:
	vbus_device_close(vdev);
	return err;
}

/* ---- Another capacity ---- */

static void vblk_resize(struct work_struct *work)
{
	struct vblk *vblk = container_of(to_delayed_work(work), struct vblk, resize);
	u64 capacity = vbus_read64(&vblk->status->capacity);
	unsigned int noio;

	if (!vbus_device_is_current(vblk->vdev) || capacity == vblk->limits.capacity)
		return;
	if (!vblk_capacity_is_sane(capacity, vblk->limits.logical)) {
		vbus_device_broken(vblk->vdev, "a capacity that cannot be");
		return;
	}
	vblk->limits.capacity = capacity;
	/* Whoever recovers this disk comes after us. */
	noio = memalloc_noio_save();
	vblk_disk_set_capacity(vblk, capacity);
	memalloc_noio_restore(noio);
}

void vblk_status_signal(void *data)
{
	struct vblk *vblk = data;

	vbus_device_queue_work(vblk->vdev, &vblk->resize, 0);
}

/* ---- Bring up and down ---- */

static int vblk_share_status(struct vblk *vblk)
{
	int err;

	if (!vblk->status)
		return 0;
	err = vbus_device_share(vblk->vdev, &vblk->status_region);
	if (!err)
		vbus_region_enable(vblk->vdev, &vblk->status_region);
	return err;
}

static void vblk_unshare(struct vblk *vblk)
{
	u32 i;

	for (i = 0; i < vblk->rings; i++)
		vblk_ring_halt(&vblk->ring[i]);
	vbus_device_unshare(vblk->vdev, &vblk->status_region);
	cancel_delayed_work_sync(&vblk->resize);
}

static int vblk_share(struct vblk *vblk)
{
	int err = 0;
	u32 i;

	for (i = 0; !err && i < vblk->rings; i++)
		err = vblk_ring_share(&vblk->ring[i]);
	if (!err)
		err = vblk_share_status(vblk);
	return err;
}

static void vblk_start(struct vblk *vblk)
{
	u32 i;

	vblk->halted = false;
	for (i = 0; i < vblk->rings; i++)
		vblk_ring_start(&vblk->ring[i]);
	/* It may have moved between QUERY and the sharing. */
	if (vblk->status)
		vblk_status_signal(vblk);
}

/* No fast path runs when this returns; what the host has stays as it is. */
static void vblk_halt(struct vblk *vblk)
{
	if (vblk->halted)
		return;
	blk_mq_quiesce_queue(vblk->disk->queue);
	vblk_unshare(vblk);
	vblk->halted = true;
}

/* Nobody will complete anything: every request ends in an error, these and those to come. */
static void vblk_abandon(struct vblk *vblk)
{
	struct request_queue *queue = vblk->disk->queue;
	u32 i;

	mutex_lock(&vblk->mutex);
	if (!vblk->failed) {
		vblk_halt(vblk);
		vblk->failed = true;
		for (i = 0; i < vblk->rings; i++)
			vblk_ring_abandon(&vblk->ring[i]);
		blk_mq_unquiesce_queue(queue);
		blk_mq_start_stopped_hw_queues(queue, true);
	}
	mutex_unlock(&vblk->mutex);
}

/* ---- The device ---- */

/* Adding a disk reads it, and a host may be lost on the way: not under the bus's locks. */
static void vblk_appear(struct work_struct *work)
{
	struct vblk *vblk = container_of(work, struct vblk, appear);
	int err = vblk_disk_add(vblk);

	vblk->added = !err;
	if (err)
		dev_err(&vblk->vdev->dev, "the disk cannot be added: %pe\n", ERR_PTR(err));
}

/* Being removed, and a request is overdue: without a host it would keep us for ever. */
static void vblk_doubt(struct work_struct *work)
{
	struct vblk *vblk = container_of(work, struct vblk, doubt);
	struct vblk_limits now;

	if (READ_ONCE(vblk->hopeless) || test_bit(0, &vblk->vdev->broken) || vblk_query(vblk, &now))
		vblk_abandon(vblk);
}

static int vblk_first_connect(struct vblk *vblk)
{
	int err;

	err = vblk_connect(vblk, &vblk->commands, &vblk->config);
	if (err)
		return err;
	err = vblk_query(vblk, &vblk->limits);
	if (err)
		goto err_close;
	err = vblk_alloc(vblk);
	if (err)
		goto err_close;
	/* Before anything is shared: the host may tell of another capacity at once. */
	err = vblk_disk_alloc(vblk);
	if (err)
		goto err_free;
	err = vblk_share(vblk);
	if (err)
		goto err_disk;
	return 0;

err_disk:
	vblk_unshare(vblk);
	cancel_delayed_work_sync(&vblk->resize);
	vblk_disk_free(vblk);
err_free:
	/* The host lets go of the memory before anybody else gets it. */
	vbus_device_close(vblk->vdev);
	vblk_free(vblk);
	return err;
err_close:
	vbus_device_close(vblk->vdev);
	return err;
}

static int vblk_probe(struct vbus_device *vdev)
{
	struct vblk *vblk;
	int err;

	vblk = kzalloc(sizeof(*vblk), GFP_KERNEL);
	if (!vblk)
		return -ENOMEM;
	vblk->vdev = vdev;
	vblk->commands = VBLK_WANTED_COMMANDS;
	vblk->config = VBLK_WANTED_CONFIG;
	mutex_init(&vblk->mutex);
	INIT_WORK(&vblk->appear, vblk_appear);
	INIT_DELAYED_WORK(&vblk->resize, vblk_resize);
	INIT_WORK(&vblk->doubt, vblk_doubt);
	dev_set_drvdata(&vdev->dev, vblk);

	err = vblk_first_connect(vblk);
	if (err) {
		kfree(vblk);
		return err;
	}
	vbus_device_set_state(vdev, VBUS_OPEN);
	vblk_start(vblk);
	queue_work(system_long_wq, &vblk->appear);
	return 0;
}

/* With the host there what was written reaches it; without it nothing waits. */
static void vblk_remove(struct vbus_device *vdev)
{
	struct vblk *vblk = dev_get_drvdata(&vdev->dev);
	struct vblk_limits now;

	WRITE_ONCE(vblk->removing, true);
	if (vblk->halted || vblk_query(vblk, &now)) {
		/* First: marking it dead waits for what is written back. */
		vblk_abandon(vblk);
		vblk_disk_mark_dead(vblk);
	}
	cancel_work_sync(&vblk->appear);
	if (vblk->added)
		vblk_disk_remove(vblk);
	cancel_work_sync(&vblk->doubt);
	if (!vblk->halted)
		vblk_unshare(vblk);
	vblk_disk_free(vblk);
	vbus_device_close(vdev);
	vblk_free(vblk);
	kfree(vblk);
}

static void vblk_freeze(struct vbus_device *vdev)
{
	vblk_halt(dev_get_drvdata(&vdev->dev));
}

static void vblk_fail(struct vbus_device *vdev)
{
	vblk_abandon(dev_get_drvdata(&vdev->dev));
}

/* The disk may have grown or shrunk meanwhile; anything less than it was is another disk. */
static int vblk_reconnect(struct vblk *vblk, struct vblk_limits *now)
{
	u32 commands = vblk->commands, config = vblk->config;
	const char *lost;
	int err;

	err = vblk_connect(vblk, &commands, &config);
	if (err)
		return err;
	if (commands != vblk->commands || config != vblk->config) {
		dev_err(&vblk->vdev->dev,
			"the host no longer offers what is in use: %#x:%#x, now %#x:%#x\n",
			vblk->commands, vblk->config, commands, config);
		return -EPROTO;
	}
	err = vblk_query(vblk, now);
	if (err)
		return err;
	lost = vblk_limits_narrowed(&vblk->limits, now);
	if (lost) {
		dev_err(&vblk->vdev->dev, "the host's disk is not what it was: %s\n", lost);
		return -EPROTO;
	}
	return vblk_share(vblk);
}

static void vblk_resume(struct vblk *vblk, u64 capacity)
{
	if (vblk->failed) {
		/* All requests have ended, and the new connection gave all pages back. */
		blk_mq_quiesce_queue(vblk->disk->queue);
		vblk_pool_reset(&vblk->pool);
		vblk->failed = false;
	}
	if (capacity != vblk->limits.capacity) {
		vblk->limits.capacity = capacity;
		vblk_disk_set_capacity(vblk, capacity);
	}
	vblk_start(vblk);
	blk_mq_unquiesce_queue(vblk->disk->queue);
}

static int vblk_replay(struct vbus_device *vdev)
{
	struct vblk *vblk = dev_get_drvdata(&vdev->dev);
	struct vblk_limits now;
	int err;

	err = vblk_reconnect(vblk, &now);
	if (err) {
		vblk_unshare(vblk);
		vbus_device_close(vdev);
		return err;
	}
	vblk_resume(vblk, now.capacity);
	return 0;
}

/* ---- Sleep ---- */

/*
 * Before the bus: a CPU does not go offline while a request of its queue is with the host, and by
 * then nobody would bring it back.
 */
static int __maybe_unused vblk_suspend(struct device *dev)
{
	struct vblk *vblk = dev_get_drvdata(dev);

	if (vblk_disk_drain(vblk, VBLK_DRAIN))
		return 0;
	dev_err(dev, "the host does not complete: not put to sleep\n");
	return -EBUSY;
}

/* The queue stands still until the replay. */
static int __maybe_unused vblk_wake(struct device *dev)
{
	vblk_disk_refill(dev_get_drvdata(dev));
	return 0;
}

static SIMPLE_DEV_PM_OPS(vblk_power_ops, vblk_suspend, vblk_wake);

static struct vbus_driver vblk_driver = {
	.driver = { .name = "vblk", .pm = &vblk_power_ops },
	.type = VBLK_TYPE,
	.probe = vblk_probe,
	.remove = vblk_remove,
	.freeze = vblk_freeze,
	.replay = vblk_replay,
	.fail = vblk_fail,
};

static int __init vblk_init(void)
{
	int err;

	err = vblk_disk_register();
	if (err)
		return err;
	err = vbus_driver_register(&vblk_driver, THIS_MODULE);
	if (err)
		vblk_disk_unregister();
	return err;
}
module_init(vblk_init);

static void __exit vblk_exit(void)
{
	vbus_driver_unregister(&vblk_driver);
	vblk_disk_unregister();
}
module_exit(vblk_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("the vbuskit authors");
MODULE_DESCRIPTION("vblk: a virtual disk on vbus");
MODULE_VERSION(VBUS_RELEASE);
MODULE_ALIAS("vbus:" VBLK_TYPE);
