/*
 * cond.c - conditions of pthreads on goroutines.
 *
 *	__wseq: | 63-32: waiters, at least | 31-0: raised by each signal and broadcast |
 *
 *	waiter						signaller
 *	waiters + 1, read the number
 *	unlock the mutex
 *							change what is waited for, under the mutex
 *							waiters? raise the number, wake
 *	number as read? park, else go on
 *
 * __wrefs is libc's: the clock, and whether processes share it (pthread_cond_init).
 *
 * OWNER  the program: the object lies in its memory
 * LOCK   none: both words change by atomic operations
 * DEATH  a waiter that dies leaves the count too high: signals then look into the table of waits for nothing
 */
#include "worker/posix/sync/mutex.h"
#include "worker/posix/libc.h"
#include "worker/posix/sync/word.h"
#include "worker/posix/thread_cancel.h"

typedef const struct timespec time_spec;

REAL(int, pthread_cond_wait, (pthread_cond_t * c, pthread_mutex_t *m), c, m)
REAL(int, pthread_cond_timedwait, (pthread_cond_t * c, pthread_mutex_t *m, time_spec *t), c, m, t)
REAL(int, pthread_cond_clockwait, (pthread_cond_t * c, pthread_mutex_t *m, clockid_t k, time_spec *t), c, m, k, t)
REAL(int, pthread_cond_signal, (pthread_cond_t * c), c)
REAL(int, pthread_cond_broadcast, (pthread_cond_t * c), c)

#define NUMBER(c) ((_Atomic uint32_t *)&(c)->__data.__wseq)
#define WAITERS(c) ((_Atomic uint32_t *)&(c)->__data.__wseq + 1)

static bool is_shared(const pthread_cond_t *c)
{
	return (c->__data.__wrefs & 1) != 0;
}

static clockid_t clock_of(const pthread_cond_t *c)
{
	return c->__data.__wrefs & 2 ? CLOCK_MONOTONIC : CLOCK_REALTIME;
}

static int wait_cond(struct g *g, pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock, time_spec *when)
{
	struct word_waiter w = {.why = WAIT_PTHREAD_COND, .shared = is_shared(c)};
	uint32_t number;
	int r, locked;

	if (!sh_word_time_valid(clock, when))
		return EINVAL;
	if (mutex_not_held(g, m))
		return EPERM;
	w.when = sh_word_deadline(clock, when);
	atomic_fetch_add(WAITERS(c), 1);
	number = atomic_load(NUMBER(c));
	mutex_unlock(g, m);
	r = sh_word_wait(g, NUMBER(c), number, &w);
	atomic_fetch_sub(WAITERS(c), 1);
	locked = mutex_lock_again(g, m);
	if (locked)
		return locked;
	if (r == ECANCELED)
		errno = r; /* for CANCEL_POINT */
	return r == EINTR ? 0 : r;
}

int pthread_cond_wait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m)
{
	CANCEL_POINT();
	struct g *g = posix_enter();

	return g ? wait_cond(g, c, m, 0, NULL) : real_pthread_cond_wait(c, m);
}

int pthread_cond_timedwait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m, time_spec *restrict when)
{
	CANCEL_POINT();
	struct g *g = posix_enter();

	return g ? wait_cond(g, c, m, clock_of(c), when) : real_pthread_cond_timedwait(c, m, when);
}

int pthread_cond_clockwait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m, clockid_t clock,
			   time_spec *restrict when)
{
	CANCEL_POINT();
	struct g *g = posix_enter();

	return g ? wait_cond(g, c, m, clock, when) : real_pthread_cond_clockwait(c, m, clock, when);
}

static void wake(struct g *g, pthread_cond_t *c, unsigned n)
{
	if (atomic_load(WAITERS(c)) == 0)
		return;
	atomic_fetch_add(NUMBER(c), 1);
	sh_word_wake(g, NUMBER(c), n, 0, is_shared(c));
}

int pthread_cond_signal(pthread_cond_t *c)
{
	struct g *g = on_g();

	if (!g)
		return real_pthread_cond_signal(c);
	wake(g, c, 1);
	return 0;
}

int pthread_cond_broadcast(pthread_cond_t *c)
{
	struct g *g = on_g();

	if (!g)
		return real_pthread_cond_broadcast(c);
	wake(g, c, WORD_ALL);
	return 0;
}
