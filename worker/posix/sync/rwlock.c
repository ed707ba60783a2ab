/*
 * rwlock.c - reader/writer locks of pthreads on goroutines.
 *
 *	__readers: | 31: a writer has it | 30: readers wait | 29: writers wait | 28-0: readers that have it |
 *
 * Readers go first, unless the lock prefers writers (PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP): then a reader
 * also waits while a writer does. Who gives the lock back last clears the waiting bits and wakes those who wait;
 * they try again, and set the bits again if they have to.
 *
 * OWNER  the program: the object lies in its memory
 * LOCK   none: __readers changes by atomic operations; __cur_writer belongs to the writer
 * ORDER  taken with acquire, given back with release
 * DEATH  it stays locked, as one of a dead thread does
 */
#include "worker/posix/sync/word.h"
#include "worker/posix/libc.h"
#include "worker/posix/thread.h"

typedef const struct timespec time_spec;

ALSO(pthread_rwlock_destroy)
ALSO(pthread_rwlock_rdlock)
ALSO(pthread_rwlock_wrlock)
ALSO(pthread_rwlock_tryrdlock)
ALSO(pthread_rwlock_trywrlock)
ALSO(pthread_rwlock_unlock)

REAL(int, pthread_rwlock_destroy, (pthread_rwlock_t * l), l)
REAL(int, pthread_rwlock_rdlock, (pthread_rwlock_t * l), l)
REAL(int, pthread_rwlock_wrlock, (pthread_rwlock_t * l), l)
REAL(int, pthread_rwlock_tryrdlock, (pthread_rwlock_t * l), l)
REAL(int, pthread_rwlock_trywrlock, (pthread_rwlock_t * l), l)
REAL(int, pthread_rwlock_timedrdlock, (pthread_rwlock_t * l, time_spec *t), l, t)
REAL(int, pthread_rwlock_timedwrlock, (pthread_rwlock_t * l, time_spec *t), l, t)
REAL(int, pthread_rwlock_clockrdlock, (pthread_rwlock_t * l, clockid_t c, time_spec *t), l, c, t)
REAL(int, pthread_rwlock_clockwrlock, (pthread_rwlock_t * l, clockid_t c, time_spec *t), l, c, t)
REAL(int, pthread_rwlock_unlock, (pthread_rwlock_t * l), l)

#define RW_WRITER (1u << 31)
#define RW_READERS_WAIT (1u << 30)
#define RW_WRITERS_WAIT (1u << 29)
#define RW_READERS (RW_WRITERS_WAIT - 1)

#define WORD(l) ((_Atomic uint32_t *)&(l)->__data.__readers)
#define WRITER(l) ((l)->__data.__cur_writer)

static bool is_shared(const pthread_rwlock_t *l)
{
	return l->__data.__shared != 0;
}

static bool prefers_writers(const pthread_rwlock_t *l)
{
	return l->__data.__flags == PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP;
}

static bool must_wait(const pthread_rwlock_t *l, uint32_t v, bool write)
{
	if (write)
		return (v & (RW_WRITER | RW_READERS)) != 0;
	return (v & RW_WRITER) || ((v & RW_WRITERS_WAIT) && (v & RW_READERS) && prefers_writers(l));
}

/* 0, EBUSY with the word in *seen, EAGAIN: too many readers. */
static int try_rwlock(struct g *g, pthread_rwlock_t *l, bool write, uint32_t *seen)
{
	uint32_t v = atomic_load_explicit(WORD(l), memory_order_relaxed);

	do {
		*seen = v;
		if (must_wait(l, v, write))
			return EBUSY;
		if (!write && (v & RW_READERS) == RW_READERS)
			return EAGAIN;
	} while (!atomic_compare_exchange_weak_explicit(WORD(l), &v, write ? v | RW_WRITER : v + 1,
							memory_order_acquire, memory_order_relaxed));
	if (write)
		WRITER(l) = thread_number(g);
	return 0;
}

