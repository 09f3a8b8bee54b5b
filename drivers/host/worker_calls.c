// SPDX-License-Identifier: MIT
/* worker_calls.c - the call slots: copy a request out once, judge it, answer. */
#include <string.h>

#include "fail_point.h"
#include "log.h"
#include "vbus_port.h"
#include "worker.h"

#define DEVICE_BUDGET	(2u << 20)

typedef enum vbus_status call_fn(struct vbus_bus *bus, const struct vbus_call_request *q,
				 struct vbus_call_reply *a);

/*
 * The argument structure, copied so that it may lie anywhere; false when the guest sent another
 * length.
 */
static bool argument(const struct vbus_call_request *q, void *to, size_t len)
{
#ifdef VBUS_DEFECT_OVERFLOW	/* a planted defect: the guest's length is believed */
	len = vbus_le16_to_cpu(q->len);
#endif
	if (vbus_le16_to_cpu(q->len) != len)
		return false;
	memcpy(to, q->data, len);
	return true;
}

static void answer(struct vbus_call_reply *a, const void *from, size_t len)
{
	memcpy(a->data, from, len);
	a->len = vbus_cpu_to_le16((uint16_t)len);
}

/*
 * What stands in the slots was asked under a former nonce.  Left for later, such a number could be
 * read before the guest writes a new block, and the block after: then it would be served twice.  A
 * NEGOTIATE may be a next kernel's, and to serve one twice is to serve it once.
 */
static void forget_calls(struct vbus_bus *bus)
{
	const struct vbus_call_request *from = (const void *)(bus->window.base + VBUS_CALLS_NORTH);
	uint32_t i;

	for (i = 0; i < VBUS_CALL_SLOTS; i++)
		if (vbus_read16(&from[i].func) != VBUS_CALL_NEGOTIATE)
			bus->taken[i] = vbus_read32(&from[i].seq);
}

static enum vbus_status on_negotiate(struct vbus_bus *bus, const struct vbus_call_request *q,
				     struct vbus_call_reply *a)
{
	struct vbus_negotiate_reply out = {
		.version = vbus_cpu_to_le32(VBUS_VERSION),
		.vectors = vbus_cpu_to_le32(bus->vectors),
	};
	struct vbus_negotiate_request in;

	if (!argument(q, &in, sizeof(in)))
		return VBUS_STATUS_INVALID;
	answer(a, &out, sizeof(out));
	if (vbus_le32_to_cpu(in.version) != VBUS_VERSION)
		return VBUS_STATUS_VERSION;

	vbus_bus_negotiated(bus, vbus_le64_to_cpu(q->nonce));
	forget_calls(bus);
	return VBUS_STATUS_OK;
}

static enum vbus_status on_qreg(struct vbus_bus *bus, const struct vbus_call_request *q,
				struct vbus_call_reply *a)
{
	struct vbus_qreg_request in;
	uint32_t count, i;

	(void)a;
	if (!argument(q, &in, sizeof(in)))
		return VBUS_STATUS_INVALID;
	if (bus->queues)
		return VBUS_STATUS_BUSY;
	count = vbus_le32_to_cpu(in.count);
	if (!count || count > bus->vectors)
		return VBUS_STATUS_INVALID;
	for (i = 0; i < count; i++)
		if (in.priority[i] > VBUS_PRIORITY_MAX)
			return VBUS_STATUS_INVALID;

	for (i = 0; i < count; i++)
		bus->queue[i].priority = in.priority[i];
	bus->queues = count;
	vbus_route_settle(bus);
	return VBUS_STATUS_OK;
}

static enum vbus_status on_enumerate(struct vbus_bus *bus, const struct vbus_call_request *q,
				     struct vbus_call_reply *a)
{
	struct vbus_enumerate_reply out = { .generation = vbus_cpu_to_le32(bus->list_generation) };
	struct vbus_enumerate_request in;
	uint32_t total = 0, count = 0, i;

	if (!argument(q, &in, sizeof(in)))
		return VBUS_STATUS_INVALID;
	for (i = 0; i < VBUSD_DEVICES; i++) {
		const struct vbus_device *dev = &bus->device[i];

		if (!dev->used)
			continue;
		if (total++ < vbus_le32_to_cpu(in.index) || count == VBUS_ENTRIES)
			continue;
		memcpy(out.entry[count].uuid, dev->uuid, VBUS_UUID_LEN);
		memcpy(out.entry[count].type, dev->klass->type, VBUS_TYPE_LEN);
		out.entry[count].version = vbus_cpu_to_le32(dev->klass->version);
		out.entry[count].instance = vbus_cpu_to_le32(dev->instance);
		count++;
	}
	if (vbus_le32_to_cpu(in.index) > total)
		return VBUS_STATUS_INVALID;
	out.total = vbus_cpu_to_le32(total);
	out.count = vbus_cpu_to_le32(count);
	answer(a, &out, sizeof(out));
	return VBUS_STATUS_OK;
}

static enum vbus_status on_devopen(struct vbus_bus *bus, const struct vbus_call_request *q,
				   struct vbus_call_reply *a)
{
	struct vbus_devopen_reply out;
	struct vbus_devopen_request in;
	struct vbus_device *dev;
	enum vbus_status status;
	uint64_t budget = bus->window.size / 8;

