// SPDX-License-Identifier: MIT
/*
 * venet_pump.c - frames, one at a time, each copied once between the window and the back end.
 *
 * To the guest: whose frame it is, a back end knows only after it has read it.  With one pair of
 * rings it goes straight into buffers that were taken ahead; what they have no room for waits in
 * @staging for more of them.  With more pairs all of it goes through there, and a pair without room
 * holds up the others, as a wire would.  The copy costs loopback an eighth of its frames of 1514
 * bytes, and a tap nothing that can be told from noise (20 interleaved pairs of runs).
 */
#include <string.h>

#include "fail_point.h"
#include "vbus_port.h"
#include "venet.h"

#define BATCH		64u	/* frames each way, then others have their turn */
#define HEADER		((uint32_t)sizeof(struct venet_header))
#define FLOW_BYTES	96u	/* Ethernet, two tags, the longest IPv4 header, ports */

/*
 * Have one more judged buffer in @ring; false: none now, or the contract was broken and the device
 * is closed.
 */
static bool hold(struct venet *v, struct venet_ring *ring, uint32_t least, uint32_t most)
{
	struct ioq_buffer buffer;
	uint8_t *at;
	enum vbus_rc rc;

	rc = ioq_take(&ring->ioq, &buffer);
	ring->empty = rc == VBUS_EMPTY;
	if (rc == VBUS_EMPTY)
		return false;
	if (rc) {
		vbus_device_violation(v->dev, "an index of a ring lies");
		return false;
	}
	at = vbus_memctx_at(&v->dev->bus->window, VBUS_POOL, buffer.addr, buffer.len);
	if (!at || buffer.len < least || buffer.len > most) {
		vbus_device_violation(v->dev,
				      "a buffer has a wrong length or lies outside the pool");
		return false;
	}
	ring->held[(ring->first + ring->count++) % VENET_HELD] = (struct venet_buffer){
		.at = at, .len = buffer.len, .id = buffer.id,
	};
	ring->room += buffer.len;
	VBUS_FAIL_POINT(FRAME_TAKEN);
	return true;
}

static struct venet_buffer *held(struct venet_ring *ring, uint32_t index)
{
	return &ring->held[(ring->first + index) % VENET_HELD];
}

static void give(struct venet_ring *ring, uint32_t len, enum vbus_status status)
{
	struct venet_buffer *buffer = held(ring, 0);

	ioq_give(&ring->ioq, buffer->id, len, status);
	ring->room -= buffer->len;
	ring->first = (ring->first + 1) % VENET_HELD;
	ring->count--;
	ring->given++;
}

/* ---- From the guest ---- */

/* The flow's answers are to come back on this pair.  A guest that lies misleads itself only. */
static void learn(struct venet *v, struct venet_pair *pair, const uint8_t *frame, uint32_t len)
{
	uint8_t begin[FLOW_BYTES];

	if (v->pairs == 1)
		return;
	if (len > sizeof(begin))
		len = sizeof(begin);
	memcpy(begin, frame, len);
	v->flow[venet_flow(begin, len)] = (uint8_t)(pair - v->pair);
}

/* A frame whose header was copied once, and judged. */
static bool hold_frame(struct venet *v, struct venet_pair *pair)
{
	struct venet_ring *tx = &pair->tx;
	const struct venet_buffer *buffer;
	const char *why;

	if (tx->count)
		return true;
	if (!hold(v, tx, HEADER + VENET_FRAME_MIN, HEADER + VENET_FRAME_MAX))
		return false;
	buffer = held(tx, 0);
	memcpy(&tx->head, buffer->at, HEADER);
	why = venet_objection(v, &tx->head, buffer->len - HEADER);
	if (why) {
		vbus_device_violation(v->dev, why);
		return false;
	}
	learn(v, pair, buffer->at + HEADER, buffer->len - HEADER);
	return true;
}

static bool transmit_one(struct venet *v, struct venet_pair *pair)
{
	struct vbusd_device_counters *c = &v->dev->page->counters;
	enum venet_moved moved = VENET_DROPPED;
	const struct venet_buffer *buffer;
	uint32_t len;

	if (!hold_frame(v, pair))
		return false;
	buffer = held(&pair->tx, 0);
	len = buffer->len - HEADER;
	if (v->dev->link && !v->dead)
		moved = v->backend->transmit(v, &pair->tx.head, buffer->at + HEADER, len);
	if (moved == VENET_NOTHING)
		return false;
	if (moved == VENET_MOVED) {
		vbus_count(&c->tx_frames);
		c->tx_bytes += len;
	} else {
		vbus_count(&c->drops);
	}
	give(&pair->tx, 0, moved == VENET_MOVED ? VBUS_STATUS_OK : VBUS_STATUS_IO);
	return true;
}

