// SPDX-License-Identifier: MIT
/* vblk_request.c - one request: copied out once, judged, carried out, completed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fail_point.h"
#include "log.h"
#include "vblk.h"
#include "vbus_port.h"

#define ZERO_BLOCK	(64u << 10)
#define ZERO_BLOCKS	16u		/* a write */

/* What goes out where the image cannot be told to be zero. */
static uint8_t zero_block[ZERO_BLOCK] __attribute__((aligned(VBUS_PAGE_SIZE)));

/**
 * struct rule - what a request of this operation may be
 * @moves:  it has segments; otherwise none
 * @spans:  it has sectors; otherwise none
 * @writes: not on a read-only disk
 * @needs:  bit of VBLK_GROUP_COMMANDS, or 0
 */
static const struct rule {
	uint8_t flags;
	bool moves;
	bool spans;
	bool writes;
	uint32_t needs;
} rules[VBLK_NR_OPS] = {
	[VBLK_OP_READ]	  = { .moves = true },
	[VBLK_OP_WRITE]	  = { .flags = VBLK_FUA, .moves = true, .writes = true },
	[VBLK_OP_FLUSH]	  = { .needs = VBLK_COMMANDS_FLUSH },
	[VBLK_OP_DISCARD] = { .spans = true, .writes = true, .needs = VBLK_COMMANDS_DISCARD },
	[VBLK_OP_ZEROES]  = { .flags = VBLK_FUA | VBLK_UNMAP, .spans = true, .writes = true,
			      .needs = VBLK_COMMANDS_ZEROES },
};

/* The one copy of what the guest may change at any time; @len is what its descriptor says. */
static const char *copy_out(const struct vblk *v, const struct ioq_buffer *desc,
			    struct vblk_copy *copy)
{
	const void *at = vbus_memctx_at(&v->bus->window, VBUS_POOL, desc->addr, desc->len);

	if (!at || desc->len < sizeof(copy->head) || desc->len > sizeof(*copy))
		return "a request has a wrong length or lies outside the pool";
	memcpy(copy, at, desc->len);
	if (desc->len != VBLK_REQUEST_SIZE(vbus_le16_to_cpu(copy->head.segments)))
		return "a request has another length than its segments say";
	return NULL;
}

static const char *judge_segment(const struct vblk *v, const struct vblk_segment *s,
				 struct iovec *out)
{
	uint64_t addr = vbus_le64_to_cpu(s->addr);
	uint32_t len = vbus_le32_to_cpu(s->len);

	if (s->reserved || !len || len > VBLK_SEGMENT_MAX || (addr | len) % v->shape.logical)
		return "a segment has a wrong length or place";
	out->iov_base = vbus_memctx_at(&v->bus->window, VBUS_POOL, addr, len);
	out->iov_len = len;
	return out->iov_base ? NULL : "a segment lies outside the pool";
}

/* What is wrong in a way that no honest driver gets wrong, or NULL; fills in @q. */
static const char *judge(const struct vblk *v, const struct vblk_copy *copy, struct vblk_io *q)
{
	uint32_t segments = vbus_le16_to_cpu(copy->head.segments), i;
	uint32_t sectors = vbus_le32_to_cpu(copy->head.sectors);
	uint64_t sector = vbus_le64_to_cpu(copy->head.sector);
	uint32_t block = v->shape.logical / VBLK_SECTOR;
	const struct rule *rule;
	const char *wrong;

	if (copy->head.op >= VBLK_NR_OPS)
		return "an operation that there is not";
	rule = &rules[copy->head.op];
	if (copy->head.flags & ~rule->flags)
		return "a flag that its operation has not";
	if (rule->moves != !!segments || rule->spans != !!sectors || sectors > VBLK_ZEROES_MAX)
		return "segments or sectors that its operation has not";
	if (sector % block || sectors % block || (copy->head.op == VBLK_OP_FLUSH && sector))
		return "a position that is no multiple of a block";
	q->bytes = 0;
	for (i = 0; i < segments; i++) {
		wrong = judge_segment(v, &copy->segment[i], &q->iov[i]);
		if (wrong)
			return wrong;
		q->bytes += (uint32_t)q->iov[i].iov_len;
		if (q->bytes > VBLK_BYTES_MAX)
			return "a request moves too much";
	}
	q->segments = segments;
	return NULL;
}

/* What an honest driver may run into: the disk shrank meanwhile, or cannot do this. */
static enum vbus_status allowed(const struct vblk *v, const struct vblk_copy *copy,
				const struct vblk_io *q)
{
	const struct rule *rule = &rules[copy->head.op];
	uint64_t sectors = vbus_le32_to_cpu(copy->head.sectors) + q->bytes / VBLK_SECTOR;
	uint64_t sector = vbus_le64_to_cpu(copy->head.sector), capacity = vblk_capacity(v);

	if (rule->needs && !vbus_features_have(&v->dev->features, VBLK_GROUP_COMMANDS, rule->needs))
		return VBUS_STATUS_UNSUPPORTED;
	if (rule->writes && v->dev->read_only)
		return VBUS_STATUS_UNSUPPORTED;
	if (sector > capacity || sectors > capacity - sector)
		return VBUS_STATUS_INVALID;
	return VBUS_STATUS_OK;
}

