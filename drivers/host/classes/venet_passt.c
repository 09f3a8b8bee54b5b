// SPDX-License-Identifier: MIT
/*
 * venet_passt.c - frames go to and come from passt, or whatever speaks QEMU's `-netdev stream`.
 *
 * A UNIX stream on which each frame follows its length, 32 bits, big endian.  It lasts as long as
 * this process: what it has sent half of, nobody else can finish.  What comes is judged like what
 * a guest says; when it makes no sense there is no finding the next frame: the stream is given up.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "log.h"
#include "venet.h"

#define HEAD		((uint32_t)sizeof(uint32_t))
/* The longest that QEMU sends or takes; what is too long for a guest is dropped, as on a wire. */
#define STREAM_MAX	(4096u + 65536u)
/* The longest frame that a guest takes, and as much again: no short one is moved often. */
#define ROOM		(128u << 10)

/**
 * struct venet_passt - one stream
 * @tail, @tail_at, @tail_end: what is left of a frame that was sent in part; before anything else
 * @full:  no frame goes until the socket is writable again
 * @in, @in_at, @in_end: what was read and not yet understood
 * @skip:  bytes of a frame too long for the guest that are still to come
 * @told:  the loss was logged; once until frames come again
 */
struct venet_passt {
	struct venet venet;
	uint32_t tail_at;
	uint32_t tail_end;
	bool full;
	uint32_t in_at;
	uint32_t in_end;
	uint32_t skip;
	bool told;
	uint8_t tail[HEAD + VENET_FRAME_MAX];
	uint8_t in[ROOM];
};

static struct venet_passt *passt_of(const struct venet *v)
{
	return (struct venet_passt *)v;
}

static void give_up(struct venet_passt *p, const char *why)
{
	struct vbus_device *dev = p->venet.dev;

	if (!p->told)
		vbus_log(dev->bus->name,
			 "%s: the stream is given up, one tried each second; is passt well? (%s)",
			 dev->name, why);
	p->told = true;
	p->venet.dead = true;
	p->venet.readable = false;
	vbus_device_lost(dev);
	dev->ops->link(dev);
}

/* Whatever is to be waited for: the loop looks but once each time it is asked. */
static void watch(struct venet_passt *p)
{
	uint32_t events = p->full ? EPOLLOUT : 0;

	if (p->venet.running && !p->venet.readable)
		events |= EPOLLIN;
	vbus_device_watch(p->venet.dev, events);
}

/* Bytes that went, 0 when there is no room now, -1 when the stream is given up. */
static ssize_t send_parts(struct venet_passt *p, const struct iovec *parts, int count)
{
	ssize_t done;

	do {
		done = writev(p->venet.dev->fd, parts, count);
	} while (done < 0 && errno == EINTR);
	if (done >= 0)
		return done;
	if (errno == EAGAIN)
		return 0;
	give_up(p, strerror(errno));
	return -1;
}

static void send_tail(struct venet_passt *p)
{
	struct iovec rest = { p->tail + p->tail_at, p->tail_end - p->tail_at };
	ssize_t done = send_parts(p, &rest, 1);

	if (done < 0)
		return;
	p->tail_at += (uint32_t)done;
	p->full = p->tail_at < p->tail_end;
	/* At once, not when the pump rests: passt does nothing else but wait for the rest. */
	if (p->full)
		watch(p);
}

/* The stream knows no headers, and the guest was offered nothing that needs one. */
static enum venet_moved transmit(struct venet *v, const struct venet_header *header,
				 const void *frame, uint32_t len)
{
	struct venet_passt *p = passt_of(v);
	const uint32_t head = htonl(len);
	const struct iovec parts[] = { { (void *)&head, HEAD }, { (void *)frame, len } };
	ssize_t done;

	(void)header;
	if (p->full)
		return VENET_NOTHING;
	done = send_parts(p, parts, 2);
	if (done < 0)
		return VENET_DROPPED;
	p->full = (uint32_t)done < HEAD + len;
	if (!done)
		return VENET_NOTHING;
	if (p->full) {
		memcpy(p->tail, &head, HEAD);
		memcpy(p->tail + HEAD, frame, len);
		p->tail_at = (uint32_t)done;
		p->tail_end = HEAD + len;
		watch(p);
	}
	return VENET_MOVED;
}

