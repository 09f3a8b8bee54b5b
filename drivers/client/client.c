// SPDX-License-Identifier: MIT
/* client.c - calls and signals: the bus driver's half of vbus_client.h. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/random.h>

#include "client.h"
#include "vbus_port.h"

#define TRIES	8u	/* of what another epoch or another list spoils */

size_t vbus_client_size(void)
{
	return sizeof(struct vbus_client);
}

const char *vbus_client_text(int code)
{
	static const char *const status[] = {
		[VBUS_STATUS_OK] = "done",
		[VBUS_STATUS_STALE] = "the host lost the connection's state: negotiate again",
		[VBUS_STATUS_INVALID] = "the host says: an argument is out of range",
		[VBUS_STATUS_NO_ENTRY] = "the host says: no such device or handle",
		[VBUS_STATUS_BUSY] = "the host says: done already, and only once allowed",
		[VBUS_STATUS_VERSION] = "the host has another version",
		[VBUS_STATUS_NO_SPACE] = "the host says: no space",
		[VBUS_STATUS_UNSUPPORTED] = "the host does not support this",
		[VBUS_STATUS_IO] = "the host's back end failed",
	};
	static const char *const error[] = {
		[-VBUS_CLIENT_AGAIN] = "nothing there yet",
		[-VBUS_CLIENT_INVALID] = "an argument is out of range",
		[-VBUS_CLIENT_SYSTEM] = "the operating system refused",
		[-VBUS_CLIENT_REFUSED] = "vbusd serves somebody else there, or not this user",
		[-VBUS_CLIENT_SILENT] = "no answer in time",
		[-VBUS_CLIENT_ENDED] = "vbusd ended the session",
		[-VBUS_CLIENT_CORRUPT] = "the host broke the contract",
		[-VBUS_CLIENT_NO_SPACE] = "the pool is used up",
	};

	if (code >= 0 && (size_t)code < sizeof(status) / sizeof(status[0]))
		return status[code];
	if (code < 0 && (size_t)-(long)code < sizeof(error) / sizeof(error[0]))
		return error[-code];
	return "a status that nobody knows";
}

void vbus_client_reset(struct vbus_client *c)
{
	vbus_client_free_all(c);
	memset(c->owner, 0, sizeof(c->owner));
	c->rang = 0;
	shm_signal_init(&c->signals, (void *)(c->base + VBUS_SIGNALS_NORTH),
			(const void *)(c->base + VBUS_SIGNALS_SOUTH));
	shm_signal_bind(&c->signals, VBUS_SIGNAL_BUS, 0);
	shm_signal_enable(&c->signals, VBUS_SIGNAL_BUS);
}

/* ---- Signals ---- */

static void ignore(void *ctx, uint32_t signal)
{
	(void)ctx;
	(void)signal;
}

static void scan(struct vbus_client *c, uint32_t queue)
{
	if (shm_signal_wakeup(&c->signals, queue, c->signal ? c->signal : ignore, c->ctx))
		c->rang |= 1u << queue;
	else
		c->rang &= ~(1u << queue);
}

int vbus_client_wait(struct vbus_client *c, int ms)
{
	uint32_t rang, queue;
	int rc;

	rc = vbus_client_take_bells(c, c->rang ? 0 : ms, &rang);
	if (rc && rc != VBUS_CLIENT_AGAIN)
		return rc;
	rang |= c->rang;
	for (queue = 0; queue < c->vectors; queue++)
		if (rang & 1u << queue)
			scan(c, queue);
	if (c->epoch && vbus_client_epoch(c) != c->epoch)
		return VBUS_STATUS_STALE;
	return rang ? 0 : VBUS_CLIENT_AGAIN;
}

void vbus_client_inject(struct vbus_client *c, uint32_t signal)
{
	if (shm_signal_inject(&c->signals, signal))
		vbus_client_ring(c, c->signals.queue[signal]);
}

bool vbus_client_enable(struct vbus_client *c, uint32_t signal)
{
	if (signal >= VBUS_SIGNALS || c->signals.queue[signal] >= c->vectors)
		return false;
	if (!shm_signal_enable(&c->signals, signal))
		return false;
	c->rang |= 1u << c->signals.queue[signal];
	return true;
}

void vbus_client_disable(struct vbus_client *c, uint32_t signal)
{
	shm_signal_disable(&c->signals, signal);
}

/* ---- Calls ---- */

/*
 * Another number than that of the last request and of the last reply: a call that was given up may
 * be answered yet.
 */
static uint32_t post(struct vbus_client *c, uint32_t func, const void *in, uint32_t len)
{
	struct vbus_call_request *q = (void *)(c->base + VBUS_CALLS_NORTH);
	const struct vbus_call_reply *a = (const void *)(c->base + VBUS_CALLS_SOUTH);
	uint32_t seq = vbus_read32(&q->seq) + 1;

	if (seq == vbus_read32(&a->seq))
		seq++;
	vbus_write16(&q->func, (uint16_t)func);
	vbus_write16(&q->len, (uint16_t)len);
	vbus_write64(&q->epoch, c->epoch);
	vbus_write64(&q->nonce, c->nonce);
	if (len)
		memcpy(q->data, in, len);
	/* The block before the number that hands it over. */
	vbus_wmb();
	vbus_write32(&q->seq, seq);
	return seq;
}

