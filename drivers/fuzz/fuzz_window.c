// SPDX-License-Identifier: MIT
/*
 * fuzz_window.c - calls, negotiation, signals, rings: by a north that knows how and does not care.
 *
 * It keeps a copy of what lies below the pool: those of its pages are never written by the south.
 */
#include <string.h>

#include "fuzz.h"
#include "fuzz_south.h"
#include "ioq.h"
#include "vblk_abi.h"
#include "vbus_port.h"
#include "venet_abi.h"

#define RINGS		8u
#define RING(r)		(VBUS_POOL + (r) * 2 * VBUS_PAGE_SIZE)	/* north part, then south part */
#define BUFFERS		64u
#define BUFFER(b)	(VBUS_POOL + RINGS * 2 * VBUS_PAGE_SIZE + (b) * VENET_BUFFER_MIN)
#define SLOTS_MAX	128u	/* of a ring: a part is less than a page */

VBUS_STATIC_ASSERT(BUFFER(BUFFERS) == SOUTH_WINDOW);

enum op {
	POKE,
	NEGOTIATE,
	QREG,
	ENUMERATE,
	DEVOPEN,
	DEVCLOSE,
	DEVCALL,
	DEVSHM,
	SIGROUTE,
	CALL,
	RING_INIT,
	PUSH,
	POP,
	REQUEST,
	FRAME,
	SIGNAL,
	BELL,
	SERVE,
	IO_END,
	HEAR,
	EVENT,
	FAIL,
	NR_OPS
};

static uint8_t copy[VBUS_POOL];
static uint64_t nonce;
static struct ioq ring[RINGS];

/* ---- The north ---- */

static void put(uint32_t at, const void *from, size_t len)
{
	if (len > SOUTH_WINDOW - at)
		len = SOUTH_WINDOW - at;
	memcpy(south_window + at, from, len);
	if (at < VBUS_POOL)
		memcpy(copy + at, from, len < VBUS_POOL - at ? len : VBUS_POOL - at);
}

static bool is_north(uint32_t at)
{
	return at == VBUS_GUEST_HEADER || at == VBUS_CALLS_NORTH || at == VBUS_SIGNALS_NORTH ||
	       at > VBUS_SIGNALS_SOUTH;
}

static void judge_pages(void)
{
	uint32_t at;

	for (at = 0; at < VBUS_POOL; at += VBUS_PAGE_SIZE)
		if (is_north(at) && memcmp(copy + at, south_window + at, VBUS_PAGE_SIZE))
			fuzz_found("the south wrote to a page of the north's");
}

/* Anywhere: a guest can write to the pages of the south as well. */
static void poke(void)
{
	static const uint32_t pages[] = {
		VBUS_CALLS_NORTH, VBUS_SIGNALS_NORTH, VBUS_GUEST_HEADER, VBUS_HOST_HEADER,
		VBUS_CALLS_SOUTH, VBUS_SIGNALS_SOUTH, RING(0), RING(0) + VBUS_PAGE_SIZE, RING(1),
		RING(2), BUFFER(0), BUFFER(BUFFERS - 2),
	};
	uint32_t page = pages[fuzz_byte() % (sizeof(pages) / sizeof(pages[0]))];
	uint16_t within = (uint16_t)(fuzz_number() % VBUS_PAGE_SIZE);
	uint8_t bytes[16];
	size_t len = fuzz_byte() % sizeof(bytes) + 1;

	fuzz_bytes(bytes, len);
	put(page + within, bytes, len);
}

/* Sent, and listened to from now on. */
static void signal(uint32_t signal, uint32_t queue)
{
	struct shm_signal_page *p = (void *)(south_window + VBUS_SIGNALS_NORTH);
	uint32_t at = VBUS_SIGNALS_NORTH + offsetof(struct shm_signal_page, sequence);
	uint32_t word = vbus_read32(&p->sequence[signal]) + 1;
	uint8_t on = 1;

	put(VBUS_SIGNALS_NORTH + offsetof(struct shm_signal_page, enabled) + signal, &on, 1);
	put(at + 4 * signal, &word, 4);
	word = vbus_read32(&p->summary[queue]) + 1;
	put(VBUS_SIGNALS_NORTH + 4 * queue, &word, 4);
}