/* False: nothing came; there may be no stream any more. */
static bool fill(struct venet_passt *p)
{
	ssize_t done;

	memmove(p->in, p->in + p->in_at, p->in_end - p->in_at);
	p->in_end -= p->in_at;
	p->in_at = 0;
	do {
		done = read(p->venet.dev->fd, p->in + p->in_end, ROOM - p->in_end);
	} while (done < 0 && errno == EINTR);
	if (done > 0) {
		p->in_end += (uint32_t)done;
		return true;
	}
	p->venet.readable = false;
	if (!done)
		give_up(p, "the peer closed it");
	else if (errno != EAGAIN)
		give_up(p, strerror(errno));
	return false;
}

static void skip(struct venet_passt *p)
{
	uint32_t held = p->in_end - p->in_at;
	uint32_t now = p->skip < held ? p->skip : held;

	p->in_at += now;
	p->skip -= now;
}

/* The length of the next frame, once all of its head is there; 0 before. */
static uint32_t next_len(const struct venet_passt *p)
{
	uint32_t head;

	if (p->in_end - p->in_at < HEAD)
		return 0;
	memcpy(&head, p->in + p->in_at, HEAD);
	return ntohl(head);
}

/* The next frame, if all of it is there. */
static enum venet_moved take(struct venet_passt *p, const struct iovec *parts, uint32_t *len)
{
	uint32_t next;

	skip(p);
	if (p->skip || p->in_end - p->in_at < HEAD)
		return VENET_NOTHING;
	next = next_len(p);
	if (!next || next > STREAM_MAX) {
		give_up(p, "a frame has an impossible length");
		return VENET_NOTHING;
	}
	if (next < VENET_FRAME_MIN || next > venet_longest(&p->venet)) {
		p->in_at += HEAD;
		p->skip = next;
		skip(p);
		return VENET_DROPPED;
	}
	if (p->in_end - p->in_at < HEAD + next)
		return VENET_NOTHING;
	venet_scatter(parts, p->in + p->in_at + HEAD, next);
	p->in_at += HEAD + next;
	*len = next;
	if (p->told)
		vbus_log(p->venet.dev->bus->name, "%s: frames come again", p->venet.dev->name);
	p->told = false;
	return VENET_MOVED;
}

static bool has_frame(const struct venet *v)
{
	const struct venet_passt *p = passt_of(v);

	return v->readable || (!p->skip && p->in_end - p->in_at >= HEAD + next_len(p));
}

static enum venet_moved receive(struct venet *v, struct venet_header *head,
				const struct iovec *parts, uint32_t count, uint32_t *len)
{
	struct venet_passt *p = passt_of(v);
	enum venet_moved moved = take(p, parts, len);

	(void)head;
	(void)count;
	if (moved == VENET_NOTHING && v->readable && fill(p))
		moved = take(p, parts, len);
	/* Half a frame: the rest of it is waited for. */
	if (moved == VENET_NOTHING)
		v->readable = false;
	return moved;
}

static void start(struct venet *v)
{
	/* A read finds out; watching starts again when it finds nothing. */
	v->readable = !v->dead;
}

static void rest(struct venet *v)
{
	struct venet_passt *p = passt_of(v);

	/* A peer that hung up would wake a loop that cannot read yet, again and again. */
	if (!v->dead && (p->full || !v->readable))
		watch(p);
}

static bool has_room(const struct venet_passt *p)
{
	return p->in_end - p->in_at < ROOM;
}

/* Without a guest the other half is owed all the same, and the peer's end is seen. */
static void woken(struct venet *v)
{
	struct venet_passt *p = passt_of(v);

	if (p->full)
		send_tail(p);
	if (v->running)
		return;
	while (!v->dead && has_room(p) && fill(p))
		;
	if (!v->dead && has_room(p))
		watch(p);
}

static void renewed(struct venet *v)
{
	struct venet_passt *p = passt_of(v);

	p->tail_at = p->tail_end = 0;
	p->in_at = p->in_end = 0;
	p->skip = 0;
	p->full = false;
}

const struct venet_backend venet_passt = {
	.size = sizeof(struct venet_passt),
	.start = start,
	.transmit = transmit,
	.has_frame = has_frame,
	.receive = receive,
	.rest = rest,
	.woken = woken,
	.renewed = renewed,
};
