// SPDX-License-Identifier: MIT
/*
 * venet_tap.c - frames go to and come from a tap interface of the host.
 *
 * The kernel copies each frame once, straight from or to the window.  While the guest has no room
 * the descriptor is not watched, so the interface's own queue pushes back.  Before each frame goes
 * the kernel's struct virtio_net_hdr, which is what venet_header begins with; of a little-endian
 * machine, as the tap is not told otherwise.
 */
#include <errno.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "log.h"
#include "venet.h"

#define HEAD		10u	/* vbusd_tap.c says so to the kernel */

#ifndef TUN_F_USO4		/* Linux 6.2 */
#define TUN_F_USO4	0x20
#define TUN_F_USO6	0x40
#endif

VBUS_STATIC_ASSERT(offsetof(struct venet_header, buffers) == HEAD);
VBUS_STATIC_ASSERT(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

static int set_offloads(struct venet *v, uint32_t bits)
{
	unsigned long tun = 0;

	if (bits & VENET_SG)
		tun |= TUN_F_CSUM;
	if (bits & VENET_SG_TSO4)
		tun |= TUN_F_TSO4;
	if (bits & VENET_SG_TSO6)
		tun |= TUN_F_TSO6;
	if (bits & VENET_SG_ECN)
		tun |= TUN_F_TSO_ECN;
	if (bits & VENET_SG_USO)
		tun |= TUN_F_USO4 | TUN_F_USO6;
	return ioctl(v->dev->fd, TUNSETOFFLOAD, tun);
}

static uint32_t lacks(struct venet *v)
{
	return set_offloads(v, VENET_SG | VENET_SG_USO) < 0 ? VENET_SG_USO : 0;
}

static void offloads(struct venet *v, uint32_t bits)
{
	/* An interface that vanished: the next read finds out. */
	if (set_offloads(v, bits) < 0 && errno != EBADFD)
		vbus_log(v->dev->bus->name, "interface %s keeps its offloads (%s)", v->dev->name,
			 strerror(errno));
}

static void start(struct venet *v)
{
	/* A read finds out; watching starts again when it finds nothing. */
	v->readable = !v->dead;
}

static enum venet_moved transmit(struct venet *v, const struct venet_header *head,
				 const void *frame, uint32_t len)
{
	const struct iovec parts[] = { { (void *)head, HEAD }, { (void *)frame, len } };
	ssize_t done;

	do {
		done = writev(v->dev->fd, parts, 2);
	} while (done < 0 && errno == EINTR);
	/*
	 * EIO: the interface is down; EAGAIN: its queue is full; EINVAL: the header is none for
	 * this frame.  All drop, as a wire does.
	 */
	return done < 0 ? VENET_DROPPED : VENET_MOVED;
}

static bool has_frame(const struct venet *v)
{
	return v->readable;
}

static enum venet_moved receive(struct venet *v, struct venet_header *head,
				const struct iovec *parts, uint32_t count, uint32_t *len)
{
	struct iovec all[VENET_PARTS + 2];
	uint8_t more;
	ssize_t done;

	all[0] = (struct iovec){ head, HEAD };
	memcpy(&all[1], parts, count * sizeof(parts[0]));
	/* One byte more than a frame has tells one that is too long from one that was cut. */
	all[count + 1] = (struct iovec){ &more, sizeof(more) };
	do {
		done = readv(v->dev->fd, all, (int)count + 2);
	} while (done < 0 && errno == EINTR);
	if (done >= 0) {
		*len = (uint32_t)done - HEAD;
		return done > (ssize_t)HEAD && *len <= VENET_FRAME_MAX ? VENET_MOVED :
									 VENET_DROPPED;
	}
	v->readable = false;
	if (errno != EAGAIN) {
		vbus_log(v->dev->bus->name,
			 "interface %s gives no frames any more; remove and add the device (%s)",
			 v->dev->name, strerror(errno));
		v->dead = true;
		v->dev->ops->link(v->dev);
	}
	return VENET_NOTHING;
}

static void rest(struct venet *v)
{
	if (!v->readable && !v->dead)
		vbus_device_watch(v->dev, EPOLLIN);
}

const struct venet_backend venet_tap = {
	.size = sizeof(struct venet),
	.start = start,
	.transmit = transmit,
	.has_frame = has_frame,
	.receive = receive,
	.rest = rest,
	.lacks = lacks,
	.offloads = offloads,
};