	if (!argument(q, &in, sizeof(in)))
		return VBUS_STATUS_INVALID;
	status = vbus_device_open(bus, &in, &dev);
	if (status)
		return status;
	out.handle = vbus_cpu_to_le32(dev->handle);
	out.budget = vbus_cpu_to_le32(budget < DEVICE_BUDGET ? (uint32_t)budget : DEVICE_BUDGET);
	answer(a, &out, sizeof(out));
	return VBUS_STATUS_OK;
}

static enum vbus_status on_devclose(struct vbus_bus *bus, const struct vbus_call_request *q,
				    struct vbus_call_reply *a)
{
	struct vbus_devclose_request in;
	struct vbus_device *dev;

	(void)a;
	if (!argument(q, &in, sizeof(in)))
		return VBUS_STATUS_INVALID;
	dev = vbus_device_of(bus, vbus_le32_to_cpu(in.handle));
	if (!dev)
		return VBUS_STATUS_NO_ENTRY;
	vbus_device_close(dev);
	return VBUS_STATUS_OK;
}

static enum vbus_status negcap(struct vbus_device *dev, const uint8_t *data, uint32_t len,
			       struct vbus_call_reply *a)
{
	struct vbus_negcap_request in;
	struct vbus_negcap_reply out;
	uint32_t offered, active, gid, bits;

	if (len < sizeof(in))
		return VBUS_STATUS_INVALID;
	memcpy(&in, data, sizeof(in));
	gid = vbus_le32_to_cpu(in.gid);
	bits = vbus_device_able(dev, gid, vbus_le32_to_cpu(in.bits));
	if (vbus_features_negotiate(&dev->features, gid, bits, &offered, &active))
		return VBUS_STATUS_BUSY;
	out.offered = vbus_cpu_to_le32(offered);
	out.active = vbus_cpu_to_le32(active);
	answer(a, &out, sizeof(out));
	vbus_device_publish(dev);
	return VBUS_STATUS_OK;
}

static enum vbus_status on_devcall(struct vbus_bus *bus, const struct vbus_call_request *q,
				   struct vbus_call_reply *a)
{
	const uint32_t head = offsetof(struct vbus_devcall_request, data);
	struct vbus_devcall_request in = { 0 };
	uint32_t len = vbus_le16_to_cpu(q->len);
	enum vbus_status status;
	struct vbus_device *dev;
	uint16_t out_len = 0;

	if (len < head || len > sizeof(in))
		return VBUS_STATUS_INVALID;
	memcpy(&in, q->data, len);
	dev = vbus_device_of(bus, vbus_le32_to_cpu(in.handle));
	if (!dev)
		return VBUS_STATUS_NO_ENTRY;
	if (vbus_le32_to_cpu(in.func) == VBUS_FUNC_NEGCAP)
		return negcap(dev, in.data, len - head, a);
	status = dev->ops->call(dev, vbus_le32_to_cpu(in.func), in.data, len - head, a->data,
				&out_len);
	a->len = vbus_cpu_to_le16(out_len);
	return status;
}

static enum vbus_status on_devshm(struct vbus_bus *bus, const struct vbus_call_request *q,
				  struct vbus_call_reply *a)
{
	struct vbus_devshm_reply out = { 0 };
	struct vbus_devshm_request in;
	enum vbus_status status;
	struct vbus_device *dev;
	uint32_t signal;

	if (!argument(q, &in, sizeof(in)))
		return VBUS_STATUS_INVALID;
	dev = vbus_device_of(bus, vbus_le32_to_cpu(in.handle));
	if (!dev)
		return VBUS_STATUS_NO_ENTRY;
	status = vbus_device_share(dev, &in, &signal);
	if (status)
		return status;
	out.signal = vbus_cpu_to_le32(signal);
	answer(a, &out, sizeof(out));
	return VBUS_STATUS_OK;
}

static enum vbus_status on_sigroute(struct vbus_bus *bus, const struct vbus_call_request *q,
				    struct vbus_call_reply *a)
{
	struct vbus_sigroute_reply out = { 0 };
	struct vbus_sigroute_request in;
	enum vbus_status status;
	uint32_t signal = 0;

	if (!argument(q, &in, sizeof(in)))
		return VBUS_STATUS_INVALID;
	status = vbus_route_change(bus, &in, &signal);
	if (status)
		return status;
	out.signal = vbus_cpu_to_le32(signal);
	answer(a, &out, sizeof(out));
	return VBUS_STATUS_OK;
}

static call_fn *const handlers[VBUS_NR_CALLS] = {
	[VBUS_CALL_NEGOTIATE] = on_negotiate,
	[VBUS_CALL_QREG]      = on_qreg,
	[VBUS_CALL_ENUMERATE] = on_enumerate,
	[VBUS_CALL_DEVOPEN]   = on_devopen,
	[VBUS_CALL_DEVCLOSE]  = on_devclose,
	[VBUS_CALL_DEVCALL]   = on_devcall,
	[VBUS_CALL_DEVSHM]    = on_devshm,
	[VBUS_CALL_SIGROUTE]  = on_sigroute,
};

