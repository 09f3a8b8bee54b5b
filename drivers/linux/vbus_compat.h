/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * With vblk_disk.c the only place that knows that kernels differ.  HAVE_x is the answer to
 * linux/probe/x.c, always 0 or 1: a name that no probe answers is an error.
 */
#ifndef VBUS_COMPAT_H
#define VBUS_COMPAT_H

#include "vbus_config.h"

#if HAVE_BUS_UEVENT_CONST
#define VBUS_UEVENT_CONST const
#else
#define VBUS_UEVENT_CONST
#endif

#if HAVE_BUS_MATCH_CONST
#define VBUS_MATCH_CONST const
#else
#define VBUS_MATCH_CONST
#endif

#if HAVE_BUS_REMOVE_VOID
#define VBUS_REMOVE_RESULT void
#define VBUS_REMOVED
#else
#define VBUS_REMOVE_RESULT int
#define VBUS_REMOVED 0
#endif

#if HAVE_NAPI_ADD_WEIGHTLESS
#define vbus_napi_add(netdev, napi, poll) netif_napi_add(netdev, napi, poll)
#else
#define vbus_napi_add(netdev, napi, poll) netif_napi_add(netdev, napi, poll, NAPI_POLL_WEIGHT)
#endif

#if !HAVE_MQ_SHOULD_MERGE
enum { BLK_MQ_F_SHOULD_MERGE = 0 };
#endif

/* Who wakes a disk up is not who put it to sleep. */
#if HAVE_MQ_FREEZE_OWNER
#define vbus_mq_freeze_start(queue)	blk_freeze_queue_start_non_owner(queue)
#define vbus_mq_unfreeze(queue)		blk_mq_unfreeze_queue_non_owner(queue)
#else
#define vbus_mq_freeze_start(queue)	blk_freeze_queue_start(queue)
#define vbus_mq_unfreeze(queue)		blk_mq_unfreeze_queue(queue)
#endif

#if !HAVE_IRQ_MOVE_FLAG
enum { IRQ_MOVE_PCNTXT = 0 };
#endif

/* Before the card is registered. */
#if HAVE_XDP_FEATURES
#define vbus_xdp_features(netdev) \
	((netdev)->xdp_features = NETDEV_XDP_ACT_BASIC | NETDEV_XDP_ACT_REDIRECT | \
				  NETDEV_XDP_ACT_NDO_XMIT)
#else
#define vbus_xdp_features(netdev)	((void)(netdev))
#endif

#endif /* VBUS_COMPAT_H */