static __attribute__((noinline)) int wait_rwlock(struct g *g, pthread_rwlock_t *l, bool write, clockid_t clock,
						 time_spec *when)
{
	struct word_waiter w = {.why = WAIT_PTHREAD_LOCK, .shared = is_shared(l)};
	uint32_t seen, marked;
	int r;

	if (!sh_word_time_valid(clock, when))
		return EINVAL;
	if (WRITER(l) == thread_number(g) && (atomic_load(WORD(l)) & RW_WRITER))
		return EDEADLK;
	w.when = sh_word_deadline(clock, when);
	while ((r = try_rwlock(g, l, write, &seen)) == EBUSY) {
		marked = seen | (write ? RW_WRITERS_WAIT : RW_READERS_WAIT);
		if (seen != marked && !atomic_compare_exchange_strong(WORD(l), &seen, marked))
			continue;
		if (sh_word_wait(g, WORD(l), marked, &w) == ETIMEDOUT)
			return ETIMEDOUT;
	}
	return r;
}

static inline int take_rwlock(struct g *g, pthread_rwlock_t *l, bool write, clockid_t clock, time_spec *when)
{
	uint32_t seen;
	int r = try_rwlock(g, l, write, &seen);

	return __builtin_expect(r != EBUSY, 1) ? r : wait_rwlock(g, l, write, clock, when);
}

int pthread_rwlock_rdlock(pthread_rwlock_t *l)
{
	struct g *g = posix_enter();

	return g ? take_rwlock(g, l, false, 0, NULL) : real_pthread_rwlock_rdlock(l);
}

int pthread_rwlock_wrlock(pthread_rwlock_t *l)
{
	struct g *g = posix_enter();

	return g ? take_rwlock(g, l, true, 0, NULL) : real_pthread_rwlock_wrlock(l);
}

int pthread_rwlock_tryrdlock(pthread_rwlock_t *l)
{
	struct g *g = on_g();
	uint32_t seen;

	return g ? try_rwlock(g, l, false, &seen) : real_pthread_rwlock_tryrdlock(l);
}

int pthread_rwlock_trywrlock(pthread_rwlock_t *l)
{
	struct g *g = on_g();
	uint32_t seen;

	return g ? try_rwlock(g, l, true, &seen) : real_pthread_rwlock_trywrlock(l);
}

int pthread_rwlock_timedrdlock(pthread_rwlock_t *restrict l, time_spec *restrict when)
{
	struct g *g = posix_enter();

	return g ? take_rwlock(g, l, false, CLOCK_REALTIME, when) : real_pthread_rwlock_timedrdlock(l, when);
}

int pthread_rwlock_timedwrlock(pthread_rwlock_t *restrict l, time_spec *restrict when)
{
	struct g *g = posix_enter();

	return g ? take_rwlock(g, l, true, CLOCK_REALTIME, when) : real_pthread_rwlock_timedwrlock(l, when);
}

int pthread_rwlock_clockrdlock(pthread_rwlock_t *restrict l, clockid_t clock, time_spec *restrict when)
{
	struct g *g = posix_enter();

	return g ? take_rwlock(g, l, false, clock, when) : real_pthread_rwlock_clockrdlock(l, clock, when);
}

int pthread_rwlock_clockwrlock(pthread_rwlock_t *restrict l, clockid_t clock, time_spec *restrict when)
{
	struct g *g = posix_enter();

	return g ? take_rwlock(g, l, true, clock, when) : real_pthread_rwlock_clockwrlock(l, clock, when);
}

int pthread_rwlock_unlock(pthread_rwlock_t *l)
{
	struct g *g = on_g();
	uint32_t v, left;

	if (!g)
		return real_pthread_rwlock_unlock(l);
	v = atomic_load_explicit(WORD(l), memory_order_relaxed);
	if (v & RW_WRITER)
		WRITER(l) = 0;
	do {
		if (!(v & (RW_WRITER | RW_READERS)))
			return EPERM; /* nobody has it */
		left = v & RW_WRITER ? v & ~RW_WRITER : v - 1;
		if (!(left & RW_READERS))
			left = 0; /* the last one: who waits is woken */
	} while (!atomic_compare_exchange_weak_explicit(WORD(l), &v, left, memory_order_release, memory_order_relaxed));
	if (left == 0 && (v & (RW_READERS_WAIT | RW_WRITERS_WAIT)))
		sh_word_wake_all(g, WORD(l), is_shared(l));
	return 0;
}

int pthread_rwlock_destroy(pthread_rwlock_t *l)
{
	if (!on_g())
		return real_pthread_rwlock_destroy(l);
	return atomic_load(WORD(l)) & (RW_WRITER | RW_READERS) ? EBUSY : 0;
}