static enum vbus_status judge(struct vbus_bus *bus, const struct vbus_call_request *q,
			      struct vbus_call_reply *a)
{
	uint32_t func = vbus_le16_to_cpu(q->func);

	if (vbus_le64_to_cpu(q->epoch) != bus->epoch)
		return VBUS_STATUS_STALE;
	if (func != VBUS_CALL_NEGOTIATE &&
	    (!bus->negotiated || vbus_le64_to_cpu(q->nonce) != bus->nonce))
		return VBUS_STATUS_STALE;
	if (func >= VBUS_NR_CALLS)
		return VBUS_STATUS_UNSUPPORTED;
	return handlers[func](bus, q, a);
}

static void count(struct vbus_bus *bus, uint32_t func, enum vbus_status status)
{
	struct vbusd_bus_counters *c = &bus->page->counters;

	vbus_count(&c->buscalls);
	if (func == VBUS_CALL_NEGOTIATE || func == VBUS_CALL_QREG)
		vbus_count(&c->bridgecalls);
	if (status == VBUS_STATUS_STALE)
		vbus_count(&c->stale);
	if (status == VBUS_STATUS_INVALID)
		vbus_count(&c->violations);
}

/* What is in bus->held, unless the window is another's by now. */
static void reply(struct vbus_bus *bus)
{
	struct vbus_call_reply *to = (void *)(bus->window.base + VBUS_CALLS_SOUTH);
	const struct vbus_held *h = &bus->held;
	const struct vbus_call_reply *a = &h->reply;

	bus->held.used = false;
	if (!vbus_bus_is_ours(bus))
		return;
	to += h->slot;
	vbus_write16(&to->status, a->status);
	vbus_write16(&to->len, a->len);
	vbus_write64(&to->epoch, a->epoch);
	vbus_write64(&to->nonce, a->nonce);
	memcpy(to->data, a->data, vbus_le16_to_cpu(a->len));
	VBUS_FAIL_POINT(REPLY_WRITTEN);
	/* The whole reply before the word that says so. */
	vbus_wmb();
	vbus_write32(&to->seq, h->seq);
	bus->answered[h->slot] = h->seq;
	VBUS_FAIL_POINT(REPLY_SEQ);

	vbus_bus_inject(bus, VBUS_SIGNAL_BUS);
	/* A north that has not negotiated, or just has, may not have enabled its signal yet. */
	if (!bus->negotiated || h->negotiate)
		vbus_bus_kick(bus, 0);
	VBUS_FAIL_POINT(REPLY_TOLD);
}

/* True when the slot held a call. */
static bool serve(struct vbus_bus *bus, uint32_t slot)
{
	const struct vbus_call_request *from = (const void *)(bus->window.base + VBUS_CALLS_NORTH);
	const size_t head = sizeof(from->seq);	/* is read once, and not with the rest */
	uint32_t seq = vbus_read32(&from[slot].seq), func;
	struct vbus_call_reply a = { 0 };
	struct vbus_call_request q;
	enum vbus_status status;

	if (seq == bus->taken[slot])
		return false;
	bus->taken[slot] = seq;
	/* The word that says there is a request before the request; from here on it is private. */
	vbus_rmb();
	memcpy((uint8_t *)&q + head, (const uint8_t *)&from[slot] + head, sizeof(q) - head);
	q.seq = vbus_cpu_to_le32(seq);
	VBUS_FAIL_POINT(CALL_READ);

	func = vbus_le16_to_cpu(q.func);
	status = judge(bus, &q, &a);
	VBUS_FAIL_POINT(CALL_JUDGED);
	a.status = vbus_cpu_to_le16((uint16_t)status);
	a.epoch = vbus_cpu_to_le64(bus->epoch);
	a.nonce = q.nonce;
	count(bus, func, status);
	bus->held = (struct vbus_held){
		.used = true, .slot = slot, .seq = seq, .reply = a,
		.negotiate = func == VBUS_CALL_NEGOTIATE,
	};
	if (!bus->draining)
		reply(bus);
	return true;
}

void vbus_calls_serve(struct vbus_bus *bus)
{
	uint32_t idle = 0, looks, slot;

	/*
	 * Until a whole turn found nothing: a NEGOTIATE resets the signals, and a call that was
	 * posted meanwhile has rung in vain.  Bounded, so that a guest cannot keep us here.
	 */
	bus->calls = false;
	if (bus->held.used && !bus->draining)
		reply(bus);
	for (looks = 0; looks < 2 * VBUS_CALL_SLOTS && !bus->foreign; looks++) {
		if (bus->held.used)
			return;		/* until the I/O of former sessions has ended */
		slot = bus->next_call;
		bus->next_call = (slot + 1) % VBUS_CALL_SLOTS;
		if (serve(bus, slot)) {
			idle = 0;
			if (vbus_bus_has_urgent(bus, bus->queue[0].priority))
				break;
		} else if (++idle == VBUS_CALL_SLOTS) {
			return;
		}
	}
	bus->calls = true;
}
