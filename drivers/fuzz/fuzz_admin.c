// SPDX-License-Identifier: MIT
/* fuzz_admin.c - an administrator's messages to vbusd, a hostile worker's, and what goes wrong. */
#include <string.h>

#include "fuzz.h"
#include "fuzz_vbusd.h"

enum op {
	ACCEPT,
	REQUEST,	/* a client's message; it may have more than one */
	NOTICE,
	PAGE,
	QEMU,
	WORKER_END,
	RESPAWN,
	FENCE,
	REOPEN,
	FAIL,
	NR_OPS
};

static const char *const buses[] = { "vm", "other", "" };
static const char *const classes[] = {
	"venet-loopback", "vblk-file", "venet-passt", "venet-tap", "none", "",
};
static const char *const arguments[] = {
	"/nowhere/socket", "relative", "", "0123456789abcdef0123456789abcdef",
	"0123456789abcdef0123456789abcdef:0000000000000000",
};

#define PICK(words)	words[fuzz_byte() % (sizeof(words) / sizeof(words[0]))]

/* ---- Messages ---- */

/* Right but for one thing at most: a number, any eight bytes, or the length. */
static long twist(struct vbusd_request *q)
{
	uint8_t *bytes = (uint8_t *)q;

	switch (fuzz_byte()) {
	case 1:
		q->version = fuzz_number();
		break;
	case 2:
		fuzz_bytes(bytes + fuzz_byte() % (sizeof(*q) - 8), 8);
		break;
	case 3:
		return fuzz_number() % (2 * sizeof(*q));
	case 4:		/* no text: it does not end */
		memset(q->bus, 'x', sizeof(q->bus));
		break;
	case 5:
		memset(q->klass, 'x', sizeof(q->klass));
		break;
	case 6:
		memset(q->argument, 'x', sizeof(q->argument));
		break;
	case 7:		/* as long as it may be */
		memset(q->bus, 'x', sizeof(q->bus) - 1);
		memset(q->klass, 'x', sizeof(q->klass) - 1);
		memset(q->argument, '\n', sizeof(q->argument) - 1);
	}
	return sizeof(*q);
}

static struct vbus_mask any_mask(void)
{
	struct vbus_mask mask = { .gid = fuzz_number() };

	mask.bits = fuzz_number();
	return mask;
}

long fuzz_request(struct vbusd_request *q)
{
	*q = (struct vbusd_request){
		.version = VBUSD_VERSION,
		.op = fuzz_byte(),
		.flags = fuzz_byte(),
		.index = fuzz_byte(),
		.window_mib = 1,
		.vectors = 8,
	};
	strcpy(q->bus, PICK(buses));
	strcpy(q->klass, PICK(classes));
	strcpy(q->argument, PICK(arguments));
	memset(q->uuid, fuzz_byte(), sizeof(q->uuid));
	q->mac[5] = fuzz_byte();
	switch (q->op) {
	case VBUSD_BUS_ADD:
		q->bus[1] = (char)('a' + fuzz_byte() % 40);
		q->window_mib = fuzz_number();
		q->vectors = fuzz_number();
		q->connector = fuzz_byte();
		break;
	case VBUSD_DEVICE_ADD:
		q->block_size = fuzz_number();
		q->mask[7] = any_mask();
		break;
	case VBUSD_MASK:
		q->mask[0] = any_mask();
		break;
	}
	return twist(q);
}

long fuzz_notice(struct vbus_worker_notice *n)
{
	uint32_t what = fuzz_byte();

	if (!what)
		return -1;
	*n = (struct vbus_worker_notice){
		.kind = what & 3, .slot = fuzz_number(), .instance = fuzz_number(),
	};
	return what == 4 ? (long)fuzz_number() : (long)sizeof(*n);
}

/* ---- What happens to a bus ---- */

static void scribble(struct vbusd_bus *bus)
{
	uint8_t *bytes = (uint8_t *)bus->page;
	uint32_t at = fuzz_number() * 4, len = fuzz_byte() % 16;

	if (fuzz_byte() == 1)
		memset(bytes, 0xff, sizeof(*bus->page));
	else if (at < sizeof(*bus->page) - len)
		fuzz_bytes(bytes + at, len);
}

/* It comes, or it goes. */
static void qemu(struct vbusd_bus *bus)
{
	if (bus->qemu >= 0) {
		vbusd_worker_renew(bus);
		return;
	}
	if (bus->window < 0)
		return;
	bus->qemu = fuzz_open();
	if (bus->qemu >= 0)
		vbusd_worker_tell(bus, VBUS_WORKER_CONNECTED, 0);
}