/* What the bells tell of besides is for the next vbus_client_wait(), which then does not sleep. */
static int await(struct vbus_client *c, uint32_t seq)
{
	const struct vbus_call_reply *a = (const void *)(c->base + VBUS_CALLS_SOUTH);
	uint64_t end = vbus_client_now_ms() + c->timeout_ms;
	uint32_t rang;
	int rc;

	while (vbus_read32(&a->seq) != seq) {
		if (vbus_client_now_ms() > end)
			return VBUS_CLIENT_SILENT;
		rc = vbus_client_take_bells(c, VBUS_CLIENT_LOOK_MS, &rang);
		if (rc && rc != VBUS_CLIENT_AGAIN)
			return rc;
		c->rang |= rang;
	}
	/* The number before the block that it hands over. */
	vbus_rmb();
	return 0;
}

int vbus_client_call_raw(struct vbus_client *c, uint32_t func, const void *in, uint32_t len,
			 struct vbus_call_reply *reply)
{
	const struct vbus_call_reply *from = (const void *)(c->base + VBUS_CALLS_SOUTH);
	const size_t head = sizeof(from->seq);
	struct vbus_call_reply a;
	uint32_t seq;
	int rc;

	if (len > VBUS_CALL_DATA || func > UINT16_MAX)
		return VBUS_CLIENT_INVALID;
	seq = post(c, func, in, len);
	/* Before NEGOTIATE nothing is known of the host's signals: ring. */
	if (func == VBUS_CALL_NEGOTIATE)
		vbus_client_ring(c, 0);
	else
		vbus_client_inject(c, VBUS_SIGNAL_BUS);
	rc = await(c, seq);
	if (rc)
		return rc;
	/* All but the number, which was read once. */
	memcpy((uint8_t *)&a + head, (const uint8_t *)from + head, sizeof(a) - head);
	a.seq = vbus_cpu_to_le32(seq);
	if (vbus_le64_to_cpu(a.nonce) != c->nonce || vbus_le16_to_cpu(a.len) > VBUS_CALL_DATA)
		return VBUS_CLIENT_CORRUPT;
	if (reply)
		*reply = a;
	return vbus_le16_to_cpu(a.status);
}

int vbus_client_call(struct vbus_client *c, uint32_t func, const void *in, uint32_t len, void *out,
		     uint32_t out_len)
{
	struct vbus_call_reply a;
	int rc = vbus_client_call_raw(c, func, in, len, &a);

	if (rc || !out)
		return rc;
	if (vbus_le16_to_cpu(a.len) != out_len)
		return VBUS_CLIENT_CORRUPT;
	memcpy(out, a.data, out_len);
	return 0;
}

static void echo(struct vbus_client *c)
{
	struct vbus_guest_header *g = (void *)(c->base + VBUS_GUEST_HEADER);

	vbus_write64(&g->nonce, c->nonce);
	vbus_write64(&g->epoch, c->epoch);
	vbus_write32(&g->version, VBUS_VERSION);
	/* A host that sees the magic sees the whole header. */
	vbus_wmb();
	vbus_write32(&g->magic, VBUS_GUEST_MAGIC);
}

static int negotiate_once(struct vbus_client *c)
{
	struct vbus_negotiate_request hello = { .version = vbus_cpu_to_le32(VBUS_VERSION) };
	struct vbus_negotiate_reply reply;
	int rc;

	if (getrandom(&c->nonce, sizeof(c->nonce), 0) != (ssize_t)sizeof(c->nonce))
		return VBUS_CLIENT_SYSTEM;
	c->epoch = vbus_client_epoch(c);
	vbus_client_reset(c);
	rc = vbus_client_call(c, VBUS_CALL_NEGOTIATE, &hello, sizeof(hello), &reply, sizeof(reply));
	if (rc)
		return rc;
	echo(c);
	return vbus_client_call(c, VBUS_CALL_QREG, &c->queues, sizeof(c->queues), NULL, 0);
}

int vbus_client_negotiate(struct vbus_client *c)
{
	int rc = VBUS_STATUS_STALE;
	uint32_t i;

	/* A new worker draws a new epoch; the one that was read may be its predecessor's. */
	for (i = 0; rc == VBUS_STATUS_STALE && i < TRIES; i++)
		rc = negotiate_once(c);
	return rc;
}

/* ---- Devices ---- */

