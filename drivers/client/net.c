// SPDX-License-Identifier: MIT
/*
 * net.c - the venet driver's half of vbus_client.h.
 *
 * The host is not trusted: an id must be one that it holds, a length must fit, and what was copied
 * out counts only when the epoch is still the one that was negotiated under.
 */
#include <string.h>

#include "client.h"
#include "vbus_port.h"

#define HEADER		VBUS_CLIENT_HEADER
#define GIANTS		(VENET_SG_TSO4 | VENET_SG_TSO6 | VENET_SG_USO)
#define PART		IOQ_PART_SIZE(VBUS_CLIENT_RING)
#define BATCH		(VBUS_CLIENT_RING / 4)

_Static_assert(VBUS_CLIENT_RING == 64, "an id is a bit of a 64-bit word");

size_t vbus_client_net_size(void)
{
	return sizeof(struct vbus_client_net);
}

static void *at(struct vbus_client_net *net, uint64_t offset)
{
	return net->client->base + offset;
}

static int share_ring(struct vbus_client_net *net, struct ioq *ring, const uint64_t *parts,
		      uint32_t region, uint32_t queue, uint32_t *signal)
{
	struct vbus_devshm_request q = {
		.handle = vbus_cpu_to_le32(net->handle),
		.region = vbus_cpu_to_le32(region),
		.queue = vbus_cpu_to_le32(queue),
		.north = vbus_cpu_to_le64(parts[0]),
		.south = vbus_cpu_to_le64(parts[1]),
		.north_len = vbus_cpu_to_le32(PART),
		.south_len = vbus_cpu_to_le32(PART),
	};

	ioq_north_init(ring, at(net, parts[0]), at(net, parts[1]), VBUS_CLIENT_RING);
	return vbus_client_share(net->client, &q, signal);
}

static int share_status(struct vbus_client_net *net)
{
	struct vbus_devshm_request q = {
		.handle = vbus_cpu_to_le32(net->handle),
		.region = vbus_cpu_to_le32(VENET_REGION_STATUS),
		.queue = vbus_cpu_to_le32(2),
		.south = vbus_cpu_to_le64(net->status_at),
		.south_len = vbus_cpu_to_le32(sizeof(struct venet_status)),
	};
	int rc;

	if (!net->link_active)
		return 0;
	rc = vbus_client_share(net->client, &q, &net->status_signal);
	if (!rc)
		net->status = at(net, net->status_at);
	return rc;
}

static int allocate(struct vbus_client_net *net)
{
	struct vbus_client *c = net->client;
	uint32_t i;

	for (i = 0; i < 2; i++) {
		net->rx_parts[i] = vbus_client_alloc(c, PART);
		net->tx_parts[i] = vbus_client_alloc(c, PART);
	}
	net->status_at = vbus_client_alloc(c, VBUS_PAGE_SIZE);
	net->tx_buffer = vbus_client_alloc(c, VBUS_CLIENT_RING * (uint64_t)net->tx_room);
	net->rx_buffer = vbus_client_alloc(c, VBUS_CLIENT_RING * (uint64_t)net->rx_room);
	/* The two that are largest, and last, fail first. */
	return net->tx_buffer && net->rx_buffer ? 0 : VBUS_CLIENT_NO_SPACE;
}

static void release(struct vbus_client_net *net)
{
	struct vbus_client *c = net->client;
	uint32_t i;

	for (i = 0; i < 2; i++) {
		vbus_client_free(c, net->rx_parts[i], PART);
		vbus_client_free(c, net->tx_parts[i], PART);
	}
	vbus_client_free(c, net->status_at, VBUS_PAGE_SIZE);
	vbus_client_free(c, net->tx_buffer, VBUS_CLIENT_RING * (uint64_t)net->tx_room);
	vbus_client_free(c, net->rx_buffer, VBUS_CLIENT_RING * (uint64_t)net->rx_room);
}

static void push_room(struct vbus_client_net *net, uint32_t id)
{
	if (ioq_push(&net->rx, net->rx_buffer + id * (uint64_t)net->rx_room, net->rx_room, id))
		return;
	net->rx_flying |= 1ull << id;
	net->rx_pushed++;
}

static void publish(struct vbus_client_net *net, struct ioq *ring, uint32_t *pushed,
		    uint32_t signal)
{
	if (!*pushed)
		return;
	*pushed = 0;
	ioq_push_publish(ring);
	vbus_client_inject(net->client, signal);
}

/* The longest frame in one direction, of which @active bits are in force. */
static uint32_t longest(const struct vbus_client_net *net, uint32_t active)
{
	return active & GIANTS ? VENET_FRAME_MAX : net->mtu + VENET_OVERHEAD;
}

static uint32_t room_for(uint32_t len)
{
	len = (HEADER + len + 63) & ~63u;
	return len < VBUS_CLIENT_BUFFER ? VBUS_CLIENT_BUFFER : len;
}

