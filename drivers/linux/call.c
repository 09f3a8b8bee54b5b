// SPDX-License-Identifier: GPL-2.0-only
/* call.c - calls to the host: a request on our page, a reply on theirs. */
#include <linux/sched.h>
#include <linux/slab.h>
#include "bridge.h"

/* Sequence numbers go on from our own last request, so that no old reply looks like an answer. */
void vbus_calls_go_on(struct vbus_bridge *bridge)
{
	u32 i;

	for (i = 0; i < VBUS_CALL_SLOTS; i++)
		bridge->slot_seq[i] = vbus_read32(&bridge->requests[i].seq);
}

void vbus_calls_init(struct vbus_bridge *bridge)
{
#ifdef VBUS_DEFECT_LEAK		/* a planted defect: nobody knows what was taken */
	if (!kzalloc(64, GFP_KERNEL))
		return;
#endif
	spin_lock_init(&bridge->slots_lock);
	init_waitqueue_head(&bridge->slot_free);
	init_waitqueue_head(&bridge->answered);
	vbus_calls_go_on(bridge);
}

static bool claim_slot(struct vbus_bridge *bridge, u32 *slot)
{
	bool found;

	spin_lock(&bridge->slots_lock);
#ifdef VBUS_DEFECT_ATOMIC	/* a planted defect: sleeps under a spinlock */
	might_sleep();
#endif
	*slot = ffz(bridge->slots_busy);
	found = *slot < VBUS_CALL_SLOTS;
	if (found)
		bridge->slots_busy |= BIT(*slot);
	spin_unlock(&bridge->slots_lock);
	return found;
}

static void release_slot(struct vbus_bridge *bridge, u32 slot)
{
	spin_lock(&bridge->slots_lock);
	bridge->slots_busy &= ~BIT(slot);
	spin_unlock(&bridge->slots_lock);
	wake_up(&bridge->slot_free);
}

static int status_to_errno(u16 status)
{
	switch ((enum vbus_status)status) {
	case VBUS_STATUS_OK:		return 0;
	case VBUS_STATUS_STALE:		return -ESTALE;
	case VBUS_STATUS_INVALID:	return -EINVAL;
	case VBUS_STATUS_NO_ENTRY:	return -ENOENT;
	case VBUS_STATUS_BUSY:		return -EBUSY;
	case VBUS_STATUS_VERSION:	return -EPROTONOSUPPORT;
	case VBUS_STATUS_NO_SPACE:	return -ENOSPC;
	case VBUS_STATUS_UNSUPPORTED:	return -EOPNOTSUPP;
	case VBUS_STATUS_IO:		return -EIO;
	}
	return -EPROTO;
}

static void write_request(struct vbus_bridge *bridge, u32 slot, enum vbus_call func, const void *in,
			  size_t in_len)
{
	struct vbus_call_request *request = &bridge->requests[slot];

	vbus_write16(&request->func, func);
	vbus_write16(&request->len, in_len);
	vbus_write64(&request->epoch, bridge->epoch);
	vbus_write64(&request->nonce, bridge->nonce);
	if (in_len)
		memcpy(request->data, in, in_len);
	/* The block before the number that hands it over. */
	vbus_wmb();
	vbus_write32(&request->seq, ++bridge->slot_seq[slot]);
}

static bool is_answered(struct vbus_bridge *bridge, u32 slot)
{
	return vbus_read32(&bridge->replies[slot].seq) == bridge->slot_seq[slot];
}

/* A reply of another connection, or a wrong length, is no reply. */
static int read_reply(struct vbus_bridge *bridge, u32 slot, void *out, size_t out_len)
{
	const struct vbus_call_reply *reply = &bridge->replies[slot];
	u64 epoch, nonce;
	u16 status, len;

	/* The number before the block that it hands over. */
	vbus_rmb();
	status = vbus_read16(&reply->status);
	len = vbus_read16(&reply->len);
	epoch = vbus_read64(&reply->epoch);
	nonce = vbus_read64(&reply->nonce);
	if (out_len)
		memcpy(out, reply->data, out_len);
	/* Copied, ordered, compared; only now believed. */
	if (!vbus_bridge_is_current(bridge) || epoch != bridge->epoch || nonce != bridge->nonce)
		return -ESTALE;
	if (status != VBUS_STATUS_OK)
		return status_to_errno(status);
	return len == out_len ? 0 : -EPROTO;
}

/* The host has another connection by now: nobody will answer this call. */
static bool is_over(struct vbus_bridge *bridge)
{
	return !vbus_bridge_is_current(bridge) || READ_ONCE(bridge->gone);
}

/*
 * Process context.  Returns 0, an errno for the host's status, -ESTALE without a connection or
 * after a new epoch, -ETIMEDOUT when the host says nothing for 5 s; from then on calls fail at once
 * until a NEGOTIATE is answered, so that a silent host blocks neither boot nor shutdown nor
 * removal.
 */
int vbus_call(struct vbus_bridge *bridge, enum vbus_call func, const void *in, size_t in_len,
	      void *out, size_t out_len)
{
	bool negotiates = func == VBUS_CALL_NEGOTIATE;
	bool connects = negotiates || func == VBUS_CALL_QREG;
	u32 slot;
	int err;

	might_sleep();
	if (in_len > VBUS_CALL_DATA || out_len > VBUS_CALL_DATA)
		return -EINVAL;
	if (!connects && !READ_ONCE(bridge->live))
		return -ESTALE;
	if (!negotiates && READ_ONCE(bridge->silent))
		return -ETIMEDOUT;
	if (!wait_event_timeout(bridge->slot_free, claim_slot(bridge, &slot), VBUS_CALL_TIMEOUT))
		return -ETIMEDOUT;

	if (connects)
		bridge->bridgecalls++;
	else
		bridge->buscalls++;

	write_request(bridge, slot, func, in, in_len);
	if (negotiates)
		vbus_bridge_ring(bridge, 0);	/* nobody is bound to signals yet */
	else
		vbus_bridge_inject(bridge, VBUS_SIGNAL_BUS);

	if (!wait_event_timeout(bridge->answered, is_answered(bridge, slot) || is_over(bridge),
				VBUS_CALL_TIMEOUT))
		err = -ETIMEDOUT;
	else if (is_answered(bridge, slot))
		err = read_reply(bridge, slot, out, out_len);
	else
		err = -ESTALE;
	release_slot(bridge, slot);

	if (err == -ESTALE)
		bridge->stale++;
	/* A host that does not know this connection, whatever its epoch, has as little to say. */
	if (err == -ETIMEDOUT ||
	    (err == -ESTALE && !negotiates && vbus_bridge_is_current(bridge)))
		WRITE_ONCE(bridge->silent, true);
	else if (negotiates)
		WRITE_ONCE(bridge->silent, false);
	/* Whatever the host did with it, we do not know: start over when it speaks again. */
	if (bridge->silent && !negotiates)
		vbus_session_schedule(bridge);
	return err;
}