/* ---- To the guest ---- */

/*
 * Have buffers of @len bytes, if there are so many; without L4RO one must do.  False when there is
 * none at all.
 */
static bool hold_room(struct venet *v, struct venet_ring *ring, uint64_t len)
{
	uint32_t most = v->l4ro & VENET_SG ? VENET_HELD : 1;

	while (ring->room < len && ring->count < most)
		if (!hold(v, ring, VENET_BUFFER_MIN, UINT32_MAX))
			break;
	return v->running && ring->count;
}

void venet_scatter(const struct iovec *parts, const void *from, uint32_t len)
{
	const uint8_t *at = from;
	size_t now;

	for (; len; parts++, at += now, len -= (uint32_t)now) {
		now = parts->iov_len < len ? parts->iov_len : len;
		memcpy(parts->iov_base, at, now);
	}
}

/*
 * Where a frame goes: its begin into private memory, because that is looked at, then buffers behind
 * their header and begin, then private memory again.
 */
static uint32_t lay_out(struct venet *v, struct iovec *parts)
{
	struct venet_incoming *in = &v->in;
	struct venet_ring *rx = &v->pair[0].rx;
	uint32_t used = HEADER + VENET_FRAME_MIN, left, count = 0, i;

	in->start = v->pairs == 1 ? VENET_FRAME_MIN : VENET_FRAME_MAX;
	parts[count++] = (struct iovec){ in->staging, in->start };
	left = VENET_FRAME_MAX - in->start;
	for (i = 0; left && i < rx->count; i++) {
		struct venet_buffer *buffer = held(rx, i);
		uint32_t len = buffer->len - used < left ? buffer->len - used : left;

		parts[count++] = (struct iovec){ buffer->at + used, len };
		left -= len;
		used = 0;
	}
	in->direct = VENET_FRAME_MAX - left;
	parts[count++] = (struct iovec){ in->staging + in->start, left };
	return count;
}

/* What came is for this guest, and what it can take. */
static bool admit(struct venet *v)
{
	struct vbusd_device_counters *c = &v->dev->page->counters;
	struct venet_incoming *in = &v->in;

	if (!venet_takes(v, &in->head, in->len)) {
		vbus_count(&c->drops);
		return false;
	}
	if (!venet_wants(v, in->staging)) {
		vbus_count(&c->filtered);
		return false;
	}
	if (!(v->offloads & VENET_SG))
		in->head = (struct venet_header){ 0 };
	in->pair = v->pairs > 1 ? v->flow[venet_flow(in->staging, in->len)] : 0;
	return true;
}

/* A frame of the back end; false: none now. */
static bool fetch(struct venet *v)
{
	struct venet_ring *rx = &v->pair[0].rx;
	struct venet_incoming *in = &v->in;
	struct iovec parts[VENET_PARTS];
	uint32_t most = v->offloads & ~VENET_SG ? VENET_FRAME_MAX : venet_longest(v);

	if (!v->dev->link || v->dead || !v->backend->has_frame(v))
		return false;
	if (v->pairs == 1 && !hold_room(v, rx, HEADER + most))
		return false;
	rx->empty = false;
	in->head = (struct venet_header){ 0 };
	switch (v->backend->receive(v, &in->head, parts, lay_out(v, parts), &in->len)) {
	case VENET_MOVED:
		in->is_there = admit(v);
		return true;
	case VENET_DROPPED:
		vbus_count(&v->dev->page->counters.drops);
		return true;
	case VENET_NOTHING:
		break;
	}
	return false;
}

/* @len bytes to where they belong in the held buffers, @at bytes behind the begin of the first. */
static void put(struct venet_ring *ring, uint32_t at, const void *from, uint32_t len)
{
	const uint8_t *rest = from;
	uint32_t i, now;

	for (i = 0; len; i++) {
		struct venet_buffer *buffer = held(ring, i);

		if (at >= buffer->len) {
			at -= buffer->len;
			continue;
		}
		now = buffer->len - at < len ? buffer->len - at : len;
		memcpy(buffer->at + at, rest, now);
		rest += now;
		len -= now;
		at = 0;
	}
}

/* Each but the last is full. */
static void give_frame(struct venet_ring *ring, uint32_t len)
{
	uint32_t now;

	for (; len; len -= now) {
		now = held(ring, 0)->len < len ? held(ring, 0)->len : len;
		give(ring, now, VBUS_STATUS_OK);
	}
}

