/* SPDX-License-Identifier: MIT */
/*
 * calls.pml - one call slot, in its memory order: drivers/linux/call.c,
 * drivers/host/worker_calls.c.
 *
 * A block is one word, the number of its call.  Who answers whom after a loss is in epoch.pml.
 */
#define CALLS		3

#define REQUEST		0	/* the north's words: the block, */
#define REQUEST_SEQ	1	/* and the number that hands it over */
#define SHARE		2
#define REPLY		2	/* the south's */
#define REPLY_SEQ	3
#define WORDS		4

#include "memory.pml"

#define NORTH		0
#define SOUTH		1

bool stale_request, stale_reply;

/* vbus_call() */
active proctype north()
{
	MEMORY_LOCALS;
	byte seq;

	do
	:: seq < CALLS ->
		seq++;
		store(NORTH, REQUEST, seq);
#ifndef NO_REQUEST_WMB
		wmb(NORTH);
#endif
		store(NORTH, REQUEST_SEQ, seq);
		LOAD(NORTH, REPLY_SEQ) == seq;
#ifndef NO_REPLY_RMB
		rmb(NORTH);
#endif
		stale_reply = LOAD(NORTH, REPLY) != seq;
		assert(!stale_reply)
	:: else -> break
	od
}

/* serve() and reply() */
active proctype south()
{
	MEMORY_LOCALS;
	byte answered, seq;

	do
	:: atomic { LOAD(SOUTH, REQUEST_SEQ) != answered -> seq = LOAD(SOUTH, REQUEST_SEQ) };
#ifndef NO_REQUEST_RMB
		rmb(SOUTH);
#endif
		stale_request = LOAD(SOUTH, REQUEST) != seq;
		assert(!stale_request);
		store(SOUTH, REPLY, seq);
#ifndef NO_REPLY_WMB
		wmb(SOUTH);
#endif
		store(SOUTH, REPLY_SEQ, seq);
		answered = seq
	:: answered == CALLS -> break
	od
}
