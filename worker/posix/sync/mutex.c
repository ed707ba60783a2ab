/*
 * mutex.c - mutexes of pthreads on goroutines, of every type.
 *
 * __lock of a mutex that is not robust is what it is for libc, and its holder is in the words beside it:
 *
 *	0 free   1 taken   2 taken, and somebody may wait: the unlock wakes one
 *
 * __lock of a robust one names the holder, so that taking and naming are one store:
 *
 *	| 31: somebody may wait | 30: 0 | 29-0: run_mark of the goroutine, 0: free |
 *
 * A robust mutex whose holder has ended is taken over by the next one, who is told EOWNERDEAD. The end of a
 * goroutine that holds one wakes all waiters of its task, and they look (semtable_g_gone).
 *
 * A priority (PTHREAD_PRIO_INHERIT, PTHREAD_PRIO_PROTECT) is accepted and told again: goroutines have none.
 *
 * OWNER  the program: the object lies in its memory
 * LOCK   none: __lock changes by atomic operations; the other words belong to the holder
 * ORDER  __lock is taken with acquire and freed with release
 * DEATH  a mutex that is not robust stays locked, as that of a dead thread does; dump shows its holder's number
 */
#include "worker/posix/sync/mutex.h"
#include "worker/posix/libc.h"
#include "worker/posix/sync/word.h"
#include "worker/posix/thread.h"

#include <limits.h>

typedef const struct timespec time_spec;

ALSO(pthread_mutex_init)
ALSO(pthread_mutex_destroy)
ALSO(pthread_mutex_lock)
ALSO(pthread_mutex_trylock)
ALSO(pthread_mutex_unlock)

REAL(int, pthread_mutex_init, (pthread_mutex_t * m, const pthread_mutexattr_t *a), m, a)
REAL(int, pthread_mutex_destroy, (pthread_mutex_t * m), m)
REAL(int, pthread_mutex_lock, (pthread_mutex_t * m), m)
REAL(int, pthread_mutex_trylock, (pthread_mutex_t * m), m)
REAL(int, pthread_mutex_unlock, (pthread_mutex_t * m), m)
REAL(int, pthread_mutex_timedlock, (pthread_mutex_t * m, time_spec *t), m, t)
REAL(int, pthread_mutex_clocklock, (pthread_mutex_t * m, clockid_t c, time_spec *t), m, c, t)
REAL(int, pthread_mutex_consistent, (pthread_mutex_t * m), m)
REAL(int, pthread_mutex_getprioceiling, (const pthread_mutex_t *m, int *c), m, c)
REAL(int, pthread_mutex_setprioceiling, (pthread_mutex_t * m, int c, int *old), m, c, old)

/* Bits of __kind, as libc has them in static initializers. */
#define KIND_TYPE 3
#define KIND_ROBUST 16
#define KIND_INHERIT 32
#define KIND_PROTECT 64
#define KIND_SHARED 128
#define KIND_KNOWN (KIND_TYPE | KIND_ROBUST | KIND_INHERIT | KIND_PROTECT | KIND_SHARED)

#define WORD(m) ((_Atomic uint32_t *)&(m)->__data.__lock)
typedef uint64_t __attribute__((may_alias)) holder_word;
#define HOLDER(m) (*(holder_word *)&(m)->__data.__list.__prev) /* its gid: it stays there when a mutex is freed */
#define CEILING(m) ((m)->__data.__elision)

#define ROBUST_WAITED (1u << 31)
#define ROBUST_MARK ((1u << RUN_MARK_BITS) - 1)
enum robust_state { ROBUST_FINE, ROBUST_INCONSISTENT, ROBUST_LOST };
#define ROBUST(m) ((m)->__data.__spins)

static int type_of(const pthread_mutex_t *m)
{
	return m->__data.__kind & KIND_TYPE;
}

static bool is_shared(const pthread_mutex_t *m)
{
	return (m->__data.__kind & KIND_SHARED) != 0;
}

static bool is_robust(const pthread_mutex_t *m)
{
	return (m->__data.__kind & KIND_ROBUST) != 0;
}

/* ---- taking ---- */

