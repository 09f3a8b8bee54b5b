/* SPDX-License-Identifier: MIT */
/*
 * vbus_class.h - what a device class may use; docs/classes.md is the guide.
 *
 * A module exports `const struct vbus_class vbus_class`.  These functions, ioq_*() of the south and
 * vbus_features_have() are there for it, and nothing else of the worker is.
 */
#ifndef VBUS_CLASS_H
#define VBUS_CLASS_H

#include "ioq.h"
#include "worker.h"

/* @len bytes at a window offset that the guest named; NULL when they are not all in the pool. */
void *vbus_device_memory(const struct vbus_device *dev, uint64_t at, uint64_t len);

/* Take a region that is being shared into use as a ring. */
enum vbus_status vbus_device_ring(const struct vbus_device *dev, const struct vbus_region *region,
				  struct ioq *ring);

/* False: the window is another guest's by now.  Publish nothing, and return. */
bool vbus_device_has_window(const struct vbus_device *dev);

/* Tell the guest of a region, after what it tells of was published. */
void vbus_device_inject(const struct vbus_device *dev, const struct vbus_region *region);

/* Ask for the guest's signals of a region; true: one came already, and nobody will ring for it. */
bool vbus_device_enable(const struct vbus_device *dev, const struct vbus_region *region);
void vbus_device_disable(const struct vbus_device *dev, const struct vbus_region *region);

/*
 * Ask between two units of work.  True: another's is more urgent; publish, and have run return
 * true.
 */
bool vbus_device_has_urgent(const struct vbus_device *dev);

/* One line: `vbusd: bus NAME: CLASS: what`. */
void vbus_device_log(const struct vbus_device *dev, const char *what);

#endif /* VBUS_CLASS_H */