static enum vbus_status status_of(int error)
{
	switch (-error) {
	case 0:
		return VBUS_STATUS_OK;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return VBUS_STATUS_NO_SPACE;
	case EOPNOTSUPP:
		return VBUS_STATUS_UNSUPPORTED;
	default:
		return VBUS_STATUS_IO;
	}
}

static void count(struct vblk *v, const struct vblk_io *q, enum vbus_status status)
{
	struct vbusd_device_counters *c = &v->dev->page->counters;

	if (status) {
		vbus_count(&c->errors);
		return;
	}
	switch ((enum vblk_op)q->op) {
	case VBLK_OP_READ:
		vbus_count(&c->reads);
		c->read_bytes += q->bytes;
		break;
	case VBLK_OP_WRITE:
		vbus_count(&c->writes);
		c->write_bytes += q->bytes;
		break;
	case VBLK_OP_FLUSH:
		vbus_count(&c->flushes);
		break;
	default:
		vbus_count(&c->discards);
	}
}

static void give(struct vblk *v, struct vblk_io *q, enum vbus_status status)
{
	uint32_t len = status || q->op != VBLK_OP_READ ? 0 : q->bytes;

	count(v, q, status);
	ioq_give(&q->ring->ioq, q->id, len, status);
	q->ring->given++;
}

/* The data of a read goes where the guest wants it, in pieces. */
static void unbounce(const struct vblk_io *q)
{
	const uint8_t *from = q->bounce;
	uint32_t i;

	for (i = 0; i < q->segments; i++) {
		memcpy(q->iov[i].iov_base, from, q->iov[i].iov_len);
		from += q->iov[i].iov_len;
	}
}

static void put(struct vblk *v, struct vblk_io *q)
{
	if (q->bounce)
		v->bounced -= q->bytes;
	free(q->bounce);
	q->bounce = NULL;
	q->next = v->free;
	v->free = q;
}

/* Nothing of this request moves any more. */
static void complete(struct vblk_io *q, int error)
{
	struct vblk *v = q->vblk;
	bool is_over = q->session != v->session;

	v->in_flight--;
	if (!is_over) {
		v->live--;
		/* A window that is another's is left alone. */
		if (q->bounce && !error && vbus_bus_is_ours(v->bus))
			unbounce(q);
		give(v, q, status_of(error));
	} else {
		vbus_fence_drained(v->bus);
	}
	put(v, q);
	if (v->dev) {
		v->dev->page->counters.in_flight = v->in_flight;
		vbus_device_ready(v->dev);
	} else if (!v->in_flight) {
		vblk_free(v);
	}
}

/* The next of the writes that make zeroes. */
static void write_zeroes(struct vblk_io *q)
{
	uint32_t i;

	q->io.op = VBUS_IO_WRITE;
	q->io.len = q->zeroes < ZERO_BLOCK * ZERO_BLOCKS ? q->zeroes : ZERO_BLOCK * ZERO_BLOCKS;
	q->zeroes -= q->io.len;
	q->io.iov = q->iov_now;
	q->io.iovs = (uint32_t)((q->io.len + ZERO_BLOCK - 1) / ZERO_BLOCK);
	for (i = 0; i < q->io.iovs; i++)
		q->iov_now[i] = (struct iovec){ .iov_base = zero_block, .iov_len = ZERO_BLOCK };
	if (q->io.len % ZERO_BLOCK)
		q->iov_now[i - 1].iov_len = q->io.len % ZERO_BLOCK;
	vbus_io_start(&q->io);
}

/* The image cannot be told to be zero: so it is written. */
static void zero_by_hand(struct vblk_io *q)
{
	struct vblk *v = q->vblk;

	if (!v->no_zero_range)
		vbus_log(v->bus->name, "image %s: zeroes are written out (%s)", v->dev->name,
			 strerror(EOPNOTSUPP));
	v->no_zero_range = true;
	q->zeroes = q->io.len;
	write_zeroes(q);
}

static void cannot_discard(struct vblk *v)
{
	if (!v->no_discard)
		vbus_log(v->bus->name, "image %s: discards are refused (%s)", v->dev->name,
			 strerror(EOPNOTSUPP));
	v->no_discard = true;
}

static void start_move(struct vblk_io *q, enum vbus_io_op op)
{
	q->io.op = op;
	q->io.len = q->bytes;
	q->io.iov = q->iov_now;
	q->io.iovs = q->segments;
	memcpy(q->iov_now, q->iov, q->segments * sizeof(q->iov[0]));
	if (q->bounce) {
		q->io.iovs = 1;
		q->iov_now[0] = (struct iovec){ .iov_base = q->bounce, .iov_len = q->bytes };
	}
#ifdef VBUS_DEFECT_TORN	/* a planted defect: of a long write the last page is lost */
	if (op == VBUS_IO_WRITE && q->iov_now[q->io.iovs - 1].iov_len > VBUS_PAGE_SIZE) {
		q->iov_now[q->io.iovs - 1].iov_len -= VBUS_PAGE_SIZE;
		q->io.len -= VBUS_PAGE_SIZE;
	}
#endif
}

