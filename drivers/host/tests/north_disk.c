// SPDX-License-Identifier: MIT
/* north_disk.c - see north_disk.h. */
#include <string.h>

#include "north_disk.h"
#include "vbus_port.h"

int north_disk_devopen(struct vbus_client *n, struct north_disk *d, uint8_t number)
{
	struct vbus_devopen_request open = { .version = VBLK_VERSION };
	struct vbus_devopen_reply opened = { 0 };
	int rc;

	memset(d, 0, sizeof(*d));
	d->north = n;
	memset(open.uuid, number, sizeof(open.uuid));
	rc = north_call(n, VBUS_CALL_DEVOPEN, &open, sizeof(open), &opened, sizeof(opened));
	d->handle = opened.handle;
	return rc;
}

static uint32_t negcap(struct north_disk *d, uint32_t gid, uint32_t bits)
{
	struct vbus_negcap_request q = { .gid = gid, .bits = bits };
	struct vbus_negcap_reply a = { 0 };

	if (north_devcall(d->north, d->handle, VBUS_FUNC_NEGCAP, &q, sizeof(q), &a, sizeof(a)))
		return 0;
	return a.active;
}

static bool share_ring(struct north_disk *d, uint32_t i)
{
	uint32_t len = IOQ_PART_SIZE(NORTH_RING);
	struct vbus_client *n = d->north;
	uint64_t at = north_alloc(n, len), south = north_alloc(n, len);

	if (ioq_north_init(&d->ring[i], (void *)(n->base + at), (void *)(n->base + south),
			   NORTH_RING))
		return false;
	return !north_share(n, d->handle, VBLK_REGION_RING + i, at, south, len, len, &d->signal[i]);
}

static bool share_status(struct north_disk *d)
{
	uint64_t at = north_alloc(d->north, VBUS_PAGE_SIZE);

	d->status = (void *)(d->north->base + at);
	return !north_share(d->north, d->handle, VBLK_REGION_STATUS, 0, at, 0, sizeof(*d->status),
			    &d->status_signal);
}

bool north_disk_open(struct vbus_client *n, struct north_disk *d, uint8_t number, struct disk_wish wish)
{
	uint32_t i;

	if (north_disk_devopen(n, d, number))
		return false;
	d->commands = negcap(d, VBLK_GROUP_COMMANDS, wish.commands);
	d->config = negcap(d, VBLK_GROUP_CONFIG, wish.config);
	if (north_devcall(n, d->handle, VBLK_FUNC_QUERY, "", 0, &d->query, sizeof(d->query)))
		return false;
	d->queues = wish.queues;
	for (i = 0; i < d->queues; i++)
		if (!share_ring(d, i))
			return false;
	if ((d->config & VBLK_CONFIG_RESIZE) && !share_status(d))
		return false;
	d->request = north_alloc(n, DISK_SLOTS * VBUS_PAGE_SIZE);
	d->data = north_alloc(n, DISK_SLOTS * DISK_DATA);
	return d->request && d->data;
}

uint8_t *north_disk_data(struct north_disk *d, uint32_t slot)
{
	return d->north->base + d->data + slot * DISK_DATA;
}

struct vblk_request *north_disk_request(struct north_disk *d, uint32_t slot)
{
	return (void *)(d->north->base + d->request + slot * VBUS_PAGE_SIZE);
}

void north_disk_prepare(struct north_disk *d, uint32_t slot, enum vblk_op op, uint8_t flags,
			uint64_t sector, uint32_t bytes)
{
	struct vblk_request *q = north_disk_request(d, slot);
	bool moves = op == VBLK_OP_READ || op == VBLK_OP_WRITE;

	memset(q, 0, VBLK_REQUEST_SIZE(1));
	q->op = (uint8_t)op;
	q->flags = flags;
	q->sector = sector;
	q->segments = moves;
	if (!moves)
		q->sectors = bytes / VBLK_SECTOR;
	if (moves)
		q->segment[0] = (struct vblk_segment){
			.addr = d->data + slot * DISK_DATA, .len = bytes,
		};
}

void north_disk_push(struct north_disk *d, uint32_t ring, uint64_t addr, uint32_t len, uint32_t id)
{
	ioq_push(&d->ring[ring], addr, len, id);
	ioq_push_publish(&d->ring[ring]);
	north_inject(d->north, d->signal[ring]);
}

void north_disk_post(struct north_disk *d, uint32_t ring, uint32_t slot)
{
	d->posted |= 1u << slot;
	north_disk_push(d, ring, d->request + slot * VBUS_PAGE_SIZE,
			VBLK_REQUEST_SIZE(north_disk_request(d, slot)->segments), slot);
}

int north_disk_pop(struct north_disk *d, uint32_t ring, struct ioq_buffer *done)
{
	enum vbus_rc rc = ioq_pop(&d->ring[ring], done);

	if (rc == VBUS_EMPTY)
		return 0;
	if (rc)
		return -1;
	if (done->id < DISK_SLOTS)
		d->posted &= ~(1u << done->id);
	return 1;
}

bool north_disk_await(struct north_disk *d, uint32_t ring, struct ioq_buffer *done)
{
	uint64_t end = rig_now_ms() + RIG_DEADLINE_MS;
	int rc;

	while (!(rc = north_disk_pop(d, ring, done)) && rig_now_ms() < end) {
		/* Only a doorbell goes on from here, and the deadline is for a lost one. */
		if (!shm_signal_enable(&d->north->signals, d->signal[ring]))
			north_wait(d->north, RIG_DEADLINE_MS);
		north_scan(d->north);
	}
	return rc > 0;
}

int north_disk_do(struct north_disk *d, enum vblk_op op, uint8_t flags, uint64_t sector,
		  uint32_t bytes)
{
	struct ioq_buffer done;

	north_disk_prepare(d, 0, op, flags, sector, bytes);
	north_disk_post(d, 0, 0);
	return north_disk_await(d, 0, &done) && done.id == 0 ? (int)done.status : -1;
}
