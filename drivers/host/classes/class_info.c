// SPDX-License-Identifier: MIT
/* class_info.c - see class_info.h. */
#include <string.h>

#include "class_info.h"
#include "vblk_abi.h"
#include "venet_abi.h"

#define OFFLOADS	(VENET_SG | VENET_SG_TSO4 | VENET_SG_TSO6 | VENET_SG_ECN | VENET_SG_USO)

#ifdef VBUS_DEFECT_FEATURE	/* a planted defect: cards have lost what a release had */
#undef OFFLOADS
#define OFFLOADS	(VENET_SG | VENET_SG_TSO4 | VENET_SG_ECN | VENET_SG_USO)
#endif

/* @offloads: without these a group of no bits ends the list. */
#define VENET(name_, backend_, offloads_) { \
	.name = name_, \
	.type = VENET_TYPE, \
	.version = VENET_VERSION, \
	.backend = backend_, \
	.feature = { \
		{ VENET_GROUP_EVENTQ, VENET_EVENTQ_LINKSTATE }, \
		{ VENET_GROUP_CONFIG, \
		  VENET_CONFIG_MTU | VENET_CONFIG_PAIRS | VENET_CONFIG_RXMODE }, \
		{ VENET_GROUP_SG, offloads_ }, \
		{ VENET_GROUP_L4RO, offloads_ }, \
	}, \
}

static const struct vbus_class_info built_in[] = {
	VENET("venet-loopback", VBUS_BACKEND_NONE, OFFLOADS),
	VENET("venet-tap", VBUS_BACKEND_TAP, OFFLOADS),
	VENET("venet-passt", VBUS_BACKEND_SOCKET, 0),
	{
		.name = "vblk-file",
		.type = VBLK_TYPE,
		.version = VBLK_VERSION,
		.backend = VBUS_BACKEND_IMAGE,
		.feature = {
			{ VBLK_GROUP_COMMANDS, VBLK_COMMANDS_FLUSH | VBLK_COMMANDS_DISCARD |
					       VBLK_COMMANDS_ZEROES },
			{ VBLK_GROUP_CONFIG, VBLK_CONFIG_RESIZE | VBLK_CONFIG_QUEUES },
		},
	},
};

#define BUILT_IN	(sizeof(built_in) / sizeof(built_in[0]))

static const struct vbus_class_info *module[VBUSD_MODULES];
static uint32_t modules;

const struct vbus_class_info *vbus_class_at(uint32_t index)
{
	if (index < BUILT_IN)
		return &built_in[index];
	return index - BUILT_IN < modules ? module[index - BUILT_IN] : NULL;
}

int vbus_class_add(const struct vbus_class_info *klass)
{
	if (modules == VBUSD_MODULES)
		return -1;
	module[modules++] = klass;
	return 0;
}

void vbus_class_remove(const struct vbus_class_info *klass)
{
	uint32_t i;

	for (i = 0; i < modules && module[i] != klass; i++)
		;
	if (i == modules)
		return;
	modules--;
	memmove(&module[i], &module[i + 1], (modules - i) * sizeof(module[0]));
}

bool vbus_class_is_built_in(const struct vbus_class_info *klass)
{
	return klass >= built_in && klass < built_in + BUILT_IN;
}

const struct vbus_class_info *vbus_class_find(const char *name)
{
	const struct vbus_class_info *klass;
	uint32_t i;

	for (i = 0; (klass = vbus_class_at(i)); i++)
		if (!strcmp(klass->name, name))
			return klass;
	return NULL;
}

uint32_t vbus_class_bits(const struct vbus_class_info *klass, uint32_t gid)
{
	const struct vbus_mask *f;

	for (f = klass->feature; f->bits; f++)
		if (f->gid == gid)
			return f->bits;
	return 0;
}

bool vbus_class_is_net(const struct vbus_class_info *klass)
{
	return !strcmp(klass->type, VENET_TYPE);
}
