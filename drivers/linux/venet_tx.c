// SPDX-License-Identifier: GPL-2.0-only
/*
 * venet_tx.c - frames into the window.
 *
 * A frame is copied when it is sent, and its skb is free at once; what is in flight is the arena's.
 */
#include <linux/if_vlan.h>
#include <linux/virtio_net.h>
#include "venet.h"

#define VENET_WATCH_PERIOD	(5 * HZ)

int venet_tx_alloc(struct venet_tx *tx, u32 count, u32 arena_size)
{
	int err = venet_ring_alloc(&tx->ring, count);

	if (err)
		return err;
	tx->limit = count;
	tx->arena_size = arena_size;
	tx->arena = vbus_device_alloc(tx->ring.vdev, arena_size, &tx->arena_at);
	return tx->arena ? 0 : -ENOMEM;
}

void venet_tx_free(struct venet_tx *tx)
{
	vbus_device_free(tx->ring.vdev, tx->arena, tx->arena_size);
	tx->arena = NULL;
	venet_ring_free(&tx->ring);
}

/* What was in flight counts as sent. */
int venet_tx_share(struct venet_tx *tx)
{
	memset(tx->slot, 0, sizeof(tx->slot));
	tx->head = 0;
	tx->first = 0;
	tx->next = 0;
	netdev_tx_reset_queue(tx->queue);
	return venet_ring_share(&tx->ring);
}

/* ---- The arena; transmit lock held ---- */

static u32 venet_tx_slot(const struct venet_tx *tx, u32 number)
{
	return number & (tx->ring.count - 1);
}

/* Whether a frame of @len bytes, header and all, could be sent now, and where it would be. */
static bool venet_tx_fits(const struct venet_tx *tx, u32 len, u32 *at)
{
	u32 tail;

	if (tx->next - tx->first >= READ_ONCE(tx->limit))
		return false;
	len = ALIGN(len, SMP_CACHE_BYTES);
	*at = 0;
	if (tx->first == tx->next)
		return len <= tx->arena_size;

	/* A full arena would look like an empty one: strictly less in front of the tail. */
	tail = tx->slot[venet_tx_slot(tx, tx->first)].at;
	if (tx->head > tail && len > tx->arena_size - tx->head)
		return len < tail;
	*at = tx->head;
	return tx->head > tail || len < tail - tx->head;
}

/* The longest frame that the stack may have for us. */
static u32 venet_tx_longest(const struct venet_tx *tx)
{
	const struct net_device *netdev = tx->queue->dev;
	const struct venet *venet = netdev_priv(netdev);

	if (venet->features.sg & (VENET_SG_TSO4 | VENET_SG_TSO6 | VENET_SG_USO))
		return VENET_LONGEST;
	return sizeof(struct venet_header) + READ_ONCE(netdev->mtu) + VENET_OVERHEAD;
}

/* @len bytes at @at are a frame with its header; BQL knows of @bytes. */
static void venet_tx_push(struct venet_tx *tx, u32 at, u32 len, u32 bytes)
{
	u32 id = venet_tx_slot(tx, tx->next);

	if (ioq_push(&tx->ring.q, tx->arena_at + at, len, id))
		return;	/* broken: the device is about to stop */
	tx->slot[id].at = at;
	tx->slot[id].bytes = bytes;
	tx->slot[id].posted = true;
	tx->next++;
	tx->head = at + ALIGN(len, SMP_CACHE_BYTES);
}

/* Take back what the host has sent. */
static void venet_tx_reclaim(struct venet_tx *tx)
{
	u32 frames = 0, bytes = 0;
	struct ioq_buffer done;
	int err;

	while (!(err = venet_ring_pop(&tx->ring, &done))) {
		if (!tx->slot[done.id].posted) {
			err = -EPROTO;
			break;
		}
		tx->slot[done.id].posted = false;
		tx->returned++;
		bytes += tx->slot[done.id].bytes;
		frames += !!tx->slot[done.id].bytes;
	}
	if (err == -EPROTO) {
		tx->ring.q.broken = true;
		vbus_device_broken(tx->ring.vdev, "transmit ring");
	}

	/* One that comes back before its turn is only marked. */
	while (tx->first != tx->next && !tx->slot[venet_tx_slot(tx, tx->first)].posted)
		tx->first++;
	if (frames)
		netdev_tx_completed_queue(tx->queue, frames, bytes);
}