static int ask_mtu(struct vbus_client_net *net)
{
	vbus_le32 mtu = vbus_cpu_to_le32(VENET_MTU_DEFAULT);
	int rc = 0;

	if (net->config_active & VENET_CONFIG_MTU)
		rc = vbus_client_dev_call(net->client, net->handle, VENET_FUNC_MTUQUERY, NULL, 0,
					  &mtu, sizeof(mtu));
	net->mtu = vbus_le32_to_cpu(mtu);
	return rc || net->mtu <= VENET_MTU_MAX ? rc : VBUS_CLIENT_CORRUPT;
}

static int negotiate(struct vbus_client_net *net, uint32_t sg, uint32_t l4ro)
{
	const struct {
		uint32_t group;
		uint32_t bits;
		uint32_t *active;
	} wanted[] = {
		{ VENET_GROUP_EVENTQ, VENET_EVENTQ_LINKSTATE, &net->link_active },
		{ VENET_GROUP_CONFIG, VENET_CONFIG_MTU | VENET_CONFIG_RXMODE,
		  &net->config_active },
		{ VENET_GROUP_SG, sg, &net->sg_active },
		{ VENET_GROUP_L4RO, l4ro, &net->l4ro_active },
	};
	uint32_t i;
	int rc = 0;

	for (i = 0; !rc && i < sizeof(wanted) / sizeof(wanted[0]); i++)
		rc = vbus_client_dev_features(net->client, net->handle, wanted[i].group,
					      wanted[i].bits, wanted[i].active);
	if (!rc)
		rc = ask_mtu(net);
	net->tx_room = room_for(longest(net, net->sg_active));
	/* With L4RO a long frame comes in several. */
	net->rx_room = net->l4ro_active ? VBUS_CLIENT_BUFFER : room_for(longest(net, 0));
	return rc;
}

static int link_up(struct vbus_client_net *net)
{
	const vbus_le32 pairs = vbus_cpu_to_le32(1);

	return vbus_client_dev_call(net->client, net->handle, VENET_FUNC_LINKUP, &pairs,
				    sizeof(pairs), NULL, 0);
}

static int set_up(struct vbus_client_net *net, uint32_t sg, uint32_t l4ro)
{
	struct vbus_client *c = net->client;
	uint32_t i;
	int rc;

	rc = negotiate(net, sg, l4ro);
	if (!rc)
		rc = allocate(net);
	if (!rc)
		rc = share_ring(net, &net->rx, net->rx_parts, VENET_REGION_RX(0), 1,
				&net->rx_signal);
	if (!rc)
		rc = share_ring(net, &net->tx, net->tx_parts, VENET_REGION_TX(0), 2,
				&net->tx_signal);
	if (!rc)
		rc = share_status(net);
	if (rc)
		return rc;

	for (i = 0; i < VBUS_CLIENT_RING; i++)
		push_room(net, i);
	publish(net, &net->rx, &net->rx_pushed, net->rx_signal);
	/* A frame that came in between is found by the first receive. */
	vbus_client_enable(c, net->rx_signal);
	rc = vbus_client_dev_call(c, net->handle, VENET_FUNC_MACQUERY, NULL, 0, net->mac,
				  sizeof(net->mac));
	return rc ? rc : link_up(net);
}

int vbus_client_net_open_with(struct vbus_client *c, struct vbus_client_net *net,
			      const uint8_t *uuid, uint32_t sg, uint32_t l4ro)
{
	int rc;

	*net = (struct vbus_client_net){ .client = c, .nonce = c->nonce };
	rc = vbus_client_dev_open(c, uuid, VENET_VERSION, &net->handle, &net->budget);
	if (rc)
		return rc;
	rc = set_up(net, sg, l4ro);
	if (rc)
		vbus_client_net_close(net);
	return rc;
}

int vbus_client_net_open(struct vbus_client *c, struct vbus_client_net *net, const uint8_t *uuid)
{
	return vbus_client_net_open_with(c, net, uuid, 0, 0);
}

int vbus_client_net_close(struct vbus_client_net *net)
{
	int rc;

	/* A negotiate since has made handle and pages void; they may be another's by now. */
	if (net->nonce != net->client->nonce)
		return VBUS_STATUS_STALE;
	rc = vbus_client_dev_close(net->client, net->handle);
	if (!rc || rc == VBUS_STATUS_NO_ENTRY)
		release(net);
	net->handle = 0;
	return rc;
}

static bool is_stale(const struct vbus_client_net *net)
{
	/* What was read comes before this look. */
	vbus_rmb();
	return vbus_client_epoch(net->client) != net->client->epoch;
}

/* The ids that the host has sent, or has failed to. */
static int reap(struct vbus_client_net *net)
{
	struct ioq_buffer done;
	enum vbus_rc rc;

	while (!(rc = ioq_pop(&net->tx, &done))) {
		if (done.id >= VBUS_CLIENT_RING || !(net->tx_flying & 1ull << done.id))
			return VBUS_CLIENT_CORRUPT;
		net->tx_flying &= ~(1ull << done.id);
		net->tx_errors += done.status != VBUS_STATUS_OK;
	}
	return rc == VBUS_EMPTY ? 0 : VBUS_CLIENT_CORRUPT;
}

