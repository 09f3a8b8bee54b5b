// SPDX-License-Identifier: MIT
/*
 * vbusd_rights.c - of root's rights, those that vbusd and the start of its workers need.
 *
 * It is root still, owns what root owns, and CAP_SYS_ADMIN is much: this keeps an error from raw
 * disks, modules, raw sockets and the clock, not an attacker.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vbusd.h"

static const unsigned int kept[] = {
	CAP_NET_ADMIN,		/* a tap interface is made, or opened */
	CAP_CHOWN,		/* QEMU's socket is given to its user */
	CAP_DAC_OVERRIDE,	/* images and sockets of other users are opened for a worker */
	CAP_KILL,		/* a worker has another user */
	CAP_SETUID,		/* a worker becomes that user, and its namespace names it */
	CAP_SETGID,
	CAP_SETFCAP,		/* that namespace names root too: no other right lets it */
	CAP_SETPCAP,		/* a worker without a user namespace drops all there are */
	CAP_SYS_ADMIN,		/* the other namespaces of a worker */
	CAP_SYS_RESOURCE,	/* many descriptors may be on their way to workers */
};

static bool is_kept(unsigned int right)
{
	uint32_t i;

	for (i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		if (kept[i] == right)
			return true;
	return false;
}

int vbusd_rights_drop(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct set[_LINUX_CAPABILITY_U32S_3];
	unsigned int i;

	/* It starts vbus-worker only, which nobody made set-user-id. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	if (geteuid())
		return 0;
	if (syscall(SYS_capget, &head, set) < 0)
		return -1;
	for (i = 0; prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++) {
		if (is_kept(i))
			continue;
		/* A container may hold root short of rights, this one among them. */
		if (prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0 && errno != EPERM)
			return -1;
		set[CAP_TO_INDEX(i)].effective &= ~CAP_TO_MASK(i);
		set[CAP_TO_INDEX(i)].permitted &= ~CAP_TO_MASK(i);
		set[CAP_TO_INDEX(i)].inheritable &= ~CAP_TO_MASK(i);
	}
	return (int)syscall(SYS_capset, &head, set);
}
