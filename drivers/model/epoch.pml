/* SPDX-License-Identifier: MIT */
/*
 * epoch.pml - calls between a worker that is killed and a guest that starts over, at any moment.
 *
 * drivers/host/worker_calls.c and worker_bus.c against drivers/linux/call.c and session.c.  A
 * worker is lost with all it knew, and so is a guest, by a reboot; or its patience ends and it
 * negotiates once more.  NEGOTIATE has slot 0, every other call slot 1.  Epochs and nonces are
 * drawn from random numbers: here no two are the same.  Every request has a number that neither
 * side can see; by it the properties say what belongs to what.
 */
#define LOSSES		2	/* of worker, guest or patience, together */
#define CALLS		2	/* that a guest makes in one life */

#define NEGOTIATE	0
#define CALL		1
#define SLOTS		2

typedef request_t {
	byte seq, epoch, nonce;
	byte number;		/* seen by the properties only */
}

typedef reply_t {
	byte seq, epoch, nonce;
	bool is_stale;
	byte number;		/* of the request that it answers; seen by the properties only */
}

/* The window */
byte header_epoch;
request_t request[SLOTS];
reply_t reply[SLOTS];

/* What nobody draws twice */
byte epochs, nonces, numbers;

/* What each side keeps to itself, and the properties compare */
byte worker_epoch, worker_nonce;
byte guest_epoch, guest_nonce;

byte executed;			/* the last call that was */

bool stale_request, executed_twice, stale_reply, deaf;
bool worker_is_lost, guest_is_lost, out_of_time;

inline judge(slot)
{
	d_step {
		verdict = false;
#ifndef NO_REQUEST_EPOCH
		if
		:: copy.epoch != worker_epoch -> verdict = true
		:: else
		fi;
#endif
		if
		:: slot == CALL && !worker_nonce -> verdict = true
#ifndef NO_REQUEST_NONCE
		:: slot == CALL && copy.nonce != worker_nonce -> verdict = true
#endif
		:: else
		fi;
		if
		:: !verdict && slot == NEGOTIATE ->
			/* Who negotiates has seen this worker. */
			stale_request = copy.number <= oldest;
			worker_nonce = copy.nonce;
			connection = copy.number;
#ifndef NO_TAKEN_AT_NEGOTIATE
			/* What else is pending was asked under a former nonce: it counts as taken. */
			answered[CALL] = request[CALL].seq
#endif
		:: !verdict && slot == CALL ->
			/* Who calls has negotiated: it did not ask before. */
			stale_request = copy.number < connection;
			executed_twice = copy.number == executed;
			executed = copy.number
		:: else
		fi;
		assert(!stale_request);
		assert(!executed_twice)
	}
}

inline serve(slot)
{
	seq = request[slot].seq;
	d_step {
		copy.epoch = request[slot].epoch;
		copy.nonce = request[slot].nonce;
		copy.number = request[slot].number
	};
	judge(slot);
	d_step {
		reply[slot].epoch = worker_epoch;
		reply[slot].nonce = copy.nonce;
		reply[slot].is_stale = verdict;
		reply[slot].number = copy.number
	};
	d_step { reply[slot].seq = seq; answered[slot] = seq; seq = 0 }
}

active proctype worker()
{
	request_t copy;
	byte answered[SLOTS];
	byte seq;
	byte connection;	/* the number of the NEGOTIATE that it goes by */
	byte oldest;		/* requests up to this were made before its epoch could be seen */
	bool verdict;

start:	skip;
	d_step {
		worker_is_lost = false;
		epochs++;
		worker_epoch = epochs;
		worker_nonce = 0;
		connection = 0;
		answered[NEGOTIATE] = reply[NEGOTIATE].seq;
		answered[CALL] = reply[CALL].seq;
		oldest = numbers;
		seq = 0;
		verdict = false
	};
	{
		header_epoch = worker_epoch;
end:		do
		:: request[NEGOTIATE].seq != answered[NEGOTIATE] -> serve(NEGOTIATE)
		:: request[CALL].seq != answered[CALL] -> serve(CALL)
		od
	} unless {
		worker_is_lost
	};
	goto start
}

/* The block before its number is what the barrier is for: see ring.pml. */
inline post(slot)
{
	d_step {
		numbers++;
		asked = numbers;
		seq[slot]++;
		request[slot].epoch = guest_epoch;
		request[slot].nonce = guest_nonce;
		request[slot].number = asked
	};
	request[slot].seq = seq[slot]
}

/* Copied, then compared with the window's epoch; @fits: it may be believed. */
inline read_reply(slot)
{
	d_step {
		copy.epoch = reply[slot].epoch;
		copy.nonce = reply[slot].nonce;
		copy.is_stale = reply[slot].is_stale;
		copy.number = reply[slot].number
	};
	d_step {
		fits = !copy.is_stale;
#ifndef NO_WINDOW_EPOCH
		fits = fits && header_epoch == guest_epoch;
#endif
#ifndef NO_REPLY_EPOCH
		fits = fits && copy.epoch == guest_epoch;
#endif
#ifndef NO_REPLY_NONCE
		fits = fits && copy.nonce == guest_nonce;
#endif
		stale_reply = fits && copy.number != asked;
		assert(!stale_reply);
		copy.epoch = 0;
		copy.nonce = 0;
		copy.is_stale = false;
		copy.number = 0;
		asked = 0
	}
}

#ifndef NO_WINDOW_EPOCH
#define IS_CURRENT	(header_epoch == guest_epoch)
#else
#define IS_CURRENT	true
#endif

/* Until it is answered, the connection is over, or 5 s have passed. */
inline call(slot)
{
	fits = false;
	post(slot);
	if
	:: reply[slot].seq == seq[slot] -> read_reply(slot)
	:: !IS_CURRENT
	:: out_of_time -> out_of_time = false
	:: timeout
	fi
}

active proctype guest()
{
	reply_t copy;
	byte seq[SLOTS];
	byte calls, asked;
	bool fits;

start:	skip;
	d_step {
#ifndef NO_NUMBERS_GO_ON
		seq[NEGOTIATE] = request[NEGOTIATE].seq;
		seq[CALL] = request[CALL].seq;
#else
		seq[NEGOTIATE] = 0;
		seq[CALL] = 0;
#endif
		guest_is_lost = false;
		calls = 0;
		asked = 0;
		fits = false;
		copy.epoch = 0;
		copy.nonce = 0;
		copy.is_stale = false;
		copy.number = 0
	};
	{
		header_epoch != 0;
connect:	skip;
		d_step { nonces++; guest_nonce = nonces; guest_epoch = header_epoch };
		call(NEGOTIATE);
		if
		:: !fits -> goto connect
		:: else
		fi;
live:
		do
		:: calls < CALLS ->
			calls++;
			call(CALL);
			if
			:: !fits -> goto connect
			:: else
			fi
		:: !IS_CURRENT -> goto connect
		:: timeout ->
			/* Nothing happens any more: both know of this connection. */
			deaf = worker_nonce != guest_nonce;
			assert(!deaf);
			goto done
		od
	} unless {
		guest_is_lost
	};
	goto start;
done:
	skip
}

active proctype loss()
{
	byte losses;

end:	do
	:: losses < LOSSES -> losses++; worker_is_lost = true; !worker_is_lost
	:: losses < LOSSES -> losses++; guest_is_lost = true; !guest_is_lost
	:: losses < LOSSES && !out_of_time -> losses++; out_of_time = true
	od
}
