/* SPDX-License-Identifier: MIT */
/*
 * memory.pml - the window as two sides see it, when nothing but barriers orders what they do.
 *
 * A store waits in its side's buffer and lands at any later moment, in any order but for two:
 * stores to one word, and stores on two sides of a write barrier.  A load is satisfied at any
 * moment since the side's last read barrier: it reads a copy of the word that is brought up to
 * date now or later.  With -DNO_REORDERING stores land in their order and loads read memory, as
 * on x86.
 *
 * The model that includes this says first what the words are: words below SHARE belong to side
 * 0, the others below WORDS to side 1.
 */
#define BUFFERED	10
#define A_WMB		255	/* among the buffered stores: a write barrier */

typedef side_t {
	byte word[BUFFERED];	/* stores on their way, oldest first */
	byte value[BUFFERED];
	byte stores;
	byte view[WORDS];	/* of the peer's words: what a load returns */
}

byte memory[WORDS];
side_t side[2];

#define FIRST_READ(p)	((p) -> 0 : SHARE)
#define END_READ(p)	((p) -> SHARE : WORDS)
#define IS_DRAINED(p)	(!side[p].stores)

#ifdef NO_REORDERING
#define LOAD(p, w)	memory[w]
#else
#define LOAD(p, w)	side[p].view[w]
#endif

inline store(p, w, v)
{
	d_step {
		side[p].stores < BUFFERED;
		side[p].word[side[p].stores] = w;
		side[p].value[side[p].stores] = v;
		side[p].stores++
	}
}

inline wmb(p)
{
	if
	:: IS_DRAINED(p)
	:: else -> store(p, A_WMB, 0)
	fi
}

/* Loads after this see at least what has landed up to now. */
inline rmb(p)
{
	d_step {
		w_ = FIRST_READ(p);
		do
		:: w_ < END_READ(p) -> side[p].view[w_] = memory[w_]; w_++
		:: else -> break
		od;
		w_ = 0
	}
}

inline mb(p)
{
	atomic { IS_DRAINED(p); rmb(p) }
}

/* Each process that uses a barrier has this. */
#define MEMORY_LOCALS	byte w_

/* True in @ok when nothing before store @i of side @p must land first. */
inline may_land(p, i, ok)
{
	ok = side[p].word[i] != A_WMB || i == 0;
	j = 0;
	do
	:: j < i ->
#ifdef NO_REORDERING
		ok = false;
#endif
		ok = ok && side[p].word[j] != A_WMB && side[p].word[j] != side[p].word[i];
		j++
	:: else -> break
	od;
	j = 0
}

inline land(p, i)
{
	if
	:: side[p].word[i] != A_WMB -> memory[side[p].word[i]] = side[p].value[i]
	:: else
	fi;
	j = i;
	do
	:: j + 1 < side[p].stores ->
		side[p].word[j] = side[p].word[j + 1];
		side[p].value[j] = side[p].value[j + 1];
		j++
	:: else -> break
	od;
	side[p].stores--;
	side[p].word[j] = 0;
	side[p].value[j] = 0;
	j = 0
}

/* What the hardware does by itself. */
active [2] proctype memory_of()
{
	byte i, j;
	bool ok;

end:	do
	:: atomic {
		!IS_DRAINED(_pid) -> i = 0;
		do
		:: i + 1 < side[_pid].stores -> i++
		:: break
		od;
		d_step {
			may_land(_pid, i, ok);
			if
			:: ok -> land(_pid, i)
			:: else
			fi;
			i = 0;
			ok = false
		}
	   }
#ifndef NO_REORDERING
	:: atomic {
		i = FIRST_READ(_pid);
		do
		:: i + 1 < END_READ(_pid) -> i++
		:: break
		od;
		d_step { side[_pid].view[i] = memory[i]; i = 0 }
	   }
#endif
	od
}
