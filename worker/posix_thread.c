/*
 * posix_thread.c - what waits inside a process in libc, called on goroutines: mutexes, conditions and
 * semaphores of pthreads.
 *
 * Their futexes are the process's, and their owner is a thread: a goroutine that waited there would
 * hold up its worker and be woken by nobody in another. So a goroutine tries, gives way and tries
 * again. That is enough for a library that is seldom contended; who waits much takes shoal_mutex and
 * its kin. In the objects themselves libc's words are used, so a thread of the module's may hold them.
 *
 * DEATH  what a dead goroutine held stays locked, as in a process
 */
#include "worker/posix.h"

#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#define REAL(result, name, params, ...) \
	static result real_##name params \
	{ \
		static result(*libc) params; \
		if (!libc) \
			*(void **)&libc = dlsym(RTLD_NEXT, #name); \
		return libc(__VA_ARGS__); \
	}

/* Gives way, longer each time. */
static void turn(unsigned *round)
{
	unsigned n = (*round)++;

	if (n < 4 || shoal_sleep(10000l << (n < 12 ? n - 4 : 7)) < 0)
		shoal_yield();
}

static bool past(clockid_t clock, const struct timespec *when)
{
	struct timespec now;

	if (!when || clock_gettime(clock, &now) < 0)
		return false;
	return now.tv_sec > when->tv_sec || (now.tv_sec == when->tv_sec && now.tv_nsec >= when->tv_nsec);
}

/* ---- mutex ---- */

REAL(int, pthread_mutex_lock, (pthread_mutex_t *m), m)
REAL(int, pthread_mutex_trylock, (pthread_mutex_t *m), m)
REAL(int, pthread_mutex_unlock, (pthread_mutex_t *m), m)
REAL(int, pthread_mutex_timedlock, (pthread_mutex_t *m, const struct timespec *t), m, t)

#define KIND(m) ((m)->__data.__kind & 0x7f)
/*
 * Those of a library, in memory of the process, are left to libc, whose threads may hold them; and
 * those that it keeps lists of or lends a priority.
 */
#define OURS(m) (sh_shared(m) && KIND(m) <= PTHREAD_MUTEX_ADAPTIVE_NP)
#define WORD(m) ((_Atomic int *)&(m)->__data.__lock)

static int me(const struct g *g)
{
	return (int)(g_index(g) | 1u << 30); /* no thread has such a number */
}

static int try_mutex(struct g *g, pthread_mutex_t *m)
{
	bool mine = m->__data.__owner == me(g);
	int zero = 0;

	if (mine && KIND(m) == PTHREAD_MUTEX_RECURSIVE_NP) {
		m->__data.__count++;
		return 0;
	}
	if (!atomic_compare_exchange_strong(WORD(m), &zero, 1))
		return mine && KIND(m) == PTHREAD_MUTEX_ERRORCHECK_NP ? EDEADLK : EBUSY;
	m->__data.__count = 1;
	m->__data.__owner = me(g);
	m->__data.__nusers++;
	return 0;
}

static int take_mutex(struct g *g, pthread_mutex_t *m, const struct timespec *when)
{
	unsigned round = 0;
	int r;

	while ((r = try_mutex(g, m)) == EBUSY) {
		if (past(CLOCK_REALTIME, when))
			return ETIMEDOUT;
		turn(&round);
	}
	return r;
}

int pthread_mutex_lock(pthread_mutex_t *m)
{
	struct g *g = on_g();

	return g && OURS(m) ? take_mutex(g, m, NULL) : real_pthread_mutex_lock(m);
}

int pthread_mutex_trylock(pthread_mutex_t *m)
{
	struct g *g = on_g();
	int r;

	if (!g || !OURS(m))
		return real_pthread_mutex_trylock(m);
	r = try_mutex(g, m);
	return r == EDEADLK ? EBUSY : r;
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict m, const struct timespec *restrict when)
{
	struct g *g = on_g();

	return g && OURS(m) ? take_mutex(g, m, when) : real_pthread_mutex_timedlock(m, when);
}

int pthread_mutex_unlock(pthread_mutex_t *m)
{
	struct g *g = on_g();

	if (!g || !OURS(m))
		return real_pthread_mutex_unlock(m);
	if (KIND(m) == PTHREAD_MUTEX_RECURSIVE_NP || KIND(m) == PTHREAD_MUTEX_ERRORCHECK_NP) {
		if (m->__data.__owner != me(g))
			return EPERM;
		if (KIND(m) == PTHREAD_MUTEX_RECURSIVE_NP && --m->__data.__count > 0)
			return 0;
	}
	m->__data.__count = 0;
	m->__data.__owner = 0;
	m->__data.__nusers--;
	if (atomic_exchange(WORD(m), 0) > 1) /* a thread of this worker waits */
		syscall(SYS_futex, WORD(m), FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
	return 0;
}

/* ---- condition: a count of what was signalled, shared by many; who waits may be woken for another's ---- */

REAL(int, pthread_cond_wait, (pthread_cond_t *c, pthread_mutex_t *m), c, m)
REAL(int, pthread_cond_timedwait, (pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t), c, m, t)
REAL(int, pthread_cond_signal, (pthread_cond_t *c), c)
REAL(int, pthread_cond_broadcast, (pthread_cond_t *c), c)

static _Atomic uint32_t *told(const pthread_cond_t *c)
{
	return &sched.told[(uintptr_t)c / sizeof *c * 0x9e3779b97f4a7c15ul >> 58];
}

static int wait_cond(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *when)
{
	clockid_t clock = c->__data.__wrefs & 2 ? CLOCK_MONOTONIC : CLOCK_REALTIME; /* as pthread_condattr_setclock said */
	uint32_t before = atomic_load(told(c));
	unsigned round = 0;
	int r = pthread_mutex_unlock(m);

	if (r)
		return r;
	while (atomic_load(told(c)) == before && !(r = past(clock, when) ? ETIMEDOUT : 0))
		turn(&round);
	pthread_mutex_lock(m);
	return r;
}

int pthread_cond_wait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m)
{
	return on_g() && sh_shared(c) ? wait_cond(c, m, NULL) : real_pthread_cond_wait(c, m);
}

int pthread_cond_timedwait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m, const struct timespec *restrict when)
{
	return on_g() && sh_shared(c) ? wait_cond(c, m, when) : real_pthread_cond_timedwait(c, m, when);
}

