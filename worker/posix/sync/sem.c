/*
 * sem.c - semaphores on goroutines. The words are libc's, so processes that are no workers can share one.
 *
 *	data: | 63-32: waiters, at least | 31-0: value |
 *
 * OWNER  the program: the object lies in its memory
 * LOCK   none: both words change by atomic operations
 * DEATH  a waiter that dies leaves the count too high: a post then looks into the table of waits for nothing
 */
#include "worker/posix/sync/word.h"
#include "worker/posix/thread_cancel.h"

#include <dlfcn.h>
#include <limits.h>
#include <semaphore.h>

typedef const struct timespec time_spec;

REAL(int, sem_wait, (sem_t * s), s)
REAL(int, sem_timedwait, (sem_t * s, time_spec *t), s, t)
REAL(int, sem_clockwait, (sem_t * s, clockid_t c, time_spec *t), s, c, t)
REAL(int, sem_post, (sem_t * s), s)

struct semaphore {
	_Atomic uint32_t value, waiters;
	int shared, unused;
};
_Static_assert(sizeof(struct semaphore) <= sizeof(sem_t), "ours is the beginning of libc's");

static bool take(struct semaphore *s)
{
	uint32_t v = atomic_load_explicit(&s->value, memory_order_relaxed);

	while (v > 0)
		if (atomic_compare_exchange_weak_explicit(&s->value, &v, v - 1, memory_order_acquire,
							  memory_order_relaxed))
			return true;
	return false;
}

static __attribute__((noinline)) int wait_sem(struct g *g, struct semaphore *s, clockid_t clock, time_spec *when)
{
	struct word_waiter w = {.why = WAIT_PTHREAD_SEM, .shared = s->shared != 0};
	int r = 0;

	if (!sh_word_time_valid(clock, when)) {
		errno = EINVAL;
		return -1;
	}
	w.when = sh_word_deadline(clock, when);
	atomic_fetch_add(&s->waiters, 1);
	while (!take(s) && r == 0)
		r = sh_word_wait(g, &s->value, 0, &w);
	atomic_fetch_sub(&s->waiters, 1);
	if (r == 0)
		return 0;
	errno = r;
	return -1;
}

static inline int take_or_wait(struct g *g, sem_t *at, clockid_t clock, time_spec *when)
{
	struct semaphore *s = (struct semaphore *)at;

	return __builtin_expect(take(s), 1) ? 0 : wait_sem(g, s, clock, when);
}

int sem_wait(sem_t *s)
{
	CANCEL_POINT();
	struct g *g = posix_enter();

	return g ? take_or_wait(g, s, 0, NULL) : real_sem_wait(s);
}

int sem_timedwait(sem_t *restrict s, time_spec *restrict when)
{
	CANCEL_POINT();
	struct g *g = posix_enter();

	return g ? take_or_wait(g, s, CLOCK_REALTIME, when) : real_sem_timedwait(s, when);
}

int sem_clockwait(sem_t *restrict s, clockid_t clock, time_spec *restrict when)
{
	CANCEL_POINT();
	struct g *g = posix_enter();

	if (!g)
		return real_sem_clockwait(s, clock, when);
	return take_or_wait(g, s, clock, when);
}

int sem_post(sem_t *at)
{
	struct semaphore *s = (struct semaphore *)at;
	struct g *g = on_g();
	uint32_t v;

	if (!g)
		return real_sem_post(at);
	v = atomic_load_explicit(&s->value, memory_order_relaxed);
	do
		if (v >= SEM_VALUE_MAX) {
			errno = EOVERFLOW;
			return -1;
		}
	while (!atomic_compare_exchange_weak(&s->value, &v, v + 1)); /* before the count of waiters is looked at */
	if (atomic_load(&s->waiters) > 0)
		sh_word_wake_one(g, &s->value, s->shared != 0);
	return 0;
}
