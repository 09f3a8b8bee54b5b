/* SPDX-License-Identifier: MIT */
/*
 * venet.h - the Ethernet class: rings, link, status; what is behind them is a back end.
 *
 * "rx" and "tx" are the guest's.
 */
#ifndef VENET_H
#define VENET_H

#include <sys/uio.h>

#include "ioq.h"
#include "venet_abi.h"
#include "worker.h"

/* Buffers that are taken ahead; the longest frame needs 33 of the smallest. */
#define VENET_HELD	64u
#define VENET_FLOWS	256u
/* Of a frame that is received: its begin, the buffers, and what does not fit into them. */
#define VENET_PARTS	(VENET_HELD + 2u)

struct venet;

enum venet_moved {
	VENET_NOTHING,		/* not now; the back end makes the device ready again */
	VENET_MOVED,
	VENET_DROPPED,		/* counted by the common part */
};

/**
 * struct venet_backend - where frames go to and come from
 * @size:     of its state, which begins with a struct venet
 * @start:    LINKUP: look for frames again
 * @transmit: a frame of the guest, in the window: take it in one copy, never look twice
 * @has_frame: there may be something to receive
 * @receive:  put a frame, of at most the VENET_FRAME_MAX bytes that @parts have, there; say its
 *            length, and in @head, which is all 0, what it asks for
 * @rest:     the pump found nothing more to do: ask to be woken
 * @woken:    its descriptor has something, whether the guest's link is up or not; optional
 * @renewed:  there is another descriptor; for those that lose theirs
 * @closed:   the guest's session ended; what waits for it is forgotten; optional
 * @lacks:    bits of SG and L4RO that this host has not; optional
 * @offloads: whoever sends may leave this to the guest from now on, bits of L4RO; optional
 */
struct venet_backend {
	size_t size;
	void (*start)(struct venet *v);
	enum venet_moved (*transmit)(struct venet *v, const struct venet_header *head,
				     const void *frame, uint32_t len);
	bool (*has_frame)(const struct venet *v);
	enum venet_moved (*receive)(struct venet *v, struct venet_header *head,
				    const struct iovec *parts, uint32_t count, uint32_t *len);
	void (*rest)(struct venet *v);
	void (*woken)(struct venet *v);
	void (*renewed)(struct venet *v);
	void (*closed)(struct venet *v);
	uint32_t (*lacks)(struct venet *v);
	void (*offloads)(struct venet *v, uint32_t bits);
};

/* A buffer that was taken and not yet given back, and where it lies. */
struct venet_buffer {
	uint8_t *at;
	uint32_t len;
	uint32_t id;
};

/**
 * struct venet_ring - one direction
 * @held: @count buffers from @first on, in the order in which they came; @room bytes in all
 * @head:  tx: private copy of the held frame's
 * @empty: the last look found nothing, and something is waited for
 * @given: completions not yet published
 */
struct venet_ring {
	struct ioq ioq;
	struct vbus_region *region;
	struct venet_buffer held[VENET_HELD];
	uint32_t first;
	uint32_t count;
	uint64_t room;
	struct venet_header head;
	bool empty;
	uint32_t given;
};

struct venet_pair {
	struct venet_ring rx;
	struct venet_ring tx;
};

/**
 * struct venet_incoming - the frame that is on its way into the window
 * @start:  bytes from its begin that lie in @staging
 * @direct: bytes from its begin that are dealt with when those are copied; what comes behind lies
 *          in @staging too, from @start on
 */
struct venet_incoming {
	bool is_there;
	struct venet_header head;
	uint32_t len;
	uint32_t start;
	uint32_t direct;
	uint32_t pair;
	uint8_t staging[VENET_FRAME_MAX];
};

/**
 * struct venet - private state of a device
 * @pair:    @pairs of them are served, from 0 on; the next to have its turn is @turn
 * @status:  the south part of the status region, or NULL
 * @running: LINKUP was called, and the rings are served
 * @readable: a read may find a frame
 * @dead:     the back end is gone, or there never was one; the link is down
 * @lacks:    bits of SG and L4RO that the back end has not
 * @sg, @l4ro: bits that are active, as LINKUP found them; @offloads: those of @l4ro in use
 * @mtu:      bytes, the one that the guest knows of
 * @flow:     the pair that the guest used last, per hash
 * @rxmode:   what the guest wants; nothing was said before @has_rxmode
 */
struct venet {
	struct vbus_device *dev;
	const struct venet_backend *backend;
	struct venet_pair pair[VENET_PAIRS_MAX];
	uint32_t pairs;
	uint32_t turn;
	struct vbus_region *status_region;
	struct venet_status *status;
	bool running;
	bool readable;
	bool dead;
	uint32_t lacks;
	uint32_t sg;
	uint32_t l4ro;
	uint32_t offloads;
	uint32_t mtu;
	uint8_t flow[VENET_FLOWS];
	bool has_rxmode;
	struct venet_rxmode rxmode;
	struct venet_incoming in;
};

/* The longest frame that is not to be segmented. */
static inline uint32_t venet_longest(const struct venet *v)
{
	return v->mtu + VENET_OVERHEAD;
}

/* venet_pump.c: one batch of frames; true when there is more. */
bool venet_run(struct vbus_device *dev);
/* @len bytes from @from into @parts, which have the room. */
void venet_scatter(const struct iovec *parts, const void *from, uint32_t len);

/* venet_judge.c: what of @bits makes sense together. */
uint32_t venet_depend(uint32_t gid, uint32_t bits);
/* What is wrong with a header that the guest sent with a frame of @len bytes; NULL: nothing. */
const char *venet_objection(const struct venet *v, const struct venet_header *head, uint32_t len);
/* Whether the guest takes what @head asks for. */
bool venet_takes(const struct venet *v, const struct venet_header *head, uint32_t len);
/* Whether the guest wants frames to this address. */
bool venet_wants(const struct venet *v, const uint8_t *to);
/* Of its first @len bytes; the same in both directions; below VENET_FLOWS. */
uint32_t venet_flow(const uint8_t *frame, uint32_t len);

extern const struct venet_backend venet_loopback;
extern const struct venet_backend venet_tap;
extern const struct venet_backend venet_passt;

extern const struct vbus_class_ops venet_loopback_class;
extern const struct vbus_class_ops venet_tap_class;
extern const struct vbus_class_ops venet_passt_class;

#endif /* VENET_H */
