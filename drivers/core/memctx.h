/* SPDX-License-Identifier: MIT */
/* memctx.h - the one accessor from wire addresses to memory. */
#ifndef VBUS_MEMCTX_H
#define VBUS_MEMCTX_H

#include "vbus_types.h"

/**
 * struct vbus_memctx - where addresses on the wire lead
 * @base: the window, as mapped here
 * @size: bytes
 */
struct vbus_memctx {
	uint8_t *base;
	uint64_t size;
};

/* NULL unless all of [addr, addr + len) lies in the window at or above @floor. */
static inline void *vbus_memctx_at(const struct vbus_memctx *ctx, uint64_t floor, uint64_t addr,
				   uint64_t len)
{
	if (addr < floor || addr > ctx->size || len > ctx->size - addr)
		return NULL;
	return ctx->base + addr;
}

#endif /* VBUS_MEMCTX_H */