/* What is sent is right, but for one thing at most. */
static void post(uint32_t func, const void *in, uint32_t len)
{
	const struct vbus_call_request *old = (void *)(south_window + VBUS_CALLS_NORTH);
	uint32_t slot = fuzz_byte() % VBUS_CALL_SLOTS;
	struct vbus_call_request q = {
		.seq = vbus_read32(&old[slot].seq) + 1,
		.func = (uint16_t)func,
		.len = (uint16_t)len,
		.epoch = south.epoch,
		.nonce = nonce,
	};

	memcpy(q.data, in, len);
	switch (fuzz_byte()) {
	case 1:
		q.epoch++;
		break;
	case 2:
		q.nonce++;
		break;
	case 3:
		q.len = (uint16_t)fuzz_number();
		break;
	case 4:
		q.func = (uint16_t)fuzz_number();
		break;
	case 5:
		fuzz_bytes(&q.data[fuzz_byte() % (VBUS_CALL_DATA - 8)], 8);
		break;
	}
	put(VBUS_CALLS_NORTH + slot * (uint32_t)sizeof(q), &q, sizeof(q));
	signal(VBUS_SIGNAL_BUS, 0);
	south.rang |= 1;
	if (fuzz_byte() != 1)
		vbus_bus_serve(&south);
}

static uint32_t handle(void)
{
	uint32_t number = fuzz_number();

	return number < SOUTH_DEVICES ? south.device[number].handle : number;
}

static void negotiate(void)
{
	struct vbus_negotiate_request q = { .version = VBUS_VERSION };
	struct vbus_guest_header g = {
		.magic = VBUS_GUEST_MAGIC, .version = VBUS_VERSION, .epoch = south.epoch,
		.nonce = ++nonce,
	};

	if (fuzz_byte() == 1)
		q.version = fuzz_number();
	put(VBUS_GUEST_HEADER, &g, sizeof(g));
	post(VBUS_CALL_NEGOTIATE, &q, sizeof(q));
}

static void qreg(void)
{
	struct vbus_qreg_request q = { .count = fuzz_number() };

	fuzz_bytes(q.priority, SOUTH_VECTORS);
	post(VBUS_CALL_QREG, &q, sizeof(q));
}

static void enumerate(void)
{
	struct vbus_enumerate_request q = { .index = fuzz_number() };

	post(VBUS_CALL_ENUMERATE, &q, sizeof(q));
}

static void devopen(void)
{
	struct vbus_devopen_request q = { .version = 1 };

	memset(q.uuid, fuzz_byte() + 1, sizeof(q.uuid));
	if (fuzz_byte() == 1)
		q.version = fuzz_number();
	post(VBUS_CALL_DEVOPEN, &q, sizeof(q));
}

static void devclose(void)
{
	struct vbus_devclose_request q = { .handle = handle() };

	post(VBUS_CALL_DEVCLOSE, &q, sizeof(q));
}

static void devcall(void)
{
	struct vbus_devcall_request q = { .handle = handle(), .func = fuzz_number() };
	struct vbus_negcap_request cap = { .gid = fuzz_byte(), .bits = fuzz_number() };

	memcpy(q.data, &cap, sizeof(cap));
	post(VBUS_CALL_DEVCALL, &q, 8 + fuzz_byte() % VBUS_DEVCALL_DATA);
}

/* A ring where one was laid out, or parts that lie anywhere. */
static void devshm(void)
{
	struct vbus_devshm_request q = { .handle = handle(), .region = fuzz_number() };
	uint32_t r = fuzz_byte();

	q.queue = fuzz_number();
	if (r < RINGS) {
		q.north = RING(r);
		q.south = RING(r) + VBUS_PAGE_SIZE;
		q.north_len = q.south_len = IOQ_PART_SIZE(ring[r].count);
	} else {
		q.north = fuzz_number() * (r & 1 ? 1 : VBUS_PAGE_SIZE);
		q.south = fuzz_number() * VBUS_PAGE_SIZE;
		q.north_len = fuzz_number();
		q.south_len = fuzz_number();
	}
	post(VBUS_CALL_DEVSHM, &q, sizeof(q));
}

