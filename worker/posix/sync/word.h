/*
 * word.h - waiting for a word to change: the one way in which locks of pthreads and C11 park: word.c.
 */
#ifndef WORKER_POSIX_SYNC_WORD_H
#define WORKER_POSIX_SYNC_WORD_H

#include "worker/posix/posix.h"

#include <time.h>

/* A time of POSIX as one of ours, for sh_word_wait: 0: never, WORD_PAST: it is past. */
#define WORD_PAST (-1)
bool sh_word_time_valid(clockid_t, const struct timespec *when); /* when may be NULL: for ever */
int64_t sh_word_deadline(clockid_t, const struct timespec *when);

struct word_waiter {
	enum waitreason why;
	int64_t when;	 /* on our clock; 0: for ever; WORD_PAST */
	uint64_t holder; /* gid of the goroutine that it waits for, for dump; 0: not known */
	uint32_t bits;	 /* as FUTEX_WAIT_BITSET has them; 0: all */
	bool shared;	 /* processes that are no workers of ours, or other tasks, change the word too */
};

/*
 * Waits while the word is `expected`, until somebody calls sh_word_wake. Parks. 0: look again. ETIMEDOUT; ECANCELED and
 * EINTR, if `why` can be cancelled or interrupted.
 */
int sh_word_wait(struct g *, _Atomic uint32_t *at, uint32_t expected, const struct word_waiter *);
/* Wakes up to n waiters; how many. The word was changed before. */
unsigned sh_word_wake(struct g *, _Atomic uint32_t *at, unsigned n, uint32_t bits, bool shared);
#define WORD_ALL 0x7fffffffu

static inline void sh_word_wake_one(struct g *g, _Atomic uint32_t *at, bool shared)
{
	sh_word_wake(g, at, 1, 0, shared);
}

static inline void sh_word_wake_all(struct g *g, _Atomic uint32_t *at, bool shared)
{
	sh_word_wake(g, at, WORD_ALL, 0, shared);
}

/* The goroutine with this gid runs right now on some worker: what it holds may soon be free. */
bool sh_word_holder_runs(uint64_t gid);

#endif
