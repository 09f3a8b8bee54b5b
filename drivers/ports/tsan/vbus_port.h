/* SPDX-License-Identifier: MIT */
/*
 * The port for one test: both sides in one process under ThreadSanitizer.
 *
 * TSan knows no fences, so the two halves of each are told to it where they act: the first store
 * after vbus_wmb() releases, and vbus_rmb() acquires what was loaded since the last one.  That is
 * stricter than C11, which lets every later store release, and it is how the core is written: each
 * store that hands something over has its barrier right before it.
 *
 * What a clean run says, of the ways that were gone: what one side wrote without these accessors
 * the other one touched only after a hand-over, with both of its barriers.  What it does not say:
 * that a plain access between vbus_wmb() and the store came before it; that a load saw the very
 * store that it acquires; anything of vbus_mb() between a store and a load, which no race detector
 * sees.  For those there are the models.
 */
#ifndef VBUS_PORT_H
#define VBUS_PORT_H

#include "vbus_types.h"

#define vbus_le16_to_cpu(v)	((uint16_t)(v))
#define vbus_le32_to_cpu(v)	((uint32_t)(v))
#define vbus_le64_to_cpu(v)	((uint64_t)(v))
#define vbus_cpu_to_le16(v)	((vbus_le16)(v))
#define vbus_cpu_to_le32(v)	((vbus_le32)(v))
#define vbus_cpu_to_le64(v)	((vbus_le64)(v))

void __tsan_acquire(void *at);
void __tsan_release(void *at);

#define VBUS_TSAN_LOADS	64u

/**
 * struct vbus_tsan - what this thread did since its last barriers
 * @load: words that were loaded, the last VBUS_TSAN_LOADS of them
 * @releases: a store that is to come releases
 */
struct vbus_tsan {
	const void *load[VBUS_TSAN_LOADS];
	unsigned int loads;
	bool releases;
};

extern _Thread_local struct vbus_tsan vbus_tsan;

static inline void vbus_tsan_load(const void *p)
{
	vbus_tsan.load[vbus_tsan.loads++ % VBUS_TSAN_LOADS] = p;
}

static inline void vbus_tsan_store(void *p)
{
	if (vbus_tsan.releases)
		__tsan_release(p);
	vbus_tsan.releases = false;
}

#define VBUS_TSAN_READ(bits, type) \
static inline uint##bits##_t vbus_read##bits(const type *p) \
{ \
	type v = __atomic_load_n(p, __ATOMIC_RELAXED); \
\
	vbus_tsan_load(p); \
	return v; \
}

#ifdef VBUS_DEFECT_PLAIN	/* a planted defect: shared words are stored as any other */
#define VBUS_TSAN_PUT(p, v)	(*(p) = (v))
#else
#define VBUS_TSAN_PUT(p, v)	__atomic_store_n(p, v, __ATOMIC_RELAXED)
#endif

#define VBUS_TSAN_WRITE(bits, type) \
static inline void vbus_write##bits(type *p, uint##bits##_t v) \
{ \
	vbus_tsan_store(p); \
	VBUS_TSAN_PUT(p, v); \
}

VBUS_TSAN_READ(8, uint8_t)
VBUS_TSAN_READ(16, vbus_le16)
VBUS_TSAN_READ(32, vbus_le32)
VBUS_TSAN_READ(64, vbus_le64)
VBUS_TSAN_WRITE(8, uint8_t)
VBUS_TSAN_WRITE(16, vbus_le16)
VBUS_TSAN_WRITE(32, vbus_le32)
VBUS_TSAN_WRITE(64, vbus_le64)

static inline void vbus_wmb(void)
{
#ifndef VBUS_DEFECT_WMB		/* a planted defect: nothing is ordered before what hands it over */
	vbus_tsan.releases = true;
#endif
}

static inline void vbus_rmb(void)
{
	unsigned int n = vbus_tsan.loads < VBUS_TSAN_LOADS ? vbus_tsan.loads : VBUS_TSAN_LOADS;

	vbus_tsan.loads = 0;
#ifndef VBUS_DEFECT_RMB		/* a planted defect: what was handed over may be looked at before */
	while (n--)
		__tsan_acquire((void *)(uintptr_t)vbus_tsan.load[n]);
#else
	(void)n;
#endif
}

/* A full barrier for the processor; on a word of the stack, which synchronises with nobody. */
static inline void vbus_mb(void)
{
	uint32_t own = 0;

	__atomic_exchange_n(&own, 1, __ATOMIC_SEQ_CST);
	vbus_wmb();
	vbus_rmb();
}

#endif /* VBUS_PORT_H */