static void sigroute(void)
{
	struct vbus_sigroute_request q = { .op = fuzz_number() };

	switch (q.op) {
	case VBUS_SIGROUTE_BIND:
		q.signal = fuzz_number();
		q.queue = fuzz_number();
		break;
	case VBUS_SIGROUTE_PRIORITY:
		q.queue = fuzz_number();
		q.priority = fuzz_number();
		break;
	case VBUS_SIGROUTE_CREATE:
		q.handle = handle();
		q.region = fuzz_number();
		q.queue = fuzz_number();
		break;
	case VBUS_SIGROUTE_DROP:
		q.signal = fuzz_number();
		break;
	case VBUS_SIGROUTE_COALESCE:
		q.queue = fuzz_number();
		q.events = fuzz_number();
		q.microseconds = fuzz_number();
		break;
	}
	post(VBUS_CALL_SIGROUTE, &q, sizeof(q));
}

static void call(void)
{
	uint8_t data[VBUS_CALL_DATA];
	uint32_t func = fuzz_byte(), len = fuzz_byte() % sizeof(data);

	fuzz_bytes(data, len);
	post(func, data, len);
}

/* ---- Rings ---- */

static struct ioq_north *north_of(uint32_t r)
{
	return (void *)(south_window + RING(r));
}

static struct ioq_south *south_of(uint32_t r)
{
	return (void *)(south_window + RING(r) + VBUS_PAGE_SIZE);
}

static void ring_init(void)
{
	uint32_t r = fuzz_byte() % RINGS, count = fuzz_number();

	if (count > SLOTS_MAX)
		count = SLOTS_MAX;
	if (!ioq_north_init(&ring[r], north_of(r), south_of(r), count))
		return;
	north_of(r)->count = count;	/* which is wrong */
}

/* The length of the request that was written there. */
static uint32_t request_len(uint32_t b)
{
	const struct vblk_request *q = (void *)(south_window + BUFFER(b));

	return VBLK_REQUEST_SIZE(vbus_read16(&q->segments) % VBLK_SEGMENTS_MAX);
}

static void push(void)
{
	uint32_t r = fuzz_byte() % RINGS, b = fuzz_byte() % BUFFERS, kind = fuzz_byte();
	uint64_t addr = BUFFER(b);
	uint32_t len = VENET_BUFFER_MIN;

	if (!ring[r].count)
		return;
	if (kind == 1)
		len = request_len(b);
	if (kind == 2)
		len = fuzz_number();
	if (kind == 3)
		addr += fuzz_number();
	if (kind == 4)
		addr = SOUTH_WINDOW - len + fuzz_byte();
	ioq_push(&ring[r], addr, len, b);
	ioq_push_publish(&ring[r]);
}

static void pop(void)
{
	struct ioq_buffer buffer;
	uint32_t r = fuzz_byte() % RINGS;

	if (!ring[r].count)
		return;
	while (!ioq_pop(&ring[r], &buffer))
		;
	if (ring[r].broken)
		ring[r].count = 0;	/* somebody poked at the south's part */
}

/* A request of a disk; its data lies behind it. */
static void request(void)
{
	uint32_t b = fuzz_byte() % BUFFERS, at = BUFFER(b), i;
	struct vblk_request head = {
		.op = fuzz_byte(), .flags = fuzz_byte(), .segments = fuzz_byte(),
		.sectors = fuzz_number(), .sector = fuzz_number(),
	};
	struct vblk_segment s = { 0 };

	put(at, &head, sizeof(head));
	for (i = 0; i < head.segments && i < VBLK_SEGMENTS_MAX; i++) {
		s.addr = BUFFER((b + 1 + i) % BUFFERS);
		s.len = 512 * (fuzz_byte() % 16);
		if (s.len == 15 * 512)
			fuzz_bytes(&s, sizeof(s));
		put(at + VBLK_REQUEST_SIZE(i), &s, sizeof(s));
	}
}

