// SPDX-License-Identifier: GPL-2.0-only
/* venet_ring.c - an IOQ in the window, and counters of what it moves. */
#include "venet.h"

int venet_ring_alloc(struct venet_ring *ring, u32 count)
{
	u32 part = IOQ_PART_SIZE(count);

	ring->count = count;
	ring->region.north_len = part;
	ring->region.south_len = part;
	ring->north = vbus_device_alloc(ring->vdev, part, &ring->region.north);
	ring->south = vbus_device_alloc(ring->vdev, part, &ring->region.south);
	if (!ring->north || !ring->south)
		return -ENOMEM;
	return vbus_region_map_irq(ring->vdev, &ring->region);
}

void venet_ring_free(struct venet_ring *ring)
{
	u32 part = IOQ_PART_SIZE(ring->count);

	vbus_region_unmap_irq(&ring->region);
	vbus_device_free(ring->vdev, ring->south, part);
	vbus_device_free(ring->vdev, ring->north, part);
	ring->south = NULL;
	ring->north = NULL;
}

int venet_ring_share(struct venet_ring *ring)
{
	ioq_north_init(&ring->q, ring->north, ring->south, ring->count);
	return vbus_device_share(ring->vdev, &ring->region);
}

int venet_ring_pop(struct venet_ring *ring, struct ioq_buffer *done)
{
	enum vbus_rc rc = ioq_pop(&ring->q, done);

	if (rc == VBUS_EMPTY)
		return -EAGAIN;
	return rc || done->id >= ring->count ? -EPROTO : 0;
}

/* u64_stats_fetch_begin_irq() is the one that 32-bit kernels before 6.3 need in process context. */
void venet_stats_read(const struct venet_stats *stats, u64 *value, u32 count)
{
	unsigned int start;
	u32 i;

	do {
		start = u64_stats_fetch_begin(&stats->sync);
		for (i = 0; i < count; i++)
			value[i] = u64_stats_read(&stats->value[i]);
	} while (u64_stats_fetch_retry(&stats->sync, start));
}
