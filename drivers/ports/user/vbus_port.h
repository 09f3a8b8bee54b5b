/* SPDX-License-Identifier: MIT */
/*
 * The port to user space: the host programs, the unit tests and, compiled by mingw, the check
 * that the core stays portable.
 */
#ifndef VBUS_PORT_H
#define VBUS_PORT_H

#include "vbus_types.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "big-endian hosts need byte swapping here"
#endif

#define vbus_le16_to_cpu(v)	((uint16_t)(v))
#define vbus_le32_to_cpu(v)	((uint32_t)(v))
#define vbus_le64_to_cpu(v)	((uint64_t)(v))
#define vbus_cpu_to_le16(v)	((vbus_le16)(v))
#define vbus_cpu_to_le32(v)	((vbus_le32)(v))
#define vbus_cpu_to_le64(v)	((vbus_le64)(v))

/* One load or one store of the whole word, never torn, never repeated, never invented. */
static inline uint8_t vbus_read8(const uint8_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline uint16_t vbus_read16(const vbus_le16 *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline uint32_t vbus_read32(const vbus_le32 *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline uint64_t vbus_read64(const vbus_le64 *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline void vbus_write8(uint8_t *p, uint8_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static inline void vbus_write16(vbus_le16 *p, uint16_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static inline void vbus_write32(vbus_le32 *p, uint32_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static inline void vbus_write64(vbus_le64 *p, uint64_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static inline void vbus_mb(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static inline void vbus_rmb(void)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
}

static inline void vbus_wmb(void)
{
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

#endif /* VBUS_PORT_H */
