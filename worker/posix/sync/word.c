/*
 * word.c - waiting for a word to change.
 *
 * A mutex, condition, reader/writer lock, barrier, once or semaphore of libc consists of words. A goroutine that has
 * to wait for one of them parks in the table of waits of its task (core/sync/semtable.c); a futex of libc's would
 * hold up its worker, and nobody in another process would wake it.
 *
 *	waiter						waker
 *	lock the queue of the word's address		change the word
 *	word as expected? enqueue, unlock, park		lock the queue, dequeue waiters, unlock
 *							make them runnable
 *
 * A word that is marked as shared between processes is waited for in the kernel, as a system call that blocks.
 */
#include "worker/posix/sync/word.h"
#include "core/sync/semtable.h"
#include "worker/posix/clock.h"

#include <linux/futex.h>

bool sh_word_time_valid(clockid_t clock, const struct timespec *when)
{
	return !when || (when->tv_nsec >= 0 && when->tv_nsec < SECOND_NS &&
			 (clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC));
}

int64_t sh_word_deadline(clockid_t clock, const struct timespec *when)
{
	struct timespec now;
	int64_t left;

	if (!when || clock_gettime(clock, &now) < 0)
		return 0;
	left = ns_between(&now, when);
	return left <= 0 ? WORD_PAST : deadline_after(left);
}

bool sh_word_holder_runs(uint64_t gid)
{
	uint64_t at = gid & (GID_STEP - 1);

	return gid && at < G_MAX && allg(at)->gid == gid && g_state(allg(at)) == G_RUNNING;
}

static int wait_in_kernel(_Atomic uint32_t *at, uint32_t expected, const struct word_waiter *w)
{
	struct timespec t = timespec_of_ns(w->when); /* an absolute time: the call may begin anew */

	if (BLOCKING(SYS_futex, at, FUTEX_WAIT_BITSET, expected, w->when ? &t : NULL, NULL,
		     w->bits ? w->bits : FUTEX_BITSET_MATCH_ANY) == 0)
		return 0;
	return errno == EAGAIN || (errno == EINTR && w->why != WAIT_PTHREAD_SEM) ? 0 : errno;
}

int sh_word_wait(struct g *g, _Atomic uint32_t *at, uint32_t expected, const struct word_waiter *w)
{
	struct shoal_waitq_ *q;
	int r;

	if (w->when == WORD_PAST)
		return atomic_load(at) == expected ? ETIMEDOUT : 0;
	if (__builtin_expect(w->shared, 0))
		return wait_in_kernel(at, expected, w);
	if (!(q = semtable_lock(g, at))) { /* no memory for the table: it looks again, and others go on meanwhile */
		shoal_yield();
		return w->when && host_now() >= w->when ? ETIMEDOUT : 0;
	}
	if (atomic_load(at) != expected) {
		semtable_unlock(q);
		return 0;
	}
	g->sudog.n = w->bits ? w->bits : FUTEX_BITSET_MATCH_ANY;
	memcpy(g->sudog.slot, &w->holder, sizeof w->holder);
	r = -semtable_wait(q, g, at, w->why, w->when);
	return r == EAGAIN ? 0 : r;
}

unsigned sh_word_wake(struct g *g, _Atomic uint32_t *at, unsigned n, uint32_t bits, bool shared)
{
	if (__builtin_expect(shared, 0)) {
		long woken = syscall(SYS_futex, at, FUTEX_WAKE, n, NULL, NULL, 0);

		return woken > 0 ? (unsigned)woken : 0;
	}
	return semtable_wake_some(g, at, n, bits);
}
