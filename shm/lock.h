/*
 * lock.h - locks in the segment that know their owner.
 *
 * A lock is one word: 0, or the owner's seat + 1. The taker first writes the address of the lock into the list of its
 * seat, then the word; the dropper does it the other way round:
 *
 *   seat's list   - - - -  L  L  L  L  L  - - -
 *   lock word     0  0  0  0  s  s  s  0  0  0
 *                          ^ listed     ^ freed
 *
 * So after a death the list names every lock that the process can have held, and the word says whether it did. A
 * holder never parks and never makes a system call that can block. So a waiter spins, then naps; it needs no
 * wake-up. The medic frees a dead holder's lock after it has rebuilt what the lock guards.
 */
#ifndef SHM_LOCK_H
#define SHM_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * A lock. kind is set when the object is made, or with each take.
 * OWNER  the seat in the word
 * LOCK   itself
 * ORDER  taken with acquire, freed with release
 * DEATH  the medic rebuilds what it guards, then clears the word
 */
struct sh_lock {
	_Atomic uint32_t owner; /* seat + 1; 0: free. The drop pairs with the next take */
	uint32_t kind;		/* enum sh_lock_kind: how to rebuild what it guards */
};

/* Ranks: a lock is taken only while holding locks of lower rank (within a rank: in order of address). */
enum sh_lock_kind {
	SH_LOCK_NONE,
	SH_LOCK_TASK, /* a task: tombstones, environment, file locks */
	SH_LOCK_CHAN, /* a channel */
	SH_LOCK_RWMUTEX,
	SH_LOCK_WAITQ,	/* a sync object and its wait queue */
	SH_LOCK_JOIN,	/* the joiners of a G */
	SH_LOCK_TIMERS, /* the timer heap of a P */
	SH_LOCK_SCHED,	/* global queue, global list of free Gs */
	SH_LOCK_MAPS,	/* the mappings of a task */
	SH_LOCK_HEAP,	/* the arena */
	SH_LOCK_OUTPUT, /* a stream of a task; the only lock that is held across a system call: a write to a file */
	SH_LOCK_KINDS
};

#define SH_HELD_MAX 16

/* Tells the processor that this is a loop which waits for another one. */
static inline void sh_pause(unsigned times)
{
	for (unsigned i = 0; i < times; i++) {
#if defined(__x86_64__)
		__builtin_ia32_pause();
#else
		atomic_signal_fence(memory_order_seq_cst);
#endif
	}
}

/*
 * The locks that a seat holds, is about to take, or has just freed.
 * OWNER  the process in the seat
 * LOCK   none
 * ORDER  listed before the word is set, unlisted after it is cleared
 * DEATH  the medic looks at each listed lock: held by this seat if its word says so
 */
struct sh_held {
	struct sh_lock *lock[SH_HELD_MAX];
};

/*
 * Called in each round of a wait, if set. The medic sets it, because the owner may be dead and only the medic
 * repairs.
 */
extern void (*sh_lock_wait_hook)(struct sh_lock *, unsigned seat);

extern struct sh_held *sh_seat_held(unsigned seat); /* the list of a seat: shm/segment.c */

void sh_lock_take(struct sh_lock *, unsigned seat); /* waits until the lock is free */
bool sh_lock_try(struct sh_lock *, unsigned seat);
void sh_lock_drop(struct sh_lock *, unsigned seat); /* checks that the seat owns it */
bool sh_lock_held(const struct sh_lock *, unsigned seat);

/*
 * A worker that is about to leave a goroutine must hold no lock: the goroutine may continue in another
 * process. Checked in test builds.
 */
#if defined(SHOAL_KILL_POINTS) || defined(SHOAL_SIM) || SHOAL_DEBUG
void sh_lock_none(unsigned seat);
#else
#define sh_lock_none(seat) ((void)(seat))
#endif

#endif