int pthread_cond_signal(pthread_cond_t *c)
{
	if (getm && sh_shared(c))
		atomic_fetch_add(told(c), 1);
	return real_pthread_cond_signal(c);
}

int pthread_cond_broadcast(pthread_cond_t *c)
{
	if (getm && sh_shared(c))
		atomic_fetch_add(told(c), 1);
	return real_pthread_cond_broadcast(c);
}

/* ---- semaphore, join ---- */

REAL(int, sem_wait, (sem_t *s), s)
REAL(int, sem_timedwait, (sem_t *s, const struct timespec *t), s, t)
REAL(int, pthread_join, (pthread_t t, void **result), t, result)

static int wait_sem(struct g *g, sem_t *s, const struct timespec *when)
{
	unsigned round = 0;

	while (sem_trywait(s) < 0) {
		if (errno != EAGAIN)
			return -1;
		if (g_cancelled(g) || past(CLOCK_REALTIME, when)) {
			errno = g_cancelled(g) ? ECANCELED : ETIMEDOUT;
			return -1;
		}
		turn(&round);
	}
	return 0;
}

int sem_timedwait(sem_t *restrict s, const struct timespec *restrict when)
{
	struct g *g = on_g();

	return g && sh_shared(s) ? wait_sem(g, s, when) : real_sem_timedwait(s, when);
}

int sem_wait(sem_t *s)
{
	struct g *g = on_g();

	return g && sh_shared(s) ? wait_sem(g, s, NULL) : real_sem_wait(s);
}

/* A thread is of this worker, and so is who waits for it until then. */
int pthread_join(pthread_t t, void **result)
{
	int r;

	if (!on_g() || malloc_is_private)
		return real_pthread_join(t, result);
	entersyscallblock();
	r = real_pthread_join(t, result);
	exitsyscall();
	return r;
}