/* ---- Flow control; transmit lock held ---- */

static void venet_tx_stop_if_full(struct venet_tx *tx)
{
	u32 at;

	if (venet_tx_fits(tx, venet_tx_longest(tx), &at))
		return;
	netif_tx_stop_queue(tx->queue);
	venet_count(&tx->stats, VENET_TX_STOPS);
}

/* Room for a few frames, so that it does not stop again at once. */
static void venet_tx_wake_if_room(struct venet_tx *tx)
{
	u32 room = min(2 * venet_tx_longest(tx), tx->arena_size / 2), at;
	const struct venet *venet = netdev_priv(tx->queue->dev);

	if (netif_tx_queue_stopped(tx->queue) && !READ_ONCE(venet->frozen) &&
	    tx->next - tx->first <= READ_ONCE(tx->limit) / 4 * 3 &&
	    venet_tx_fits(tx, max(room, venet_tx_longest(tx)), &at))
		netif_tx_wake_queue(tx->queue);
}

/* While the queue stands still, by our word or BQL's, the host tells what it has sent. */
static void venet_tx_settle(struct venet_tx *tx)
{
	venet_tx_reclaim(tx);
	venet_tx_wake_if_room(tx);
	if (!netif_xmit_stopped(tx->queue) ||
	    !vbus_region_enable(tx->ring.vdev, &tx->ring.region))
		return;
	/* Something came back between the last look and the asking. */
	venet_tx_reclaim(tx);
	venet_tx_wake_if_room(tx);
}

bool venet_tx_clean(struct venet_tx *tx)
{
	if (!netif_xmit_stopped(tx->queue))
		return true;
	if (!__netif_tx_trylock(tx->queue))
		return false;
	venet_tx_settle(tx);
	__netif_tx_unlock(tx->queue);
	return true;
}

/* Frames of @tx are with the host; true when none has come back since the last look. */
static bool venet_tx_is_stuck(struct venet_tx *tx, bool *waits)
{
	bool stuck;

	__netif_tx_lock_bh(tx->queue);
	venet_tx_reclaim(tx);
	stuck = tx->first != tx->next && tx->returned == tx->watched;
	*waits |= tx->first != tx->next;
	tx->watched = tx->returned;
	__netif_tx_unlock_bh(tx->queue);
	return stuck;
}

/*
 * Frames are with the host.  A host that serves gives some back within seconds; one that does not
 * may be gone, and nothing else would tell.
 */
void venet_watch(struct work_struct *work)
{
	struct venet *venet = container_of(to_delayed_work(work), struct venet, watch);
	bool waits = false, stuck = false;
	u32 i;

	for (i = 0; i < venet->pairs; i++)
		stuck |= venet_tx_is_stuck(&venet->pair[i].tx, &waits);
	if (stuck)
		vbus_device_suspect(venet->vdev);
	if (waits)
		vbus_device_queue_work(venet->vdev, &venet->watch, VENET_WATCH_PERIOD);
}

/* ---- Frames ---- */

/*
 * Whether the host would take this for a frame; for it anything else is a broken contract.  A sound
 * stack sends nothing of that kind, but a packet socket may.
 */
static bool venet_tx_judge(const struct venet *venet, const struct venet_header *header, u32 len)
{
	u32 longest = header->gso_type ? VENET_FRAME_MAX :
					 venet->netdev->max_mtu + VENET_OVERHEAD;
	u32 sum = le16_to_cpu(header->csum_start) + le16_to_cpu(header->csum_offset);

	return venet_may(venet->features.sg, header) && len >= VENET_FRAME_MIN && len <= longest &&
	       sum + sizeof(__sum16) <= len;
}