/* All parts of one generation; @moved: there were two. */
static int enumerate(struct vbus_client *c, struct vbus_device_entry *list, uint32_t max,
		     uint32_t *count, bool *moved)
{
	struct vbus_enumerate_request q = { 0 };
	struct vbus_enumerate_reply a;
	uint32_t generation = 0, n;
	int rc;

	*count = 0;
	do {
		q.index = vbus_cpu_to_le32(*count);
		rc = vbus_client_call(c, VBUS_CALL_ENUMERATE, &q, sizeof(q), &a, sizeof(a));
		if (rc)
			return rc;
		n = vbus_le32_to_cpu(a.count);
		if (n > VBUS_ENTRIES)
			return VBUS_CLIENT_CORRUPT;
		*moved = *count && vbus_le32_to_cpu(a.generation) != generation;
		generation = vbus_le32_to_cpu(a.generation);
		if (n > max - *count)
			n = max - *count;
		memcpy(&list[*count], a.entry, n * sizeof(*list));
		*count += n;
	} while (n && !*moved && *count < vbus_le32_to_cpu(a.total));
	return 0;
}

int vbus_client_devices(struct vbus_client *c, struct vbus_device_entry *list, uint32_t max,
			uint32_t *count)
{
	bool moved;
	uint32_t i;
	int rc;

	for (i = 0; i < TRIES; i++) {
		rc = enumerate(c, list, max, count, &moved);
		/* A list that grew shorter than what was read of it is INVALID to the host. */
		if (rc == VBUS_STATUS_INVALID && *count)
			continue;
		if (rc || !moved)
			return rc;
	}
	return VBUS_CLIENT_AGAIN;
}

int vbus_client_dev_open(struct vbus_client *c, const uint8_t *uuid, uint32_t version,
			 uint32_t *handle, uint32_t *budget)
{
	struct vbus_devopen_request q = { .version = vbus_cpu_to_le32(version) };
	struct vbus_devopen_reply a;
	int rc;

	memcpy(q.uuid, uuid, sizeof(q.uuid));
	rc = vbus_client_call(c, VBUS_CALL_DEVOPEN, &q, sizeof(q), &a, sizeof(a));
	if (rc)
		return rc;
	*handle = vbus_le32_to_cpu(a.handle);
	if (budget)
		*budget = vbus_le32_to_cpu(a.budget);
	return *handle ? 0 : VBUS_CLIENT_CORRUPT;
}

int vbus_client_dev_close(struct vbus_client *c, uint32_t handle)
{
	struct vbus_devclose_request q = { .handle = vbus_cpu_to_le32(handle) };
	uint32_t i;

	/* Whatever the host says: nothing of it is waited for any more. */
	for (i = VBUS_SIGNAL_BUS + 1; handle && i < VBUS_SIGNALS; i++) {
		if (c->owner[i] != handle)
			continue;
		shm_signal_unbind(&c->signals, i);
		c->owner[i] = 0;
	}
	return vbus_client_call(c, VBUS_CALL_DEVCLOSE, &q, sizeof(q), NULL, 0);
}

int vbus_client_dev_call(struct vbus_client *c, uint32_t handle, uint32_t func, const void *in,
			 uint32_t len, void *out, uint32_t out_len)
{
	struct vbus_devcall_request q = {
		.handle = vbus_cpu_to_le32(handle), .func = vbus_cpu_to_le32(func),
	};
	const uint32_t head = offsetof(struct vbus_devcall_request, data);

	if (len > sizeof(q.data))
		return VBUS_CLIENT_INVALID;
	if (len)
		memcpy(q.data, in, len);
	return vbus_client_call(c, VBUS_CALL_DEVCALL, &q, head + len, out, out_len);
}

int vbus_client_dev_features(struct vbus_client *c, uint32_t handle, uint32_t group, uint32_t bits,
			     uint32_t *active)
{
	struct vbus_negcap_request q = {
		.gid = vbus_cpu_to_le32(group), .bits = vbus_cpu_to_le32(bits),
	};
	struct vbus_negcap_reply a;
	int rc = vbus_client_dev_call(c, handle, VBUS_FUNC_NEGCAP, &q, sizeof(q), &a, sizeof(a));

	if (rc)
		return rc;
	*active = vbus_le32_to_cpu(a.active);
	/* In force is never what nobody asked for. */
	return *active & ~bits ? VBUS_CLIENT_CORRUPT : 0;
}

int vbus_client_share(struct vbus_client *c, const struct vbus_devshm_request *q, uint32_t *signal)
{
	struct vbus_devshm_reply a;
	int rc = vbus_client_call(c, VBUS_CALL_DEVSHM, q, sizeof(*q), &a, sizeof(a));

	if (rc)
		return rc;
	*signal = vbus_le32_to_cpu(a.signal);
	if (*signal == VBUS_SIGNAL_BUS || *signal >= VBUS_SIGNALS)
		return VBUS_CLIENT_CORRUPT;
	/* It may have been a device's that the host has closed since. */
	shm_signal_unbind(&c->signals, *signal);
	c->owner[*signal] = vbus_le32_to_cpu(q->handle);
	return shm_signal_bind(&c->signals, *signal, vbus_le32_to_cpu(q->queue)) ?
	       VBUS_CLIENT_INVALID : 0;
}
