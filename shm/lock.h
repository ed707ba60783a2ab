/*
 * lock.h - locks in the segment that know their owner.
 *
 * A lock is one word: 0, or the owner's seat + 1. Who takes it first writes its address into the
 * list of locks held in its seat, then the word; who frees it the other way round. So after a
 * death the list names every lock the dead process can have held, and the word says whether it
 * did. A holder never parks and never makes a system call that can block, so a waiter spins, then
 * sleeps in short naps; it never needs to be woken, and a dead holder's lock is freed by the
 * medic after it has rebuilt what the lock protects.
 */
#ifndef SHM_LOCK_H
#define SHM_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct sh_lock {
	_Atomic uint32_t owner; /* seat + 1 */
	uint32_t kind;		/* enum sh_lock_kind: how to rebuild what it guards */
};

/* Ranks: a lock is taken only while holding locks of lower rank (same rank: by address). */
enum sh_lock_kind {
	SH_LOCK_NONE,
	SH_LOCK_TASK, /* task table */
	SH_LOCK_CHAN, /* a channel */
	SH_LOCK_RWMUTEX,
	SH_LOCK_WAITQ,	/* a sync object: the wait queue behind the word */
	SH_LOCK_JOIN,	/* joiners of a G */
	SH_LOCK_TIMERS, /* a P's timer heap */
	SH_LOCK_SCHED,	/* global queue, idle Ps and Ms, global free Gs */
	SH_LOCK_HEAP,	/* the arena */
	SH_LOCK_OUTPUT, /* a stream of a task: held over a write to a file, the only one that is */
	SH_LOCK_KINDS
};

#define SH_HELD_MAX 16

/* The processor is told that this is a loop which waits for another. */
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

/* The locks a seat holds or is about to take or has just freed; written by its process only. */
struct sh_held {
	struct sh_lock *lock[SH_HELD_MAX];
};

/*
 * Called at each turn of a wait, if set: the medic's, who would otherwise wait for a dead owner
 * whom nobody but it repairs.
 */
extern void (*sh_lock_wait_hook)(struct sh_lock *, unsigned seat);

extern struct sh_held *sh_seat_held(unsigned seat); /* where the list of a seat lies: shm/segment.c */

void sh_lock_take(struct sh_lock *, unsigned seat); /* waits */
bool sh_lock_try(struct sh_lock *, unsigned seat);
void sh_lock_drop(struct sh_lock *, unsigned seat); /* checks that seat owns it */
bool sh_lock_held(const struct sh_lock *, unsigned seat);

/* Who is about to leave a goroutine holds nothing: it may go on in another process. In builds for tests. */
#if defined(SHOAL_KILL_POINTS) || defined(SHOAL_SIM) || SHOAL_DEBUG
void sh_lock_none(unsigned seat);
#else
#define sh_lock_none(seat) ((void)(seat))
#endif

#endif