/* Header and frame into the arena, if they are ones. */
static bool venet_tx_copy(struct venet_tx *tx, const struct sk_buff *skb, u32 at)
{
	struct venet_header header = { 0 };

	if (virtio_net_hdr_from_skb(skb, (struct virtio_net_hdr *)&header, true, false, 0))
		return false;
	if (!venet_tx_judge(netdev_priv(skb->dev), &header, skb->len))
		return false;
	memcpy(tx->arena + at, &header, sizeof(header));
	return !skb_copy_bits(skb, 0, tx->arena + at + sizeof(header), skb->len);
}

static void venet_watch_soon(struct venet *venet)
{
	if (!delayed_work_pending(&venet->watch))
		vbus_device_queue_work(venet->vdev, &venet->watch, VENET_WATCH_PERIOD);
}

netdev_tx_t venet_xmit(struct sk_buff *skb, struct net_device *netdev)
{
	struct venet *venet = netdev_priv(netdev);
	struct venet_tx *tx = &venet->pair[skb_get_queue_mapping(skb)].tx;
	bool more = netdev_xmit_more(), tell;
	u32 len = skb->len, at;

	venet_tx_reclaim(tx);
	/* The queue stops while the longest frame fits no more: only another MTU leads to this. */
	if (!venet_tx_fits(tx, sizeof(struct venet_header) + len, &at)) {
		netif_tx_stop_queue(tx->queue);
		venet_ring_publish(&tx->ring);
		venet_tx_settle(tx);
		return NETDEV_TX_BUSY;
	}

	if (venet_tx_copy(tx, skb, at)) {
		venet_tx_push(tx, at, sizeof(struct venet_header) + len, len);
		venet_count_frame(&tx->stats, VENET_TX_FRAMES, VENET_TX_BYTES, len);
		tell = __netdev_tx_sent_queue(tx->queue, len, more);
		skb_tx_timestamp(skb);
		dev_consume_skb_any(skb);
	} else {
		venet_count(&tx->stats, VENET_TX_DROPS);
		tell = !more;
		dev_kfree_skb_any(skb);
	}

	venet_tx_stop_if_full(tx);
	if (tell || netif_xmit_stopped(tx->queue))
		venet_ring_publish(&tx->ring);
	if (netif_xmit_stopped(tx->queue))
		venet_tx_settle(tx);
	venet_watch_soon(venet);
	return NETDEV_TX_OK;
}

bool venet_tx_send(struct venet_tx *tx, const void *data, u32 len)
{
	static const struct venet_header none;
	u32 at;

	venet_tx_reclaim(tx);
	if (len < VENET_FRAME_MIN || len > tx->queue->dev->max_mtu + VENET_OVERHEAD ||
	    !venet_tx_fits(tx, sizeof(none) + len, &at)) {
		venet_count(&tx->stats, VENET_TX_XDP_DROPS);
		return false;
	}
	memcpy(tx->arena + at, &none, sizeof(none));
	memcpy(tx->arena + at + sizeof(none), data, len);
	venet_tx_push(tx, at, sizeof(none) + len, 0);
	venet_count(&tx->stats, VENET_TX_XDP_FRAMES);
	venet_count_frame(&tx->stats, VENET_TX_FRAMES, VENET_TX_BYTES, len);
	venet_watch_soon(netdev_priv(tx->queue->dev));
	return true;
}

netdev_features_t venet_features_check(struct sk_buff *skb, struct net_device *netdev,
				       netdev_features_t features)
{
	/* Longer than the host takes, with its VLAN tags: the stack segments it. */
	if (skb->len > VENET_FRAME_MAX)
		features &= ~NETIF_F_GSO_MASK;
	return vlan_features_check(skb, features);
}
