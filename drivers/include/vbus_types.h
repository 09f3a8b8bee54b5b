/* SPDX-License-Identifier: MIT */
/*
 * vbus_types.h - fixed-width types in every environment the drivers run in.
 *
 * The only file of the portable half that may ask which system it is on.
 */
#ifndef VBUS_TYPES_H
#define VBUS_TYPES_H

#ifdef __KERNEL__
#include <linux/build_bug.h>
#include <linux/stddef.h>
#include <linux/types.h>
typedef __le16 vbus_le16;	/* sparse checks every conversion of these */
typedef __le32 vbus_le32;
typedef __le64 vbus_le64;
#define VBUS_STATIC_ASSERT(e)	static_assert(e)
#else
#include <stdbool.h>		/* all three are freestanding headers */
#include <stddef.h>
#include <stdint.h>
typedef uint16_t vbus_le16;
typedef uint32_t vbus_le32;
typedef uint64_t vbus_le64;
#define VBUS_STATIC_ASSERT(e)	_Static_assert(e, #e)
#endif

#endif /* VBUS_TYPES_H */
