// SPDX-License-Identifier: GPL-2.0-only
/* vblk_disk.c - the disk towards the block layer: its name, its limits, its end. */
#include <linux/idr.h>
#include "vblk.h"
#include "vbus_compat.h"

#define VBLK_MINOR_BITS	4u	/* partitions beyond get extended numbers */

static int vblk_major;
static DEFINE_IDA(vblk_index);

int vblk_disk_register(void)
{
	vblk_major = register_blkdev(0, "vblk");
	return vblk_major < 0 ? vblk_major : 0;
}

void vblk_disk_unregister(void)
{
	unregister_blkdev(vblk_major, "vblk");
	ida_destroy(&vblk_index);
}

/* The last user has closed it: only now another disk may have its numbers. */
static void free_disk(struct gendisk *disk)
{
	ida_free(&vblk_index, disk->first_minor >> VBLK_MINOR_BITS);
}

static const struct block_device_operations vblk_fops = {
	.owner = THIS_MODULE,
	.free_disk = free_disk,
};

static ssize_t serial_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct vblk *vblk = dev_to_disk(dev)->private_data;

	return sysfs_emit(buf, "%s\n", vblk->limits.serial);
}
static DEVICE_ATTR_RO(serial);

static struct attribute *vblk_attrs[] = {
	&dev_attr_serial.attr,
	NULL
};
ATTRIBUTE_GROUPS(vblk);

/* vba to vbz, vbaa to vbzz and so on: letters are digits without a zero. */
static void name_disk(struct gendisk *disk, int index)
{
	char letters[8];
	int at = sizeof(letters) - 1;

	letters[at] = '\0';
	for (index++; index; index = (index - 1) / 26)
		letters[--at] = 'a' + (index - 1) % 26;
	snprintf(disk->disk_name, sizeof(disk->disk_name), "vb%s", letters + at);
}

static int alloc_tags(struct vblk *vblk)
{
	vblk->tags = (struct blk_mq_tag_set){
		.ops = &vblk_queue_ops,
		.nr_hw_queues = vblk->rings,
		.queue_depth = vblk->depth,
		.cmd_size = sizeof(struct vblk_command),
		.numa_node = NUMA_NO_NODE,
		.timeout = VBLK_TIMEOUT,
		.flags = BLK_MQ_F_SHOULD_MERGE,
		.driver_data = vblk,
	};
	return blk_mq_alloc_tag_set(&vblk->tags);
}

/* Data is copied: its pieces in memory are nobody's concern, so they may be any number and size. */
#if HAVE_DISK_LIMITS
static struct gendisk *alloc_disk_for(struct vblk *vblk)
{
	const struct vblk_limits *l = &vblk->limits;
	struct queue_limits limits = {
		.logical_block_size = l->logical,
		.physical_block_size = l->physical,
		.io_min = l->io_min,
		.io_opt = l->io_opt,
		.max_hw_sectors = l->request_pages * (VBUS_PAGE_SIZE / VBLK_SECTOR),
		.max_segments = USHRT_MAX,
		.max_segment_size = UINT_MAX,
	};

	if (vblk->commands & VBLK_COMMANDS_FLUSH)
		limits.features |= BLK_FEAT_WRITE_CACHE | BLK_FEAT_FUA;
	if (vblk->commands & VBLK_COMMANDS_DISCARD) {
		limits.max_hw_discard_sectors = l->zeroes;
		limits.discard_granularity = l->physical;
	}
	if (vblk->commands & VBLK_COMMANDS_ZEROES)
		limits.max_write_zeroes_sectors = l->zeroes;
	return blk_mq_alloc_disk(&vblk->tags, &limits, vblk);
}
#else
static void set_limits(struct vblk *vblk, struct request_queue *queue)
{
	const struct vblk_limits *l = &vblk->limits;
	bool cache = vblk->commands & VBLK_COMMANDS_FLUSH;

	blk_queue_logical_block_size(queue, l->logical);
	blk_queue_physical_block_size(queue, l->physical);
	if (l->io_min)
		blk_queue_io_min(queue, l->io_min);
	blk_queue_io_opt(queue, l->io_opt);
	blk_queue_max_hw_sectors(queue, l->request_pages * (VBUS_PAGE_SIZE / VBLK_SECTOR));
	blk_queue_max_segments(queue, USHRT_MAX);
	blk_queue_max_segment_size(queue, UINT_MAX);
	blk_queue_write_cache(queue, cache, cache);
	if (vblk->commands & VBLK_COMMANDS_DISCARD) {
		blk_queue_max_discard_sectors(queue, l->zeroes);
		queue->limits.discard_granularity = l->physical;
	}
	if (vblk->commands & VBLK_COMMANDS_ZEROES)
		blk_queue_max_write_zeroes_sectors(queue, l->zeroes);
	blk_queue_flag_set(QUEUE_FLAG_NONROT, queue);
	blk_queue_flag_clear(QUEUE_FLAG_ADD_RANDOM, queue);
}

static struct gendisk *alloc_disk_for(struct vblk *vblk)
{
	struct gendisk *disk = blk_mq_alloc_disk(&vblk->tags, vblk);

	if (!IS_ERR(disk))
		set_limits(vblk, disk->queue);
	return disk;
}
#endif

int vblk_disk_alloc(struct vblk *vblk)
{
	struct gendisk *disk;
	int index, err;

	index = ida_alloc_max(&vblk_index, (1 << (MINORBITS - VBLK_MINOR_BITS)) - 1, GFP_KERNEL);
	if (index < 0)
		return index;
	err = alloc_tags(vblk);
	if (err)
		goto err_index;
	disk = alloc_disk_for(vblk);
	if (IS_ERR(disk)) {
		err = PTR_ERR(disk);
		goto err_tags;
	}
	disk->major = vblk_major;
	disk->first_minor = index << VBLK_MINOR_BITS;
	disk->minors = 1 << VBLK_MINOR_BITS;
	disk->fops = &vblk_fops;
	disk->private_data = vblk;
	name_disk(disk, index);
	set_capacity(disk, vblk->limits.capacity);
	set_disk_ro(disk, vblk->limits.read_only);
	vblk->disk = disk;
	return 0;

err_tags:
	blk_mq_free_tag_set(&vblk->tags);
err_index:
	ida_free(&vblk_index, index);
	return err;
}

int vblk_disk_add(struct vblk *vblk)
{
	return device_add_disk(&vblk->vdev->dev, vblk->disk, vblk_groups);
}

void vblk_disk_remove(struct vblk *vblk)
{
	del_gendisk(vblk->disk);
}

void vblk_disk_free(struct vblk *vblk)
{
	/* One that never appeared has no last user, and gives its queue back here, tags in use. */
	if (!vblk->added)
		free_disk(vblk->disk);
	put_disk(vblk->disk);
	blk_mq_free_tag_set(&vblk->tags);
}

bool vblk_disk_drain(struct vblk *vblk, unsigned long patience)
{
	vbus_mq_freeze_start(vblk->disk->queue);
	if (blk_mq_freeze_queue_wait_timeout(vblk->disk->queue, patience) > 0)
		return true;
	vblk_disk_refill(vblk);
	return false;
}

void vblk_disk_refill(struct vblk *vblk)
{
	vbus_mq_unfreeze(vblk->disk->queue);
}

void vblk_disk_mark_dead(struct vblk *vblk)
{
	blk_mark_disk_dead(vblk->disk);
}

void vblk_disk_set_capacity(struct vblk *vblk, u64 capacity)
{
	set_capacity_and_notify(vblk->disk, capacity);
}
