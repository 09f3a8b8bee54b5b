/* SPDX-License-Identifier: MIT */
/* image.h - a disk image, as vbusd and a worker both look at it. */
#ifndef VBUS_IMAGE_H
#define VBUS_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#define VBUS_BLOCK_MIN	512u
#define VBUS_BLOCK_MAX	4096u

/**
 * struct vbus_image_shape
 * @size:     bytes, of whole logical blocks
 * @logical, @physical: bytes; @optimal: bytes, or 0 when nothing is known
 * @direct:   O_DIRECT works for whole logical blocks that lie at multiples of them, as far as is
 * known
 */
struct vbus_image_shape {
	uint64_t size;
	uint32_t logical;
	uint32_t physical;
	uint32_t optimal;
	bool direct;
};

/*
 * @block_size: that the administrator wants, or 0: a block device's own, 512 for a file, wherever
 * the file lies: a partition table does not survive another one.  -1 and errno.
 */
int vbus_image_look(int fd, uint32_t block_size, struct vbus_image_shape *out);

/*
 * Take QEMU's own lock bytes, of this open file description: for a writer all of them, for a reader
 * those with which QEMU's readers get along.  -1 with EAGAIN: somebody else has them.  Taking them
 * twice is taking them once.
 */
int vbus_image_lock(int fd, bool read_only);

#endif /* VBUS_IMAGE_H */
