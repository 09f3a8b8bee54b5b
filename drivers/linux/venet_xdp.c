// SPDX-License-Identifier: GPL-2.0-only
/* venet_xdp.c - programs that see each frame before the stack does. */
#include <linux/bpf_trace.h>
#include <linux/etherdevice.h>
#include <linux/filter.h>
#include <linux/rtnetlink.h>
#include "venet.h"

/* A program sees a frame in one page, with room before it and what an skb needs behind it. */
#define VENET_XDP_ROOM \
	(PAGE_SIZE - XDP_PACKET_HEADROOM - SKB_DATA_ALIGN(sizeof(struct skb_shared_info)))

u32 venet_xdp_mtu_max(void)
{
	return VENET_XDP_ROOM - VENET_OVERHEAD;
}

/* ---- Send ---- */

/* Other CPUs than a queue's own may send through it. */
static bool venet_xdp_tx(struct venet_pair *pair, const struct xdp_buff *xdp)
{
	struct venet_tx *tx = &pair->tx;
	bool sent;

	__netif_tx_lock(tx->queue, smp_processor_id());
	sent = venet_tx_send(tx, xdp->data, xdp->data_end - xdp->data);
	__netif_tx_unlock(tx->queue);
	return sent;
}

void venet_xdp_flush(struct venet_pair *pair, u32 todo)
{
	if (todo & VENET_XDP_REDIRECTED)
		xdp_do_flush();
	if (todo & VENET_XDP_SENT) {
		__netif_tx_lock(pair->tx.queue, smp_processor_id());
		venet_ring_publish(&pair->tx.ring);
		__netif_tx_unlock(pair->tx.queue);
	}
}

/* What was not sent is the caller's still. */
int venet_xdp_xmit(struct net_device *netdev, int count, struct xdp_frame **frames, u32 flags)
{
	struct venet *venet = netdev_priv(netdev);
	struct venet_tx *tx = &venet->pair[smp_processor_id() % READ_ONCE(venet->pairs)].tx;
	int sent = -ENETDOWN;

	if (flags & ~XDP_XMIT_FLAGS_MASK)
		return -EINVAL;
	__netif_tx_lock(tx->queue, smp_processor_id());
	if (READ_ONCE(venet->running)) {
		for (sent = 0; sent < count; sent++)
			if (!venet_tx_send(tx, frames[sent]->data, frames[sent]->len))
				break;
		if (flags & XDP_XMIT_FLUSH)
			venet_ring_publish(&tx->ring);
	}
	__netif_tx_unlock(tx->queue);

	for (count = 0; count < sent; count++)
		xdp_return_frame_rx_napi(frames[count]);
	return sent;
}

/* ---- Receive ---- */

/* The frame at hand in a page, as a program wants to see it. */
static bool venet_xdp_prepare(struct venet_pair *pair, struct venet_reader *reader, u32 len,
			      struct xdp_buff *xdp)
{
	struct venet_rx *rx = &pair->rx;

	if (len > VENET_XDP_ROOM)
		return false;
	if (!rx->page)
		rx->page = dev_alloc_page();
	if (!rx->page)
		return false;
	xdp_init_buff(xdp, PAGE_SIZE, &rx->info);
	xdp_prepare_buff(xdp, page_address(rx->page), XDP_PACKET_HEADROOM, len, true);
	venet_rx_read(reader, xdp->data, len);
	return true;
}

/* The page goes up with the skb that is made around it. */
static struct sk_buff *venet_xdp_pass(struct venet_rx *rx, const struct xdp_buff *xdp)
{
	struct sk_buff *skb = napi_build_skb(xdp->data_hard_start, PAGE_SIZE);

	if (!skb) {
		venet_count(&rx->stats, VENET_RX_DROPS);
		return NULL;
	}
	rx->page = NULL;
	skb_reserve(skb, xdp->data - xdp->data_hard_start);
	skb_put(skb, xdp->data_end - xdp->data);
	if (xdp->data > xdp->data_meta)
		skb_metadata_set(skb, xdp->data - xdp->data_meta);
	return skb;
}

/* False when nobody takes the frame. */
static bool venet_xdp_redirect(struct venet_pair *pair, struct bpf_prog *program,
			       struct xdp_buff *xdp)
{
	if (xdp_do_redirect(pair->venet->netdev, xdp, program))
		return false;
	pair->rx.page = NULL;
	return true;
}

struct sk_buff *venet_xdp_run(struct venet_pair *pair, struct bpf_prog *program,
			      struct venet_reader *reader, u32 len, u32 *todo)
{
	struct net_device *netdev = pair->venet->netdev;
	struct venet_stats *stats = &pair->rx.stats;
	struct xdp_buff xdp;
	u32 verdict;

	if (!venet_xdp_prepare(pair, reader, len, &xdp)) {
		venet_count(stats, VENET_RX_DROPS);
		return NULL;
	}
	if (!vbus_device_is_current(pair->venet->vdev))
		return NULL;

	venet_count(stats, VENET_RX_XDP_FRAMES);
	verdict = bpf_prog_run_xdp(program, &xdp);
	switch (verdict) {
	case XDP_PASS:
		return venet_xdp_pass(&pair->rx, &xdp);
	case XDP_TX:
		if (!venet_xdp_tx(pair, &xdp))
			break;
		venet_count(stats, VENET_RX_XDP_TX);
		*todo |= VENET_XDP_SENT;
		return NULL;
	case XDP_REDIRECT:
		if (!venet_xdp_redirect(pair, program, &xdp))
			break;
		venet_count(stats, VENET_RX_XDP_REDIRECTS);
		*todo |= VENET_XDP_REDIRECTED;
		return NULL;
	case XDP_DROP:
		venet_count(stats, VENET_RX_XDP_DROPS);
		return NULL;
	default:
		bpf_warn_invalid_xdp_action(netdev, program, verdict);
		fallthrough;
	case XDP_ABORTED:
		break;
	}
	trace_xdp_exception(netdev, program, verdict);
	venet_count(stats, VENET_RX_XDP_DROPS);
	return NULL;
}

/* ---- Attach; rtnl held ---- */

static int venet_xdp_attach(struct venet *venet, struct bpf_prog *program,
			    struct netlink_ext_ack *extack)
{
	struct bpf_prog *old = rtnl_dereference(venet->xdp);
	int err;

	if (program && venet->netdev->mtu > venet_xdp_mtu_max()) {
		NL_SET_ERR_MSG_MOD(extack, "a frame of this MTU does not fit into a page; lower it first");
		return -EINVAL;
	}
	/* The host sends plain frames before a program is there, and others after it has gone. */
	if (program && venet_is_served(venet)) {
		err = venet_told(venet_tell_offloads(venet, venet->netdev->features, true));
		if (err) {
			NL_SET_ERR_MSG_MOD(extack, "the host does not stop sending long frames");
			return err;
		}
	}
	rcu_assign_pointer(venet->xdp, program);
	if (old)
		bpf_prog_put(old);
	/* It is gone in any case; should this fail, frames stay short until the next start. */
	if (!program && venet_is_served(venet))
		venet_tell_offloads(venet, venet->netdev->features, false);
	return 0;
}

int venet_bpf(struct net_device *netdev, struct netdev_bpf *bpf)
{
	if (bpf->command != XDP_SETUP_PROG)
		return -EINVAL;
	return venet_xdp_attach(netdev_priv(netdev), bpf->prog, bpf->extack);
}
