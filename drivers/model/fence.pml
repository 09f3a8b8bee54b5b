/* SPDX-License-Identifier: MIT */
/*
 * fence.pml - a worker is killed at any moment, the next one serves: does an old write land
 * late?
 *
 * The supervisor (vbusd) kills, reaps, and starts the next; a worker opens the image itself,
 * waits for the lock on it, and only then raises the epoch.  The kernel drops a dead worker's
 * lock when its last write has landed.  A bus without an image (a network card) has no lock:
 * there only the reaping keeps two workers from one window.  The north writes 1, 2, ...; after a
 * new epoch it replays what was not acknowledged.  Steps are sequentially consistent; the order
 * of stores is the business of ring.pml.
 */
#define KILLS	2
#define WRITES	2
#define LIVES	(KILLS + 2)	/* worker 1 is the first; its number is its epoch */

bool has_image;

/* The window */
byte epoch;			/* of the host header */
byte registered, ready;		/* a call that names an epoch, and its answer */
byte descriptor, valid, inuse;	/* the ring, new in each connection */

/* The host */
bool is_doomed[LIVES], is_dead[LIVES];
bool holds_lock[LIVES];
byte in_flight[LIVES];		/* the write that the kernel has not finished; 0: none */
byte served[LIVES];		/* completions that were true, in this connection */
byte disk;

/* What the north was told */
byte acknowledged;
bool double_writer, stale_completion;

/* Somebody else holds the image: alive, or dead with a write under way. */
#define IS_HELD(me)	((me != 1 && holds_lock[1]) || (me != 2 && holds_lock[2]) || \
			 (me != 3 && holds_lock[3]))

inline write_lands(me)
{
	d_step {
		in_flight[me] != 0 ->
		disk = in_flight[me];
		double_writer = disk < acknowledged;
		assert(!double_writer);
		in_flight[me] = 0
	}
}

/* Its writes land whether it lives or not, and then the lock goes. */
proctype kernel_of(byte me)
{
end:	do
	:: write_lands(me)
	:: atomic { is_dead[me] && !in_flight[me] -> holds_lock[me] = false; break }
	od
}

proctype worker(byte me)
{
	byte taken, given, write;

	{
#if !defined(NO_FENCE) && !defined(NO_OWN_IMAGE)
		atomic { !has_image || !IS_HELD(me) -> holds_lock[me] = has_image };
#elif defined(NO_OWN_IMAGE)
		/* One open file description for all workers: the lock is theirs already. */
		holds_lock[me] = has_image;
#endif
		epoch = me;
end_idle:	registered == me;
		inuse = 0;
		ready = me;
end_served:	do
		:: valid > taken ->
			write = descriptor;
			taken++;
			if
			:: has_image -> in_flight[me] = write; !in_flight[me]
			:: else
			fi;
			d_step { given++; served[me] = given };
			inuse = given
		od
	} unless {
		is_dead[me]
	}
}

/* vbusd: it may be wrong about a worker that is only slow, and kills that one as well. */
active proctype supervisor()
{
	byte me = 1;

	if
	:: has_image = true
#ifndef NO_NETWORK_CARD
	:: has_image = false
#endif
	fi;
	run kernel_of(me);
	run worker(me);
	do
	:: me <= KILLS ->
		is_doomed[me] = true;
#ifndef NO_REAP
		is_dead[me];
#endif
		me++;
		run kernel_of(me);
		run worker(me)
	:: break
	od
}

/* A kill takes its time. */
active proctype end_of_doomed()
{
end:	do
	:: is_doomed[1] && !is_dead[1] -> is_dead[1] = true
	:: is_doomed[2] && !is_dead[2] -> is_dead[2] = true
	od
}

active proctype north()
{
	byte mine, popped, write = 1;

	do
	:: write > WRITES -> break
	:: write <= WRITES && epoch != mine ->
		/* A new connection: nothing of the former one is believed any more. */
		mine = epoch;
		valid = 0;
		popped = 0;
		registered = mine;
		if
		:: ready == mine ->
			descriptor = write;
			valid = 1
		:: epoch != mine
		fi
	:: mine && inuse > popped && valid > popped ->
		if
#ifndef NO_COMPLETION_EPOCH
		:: epoch == mine ->
#else
		:: true ->
#endif
			stale_completion = served[mine] <= popped;
			assert(!stale_completion);
			d_step { acknowledged = write; popped++; write++ };
			if
			:: write <= WRITES -> descriptor = write; valid = popped + 1
			:: else
			fi
#ifndef NO_COMPLETION_EPOCH
		:: else
#endif
		fi
	od
}
