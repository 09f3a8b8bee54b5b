// SPDX-License-Identifier: MIT
/*
 * shm_signal.c - see shm_signal.h.
 *
 * Why no wake-up is lost.  The sender stores, then a full barrier, then loads enabled and awake;
 * the receiver stores awake = 0 (or enabled = 1), then a full barrier, then loads what was sent. Of
 * two such pairs at least one load sees the other side's store: either the sender rings, or the
 * receiver finds the signal dirty.
 */
#include "shm_signal.h"
#include "vbus_port.h"

#define ROUNDS	8u

void shm_signal_init(struct shm_signal *s, struct shm_signal_page *own,
		     const struct shm_signal_page *peer)
{
	uint32_t i;

	s->own = own;
	s->peer = peer;
	s->count = 0;
	for (i = 0; i < VBUS_SIGNALS; i++) {
		s->sent[i] = vbus_read32(&own->sequence[i]);
		s->seen[i] = 0;
		s->queue[i] = SHM_SIGNAL_UNBOUND;
		vbus_write8(&own->enabled[i], 0);
	}
	for (i = 0; i < VBUS_QUEUES; i++) {
		s->rang[i] = vbus_read32(&own->summary[i]);
		s->heard[i] = vbus_read32(&peer->summary[i]);
		vbus_write32(&own->awake[i], 0);
	}
}

enum vbus_rc shm_signal_bind(struct shm_signal *s, uint32_t signal, uint32_t queue)
{
	if (signal >= VBUS_SIGNALS || queue >= VBUS_QUEUES)
		return VBUS_INVALID;
	if (s->queue[signal] != SHM_SIGNAL_UNBOUND)
		return VBUS_BUSY;

	s->seen[signal] = vbus_read32(&s->peer->sequence[signal]);
	s->queue[signal] = (uint8_t)queue;
	if (s->count <= signal)
		s->count = signal + 1;
	return VBUS_OK;
}

void shm_signal_unbind(struct shm_signal *s, uint32_t signal)
{
	if (signal >= VBUS_SIGNALS)
		return;
	vbus_write8(&s->own->enabled[signal], 0);
	s->queue[signal] = SHM_SIGNAL_UNBOUND;
}

enum vbus_rc shm_signal_rebind(struct shm_signal *s, uint32_t signal, uint32_t queue)
{
	if (signal >= VBUS_SIGNALS || queue >= VBUS_QUEUES ||
	    s->queue[signal] == SHM_SIGNAL_UNBOUND)
		return VBUS_INVALID;
	s->queue[signal] = (uint8_t)queue;
	return VBUS_OK;
}

bool shm_signal_inject(struct shm_signal *s, uint32_t signal)
{
	uint32_t queue;

	if (signal >= VBUS_SIGNALS)
		return false;
	queue = s->queue[signal];
	if (queue >= VBUS_QUEUES)
		return false;

	/* What the signal tells of must be visible before the signal. */
	vbus_wmb();
	vbus_write32(&s->own->sequence[signal], ++s->sent[signal]);
	vbus_wmb();
	vbus_write32(&s->own->summary[queue], ++s->rang[queue]);

	/* Pairs with the barriers in shm_signal_enable() and shm_signal_wakeup(). */
	vbus_mb();
	return vbus_read8(&s->peer->enabled[signal]) && !vbus_read32(&s->peer->awake[queue]);
}

static bool is_dirty(struct shm_signal *s, uint32_t signal)
{
	uint32_t now = vbus_read32(&s->peer->sequence[signal]);

	if (now == s->seen[signal])
		return false;
	s->seen[signal] = now;
	/* The signal before what it tells of. */
	vbus_rmb();
	return true;
}

bool shm_signal_enable(struct shm_signal *s, uint32_t signal)
{
	if (signal >= VBUS_SIGNALS)
		return false;
	vbus_write8(&s->own->enabled[signal], 1);
	/* Pairs with the barrier in shm_signal_inject(). */
	vbus_mb();
	return is_dirty(s, signal);
}

void shm_signal_disable(struct shm_signal *s, uint32_t signal)
{
	if (signal < VBUS_SIGNALS)
		vbus_write8(&s->own->enabled[signal], 0);
}

static void scan(struct shm_signal *s, uint32_t queue, shm_signal_fn *fn, void *ctx)
{
	uint32_t signal;

	for (signal = 0; signal < s->count; signal++) {
		if (s->queue[signal] != queue || !vbus_read8(&s->own->enabled[signal]))
			continue;
		if (is_dirty(s, signal))
			fn(ctx, signal);
	}
}

bool shm_signal_has_news(const struct shm_signal *s, uint32_t queue)
{
	return queue < VBUS_QUEUES && vbus_read32(&s->peer->summary[queue]) != s->heard[queue];
}

/* True when the peer sent something on @queue after it was last heard. */
static bool hear_news(struct shm_signal *s, uint32_t queue)
{
	uint32_t now = vbus_read32(&s->peer->summary[queue]);

	if (now == s->heard[queue])
		return false;
	s->heard[queue] = now;
	/* The summary before the sequences that it sums up. */
	vbus_rmb();
	return true;
}

bool shm_signal_wakeup(struct shm_signal *s, uint32_t queue, shm_signal_fn *fn, void *ctx)
{
	uint32_t rounds;

	if (queue >= VBUS_QUEUES)
		return false;

	/* Bounded: a peer that never pauses must not keep its receiver from everything else. */
	for (rounds = 0; rounds < ROUNDS; rounds++) {
		if (!hear_news(s, queue))
			return false;
		vbus_write32(&s->own->awake[queue], 1);
		scan(s, queue, fn, ctx);
#ifndef VBUS_DEFECT_WAKEUP	/* a planted defect: awake for ever, so nobody rings again */
		vbus_write32(&s->own->awake[queue], 0);
#endif
		/* Pairs with the barrier in shm_signal_inject(). */
		vbus_mb();
	}
	/* A look only: what is new stays new until the next call. */
	return shm_signal_has_news(s, queue);
}
