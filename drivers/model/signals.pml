/* SPDX-License-Identifier: MIT */
/*
 * signals.pml - drivers/core/shm_signal.c: one sender, one receiver, one signal on one queue.
 *
 * The receiver acts upon the signal at once, or disables it and polls later, as NAPI does.
 * Payload, sequence and summary hold the number of the send that wrote them.
 */
#define SENDS		3
#define ROUNDS		2	/* of a wake-up, before the caller must call again */

#define PAYLOAD		0	/* the sender's words */
#define SEQUENCE	1
#define SUMMARY		2
#define DOORBELL	3
#define SHARE		4
#define ENABLED		4	/* the receiver's */
#define AWAKE		5
#define WORDS		6

#include "memory.pml"

#define SENDER		0
#define RECEIVER	1

bool all_is_sent;
bool lost_wakeup, stale_read;

/* shm_signal_inject() */
active proctype sender()
{
	MEMORY_LOCALS;
	byte sends, rings;

	do
	:: sends < SENDS ->
		sends++;
		store(SENDER, PAYLOAD, sends);
#ifndef NO_PAYLOAD_WMB
		wmb(SENDER);
#endif
		store(SENDER, SEQUENCE, sends);
#ifndef NO_SUMMARY_WMB
		wmb(SENDER);
#endif
		store(SENDER, SUMMARY, sends);
#ifndef NO_INJECT_MB
		mb(SENDER);
#endif
		if
		:: LOAD(SENDER, ENABLED) ->
			if
			:: !LOAD(SENDER, AWAKE) ->
				/* Both ports ring behind a write barrier of their own. */
				wmb(SENDER);
				rings++;
				store(SENDER, DOORBELL, rings)
			:: else
			fi
		:: else
		fi
	:: else -> break
	od;
	all_is_sent = true
}

inline is_dirty(dirty)
{
	atomic {
		dirty = LOAD(RECEIVER, SEQUENCE) != seen;
		seen = LOAD(RECEIVER, SEQUENCE)
	}
	if
	:: dirty ->
#ifndef NO_SEQUENCE_RMB
		rmb(RECEIVER)
#else
		skip
#endif
	:: else
	fi
}

/* What the signal told of is there. */
inline act()
{
	stale_read = LOAD(RECEIVER, PAYLOAD) < seen;
	assert(!stale_read)
}

inline enable()
{
	store(RECEIVER, ENABLED, 1);
	is_on = true;
#ifndef NO_ENABLE_MB
	mb(RECEIVER);
#endif
	is_dirty(dirty)
}

inline disable()
{
	store(RECEIVER, ENABLED, 0);
	is_on = false
}

inline scan()
{
	if
	:: is_on ->
		is_dirty(dirty);
		if
		:: dirty -> act()
		:: dirty -> disable(); polls = true
		:: else
		fi
	:: else
	fi
}

/* shm_signal_wakeup(); @again: call it again soon */
inline wakeup()
{
	round = 0;
	do
	:: round == ROUNDS -> again = LOAD(RECEIVER, SUMMARY) != heard; break
	:: round < ROUNDS && LOAD(RECEIVER, SUMMARY) == heard -> again = false; break
	:: atomic {
		round < ROUNDS && LOAD(RECEIVER, SUMMARY) != heard ->
		heard = LOAD(RECEIVER, SUMMARY)
	   };
#ifndef NO_SUMMARY_RMB
		rmb(RECEIVER);
#endif
		store(RECEIVER, AWAKE, 1);
		scan();
		store(RECEIVER, AWAKE, 0);
#ifndef NO_WAKEUP_MB
		mb(RECEIVER);
#endif
		round++
	od;
	round = 0
}

active proctype receiver()
{
	MEMORY_LOCALS;
	byte seen, heard, rung, round;
	bool is_on, dirty, again, polls = true;	/* it starts by enabling */

	do
	:: polls ->
		act();
		enable();
		if
		:: dirty -> disable()
		:: else -> polls = false
		fi
	:: again -> wakeup()
	:: memory[DOORBELL] != rung ->
		/* To take an interrupt, or to read an eventfd, orders what comes after it. */
		atomic { rung = memory[DOORBELL]; rmb(RECEIVER) }
		wakeup()
	:: !polls && !again && memory[DOORBELL] == rung && all_is_sent && IS_DRAINED(SENDER) &&
	   IS_DRAINED(RECEIVER) ->
		/* It sleeps and nobody will ring: then nothing may be left unseen. */
		lost_wakeup = seen != SENDS;
		assert(!lost_wakeup);
		break
	od
}
