/* SPDX-License-Identifier: MIT */
/*
 * class_info.h - the device classes, as far as vbusd must know them to judge a request.
 *
 * To build a class in: a row in class_info.c, a row in worker_classes.c, and its code.  Others are
 * modules: docs/classes.md.
 */
#ifndef CLASS_INFO_H
#define CLASS_INFO_H

#include "worker_abi.h"

/* What vbusd opens for a device, and whether it keeps it. */
enum vbus_backend {
	VBUS_BACKEND_NONE,
	VBUS_BACKEND_TAP,	/* an interface by name; kept, so that its link stays up without worker */
	VBUS_BACKEND_SOCKET,	/* a UNIX stream by path; connected anew for each worker */
	VBUS_BACKEND_IMAGE,	/* a file by path; opened for one worker and never kept */
};

/**
 * struct vbus_class_info
 * @name:    the administrator's word
 * @type:    the guest's word
 * @version: of the type's ABI
 * @backend: enum vbus_backend
 * @feature: groups and bits that the class supports; ends with no bits
 */
struct vbus_class_info {
	char name[VBUSD_CLASS_LEN];
	char type[VBUS_TYPE_LEN];
	uint32_t version;
	uint32_t backend;
	struct vbus_mask feature[VBUSD_GROUPS + 1];
};

/**
 * struct vbus_class_answer - what a worker without rights says of a module; judged by vbusd
 * @why: it is none; empty when all is well
 */
struct vbus_class_answer {
	struct vbus_class_info info;
	char why[VBUSD_TEXT_LEN];
};

/* Take a class of a module into the list, or out of it; @klass stays the caller's. */
int vbus_class_add(const struct vbus_class_info *klass);
void vbus_class_remove(const struct vbus_class_info *klass);

bool vbus_class_is_built_in(const struct vbus_class_info *klass);

/* One after another, the built-in ones first; NULL past the last. */
const struct vbus_class_info *vbus_class_at(uint32_t index);

/* NULL when there is none of that name. */
const struct vbus_class_info *vbus_class_find(const char *name);

/* Bits of group @gid that the class supports; 0 for a group that it does not know. */
uint32_t vbus_class_bits(const struct vbus_class_info *klass, uint32_t gid);

/* Whether devices of the class have a MAC address. */
bool vbus_class_is_net(const struct vbus_class_info *klass);

#endif /* CLASS_INFO_H */
