/* SPDX-License-Identifier: MIT */
/*
 * vbus_features.h - groups of bits: the host offers, the guest picks a subset once per open.
 *
 * A group that nobody knows is empty: asking for it succeeds and gives nothing.
 */
#ifndef VBUS_FEATURES_H
#define VBUS_FEATURES_H

#include "vbus_abi.h"
#include "vbus_rc.h"

#define VBUS_FEATURE_GROUPS	8u

/**
 * struct vbus_feature_group
 * @gid:       number in the device type's own namespace
 * @supported: bits that the class implements
 * @masked:    bits that the administrator takes away
 * @active:    bits in force; meaningful while @settled
 */
struct vbus_feature_group {
	uint32_t gid;
	uint32_t supported;
	uint32_t masked;
	uint32_t active;
	bool settled;
};

struct vbus_features {
	uint32_t count;
	struct vbus_feature_group group[VBUS_FEATURE_GROUPS];
};

/* Say what the class implements; once a group. */
enum vbus_rc vbus_features_support(struct vbus_features *f, uint32_t gid, uint32_t bits);

/* Take bits away from the next open on; INVALID for what the class does not know. */
enum vbus_rc vbus_features_mask(struct vbus_features *f, uint32_t gid, uint32_t bits);

/* Forget what was picked: the device was closed. */
void vbus_features_reset(struct vbus_features *f);

/* Pick; BUSY when this group was picked since the last reset. */
enum vbus_rc vbus_features_negotiate(struct vbus_features *f, uint32_t gid, uint32_t wanted,
				     uint32_t *offered, uint32_t *active);

/* True when all of @bits are in force. */
bool vbus_features_have(const struct vbus_features *f, uint32_t gid, uint32_t bits);

static inline uint32_t vbus_features_offered(const struct vbus_feature_group *g)
{
#ifdef VBUS_DEFECT_MASK	/* a planted defect: the host ignores the mask */
	return g->supported;
#else
	return g->supported & ~g->masked;
#endif
}

#endif /* VBUS_FEATURES_H */