static void now_held(struct g *g, pthread_mutex_t *m)
{
	m->__data.__count = 1;
	m->__data.__owner = thread_number(g);
	HOLDER(m) = g->gid;
}

static bool held_by(const struct g *g, const pthread_mutex_t *m)
{
	if (is_robust(m))
		return (atomic_load_explicit(WORD((pthread_mutex_t *)m), memory_order_relaxed) & ROBUST_MARK) ==
		       run_mark(g);
	return m->__data.__owner == thread_number(g) && HOLDER((pthread_mutex_t *)m) == g->gid;
}

/* Held by the caller already: 0 if that counts, EDEADLK, EAGAIN, EBUSY if it waits for itself. */
static int take_again(pthread_mutex_t *m)
{
	if (type_of(m) == PTHREAD_MUTEX_ERRORCHECK_NP)
		return EDEADLK;
	if (type_of(m) != PTHREAD_MUTEX_RECURSIVE_NP)
		return EBUSY;
	if (m->__data.__count == UINT_MAX)
		return EAGAIN;
	m->__data.__count++;
	return 0;
}

/* The holder that a waiter meets in the word has ended. */
static bool holder_gone(const pthread_mutex_t *m, uint32_t mark)
{
	uint64_t gid = HOLDER((pthread_mutex_t *)m);
	uint32_t at = mark & (G_MAX - 1);

	return run_gone(mark) || (gid && (gid & (GID_STEP - 1)) == at && allg(at)->gid > gid);
}

/* 0, EOWNERDEAD, ENOTRECOVERABLE; EBUSY: it is held. waited: others may wait. */
static int try_robust(struct g *g, pthread_mutex_t *m, uint32_t waited)
{
	uint32_t v = atomic_load(WORD(m)), mine = run_mark(g);
	bool dead;

	do {
		if (ROBUST(m) == ROBUST_LOST)
			return ENOTRECOVERABLE;
		dead = (v & ROBUST_MARK) && holder_gone(m, v & ROBUST_MARK);
		if ((v & ROBUST_MARK) && !dead)
			return EBUSY;
		g->flags |= GF_ONCE; /* first: its end makes waiters look */
	} while (!atomic_compare_exchange_weak(WORD(m), &v, mine | waited | (v & ROBUST_WAITED)));
	now_held(g, m);
	if (dead)
		ROBUST(m) = ROBUST_INCONSISTENT;
	return dead ? EOWNERDEAD : 0;
}

static int try_mutex(struct g *g, pthread_mutex_t *m, uint32_t taken)
{
	uint32_t zero = 0;

	if (type_of(m) != PTHREAD_MUTEX_TIMED_NP && held_by(g, m))
		return take_again(m);
	if (is_robust(m))
		return try_robust(g, m, taken == 2 ? ROBUST_WAITED : 0);
	if (!atomic_compare_exchange_strong_explicit(WORD(m), &zero, taken, memory_order_acquire, memory_order_relaxed))
		return EBUSY;
	now_held(g, m);
	return 0;
}

/* The word as it is while somebody waits for it; 0: it is free. */
static uint32_t mark_waited(pthread_mutex_t *m)
{
	uint32_t v = atomic_load(WORD(m)), marked;

	do {
		if (is_robust(m) ? !(v & ROBUST_MARK) || holder_gone(m, v & ROBUST_MARK) : v == 0)
			return 0;
		marked = is_robust(m) ? v | ROBUST_WAITED : 2;
	} while (v != marked && !atomic_compare_exchange_weak(WORD(m), &v, marked));
	return marked;
}

#define SPIN_ROUNDS 4
#define SPIN_PAUSES 100

/* If its holder runs, it is soon free, and that is sooner than the way to sleep and back (see core/sync/mutex.c). */
static void spin(pthread_mutex_t *m)
{
	for (unsigned i = 0; i < SPIN_ROUNDS; i++) {
		if (!atomic_load_explicit(WORD(m), memory_order_relaxed) || !sh_word_holder_runs(HOLDER(m)))
			return;
		sh_pause(SPIN_PAUSES);
	}
}