/* How many of the held buffers the frame takes. */
static uint16_t buffers_of(struct venet_ring *ring, uint32_t len)
{
	uint16_t count = 0;
	uint64_t room = 0;

	while (room < len)
		room += held(ring, count++)->len;
	return count;
}

static void deliver(struct venet *v, struct venet_ring *ring)
{
	struct vbusd_device_counters *c = &v->dev->page->counters;
	struct venet_incoming *in = &v->in;

	in->head.buffers = vbus_cpu_to_le16(buffers_of(ring, HEADER + in->len));
	put(ring, 0, &in->head, HEADER);
	put(ring, HEADER, in->staging, in->len < in->start ? in->len : in->start);
	if (in->len > in->direct)
		put(ring, HEADER + in->direct, in->staging + in->start, in->len - in->direct);
	give_frame(ring, HEADER + in->len);
	vbus_count(&c->rx_frames);
	c->rx_bytes += in->len;
	in->is_there = false;
}

/* Whether the guest has all its buffers here already, and more would not help. */
static bool is_hopeless(const struct venet *v, const struct venet_ring *ring)
{
	return !(v->l4ro & VENET_SG) || ring->count == ring->ioq.count;
}

static bool receive_one(struct venet *v)
{
	struct venet_incoming *in = &v->in;
	struct venet_ring *rx;

	if (!in->is_there && !fetch(v))
		return false;
	if (!in->is_there)
		return true;
	rx = &v->pair[in->pair].rx;
	if (!hold_room(v, rx, HEADER + in->len))
		return false;
	if (rx->room < HEADER + in->len) {
		if (!is_hopeless(v, rx))
			return false;
		in->is_there = false;
		vbus_count(&v->dev->page->counters.drops);
		return true;
	}
	rx->empty = false;
	deliver(v, rx);
	return true;
}

/* ---- The pump ---- */

static void publish(struct venet *v, struct venet_ring *ring)
{
	if (!ring->given)
		return;
	ring->given = 0;
	VBUS_FAIL_POINT(FRAME_GIVEN);
	ioq_give_publish(&ring->ioq);
	VBUS_FAIL_POINT(FRAME_PUBLISHED);
	vbus_bus_inject(v->dev->bus, ring->region->signal);
	VBUS_FAIL_POINT(FRAME_TOLD);
}

/* The ring was empty: ask for its signal; true when something came in between. */
static bool await(struct venet *v, struct venet_ring *ring)
{
	struct shm_signal *signals = &v->dev->bus->signals;

	if (!ring->empty || !shm_signal_enable(signals, ring->region->signal))
		return false;
	shm_signal_disable(signals, ring->region->signal);
	return true;
}

/* One frame of the pair whose turn it is, and one of the back end. */
static bool move(struct venet *v)
{
	struct venet_pair *pair = &v->pair[v->turn];
	bool moved = transmit_one(v, pair);

	/* After a broken contract nothing is left to serve. */
	if (v->running)
		moved |= receive_one(v);
	v->turn = v->turn + 1 < v->pairs ? v->turn + 1 : 0;
	return moved;
}

static void forget_looks(struct venet *v)
{
	uint32_t i;

	for (i = 0; i < v->pairs; i++)
		v->pair[i].rx.empty = v->pair[i].tx.empty = false;
}

static bool await_all(struct venet *v)
{
	bool more = false;
	uint32_t i;

	for (i = 0; i < v->pairs; i++) {
		more |= await(v, &v->pair[i].tx);
		more |= await(v, &v->pair[i].rx);
	}
	return more;
}

bool venet_run(struct vbus_device *dev)
{
	struct venet *v = dev->state;
	uint32_t idle = 0, i;

	if (!v->running)
		return false;
	forget_looks(v);
	for (i = 0; idle < v->pairs && i < BATCH; i++) {
		/* Who is more urgent waits for one of our frames, not for the batch. */
		if (i && vbus_bus_has_urgent(dev->bus, dev->priority))
			break;
		idle = move(v) ? 0 : idle + 1;
		if (!v->running)
			return false;
	}
	if (!vbus_bus_is_ours(dev->bus))
		return false;
	for (i = 0; i < v->pairs; i++) {
		publish(v, &v->pair[i].tx);
		publish(v, &v->pair[i].rx);
	}
	if (idle < v->pairs || await_all(v))
		return true;
	v->backend->rest(v);
	return false;
}
