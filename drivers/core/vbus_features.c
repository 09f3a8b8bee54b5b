// SPDX-License-Identifier: MIT
/* vbus_features.c - see vbus_features.h. */
#include "vbus_features.h"

static struct vbus_feature_group *find(struct vbus_features *f, uint32_t gid)
{
	uint32_t i;

	for (i = 0; i < f->count; i++)
		if (f->group[i].gid == gid)
			return &f->group[i];
	return NULL;
}

enum vbus_rc vbus_features_support(struct vbus_features *f, uint32_t gid, uint32_t bits)
{
	if (find(f, gid))
		return VBUS_BUSY;
	if (f->count == VBUS_FEATURE_GROUPS)
		return VBUS_FULL;
	f->group[f->count++] = (struct vbus_feature_group){ .gid = gid, .supported = bits };
	return VBUS_OK;
}

enum vbus_rc vbus_features_mask(struct vbus_features *f, uint32_t gid, uint32_t bits)
{
	struct vbus_feature_group *g = find(f, gid);

	if (!g || (bits & ~g->supported))
		return VBUS_INVALID;
	g->masked = bits;
	return VBUS_OK;
}

void vbus_features_reset(struct vbus_features *f)
{
	uint32_t i;

	for (i = 0; i < f->count; i++) {
		f->group[i].active = 0;
		f->group[i].settled = false;
	}
}

enum vbus_rc vbus_features_negotiate(struct vbus_features *f, uint32_t gid, uint32_t wanted,
				     uint32_t *offered, uint32_t *active)
{
	struct vbus_feature_group *g = find(f, gid);

	*offered = 0;
	*active = 0;
	if (!g)
		return VBUS_OK;
	if (g->settled)
		return VBUS_BUSY;

	g->settled = true;
	g->active = wanted & vbus_features_offered(g);
	*offered = vbus_features_offered(g);
	*active = g->active;
	return VBUS_OK;
}

bool vbus_features_have(const struct vbus_features *f, uint32_t gid, uint32_t bits)
{
	uint32_t i;

	for (i = 0; i < f->count; i++)
		if (f->group[i].gid == gid)
			return (f->group[i].active & bits) == bits;
	return !bits;
}