/* The file system knows O_DIRECT, but not like this: from here on through the page cache. */
static bool without_direct(struct vblk_io *q)
{
	struct vblk *v = q->vblk;
	int flags = fcntl(v->fd, F_GETFL);

	if (q->was_buffered || flags < 0 || fcntl(v->fd, F_SETFL, flags & ~O_DIRECT) < 0)
		return false;
	if (!v->no_direct)
		vbus_log(v->bus->name, "image %s: goes through the page cache (%s)", v->dev->name,
			 strerror(EINVAL));
	v->no_direct = true;
	q->was_buffered = true;
	q->io.offset = q->at;
	start_move(q, q->io.op);
	vbus_io_start(&q->io);
	return true;
}

static void ended(struct vbus_io *io, int error)
{
	struct vblk_io *q = (struct vblk_io *)io;
	bool is_over = q->session != q->vblk->session;

	VBUS_FAIL_POINT(DISK_ENDED);
	if (!is_over && error == -EOPNOTSUPP && io->op == VBUS_IO_ALLOCATE) {
		if (q->op == VBLK_OP_ZEROES) {
			zero_by_hand(q);
			return;
		}
		cannot_discard(q->vblk);
	}
	if (!is_over && error == -EINVAL && q->bytes && without_direct(q))
		return;
	if (!is_over && !error && q->zeroes) {
		write_zeroes(q);
	} else if (!is_over && !error && q->sync) {
		q->sync = false;
		io->op = VBUS_IO_SYNC;
		vbus_io_start(io);
	} else {
		complete(q, error);
	}
}

static void start(struct vblk *v, struct vblk_io *q, const struct vblk_copy *copy)
{
	bool through = !vbus_features_have(&v->dev->features, VBLK_GROUP_COMMANDS,
					   VBLK_COMMANDS_FLUSH);
	bool durable = through || (copy->head.flags & VBLK_FUA);

	q->io = (struct vbus_io){
		.fd = v->fd,
		.offset = vbus_le64_to_cpu(copy->head.sector) * VBLK_SECTOR,
		.len = (uint64_t)vbus_le32_to_cpu(copy->head.sectors) * VBLK_SECTOR,
		.done = ended,
	};
	q->at = q->io.offset;
	q->was_buffered = false;
	q->zeroes = 0;
	q->sync = false;
	switch ((enum vblk_op)q->op) {
	case VBLK_OP_READ:
		start_move(q, VBUS_IO_READ);
		break;
	case VBLK_OP_WRITE:
		start_move(q, VBUS_IO_WRITE);
		/* Not RWF_DSYNC: FUSE was seen to forget it. */
		q->sync = durable;
		break;
	case VBLK_OP_FLUSH:
		q->io.op = VBUS_IO_SYNC;
		break;
	case VBLK_OP_DISCARD:
	case VBLK_OP_ZEROES:
	case VBLK_NR_OPS:
		q->io.op = VBUS_IO_ALLOCATE;
		q->io.mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;
		if (q->op == VBLK_OP_ZEROES && !(copy->head.flags & VBLK_UNMAP))
			q->io.mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE;
		q->sync = durable;
		break;
	}
	v->live++;
	v->dev->page->counters.in_flight = ++v->in_flight;
	vbus_io_start(&q->io);
	VBUS_FAIL_POINT(DISK_STARTED);
}

/* Private memory for the data of a reader; false when others have to end first. */
static bool bounce(struct vblk *v, struct vblk_io *q)
{
	if (v->bounced + q->bytes > VBLK_BOUNCE_MAX)
		return false;
	if (posix_memalign(&q->bounce, VBUS_PAGE_SIZE, q->bytes)) {
		q->bounce = NULL;
		return false;
	}
	v->bounced += q->bytes;
	return true;
}

enum vblk_taken vblk_take(struct vblk *v, struct vblk_ring *ring, const struct ioq_buffer *desc)
{
	struct vblk_io *q = v->free;
	struct vblk_copy copy;
	enum vbus_status status;
	const char *wrong;

	if (!q)
		return VBLK_NO_ROOM;
	wrong = copy_out(v, desc, &copy);
	if (!wrong)
		wrong = judge(v, &copy, q);
	if (wrong) {
		vbus_device_violation(v->dev, wrong);
		return VBLK_VIOLATION;
	}
	q->op = copy.head.op;
	q->ring = ring;
	q->id = desc->id;
	q->session = v->session;
	status = allowed(v, &copy, q);
	if (status) {
		give(v, q, status);
		return VBLK_TAKEN;
	}
	if (q->op == VBLK_OP_READ && v->dev->read_only && !bounce(v, q)) {
		if (v->bounced)
			return VBLK_NO_ROOM;
		give(v, q, VBUS_STATUS_IO);
		return VBLK_TAKEN;
	}
	v->free = q->next;
	start(v, q, &copy);
	return VBLK_TAKEN;
}