static __attribute__((noinline)) int lock_slow(struct g *g, pthread_mutex_t *m, clockid_t clock, time_spec *when)
{
	struct word_waiter w = {.why = WAIT_PTHREAD_LOCK, .shared = is_shared(m)};
	uint32_t taken = 1, seen;
	int r;

	if (__builtin_expect(m->__data.__kind & ~KIND_KNOWN, 0) && m->__data.__kind < 0)
		return EINVAL; /* destroyed */
	if ((r = try_mutex(g, m, taken)) != EBUSY)
		return r;
	if (!sh_word_time_valid(clock, when))
		return EINVAL;
	spin(m);
	w.when = sh_word_deadline(clock, when);
	while ((r = try_mutex(g, m, taken)) == EBUSY) {
		taken = 2; /* others may wait as well */
		if (!(seen = mark_waited(m)))
			continue;
		w.holder = HOLDER(m);
		if (sh_word_wait(g, WORD(m), seen, &w) == ETIMEDOUT)
			return ETIMEDOUT;
	}
	return r;
}

static inline int lock(struct g *g, pthread_mutex_t *m)
{
	uint32_t zero = 0;

	if (__builtin_expect(m->__data.__kind == PTHREAD_MUTEX_TIMED_NP, 1) &&
	    __builtin_expect(atomic_compare_exchange_strong_explicit(WORD(m), &zero, 1, memory_order_acquire,
								     memory_order_relaxed),
			     1)) {
		m->__data.__owner = thread_number(g);
		HOLDER(m) = g->gid;
		return 0;
	}
	return lock_slow(g, m, 0, NULL);
}

int pthread_mutex_lock(pthread_mutex_t *m)
{
	struct g *g = posix_enter();

	return __builtin_expect(g != NULL, 1) ? lock(g, m) : real_pthread_mutex_lock(m);
}

int pthread_mutex_trylock(pthread_mutex_t *m)
{
	struct g *g = on_g();
	int r;

	if (!g)
		return real_pthread_mutex_trylock(m);
	r = m->__data.__kind < 0 ? EINVAL : try_mutex(g, m, 1);
	return r == EDEADLK ? EBUSY : r;
}

int pthread_mutex_clocklock(pthread_mutex_t *restrict m, clockid_t clock, time_spec *restrict when)
{
	struct g *g = posix_enter();

	return g ? lock_slow(g, m, clock, when) : real_pthread_mutex_clocklock(m, clock, when);
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict m, time_spec *restrict when)
{
	struct g *g = posix_enter();

	return g ? lock_slow(g, m, CLOCK_REALTIME, when) : real_pthread_mutex_timedlock(m, when);
}

/* ---- giving back ---- */

static int unlock_robust(struct g *g, pthread_mutex_t *m)
{
	bool lost = ROBUST(m) == ROBUST_INCONSISTENT;

	if (lost)
		ROBUST(m) = ROBUST_LOST; /* nobody has made it consistent */
	if (atomic_exchange(WORD(m), 0) & ROBUST_WAITED)
		sh_word_wake(g, WORD(m), lost ? WORD_ALL : 1, 0, is_shared(m));
	return 0;
}

static __attribute__((noinline)) int unlock_slow(struct g *g, pthread_mutex_t *m)
{
	if ((type_of(m) == PTHREAD_MUTEX_RECURSIVE_NP || type_of(m) == PTHREAD_MUTEX_ERRORCHECK_NP || is_robust(m)) &&
	    !held_by(g, m))
		return m->__data.__kind < 0 ? EINVAL : EPERM;
	if (type_of(m) == PTHREAD_MUTEX_RECURSIVE_NP && --m->__data.__count > 0)
		return 0;
	m->__data.__owner = 0;
	if (is_robust(m))
		return unlock_robust(g, m);
	if (atomic_exchange(WORD(m), 0) > 1)
		sh_word_wake_one(g, WORD(m), is_shared(m));
	return 0;
}

