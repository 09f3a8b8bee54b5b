/* SPDX-License-Identifier: MIT */
/*
 * shm_signal.h - notifications through shared memory, with one writer a word.
 *
 * The original's three flags (enabled, pending, dirty) are written by both sides.  Here the sender
 * owns a sequence word a signal and a summary word a queue, the receiver owns an enabled byte a
 * signal and an awake word a queue; dirty is "the sequence differs from what I saw last", pending
 * is "awake".
 */
#ifndef VBUS_SHM_SIGNAL_H
#define VBUS_SHM_SIGNAL_H

#include "vbus_abi.h"
#include "vbus_rc.h"

#define SHM_SIGNAL_UNBOUND	0xffu

/**
 * struct shm_signal - one side's private view of all signals of a bus
 * @own:	page that this side writes
 * @peer:	page that this side reads
 * @count:	signals 0..count-1 are looked at
 * @sent:	per signal: what @own->sequence holds; a private copy, never read back
 * @seen:	per signal: the peer's sequence that was last acted upon
 * @queue:	per signal: the event queue it is bound to, or SHM_SIGNAL_UNBOUND
 * @rang:	per queue: what @own->summary holds
 * @heard:	per queue: the peer's summary that was last acted upon
 *
 * The caller serialises injects of one queue against each other, and scans of one queue likewise.
 */
struct shm_signal {
	struct shm_signal_page *own;
	const struct shm_signal_page *peer;
	uint32_t count;
	uint32_t sent[VBUS_SIGNALS];
	uint32_t seen[VBUS_SIGNALS];
	uint8_t queue[VBUS_SIGNALS];
	uint32_t rang[VBUS_QUEUES];
	uint32_t heard[VBUS_QUEUES];
};

typedef void shm_signal_fn(void *ctx, uint32_t signal);

void shm_signal_init(struct shm_signal *s, struct shm_signal_page *own,
		     const struct shm_signal_page *peer);

/* What the peer has sent up to now is old news for this signal; it starts disabled. */
enum vbus_rc shm_signal_bind(struct shm_signal *s, uint32_t signal, uint32_t queue);
void shm_signal_unbind(struct shm_signal *s, uint32_t signal);

/*
 * Another queue for a bound signal.  The caller serialises this against scans of both queues, and
 * then acts as if the signal had come: what the peer sent on the queue that it thinks of may have
 * been passed over.  Whoever switches last injects once more, for the same reason.
 */
enum vbus_rc shm_signal_rebind(struct shm_signal *s, uint32_t signal, uint32_t queue);

/* Sender.  Everything stored before is visible before; true: ring the queue's doorbell now. */
bool shm_signal_inject(struct shm_signal *s, uint32_t signal);

/* Receiver.  True: the signal is dirty already, act upon it; no doorbell will come for that. */
bool shm_signal_enable(struct shm_signal *s, uint32_t signal);
void shm_signal_disable(struct shm_signal *s, uint32_t signal);

/*
 * Receiver, when the doorbell of @queue rang: @fn for each enabled dirty signal until none is, or
 * the peer has gone on sending for too long.  True: it has, so call again soon; no doorbell may
 * come for what is left.
 */
bool shm_signal_wakeup(struct shm_signal *s, uint32_t queue, shm_signal_fn *fn, void *ctx);

/* Receiver: a look only, that shm_signal_wakeup() would find something sent. */
bool shm_signal_has_news(const struct shm_signal *s, uint32_t queue);

#endif /* VBUS_SHM_SIGNAL_H */
