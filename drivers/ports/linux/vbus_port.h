/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The port to the Linux kernel.
 *
 * virt_* barriers, not smp_*: the peer is another machine, and a guest kernel that sees one CPU
 * compiles or patches the smp_* ones away.
 */
#ifndef VBUS_PORT_H
#define VBUS_PORT_H

#include <asm/barrier.h>
#include <asm/byteorder.h>
#include <linux/compiler.h>
#include "vbus_types.h"

#define vbus_le16_to_cpu(v)	le16_to_cpu(v)
#define vbus_le32_to_cpu(v)	le32_to_cpu(v)
#define vbus_le64_to_cpu(v)	le64_to_cpu(v)
#define vbus_cpu_to_le16(v)	cpu_to_le16(v)
#define vbus_cpu_to_le32(v)	cpu_to_le32(v)
#define vbus_cpu_to_le64(v)	cpu_to_le64(v)

/* One load or one store of the whole word, never torn, never repeated, never invented. */
static inline uint8_t vbus_read8(const uint8_t *p)
{
	return READ_ONCE(*p);
}

static inline uint16_t vbus_read16(const vbus_le16 *p)
{
	return le16_to_cpu(READ_ONCE(*p));
}

static inline uint32_t vbus_read32(const vbus_le32 *p)
{
	return le32_to_cpu(READ_ONCE(*p));
}

static inline uint64_t vbus_read64(const vbus_le64 *p)
{
	return le64_to_cpu(READ_ONCE(*p));
}

static inline void vbus_write8(u8 *p, u8 v)
{
	WRITE_ONCE(*p, v);
}

static inline void vbus_write16(vbus_le16 *p, uint16_t v)
{
	WRITE_ONCE(*p, cpu_to_le16(v));
}

static inline void vbus_write32(vbus_le32 *p, uint32_t v)
{
	WRITE_ONCE(*p, cpu_to_le32(v));
}

static inline void vbus_write64(vbus_le64 *p, uint64_t v)
{
	WRITE_ONCE(*p, cpu_to_le64(v));
}

static inline void vbus_mb(void)
{
	virt_mb();	/* store before load, towards the host */
}

static inline void vbus_rmb(void)
{
	virt_rmb();	/* index before contents, towards the host */
}

static inline void vbus_wmb(void)
{
	virt_wmb();	/* contents before index, towards the host */
}

#endif /* VBUS_PORT_H */
