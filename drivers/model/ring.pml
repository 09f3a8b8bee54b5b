/* SPDX-License-Identifier: MIT */
/*
 * ring.pml - drivers/core/ioq.c: a north that pushes and pops, a south that takes and gives
 * back.
 *
 * A descriptor is one word, the number of its push; what it points to is ordered by the same
 * barriers.  A completion is one word, the number that it gives back.  The south completes in
 * any order, both sides publish one or several at a time, and every slot is used again.
 */
#define COUNT		2	/* slots */
#define PUSHES		5

#define DESCRIPTOR	0	/* the north's words: the ring, and its index */
#define VALID		2
#define SHARE		3
#define COMPLETION	3	/* the south's */
#define INUSE		5
#define WORDS		6

#include "memory.pml"

#define NORTH		0
#define SOUTH		1

bool stale_descriptor, stale_completion, lie;

/* A peer that is further ahead than it can be. */
inline judge(ahead, most)
{
	lie = ahead > (most);
	assert(!lie)
}

active proctype north()
{
	MEMORY_LOCALS;
	byte pushed, published, popped, id;
	byte pending;		/* a bit for each number that was pushed and not popped */

	do
	:: pushed < PUSHES && pushed - popped < COUNT ->		/* ioq_push() */
		store(NORTH, DESCRIPTOR + pushed % COUNT, pushed + 1);
		pending = pending | 1 << pushed;
		pushed++
	:: published != pushed ->					/* ioq_push_publish() */
#ifndef NO_PUBLISH_WMB
		wmb(NORTH);
#endif
		store(NORTH, VALID, pushed);
		published = pushed
	:: atomic {							/* ioq_pop() */
		LOAD(NORTH, INUSE) != popped ->
		judge(LOAD(NORTH, INUSE) - popped, pushed - popped)
	   };
#ifndef NO_POP_RMB
		rmb(NORTH);
#endif
		id = LOAD(NORTH, COMPLETION + popped % COUNT);
		stale_completion = !id || !(pending & 1 << (id - 1));
		assert(!stale_completion);
		pending = pending & ~(1 << (id - 1));
		id = 0;
		popped++
	:: popped == PUSHES -> break
	od
}

active proctype south()
{
	MEMORY_LOCALS;
	byte taken, given, published, id;
	byte held;		/* a bit for each number that was taken and not given back */

	do
	:: atomic {							/* ioq_take() */
		LOAD(SOUTH, VALID) != taken ->
		judge(LOAD(SOUTH, VALID) - taken, COUNT - (taken - given))
	   };
#ifndef NO_TAKE_RMB
		rmb(SOUTH);
#endif
		id = LOAD(SOUTH, DESCRIPTOR + taken % COUNT);
		stale_descriptor = id != taken + 1;
		assert(!stale_descriptor);
		held = held | 1 << taken;
		id = 0;
		taken++
	:: held ->							/* ioq_give() */
		do
		:: held & 1 << id -> break
		:: held >> (id + 1) -> id++
		od;
		store(SOUTH, COMPLETION + given % COUNT, id + 1);
		held = held & ~(1 << id);
		id = 0;
		given++
	:: published != given ->					/* ioq_give_publish() */
#ifndef NO_GIVE_WMB
		wmb(SOUTH);
#endif
		store(SOUTH, INUSE, given);
		published = given
	:: published == PUSHES -> break
	od
}
