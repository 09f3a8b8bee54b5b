// SPDX-License-Identifier: MIT
/*
 * fuzz_fetch.c - what the guest may change at any time is fetched once for each piece of work.
 *
 * The compiler has each load of the watched sources told here, and their memcpy() is ours.  A piece
 * of work is one entry of a ring, one call, one look at all call slots.  Header, signals and
 * indices are looked at again and again, each time to be judged anew: they are not counted.
 */
#include <string.h>

#include "fuzz.h"
#include "fuzz_south.h"
#include "ioq.h"

#define CALLS_LEN	(VBUS_CALL_SLOTS * sizeof(struct vbus_call_request))

void *fuzz_memcpy(void *to, const void *from, size_t len);

/* Number of the work that fetched each byte last. */
static uint64_t fetched[SOUTH_WINDOW], work = 1;

static bool is_the_norths(size_t at)
{
	return at >= VBUS_POOL || (at >= VBUS_CALLS_NORTH && at < VBUS_CALLS_NORTH + CALLS_LEN);
}

static void note(const void *from, size_t len)
{
	size_t at = (size_t)((const uint8_t *)from - south_window);

	for (; len && at < SOUTH_WINDOW; at++, len--) {
		if (!is_the_norths(at))
			continue;
		if (fetched[at] == work)
			fuzz_found("a byte that the guest may change is fetched twice");
		fetched[at] = work;
	}
}

void *fuzz_memcpy(void *to, const void *from, size_t len)
{
	note(from, len);
	return memcpy(to, from, len);
}

/* ---- By the compiler: -fsanitize-coverage=trace-loads ---- */

#define LOAD(bytes) \
	void __sanitizer_cov_load##bytes(const void *from); \
	void __sanitizer_cov_load##bytes(const void *from) \
	{ \
		note(from, bytes); \
	}
LOAD(1)
LOAD(2)
LOAD(4)
LOAD(8)
LOAD(16)

/* ---- By the linker: where another piece of work begins ---- */

enum vbus_rc __real_ioq_take(struct ioq *q, struct ioq_buffer *out);
enum vbus_rc __wrap_ioq_take(struct ioq *q, struct ioq_buffer *out);
void __real_vbus_calls_serve(struct vbus_bus *bus);
void __wrap_vbus_calls_serve(struct vbus_bus *bus);
bool __real_vbus_bus_is_ours(struct vbus_bus *bus);
bool __wrap_vbus_bus_is_ours(struct vbus_bus *bus);
void __real_vbus_bus_negotiated(struct vbus_bus *bus, uint64_t nonce);
void __wrap_vbus_bus_negotiated(struct vbus_bus *bus, uint64_t nonce);

enum vbus_rc __wrap_ioq_take(struct ioq *q, struct ioq_buffer *out)
{
	work++;
	return __real_ioq_take(q, out);
}

void __wrap_vbus_calls_serve(struct vbus_bus *bus)
{
	work++;
	__real_vbus_calls_serve(bus);
}

/* Asked before each reply. */
bool __wrap_vbus_bus_is_ours(struct vbus_bus *bus)
{
	work++;
	return __real_vbus_bus_is_ours(bus);
}

/* What stands in the slots is looked at once more then, to be forgotten. */
void __wrap_vbus_bus_negotiated(struct vbus_bus *bus, uint64_t nonce)
{
	work++;
	__real_vbus_bus_negotiated(bus, nonce);
}