/* What a frame asks for, and its first bytes: addresses, type, and what a flow goes by. */
static void frame(void)
{
	uint32_t at = BUFFER(fuzz_byte() % BUFFERS);
	uint8_t begin[64] = { 0 };
	struct venet_header head = {
		.flags = fuzz_byte(), .gso_type = fuzz_byte(),
		.hdr_len = (uint16_t)fuzz_number(), .gso_size = (uint16_t)fuzz_number(),
		.csum_start = (uint16_t)fuzz_number(), .csum_offset = fuzz_byte(),
		.buffers = fuzz_byte() == 1, .reserved = fuzz_byte() == 1,
	};

	put(at, &head, sizeof(head));
	fuzz_bytes(begin + 10, fuzz_byte() % (sizeof(begin) - 10));
	put(at + (uint32_t)sizeof(head), begin, sizeof(begin));
}

/* ---- One input ---- */

static void step(void)
{
	uint32_t number, times;

	switch ((enum op)(fuzz_byte() % NR_OPS)) {
	case POKE:
		poke();
		break;
	case NEGOTIATE:
		negotiate();
		break;
	case QREG:
		qreg();
		break;
	case ENUMERATE:
		enumerate();
		break;
	case DEVOPEN:
		devopen();
		break;
	case DEVCLOSE:
		devclose();
		break;
	case DEVCALL:
		devcall();
		break;
	case DEVSHM:
		devshm();
		break;
	case SIGROUTE:
		sigroute();
		break;
	case CALL:
		call();
		break;
	case RING_INIT:
		ring_init();
		break;
	case PUSH:
		push();
		break;
	case POP:
		pop();
		break;
	case REQUEST:
		request();
		break;
	case FRAME:
		frame();
		break;
	case SIGNAL:
		number = fuzz_byte();
		signal(number, fuzz_byte() % SOUTH_VECTORS);
		break;
	case BELL:
		south.rang |= 1u << fuzz_byte() % SOUTH_VECTORS;
		vbus_bus_rung(&south);
		break;
	case SERVE:
		for (times = fuzz_byte() % 8 + 1; times; times--)
			vbus_bus_serve(&south);
		break;
	case IO_END:
		south_io_end();
		break;
	case HEAR:
		south_hear();
		break;
	case EVENT:
		south_event();
		break;
	case FAIL:
		fuzz_fail_after(fuzz_byte());
		break;
	case NR_OPS:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	fuzz_begin(data, 0);
	fuzz_system_begin();
	south_begin();
	fuzz_begin(data, len);
	memset(copy, 0, sizeof(copy));
	memset(ring, 0, sizeof(ring));
	nonce = 0;
	while (fuzz_has_more())
		step();
	fuzz_fail_after(0);
	south_end();
	judge_pages();
	fuzz_system_end();
	return 0;
}

/* ---- To begin with: a guest as it should be ---- */

#define DO_SERVE	SERVE, 3
#define DO_CALL		0, 0, 0		/* slot 0, nothing wrong, served at once */
#define DO_CONNECT	NEGOTIATE, 0, DO_CALL, QREG, 8, 0, 1, 2, 3, 4, 5, 6, 7, DO_CALL
#define DO_OPEN(d)	DEVOPEN, d, 0, DO_CALL
#define DO_NEGCAP(d, group, bits) \
			DEVCALL, d, VBUS_FUNC_NEGCAP, group, bits, 8, DO_CALL
#define DO_DEVCALL(d, func) \
			DEVCALL, d, func, 0, 0, 0, DO_CALL
#define DO_RING(r, d, region, queue) \
			RING_INIT, r, 16, DEVSHM, d, region, r, queue, DO_CALL
#define DO_STATUS(d)	DEVSHM, d, 101, 8, 0, 0, 30, 0, 16, DO_CALL
#define DO_PUSH(r, b)	PUSH, r, b, 0
#define DO_ASK(r, b)	PUSH, r, b, 1
#define DO_TELL(signal_, queue) \
			SIGNAL, signal_, queue, BELL, queue, DO_SERVE

#define DO_LINKUP(d, pairs) \
			DEVCALL, d, VENET_FUNC_LINKUP, pairs, 0, 4, DO_CALL
#define ALL_OFFLOADS	0x4f
#define DO_CARD(d)	DO_OPEN(d), DO_NEGCAP(d, VENET_GROUP_EVENTQ, 1), \
			DO_NEGCAP(d, VENET_GROUP_SG, ALL_OFFLOADS), \
			DO_NEGCAP(d, VENET_GROUP_L4RO, ALL_OFFLOADS), \
			DO_NEGCAP(d, VENET_GROUP_CONFIG, 7), DO_RING(0, d, VENET_REGION_RX(0), 1), \
			DO_RING(1, d, VENET_REGION_TX(0), 2), DO_STATUS(d), \
			DO_DEVCALL(d, VENET_FUNC_MACQUERY), DO_DEVCALL(d, VENET_FUNC_MTUQUERY), \
			DO_LINKUP(d, 1)
#define DO_FRAMES	DO_PUSH(0, 1), DO_PUSH(0, 2), PUSH, 1, 3, 2, 60, PUSH, 1, 4, 2, 0xfc, \
			0xf2, 0x05, DO_TELL(1, 1), DO_TELL(2, 2), DO_SERVE, POP, 0, POP, 1
#define DO_DISK(d, commands) \
			HEAR, d, 0, 0, DO_OPEN(d), DO_NEGCAP(d, VBLK_GROUP_COMMANDS, commands), \
			DO_NEGCAP(d, VBLK_GROUP_CONFIG, 3), DO_DEVCALL(d, VBLK_FUNC_QUERY), \
			DO_RING(0, d, 0, 1), DO_RING(1, d, 1, 2), DO_STATUS(d)
#define DO_IO		IO_END, 0, IO_END, 0, IO_END, 0, IO_END, 0, DO_SERVE, POP, 0

const struct fuzz_seed fuzz_seeds[] = {
	FUZZ_SEED("list", DO_CONNECT, ENUMERATE, 0, DO_CALL, ENUMERATE, 4, DO_CALL, DO_OPEN(0),
		  DEVCLOSE, 0, DO_CALL),
	FUZZ_SEED("loopback", DO_CONNECT, DO_CARD(0), DO_FRAMES, HEAR, 0, 0, 0, 1, 0, HEAR, 0, 0, 0,
		  1, 1, DO_DEVCALL(0, VENET_FUNC_LINKDOWN)),
	FUZZ_SEED("giant", DO_CONNECT, DO_CARD(0), FRAME, 3, 1, 1, 54, 200, 34, 16, 0, 0, 16, 0, 0,
		  8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, DO_PUSH(0, 1), DO_PUSH(0, 2),
		  DO_PUSH(0, 5), PUSH, 1, 3, 2, 0xfc, 0x88, 0x13, DO_TELL(1, 1), DO_TELL(2, 2),
		  DO_SERVE, POP, 0, DEVCALL, 0, VENET_FUNC_OFFLOADS, 1, 0, 4, DO_CALL),
	FUZZ_SEED("pairs", DO_CONNECT, DO_CARD(0), DO_DEVCALL(0, VENET_FUNC_PAIRSQUERY),
		  DO_DEVCALL(0, VENET_FUNC_LINKDOWN), DO_RING(2, 0, VENET_REGION_RX(1), 3),
		  DO_RING(3, 0, VENET_REGION_TX(1), 4), DO_LINKUP(0, 2), FRAME, 3, 0, 0, 0, 0, 0, 0,
		  0, 0, 28, 0, 0, 8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 1, 2, 3, 4, 5, 6, 7,
		  8, 9, 9, DO_PUSH(0, 1), DO_PUSH(2, 2), PUSH, 3, 3, 2, 100, DO_TELL(4, 4), DO_SERVE,
		  POP, 0, POP, 2),
	FUZZ_SEED("card", DO_CONNECT, DO_CARD(3), DO_FRAMES, EVENT, 3, 1, 0, DO_SERVE, EVENT, 3, 1,
		  1, DO_SERVE, HEAR, 3, 0, 0, 2, DO_SERVE, HEAR, 3, 0, 0, 4),
	FUZZ_SEED("frames", DO_CONNECT, DO_CARD(4), DO_PUSH(0, 1), DO_PUSH(0, 2), PUSH, 1, 3, 2, 60,
		  PUSH, 1, 4, 2, 60, SIGNAL, 2, 2, SERVE, 7, 1, 1, 1, 2, 1, 2, 0, 0, 0, 0, 0),
	FUZZ_SEED("disk", DO_CONNECT, DO_DISK(1, 7), REQUEST, 0, VBLK_OP_READ, 0, 2, 0, 0, 1, 2,
		  REQUEST, 4, VBLK_OP_WRITE, 1, 1, 0, 8, 1, REQUEST, 8, VBLK_OP_FLUSH, 0, 0, 0, 0,
		  REQUEST, 9, VBLK_OP_DISCARD, 0, 0, 8, 0, REQUEST, 10, VBLK_OP_ZEROES, 2, 0, 8, 0,
		  DO_ASK(0, 0), DO_ASK(0, 4), DO_ASK(0, 8), DO_ASK(0, 9), DO_ASK(0, 10),
		  DO_TELL(1, 1), DO_IO, IO_END, 2, DO_IO),
	FUZZ_SEED("trouble", DO_CONNECT, DO_DISK(1, 7), REQUEST, 4, VBLK_OP_WRITE, VBLK_FUA, 1, 0,
		  8, 1, REQUEST, 10, VBLK_OP_ZEROES, 0, 0, 8, 0, DO_ASK(0, 4), DO_ASK(0, 10),
		  DO_TELL(1, 1), IO_END, 3, IO_END, 2, DO_IO, DO_ASK(0, 4), DO_TELL(1, 1),
		  IO_END, 4, HEAR, 1, 0, 0, 3, 1, DO_SERVE),
	FUZZ_SEED("reader", DO_CONNECT, DO_DISK(2, 1), REQUEST, 1, VBLK_OP_READ, 0, 1, 0, 0, 8,
		  DO_ASK(0, 1), DO_TELL(1, 1), DO_IO, DO_ASK(0, 1), DO_TELL(1, 1), NEGOTIATE, 0,
		  DO_CALL, DO_IO, HEAR, 2, 0, 0, 4),
	FUZZ_SEED("liar", DO_CONNECT, DO_CARD(0), POKE, 6, 64, 3, 0, 0, 0, 0x7f, DO_TELL(1, 1),
		  DO_OPEN(0), HEAR, 1, 0, 0, DO_DISK(1, 7), POKE, 6, 64, 3, 0, 0, 0, 0x7f,
		  DO_TELL(1, 1)),
	FUZZ_SEED("routes", DO_CONNECT, DO_CARD(0), SIGROUTE, VBUS_SIGROUTE_BIND, 1, 3, DO_CALL,
		  SIGROUTE, VBUS_SIGROUTE_PRIORITY, 3, 7, DO_CALL, SIGROUTE, VBUS_SIGROUTE_CREATE,
		  0, 0, 4, DO_CALL, SIGNAL, 4, 4, SIGROUTE, VBUS_SIGROUTE_COALESCE, 4, 8, 100,
		  DO_CALL, DO_FRAMES, EVENT, 1, 1, SIGROUTE, VBUS_SIGROUTE_DROP, 4, DO_CALL),
	FUZZ_SEED("foreign", DO_CONNECT, DO_CARD(0), POKE, 3, 16, 7, 1, 2, 3, 4, 5, 6, 7, 8,
		  DO_SERVE, EVENT, 0, 100, DO_SERVE, DO_CONNECT),
	{ 0 }
};
