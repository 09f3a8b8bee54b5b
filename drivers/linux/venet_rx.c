// SPDX-License-Identifier: GPL-2.0-only
/* venet_rx.c - frames out of the window: judged, copied into memory of the kernel, handed up. */
#include <linux/etherdevice.h>
#include <linux/virtio_net.h>
#include "vbus_port.h"
#include "venet.h"

#define VENET_RX_LINEAR		2048u	/* a frame up to this is one piece of memory */
#define VENET_RX_HEAD		256u	/* of a longer one: room for its headers */

/* ---- Buffers ---- */

int venet_rx_alloc(struct venet_rx *rx, u32 count)
{
	int err = venet_ring_alloc(&rx->ring, count);

	if (err)
		return err;
	rx->limit = count;
	rx->buffers = vbus_device_alloc(rx->ring.vdev, count * VENET_BUFFER_MIN, &rx->buffers_at);
	return rx->buffers ? 0 : -ENOMEM;
}

void venet_rx_free(struct venet_rx *rx)
{
	if (rx->page)
		put_page(rx->page);
	if (rx->frag.page)
		put_page(rx->frag.page);
	vbus_device_free(rx->ring.vdev, rx->buffers, rx->ring.count * VENET_BUFFER_MIN);
	rx->buffers = NULL;
	venet_ring_free(&rx->ring);
}

int venet_rx_share(struct venet_rx *rx)
{
	u32 i;

	for (i = 0; i < rx->ring.count; i++) {
		rx->ids[i] = rx->ring.count - 1 - i;
		rx->posted[i] = false;
	}
	rx->free = rx->ring.count;
	rx->pushed = 0;
	rx->pieces = 0;
	return venet_ring_share(&rx->ring);
}

static void venet_rx_publish(struct venet_rx *rx)
{
	if (rx->pushed)
		venet_ring_publish(&rx->ring);
	rx->pushed = 0;
}

void venet_rx_fill(struct venet_rx *rx)
{
	u32 limit = READ_ONCE(rx->limit), id;

	while (rx->free && rx->ring.count - rx->free < limit) {
		id = rx->ids[rx->free - 1];
		if (ioq_push(&rx->ring.q, rx->buffers_at + id * VENET_BUFFER_MIN, VENET_BUFFER_MIN,
			     id))
			break;
		rx->posted[id] = true;
		rx->free--;
		rx->pushed++;
	}
	/* A burst of long frames does not wait for the end of the poll. */
	if (rx->pushed >= limit / 4)
		venet_rx_publish(rx);
}

/* Another buffer with a part of a frame. */
static int venet_rx_take(struct venet_rx *rx, u32 *len)
{
	struct ioq_buffer done;
	int err = venet_ring_pop(&rx->ring, &done);

	if (err)
		return err;
	if (!rx->posted[done.id] || done.len > VENET_BUFFER_MIN ||
	    rx->pieces == VENET_LONGEST_BUFFERS)
		return -EPROTO;
	rx->posted[done.id] = false;
	rx->piece[rx->pieces].id = done.id;
	rx->piece[rx->pieces++].len = done.len;
	*len = done.len;
	return 0;
}

static void *venet_rx_piece(const struct venet_rx *rx, u32 piece)
{
	return rx->buffers + rx->piece[piece].id * VENET_BUFFER_MIN;
}

/* The buffers of the frame at hand are ours again. */
static void venet_rx_done(struct venet_rx *rx)
{
	while (rx->pieces)
		rx->ids[rx->free++] = rx->piece[--rx->pieces].id;
}

/*
 * Have the next frame at hand.  0, -EAGAIN for none, -EPROTO for a lie: without the right number of
 * full buffers nobody knows where the next frame begins.
 */
static int venet_rx_next(struct venet_rx *rx, struct venet_header *header, u32 *len)
{
	u32 buffers, last;
	int err;

	err = venet_rx_take(rx, &last);
	if (err)
		return err;
	*len = last;
	if (last < sizeof(*header))
		return -EPROTO;
	memcpy(header, venet_rx_piece(rx, 0), sizeof(*header));
	/* The header is what this copy says, whatever becomes of the one in the window. */
	barrier();

	for (buffers = le16_to_cpu(header->buffers); rx->pieces < buffers; *len += last)
		if (last != VENET_BUFFER_MIN || venet_rx_take(rx, &last))
			return -EPROTO;
	*len -= sizeof(*header);
	return rx->pieces == buffers ? 0 : -EPROTO;
}

void venet_rx_read(struct venet_reader *reader, void *to, u32 len)
{
	const struct venet_rx *rx = reader->rx;

	while (len) {
		u32 part = min(len, rx->piece[reader->piece].len - reader->at);

		memcpy(to, venet_rx_piece(rx, reader->piece) + reader->at, part);
		to += part;
		len -= part;
		reader->at += part;
		if (reader->at == rx->piece[reader->piece].len) {
			reader->at = 0;
			reader->piece++;
		}
	}
}