static int make_room(struct vbus_client_net *net)
{
	int rc;

	rc = reap(net);
	if (is_stale(net))
		return VBUS_STATUS_STALE;
	if (rc)
		return rc;
	if (~net->tx_flying && ioq_room(&net->tx)) {
		vbus_client_disable(net->client, net->tx_signal);
		return 0;
	}
	publish(net, &net->tx, &net->tx_pushed, net->tx_signal);
	vbus_client_enable(net->client, net->tx_signal);
	return VBUS_CLIENT_AGAIN;
}

int vbus_client_net_send_with(struct vbus_client_net *net, const struct venet_header *head,
			      const void *frame, uint32_t len, bool more)
{
	uint64_t offset;
	uint32_t id;
	int rc;

	if (len < VENET_FRAME_MIN || len > net->tx_room - HEADER)
		return VBUS_CLIENT_INVALID;
	rc = make_room(net);
	if (rc)
		return rc;
	id = (uint32_t)__builtin_ctzll(~net->tx_flying);
	offset = net->tx_buffer + id * (uint64_t)net->tx_room;
	memcpy(at(net, offset), head, HEADER);
	memcpy(at(net, offset + HEADER), frame, len);
	if (ioq_push(&net->tx, offset, HEADER + len, id))
		return VBUS_CLIENT_CORRUPT;
	net->tx_flying |= 1ull << id;
	net->tx_pushed++;
	if (!more || net->tx_pushed >= BATCH)
		publish(net, &net->tx, &net->tx_pushed, net->tx_signal);
	return 0;
}

int vbus_client_net_send(struct vbus_client_net *net, const void *frame, uint32_t len, bool more)
{
	static const struct venet_header nothing;

	if (len > longest(net, 0))
		return VBUS_CLIENT_INVALID;
	return vbus_client_net_send_with(net, &nothing, frame, len, more);
}

/* The next completion's id and length; it must be one that the host holds. */
static int pop(struct vbus_client_net *net, struct ioq_buffer *done)
{
	enum vbus_rc rc = ioq_pop(&net->rx, done);

	if (rc == VBUS_EMPTY)
		return VBUS_CLIENT_AGAIN;
	if (rc || done->id >= VBUS_CLIENT_RING || !(net->rx_flying & 1ull << done->id) ||
	    done->len > net->rx_room)
		return VBUS_CLIENT_CORRUPT;
	return 0;
}

static const uint8_t *buffer(const struct vbus_client_net *net, uint32_t id)
{
	return net->client->base + net->rx_buffer + id * (uint64_t)net->rx_room;
}

static void give_back(struct vbus_client_net *net, uint32_t id)
{
	net->rx_flying &= ~(1ull << id);
	push_room(net, id);
}

/* What does not fit into the first one: they were published together, and are full but the last. */
static int take_rest(struct vbus_client_net *net, uint32_t buffers, uint8_t *frame, uint32_t *len)
{
	struct ioq_buffer done = { .len = net->rx_room };

	for (; buffers; buffers--) {
		if (done.len != net->rx_room || pop(net, &done) ||
		    *len + done.len > longest(net, net->l4ro_active))
			return VBUS_CLIENT_CORRUPT;
		memcpy(frame + *len, buffer(net, done.id), done.len);
		*len += done.len;
		give_back(net, done.id);
	}
	return 0;
}

static int take_frame(struct vbus_client_net *net, struct venet_header *head, uint8_t *frame,
		      uint32_t *len)
{
	struct ioq_buffer done;
	uint32_t buffers;
	int rc = pop(net, &done);

	if (rc)
		return rc;
	if (done.len < HEADER + VENET_FRAME_MIN)
		return VBUS_CLIENT_CORRUPT;
	memcpy(head, buffer(net, done.id), HEADER);
	buffers = vbus_le16_to_cpu(head->buffers);
	if (!buffers || (buffers > 1 && (!net->l4ro_active || done.len != net->rx_room)))
		return VBUS_CLIENT_CORRUPT;
	*len = done.len - HEADER;
	if (*len > longest(net, net->l4ro_active))
		return VBUS_CLIENT_CORRUPT;
	memcpy(frame, buffer(net, done.id) + HEADER, *len);
	give_back(net, done.id);
	return take_rest(net, buffers - 1, frame, len);
}

int vbus_client_net_receive_with(struct vbus_client_net *net, struct venet_header *head,
				 void *frame, uint32_t *len)
{
	int rc = take_frame(net, head, frame, len);

	if (is_stale(net))
		return VBUS_STATUS_STALE;
	if (rc == VBUS_CLIENT_AGAIN || net->rx_pushed >= BATCH)
		publish(net, &net->rx, &net->rx_pushed, net->rx_signal);
	if (rc == VBUS_CLIENT_AGAIN)
		vbus_client_enable(net->client, net->rx_signal);
	else
		vbus_client_disable(net->client, net->rx_signal);
	return rc;
}

int vbus_client_net_receive(struct vbus_client_net *net, void *frame, uint32_t *len)
{
	struct venet_header head;

	return vbus_client_net_receive_with(net, &head, frame, len);
}