static void happen(enum op op, struct vbusd_bus *bus)
{
	fuzz_clock_forward(fuzz_byte());
	switch (op) {
	case NOTICE:
		if (bus->control >= 0)
			vbusd_stream_notice(bus);
		break;
	case PAGE:
		scribble(bus);
		break;
	case QEMU:
		qemu(bus);
		break;
	case WORKER_END:
		vbusd_worker_ended(bus, 0);
		break;
	case RESPAWN:
		vbusd_worker_respawn(bus);
		break;
	case FENCE:
		vbusd_worker_fence(bus);
		break;
	case REOPEN:
		vbusd_stream_reopen(bus);
		break;
	default:
		break;
	}
}

static void step(void)
{
	enum op op = (enum op)(fuzz_byte() % NR_OPS);
	uint32_t index = fuzz_byte();

	if (op == ACCEPT)
		vbusd_admin_accept();
	else if (op == REQUEST)
		vbusd_admin_serve(index % VBUSD_CLIENTS);
	else if (op == FAIL)
		fuzz_fail_after(index);
	else if (vbusd.bus[index % VBUSD_BUSES].used)
		happen(op, &vbusd.bus[index % VBUSD_BUSES]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	fuzz_begin(data, len);
	fuzz_system_begin();
	vbusd_begin();
	while (fuzz_has_more())
		step();
	fuzz_fail_after(0);
	vbusd_finish();
	fuzz_system_end();
	return 0;
}

/* ---- To begin with ---- */

/* Op, flags, index; then by number: bus, class, argument; uuid, the last byte of a mac. */
#define SAY(op, flags, index, klass, uuid, mac) \
			REQUEST, 0, op, flags, index, 0, klass, 0, uuid, mac
#define DO_CONNECT	ACCEPT, 0, 0, 0
#define DO_BUS(connector) \
			SAY(VBUSD_BUS_ADD, 0, 0, 0, 0, 0), 'm' - 'a', 1, 8, connector, 0
#define DO_DEVICE(klass, uuid) \
			SAY(VBUSD_DEVICE_ADD, 0, 0, klass, uuid, 1), 0, 1, 1, 0
#define DO(op, flags, index, uuid) \
			SAY(op, flags, index, 0, uuid, 1), 0

#define RELEASE		REQUEST, 0, VBUSD_RELEASE, 0, 0, 0, 0, 3, 0, 1, 0

const struct fuzz_seed fuzz_seeds[] = {
	FUZZ_SEED("bus", DO_CONNECT, DO(VBUSD_WATCH, 0, 0, 0), DO_BUS(0),
		  DO(VBUSD_BUS_STATUS, 0, 0, 0), DO(VBUSD_CLASS_STATUS, 0, 1, 0),
		  DO(VBUSD_RENEW, 0, 0, 0), NOTICE, 0, 0, 2, 0, 0, 0, WORKER_END, 0, 0, 1, 0,
		  DO(VBUSD_BUS_REMOVE, 0, 0, 0), DO(VBUSD_END, 0, 0, 0)),
	FUZZ_SEED("devices", DO_CONNECT, DO_BUS(1), DO_DEVICE(0, 1), DO_DEVICE(1, 2),
		  DO_DEVICE(2, 3), DO_DEVICE(3, 4), DO(VBUSD_DEVICE_STATUS, 0, 1, 0),
		  DO(VBUSD_LINK, VBUSD_LINK_DOWN, 0, 1), DO(VBUSD_RESIZE, 0, 0, 2),
		  SAY(VBUSD_MASK, 0, 0, 0, 1, 0), 1, 1, 0,
		  SAY(VBUSD_MASK, VBUSD_ALL_DEVICES, 0, 0, 0, 0), 3, 1, 0,
		  DO(VBUSD_DEVICE_REMOVE, 0, 0, 1)),
	FUZZ_SEED("worker", DO_CONNECT, DO_BUS(0), DO_DEVICE(2, 3), QEMU, 0, 0, NOTICE, 0, 0, 1, 0,
		  2, 0, REOPEN, 0, 0, PAGE, 0, 0, 5, 4, 0, 1, 2, 3, 4, FENCE, 0, 0, FENCE, 0, 0, 1,
		  WORKER_END, 0, 0, 1, 9, RESPAWN, 0, 0, QEMU, 0, 0),
	FUZZ_SEED("moves", DO_CONNECT, DO_BUS(0), DO_DEVICE(0, 1), RELEASE, NOTICE, 0, 0, 3, 0, 0, 0,
		  WORKER_END, 0, 0, 1, 0, RELEASE, DO(VBUSD_START, VBUSD_FENCED, 0, 0), RELEASE,
		  FENCE, 0, 0, 1),
	FUZZ_SEED("failure", DO_CONNECT, FAIL, 5, DO_BUS(0), FAIL, 9, DO_BUS(0), DO_BUS(0),
		  FAIL, 1, DO_DEVICE(1, 2)),
	{ 0 }
};