void venet_rx_discard(struct venet_rx *rx)
{
	u32 len;

	while (!venet_rx_take(rx, &len))
		venet_rx_done(rx);
	venet_rx_fill(rx);
	venet_rx_publish(rx);
}

/* ---- Frames ---- */

/*
 * Copy the frame at hand out of the window; into larger pieces than pages when they are to be had.
 */
static struct sk_buff *venet_rx_copy(struct venet_pair *pair, struct venet_reader *reader, u32 len)
{
	u32 part = len > VENET_RX_LINEAR ? VENET_RX_HEAD : len;
	struct sk_buff *skb = napi_alloc_skb(&pair->napi, part);
	struct page_frag *frag = &pair->rx.frag;

	if (!skb)
		return NULL;
	venet_rx_read(reader, skb_put(skb, part), part);
	for (len -= part; len; len -= part) {
		/* A page of room at least, so that the longest frame is within MAX_SKB_FRAGS. */
		if (!skb_page_frag_refill(min_t(u32, len, PAGE_SIZE), frag, GFP_ATOMIC)) {
			kfree_skb(skb);
			return NULL;
		}
		part = min_t(u32, len, frag->size - frag->offset);
		venet_rx_read(reader, page_address(frag->page) + frag->offset, part);
		get_page(frag->page);
		skb_add_rx_frag(skb, skb_shinfo(skb)->nr_frags, frag->page, frag->offset, part,
				ALIGN(part, SMP_CACHE_BYTES));
		frag->offset += ALIGN(part, SMP_CACHE_BYTES);
	}
	return skb;
}

/* False when the header does not fit the frame. */
static bool venet_rx_offload(const struct venet *venet, struct sk_buff *skb,
			     const struct venet_header *header)
{
	BUILD_BUG_ON(sizeof(struct virtio_net_hdr) != offsetof(struct venet_header, buffers));

	if (header->flags & VENET_DATA_VALID && venet->netdev->features & NETIF_F_RXCSUM)
		skb->ip_summed = CHECKSUM_UNNECESSARY;
	return !virtio_net_hdr_to_skb(skb, (const struct virtio_net_hdr *)header, true);
}

/* The frame at hand for the stack, or NULL; counts why. */
static struct sk_buff *venet_rx_frame(struct venet_pair *pair, struct bpf_prog *program,
				      const struct venet_header *header, u32 len, u32 *todo)
{
	struct venet_reader reader = { .rx = &pair->rx, .at = sizeof(*header) };
	struct venet_stats *stats = &pair->rx.stats;
	struct sk_buff *skb;

	if (len < VENET_FRAME_MIN || len > VENET_FRAME_MAX ||
	    !venet_may(pair->venet->features.l4ro, header)) {
		venet_count(stats, VENET_RX_ERRORS);
		return NULL;
	}
	if (program) {
		/* One that was on its way when the host was told to send plain frames. */
		if (!header->gso_type && !(header->flags & VENET_NEEDS_CSUM))
			return venet_xdp_run(pair, program, &reader, len, todo);
		venet_count(stats, VENET_RX_XDP_DROPS);
		return NULL;
	}

	skb = venet_rx_copy(pair, &reader, len);
	if (!skb) {
		venet_count(stats, VENET_RX_DROPS);
		return NULL;
	}
	/* Of another connection by now: no frame, and nobody's fault. */
	if (!vbus_device_is_current(pair->venet->vdev))
		goto drop;
	if (!venet_rx_offload(pair->venet, skb, header)) {
		venet_count(stats, VENET_RX_ERRORS);
		goto drop;
	}
	return skb;

drop:
	kfree_skb(skb);
	return NULL;
}

static void venet_rx_deliver(struct venet_pair *pair, struct sk_buff *skb)
{
	skb_record_rx_queue(skb, pair->index);
	skb->protocol = eth_type_trans(skb, pair->venet->netdev);
	napi_gro_receive(&pair->napi, skb);
}

int venet_rx(struct venet_pair *pair, int budget)
{
	struct venet_rx *rx = &pair->rx;
	struct venet_header header;
	struct bpf_prog *program;
	struct sk_buff *skb;
	int done, err = 0;
	u32 len, todo = 0;

	rcu_read_lock();
	program = rcu_dereference(pair->venet->xdp);
	for (done = 0; done < budget; done++) {
		err = venet_rx_next(rx, &header, &len);
		if (err)
			break;
		venet_count_frame(&rx->stats, VENET_RX_FRAMES, VENET_RX_BYTES, len);
		skb = venet_rx_frame(pair, program, &header, len, &todo);
		venet_rx_done(rx);
		venet_rx_fill(rx);
		if (skb)
			venet_rx_deliver(pair, skb);
	}
	rcu_read_unlock();

	if (err == -EPROTO) {
		rx->ring.q.broken = true;
		vbus_device_broken(pair->venet->vdev, "receive ring");
	}
	/* There may be more to hand over than what was taken: ethtool -G. */
	venet_rx_fill(rx);
	venet_rx_publish(rx);
	if (todo)
		venet_xdp_flush(pair, todo);
	return done;
}
