// SPDX-License-Identifier: MIT
/* bench_disk.c - vblk: so many requests in flight, of one size, one segment each. */
#include <string.h>

#include "bench.h"
#include "vblk_abi.h"
#include "vbus_port.h"

#define SLOTS	64u

/**
 * struct disk - an open device with one ring
 * @blocks:  of the bench's size, on the disk; @next: where the next sequential one lies
 * @request, @data: window offsets: a page and size bytes for each slot
 * @posted:  when each slot's request was handed over, ns
 * @state:   of the random numbers
 */
struct disk {
	uint32_t handle;
	uint32_t signal;
	struct ioq ring;
	uint64_t blocks;
	uint64_t next;
	uint64_t request, data;
	uint64_t posted[SLOTS];
	uint32_t flying;
	uint64_t state;
};

static int share_ring(struct bench *b, struct disk *d)
{
	const uint32_t len = IOQ_PART_SIZE(SLOTS);
	struct vbus_client *c = &b->client;
	struct vbus_devshm_request q = {
		.handle = vbus_cpu_to_le32(d->handle),
		.region = vbus_cpu_to_le32(VBLK_REGION_RING),
		.queue = vbus_cpu_to_le32(1),
		.north = vbus_cpu_to_le64(vbus_client_alloc(c, len)),
		.south = vbus_cpu_to_le64(vbus_client_alloc(c, len)),
		.north_len = vbus_cpu_to_le32(len),
		.south_len = vbus_cpu_to_le32(len),
	};

	d->request = vbus_client_alloc(c, (uint64_t)b->depth * VBUS_PAGE_SIZE);
	d->data = vbus_client_alloc(c, (uint64_t)b->depth * b->size);
	if (!q.north || !q.south || !d->request || !d->data)
		return VBUS_CLIENT_NO_SPACE;
	if (ioq_north_init(&d->ring, (void *)(c->base + vbus_le64_to_cpu(q.north)),
			   (void *)(c->base + vbus_le64_to_cpu(q.south)), SLOTS))
		return VBUS_CLIENT_INVALID;
	return vbus_client_share(c, &q, &d->signal);
}

/* FLUSH is picked and never sent: without it every write would be one. */
static int open_disk(struct bench *b, struct disk *d)
{
	struct vblk_query_reply query;
	uint32_t active;
	int rc;

	*d = (struct disk){ .state = bench_now() | 1 };
	if (!b->depth || b->depth > SLOTS || !b->size)
		return VBUS_CLIENT_INVALID;
	rc = vbus_client_dev_open(&b->client, b->uuid, VBLK_VERSION, &d->handle, NULL);
	if (!rc)
		rc = vbus_client_dev_features(&b->client, d->handle, VBLK_GROUP_COMMANDS,
					      VBLK_COMMANDS_FLUSH, &active);
	if (!rc)
		rc = vbus_client_dev_call(&b->client, d->handle, VBLK_FUNC_QUERY, NULL, 0, &query,
					  sizeof(query));
	if (rc)
		return rc;
	d->blocks = vbus_le64_to_cpu(query.capacity) * VBLK_SECTOR / b->size;
	if (!d->blocks || b->size > vbus_le32_to_cpu(query.segment_max))
		return VBUS_CLIENT_INVALID;
	return share_ring(b, d);
}

/* xorshift64: Marsaglia, Journal of Statistical Software 8 (14), 2003. */
static uint64_t draw(struct disk *d)
{
	d->state ^= d->state << 13;
	d->state ^= d->state >> 7;
	d->state ^= d->state << 17;
	return d->state;
}

static int push(struct bench *b, struct disk *d, uint32_t slot)
{
	uint64_t at = d->request + (uint64_t)slot * VBUS_PAGE_SIZE;
	struct vblk_request *q = (void *)(b->client.base + at);
	uint64_t block = (b->random ? draw(d) : d->next++) % d->blocks;

	memset(q, 0, VBLK_REQUEST_SIZE(1));
	q->op = b->write ? VBLK_OP_WRITE : VBLK_OP_READ;
	q->segments = vbus_cpu_to_le16(1);
	q->sector = vbus_cpu_to_le64(block * (b->size / VBLK_SECTOR));
	q->segment[0].addr = vbus_cpu_to_le64(d->data + (uint64_t)slot * b->size);
	q->segment[0].len = vbus_cpu_to_le32(b->size);
	d->posted[slot] = bench_now();
	d->flying++;
	return ioq_push(&d->ring, at, VBLK_REQUEST_SIZE(1), slot) ? VBUS_CLIENT_CORRUPT : 0;
}

static void publish(struct bench *b, struct disk *d)
{
	ioq_push_publish(&d->ring);
	vbus_client_inject(&b->client, d->signal);
}

/* What is there now; each slot that is done has its next request, as long as time is left. */
static int reap(struct bench *b, struct disk *d)
{
	struct ioq_buffer done;
	uint32_t pushed = 0;
	enum vbus_rc rc;

	while (!(rc = ioq_pop(&d->ring, &done))) {
		if (done.id >= b->depth)
			return VBUS_CLIENT_CORRUPT;
		if (done.status)
			return (int)done.status;
		d->flying--;
		bench_sample(b, d->posted[done.id]);
		b->bytes += b->size;
		if (!bench_goes_on(b))
			continue;
		if (push(b, d, done.id))
			return VBUS_CLIENT_CORRUPT;
		pushed++;
	}
	if (pushed)
		publish(b, d);
	return rc == VBUS_EMPTY ? 0 : VBUS_CLIENT_CORRUPT;
}

int bench_disk(struct bench *b)
{
	struct disk d;
	uint32_t slot;
	int rc = open_disk(b, &d);

	bench_start(b);
	for (slot = 0; !rc && slot < b->depth; slot++)
		rc = push(b, &d, slot);
	if (!rc)
		publish(b, &d);
	while (!rc && d.flying) {
		vbus_client_disable(&b->client, d.signal);
		rc = reap(b, &d);
		/* Enabled after the look: what came in between is told here, or by a doorbell. */
		if (!rc && d.flying && !vbus_client_enable(&b->client, d.signal))
			rc = bench_wait(b);
	}
	return rc;
}