int mutex_unlock(struct g *g, pthread_mutex_t *m)
{
	if (__builtin_expect(m->__data.__kind != PTHREAD_MUTEX_TIMED_NP, 0))
		return unlock_slow(g, m);
	m->__data.__owner = 0;
	if (__builtin_expect(atomic_exchange_explicit(WORD(m), 0, memory_order_release) > 1, 0))
		sh_word_wake_one(g, WORD(m), false);
	return 0;
}

int pthread_mutex_unlock(pthread_mutex_t *m)
{
	struct g *g = on_g();

	return __builtin_expect(g != NULL, 1) ? mutex_unlock(g, m) : real_pthread_mutex_unlock(m);
}

bool mutex_not_held(const struct g *g, const pthread_mutex_t *m)
{
	return (type_of(m) == PTHREAD_MUTEX_RECURSIVE_NP || type_of(m) == PTHREAD_MUTEX_ERRORCHECK_NP ||
		is_robust(m)) &&
	       !held_by(g, m);
}

int mutex_lock_again(struct g *g, pthread_mutex_t *m)
{
	return lock(g, m);
}

/* ---- the life of one ---- */

int pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attr)
{
	int type = PTHREAD_MUTEX_DEFAULT, robust = PTHREAD_MUTEX_STALLED, shared = PTHREAD_PROCESS_PRIVATE,
	    protocol = PTHREAD_PRIO_NONE, ceiling = 0;

	if (!on_g())
		return real_pthread_mutex_init(m, attr);
	if (attr) {
		pthread_mutexattr_gettype(attr, &type);
		pthread_mutexattr_getrobust(attr, &robust);
		pthread_mutexattr_getpshared(attr, &shared);
		pthread_mutexattr_getprotocol(attr, &protocol);
		if (protocol == PTHREAD_PRIO_PROTECT)
			pthread_mutexattr_getprioceiling(attr, &ceiling);
	}
	memset(m, 0, sizeof *m);
	m->__data.__kind = (type & KIND_TYPE) | (robust == PTHREAD_MUTEX_ROBUST ? KIND_ROBUST : 0) |
			   (shared == PTHREAD_PROCESS_SHARED ? KIND_SHARED : 0) |
			   (protocol == PTHREAD_PRIO_INHERIT ? KIND_INHERIT : 0) |
			   (protocol == PTHREAD_PRIO_PROTECT ? KIND_PROTECT : 0);
	CEILING(m) = (short)ceiling;
	return 0;
}

int pthread_mutex_destroy(pthread_mutex_t *m)
{
	if (!on_g())
		return real_pthread_mutex_destroy(m);
	if (m->__data.__kind < 0)
		return EINVAL;
	if (!is_robust(m) && atomic_load(WORD(m)) != 0) /* libc does not look at a robust one either */
		return EBUSY;
	m->__data.__kind = -1;
	return 0;
}

int pthread_mutex_consistent(pthread_mutex_t *m)
{
	struct g *g = on_g();

	if (!g)
		return real_pthread_mutex_consistent(m);
	if (!is_robust(m) || ROBUST(m) != ROBUST_INCONSISTENT || !held_by(g, m))
		return EINVAL;
	ROBUST(m) = ROBUST_FINE;
	return 0;
}

int pthread_mutex_getprioceiling(const pthread_mutex_t *restrict m, int *restrict ceiling)
{
	if (!on_g())
		return real_pthread_mutex_getprioceiling(m, ceiling);
	if (!(m->__data.__kind & KIND_PROTECT))
		return EINVAL;
	*ceiling = CEILING(m);
	return 0;
}

int pthread_mutex_setprioceiling(pthread_mutex_t *restrict m, int ceiling, int *restrict old)
{
	struct g *g = posix_enter();
	int r;

	if (!g)
		return real_pthread_mutex_setprioceiling(m, ceiling, old);
	if (!(m->__data.__kind & KIND_PROTECT) || ceiling < sched_get_priority_min(SCHED_FIFO) ||
	    ceiling > sched_get_priority_max(SCHED_FIFO))
		return EINVAL;
	r = lock(g, m);
	if (r == 0 || r == EOWNERDEAD) {
		*old = CEILING(m);
		CEILING(m) = (short)ceiling;
		mutex_unlock(g, m);
	}
	return r;
}
