/*
 * posix/sync.c - locks of pthreads and C11 on goroutines: mutex, condition, reader/writer lock, barrier,
 * once, semaphore.
 *
 * libc's wait in futexes of the process, and their owner is a thread: a goroutine that waited there
 * would hold up its worker and be woken by nobody in another. So who has to wait does so in the task's
 * table of waits (core/sync/semtable.c). A thread of the module's on the same object waits for a count that
 * whoever lets one go raises; as it can tell no goroutine, in a task that has threads goroutines
 * ask again instead of parking.
 *
 * Objects in memory of the process (a library's) are left to libc, and so are mutexes that it keeps
 * lists of or lends a priority.
 *
 * DEATH  what a dead goroutine held stays locked, as in a process; a once is begun anew. Who waits looks
 *        again when one of the task's goroutines dies
 */
#include "core/sync/semtable.h"
#include "worker/posix/clock.h"
#include "worker/posix/own.h"
#include "worker/posix/posix.h"

#include <dlfcn.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <threads.h>
#include <time.h>

#define TS const struct timespec

static bool threads(struct g *g)
{
	return __builtin_expect(atomic_load(&task_own(g->task)->threads) != 0, 0);
}

/* Shared with goroutines: not for libc, whose futexes are the process's. A constructor is alone. */
#define SHARED(at) (getm && sh_shared(at))

/* Gives way, longer each time. */
static void turn(unsigned *round)
{
	unsigned n = (*round)++;

	if (n < 4 || shoal_sleep(10000l << (n < 12 ? n - 4 : 7)) < 0)
		shoal_yield();
}

static bool is_time(clockid_t clock, TS *when)
{
	return !when || (when->tv_nsec >= 0 && when->tv_nsec < 1000000000 &&
			 (clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC));
}

/* Our clock at a time of another; 0: never, -1: it is past. */
static int64_t until(clockid_t clock, TS *when)
{
	struct timespec now;
	int64_t left;

	if (!when || clock_gettime(clock, &now) < 0)
		return 0;
	left = ns_between(&now, when);
	return left <= 0 ? -1 : deadline_after(left);
}

/* ---- threads: a count shared by many objects; who waits for it may be woken for another's ---- */

static _Atomic uint32_t *told(const void *at)
{
	return &posix_shared->cond_signals[(uintptr_t)at / 8 * 0x9e3779b97f4a7c15ul >> 58];
}

static void tell_threads(const void *at)
{
	atomic_fetch_add(told(at), 1);
	syscall(SYS_futex, told(at), FUTEX_WAKE, INT_MAX, NULL, NULL, 0); /* of other workers as well */
}

/* until: on our clock; 0: for ever. The count was `before` when what is waited for was looked at. */
static int thread_waits(const void *at, uint32_t before, int64_t until_ns)
{
	struct timespec t = {until_ns / 1000000000, until_ns % 1000000000};

	if (until_ns < 0)
		return ETIMEDOUT;
	if (syscall(SYS_futex, told(at), FUTEX_WAIT_BITSET, before, until_ns ? &t : NULL, NULL,
		    FUTEX_BITSET_MATCH_ANY) < 0 &&
	    errno == ETIMEDOUT)
		return ETIMEDOUT;
	return 0;
}

static int thread_id(void)
{
	static _Thread_local int id;

	return id ? id : (id = (int)syscall(SYS_gettid));
}

/* Lets others know that `at` may be had. g: who does, NULL a thread. */
static void let_others(struct g *g, const void *at, bool all)
{
	if (g)
		semtable_wake(g, at, all);
	if (!g || threads(g))
		tell_threads(at);
}

/*
 * Waits until somebody calls semtable_wake for `at`, unless look(), under the lock, says that it need not:
 * that is returned then. Parks. 0: look again; ETIMEDOUT, ECANCELED. g: NULL for a thread.
 */
enum { LOOK_WAIT, LOOK_AGAIN, LOOK_GOT = -1 };

static int thread_awaits(void *at, int (*look)(void *), int64_t when)
{
	uint32_t before = atomic_load(told(at));
	int r = look(at);

	return r == LOOK_GOT ? r : r == LOOK_WAIT ? thread_waits(at, before, when) : 0;
}

static int await(struct g *g, void *at, int (*look)(void *), enum waitreason why, int64_t when, unsigned *round)
{
	struct shoal_waitq_ *q;
	int r;

	if (!g)
		return thread_awaits(at, look, when);
	q = when < 0 || threads(g) ? NULL : semtable_lock(g, at);
	if (when < 0 || (when && !q && host_now() >= when))
		return ETIMEDOUT;
	if (q && threads(g)) {
		semtable_unlock(q);
		q = NULL;
	}
	if (!q) {
		if (g_cancelled(g) && wait_cancellable(why))
			return ECANCELED;
		turn(round);
		return 0;
	}
	r = look(at);
	if (r != LOOK_WAIT) {
		semtable_unlock(q);
		return r == LOOK_GOT ? LOOK_GOT : 0;
	}
	r = -semtable_wait(q, g, at, why, when);
	return r == EAGAIN ? 0 : r;
}

/* ---- mutex: libc's words, 0 free, 1 taken, 2 taken and waited for ---- */

REAL(int, pthread_mutex_lock, (pthread_mutex_t * m), m)
REAL(int, pthread_mutex_trylock, (pthread_mutex_t * m), m)
REAL(int, pthread_mutex_unlock, (pthread_mutex_t * m), m)
REAL(int, pthread_mutex_timedlock, (pthread_mutex_t * m, TS *t), m, t)
REAL(int, pthread_mutex_clocklock, (pthread_mutex_t * m, clockid_t c, TS *t), m, c, t)

#define KIND(m) ((m)->__data.__kind & 0x7f)
#define OURS(m) (SHARED(m) && KIND(m) <= PTHREAD_MUTEX_ADAPTIVE_NP)
#define WORD(m) ((_Atomic int *)&((pthread_mutex_t *)(m))->__data.__lock)

static int me(const struct g *g)
{
	return g ? (int)(g_index(g) | 1u << 30) : thread_id(); /* no thread has such a number */
}

static int try_mutex(struct g *g, pthread_mutex_t *m, int taken)
{
	bool mine = m->__data.__owner == me(g);
	int zero = 0;

	if (mine && KIND(m) == PTHREAD_MUTEX_RECURSIVE_NP) {
		if (m->__data.__count == UINT_MAX)
			return EAGAIN;
		m->__data.__count++;
		return 0;
	}
	if (!atomic_compare_exchange_strong(WORD(m), &zero, taken))
		return mine && KIND(m) == PTHREAD_MUTEX_ERRORCHECK_NP ? EDEADLK : EBUSY;
	m->__data.__count = 1;
	m->__data.__owner = me(g);
	m->__data.__nusers++;
	return 0;
}

/* Still taken, and its unlock will see that it is waited for. */
static int look_mutex(void *m)
{
	int v = atomic_load(WORD(m));

	while (v)
		if (v == 2 || atomic_compare_exchange_weak(WORD(m), &v, 2))
			return LOOK_WAIT;
	return LOOK_AGAIN;
}

static int take_mutex(struct g *g, pthread_mutex_t *m, clockid_t clock, TS *when)
{
	unsigned round = 0;
	int r, taken = 1;

	while ((r = try_mutex(g, m, taken)) == EBUSY) {
		if (!is_time(clock, when))
			return EINVAL;
		r = await(g, m, look_mutex, WAIT_PTHREAD_LOCK, until(clock, when), &round);
		if (r == ETIMEDOUT)
			return r;
		taken = 2; /* others may wait as well */
	}
	return r;
}

int pthread_mutex_lock(pthread_mutex_t *m)
{
	struct g *g = on_g();

	return OURS(m) ? take_mutex(g, m, 0, NULL) : real_pthread_mutex_lock(m);
}

int pthread_mutex_trylock(pthread_mutex_t *m)
{
	struct g *g = on_g();
	int r;

	if (!OURS(m))
		return real_pthread_mutex_trylock(m);
	r = try_mutex(g, m, 1);
	return r == EDEADLK ? EBUSY : r;
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict m, TS *restrict when)
{
	struct g *g = on_g();

	return OURS(m) ? take_mutex(g, m, CLOCK_REALTIME, when) : real_pthread_mutex_timedlock(m, when);
}

int pthread_mutex_clocklock(pthread_mutex_t *restrict m, clockid_t clock, TS *restrict when)
{
	struct g *g = on_g();

	return OURS(m) ? take_mutex(g, m, clock, when) : real_pthread_mutex_clocklock(m, clock, when);
}

static bool checks_owner(const pthread_mutex_t *m)
{
	return KIND(m) == PTHREAD_MUTEX_RECURSIVE_NP || KIND(m) == PTHREAD_MUTEX_ERRORCHECK_NP;
}

int pthread_mutex_unlock(pthread_mutex_t *m)
{
	struct g *g = on_g();

	if (!OURS(m))
		return real_pthread_mutex_unlock(m);
	if (checks_owner(m) && m->__data.__owner != me(g))
		return EPERM;
	if (KIND(m) == PTHREAD_MUTEX_RECURSIVE_NP && --m->__data.__count > 0)
		return 0;
	m->__data.__count = 0;
	m->__data.__owner = 0;
	m->__data.__nusers--;
	if (atomic_exchange(WORD(m), 0) > 1)
		let_others(g, m, false);
	return 0;
}

/* ---- condition ---- */

REAL(int, pthread_cond_wait, (pthread_cond_t * c, pthread_mutex_t *m), c, m)
REAL(int, pthread_cond_timedwait, (pthread_cond_t * c, pthread_mutex_t *m, TS *t), c, m, t)
REAL(int, pthread_cond_clockwait, (pthread_cond_t * c, pthread_mutex_t *m, clockid_t k, TS *t), c, m, k, t)
REAL(int, pthread_cond_signal, (pthread_cond_t * c), c)
REAL(int, pthread_cond_broadcast, (pthread_cond_t * c), c)

/* A thread waits so, and who shares the condition with one. */
static int ask_cond(struct g *g, pthread_cond_t *c, pthread_mutex_t *m, int64_t when)
{
	uint32_t before = atomic_load(told(c));
	unsigned round = 0;

	pthread_mutex_unlock(m);
	if (!g)
		return thread_waits(c, before, when);
	while (atomic_load(told(c)) == before) {
		if (when < 0 || (when && host_now() >= when))
			return ETIMEDOUT;
		if (g_cancelled(g))
			return ECANCELED;
		turn(&round);
	}
	return 0;
}

static int wait_cond(struct g *g, pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock, TS *when)
{
	struct shoal_waitq_ *q = NULL;
	int64_t ns = until(clock, when);
	int r;

	if (!is_time(clock, when))
		return EINVAL;
	if (OURS(m) && checks_owner(m) && m->__data.__owner != me(g))
		return EPERM;
	if (g && ns >= 0 && !threads(g) && (q = semtable_lock(g, c))) {
		if (threads(g)) {
			semtable_unlock(q);
			q = NULL;
		} else { /* before the mutex is let go: no signal after that is missed */
			semtable_enqueue(q, g, c, WAIT_PTHREAD_COND);
			semtable_unlock(q);
		}
	}
	if (q) {
		pthread_mutex_unlock(m);
		r = -semtable_park(q, g, WAIT_PTHREAD_COND, ns);
	} else {
		r = ask_cond(g, c, m, ns);
	}
	pthread_mutex_lock(m);
	return r == EAGAIN ? 0 : r;
}

static clockid_t clock_of(const pthread_cond_t *c)
{
	return c->__data.__wrefs & 2 ? CLOCK_MONOTONIC : CLOCK_REALTIME; /* as pthread_condattr_setclock said */
}

int pthread_cond_wait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m)
{
	struct g *g = on_g();

	return SHARED(c) ? wait_cond(g, c, m, 0, NULL) : real_pthread_cond_wait(c, m);
}

int pthread_cond_timedwait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m, TS *restrict when)
{
	struct g *g = on_g();

	return SHARED(c) ? wait_cond(g, c, m, clock_of(c), when) : real_pthread_cond_timedwait(c, m, when);
}

int pthread_cond_clockwait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m, clockid_t clock, TS *restrict when)
{
	struct g *g = on_g();

	return SHARED(c) ? wait_cond(g, c, m, clock, when) : real_pthread_cond_clockwait(c, m, clock, when);
}

static int tell_cond(pthread_cond_t *c, bool all)
{
	if (!SHARED(c))
		return all ? real_pthread_cond_broadcast(c) : real_pthread_cond_signal(c);
	let_others(on_g(), c, all);
	return 0;
}

int pthread_cond_signal(pthread_cond_t *c)
{
	return tell_cond(c, false);
}

int pthread_cond_broadcast(pthread_cond_t *c)
{
	return tell_cond(c, true);
}

/* ---- reader/writer lock: libc's own, but for the waiting and for who the writer is ---- */

REAL(int, pthread_rwlock_rdlock, (pthread_rwlock_t * l), l)
REAL(int, pthread_rwlock_wrlock, (pthread_rwlock_t * l), l)
REAL(int, pthread_rwlock_tryrdlock, (pthread_rwlock_t * l), l)
REAL(int, pthread_rwlock_trywrlock, (pthread_rwlock_t * l), l)
REAL(int, pthread_rwlock_timedrdlock, (pthread_rwlock_t * l, TS *t), l, t)
REAL(int, pthread_rwlock_timedwrlock, (pthread_rwlock_t * l, TS *t), l, t)
REAL(int, pthread_rwlock_clockrdlock, (pthread_rwlock_t * l, clockid_t c, TS *t), l, c, t)
REAL(int, pthread_rwlock_clockwrlock, (pthread_rwlock_t * l, clockid_t c, TS *t), l, c, t)
REAL(int, pthread_rwlock_unlock, (pthread_rwlock_t * l), l)

#define WRITER(l) ((l)->__data.__cur_writer)

static int look_read(void *l)
{
	return real_pthread_rwlock_tryrdlock(l) == EBUSY ? LOOK_WAIT : LOOK_GOT;
}

static int look_write(void *l)
{
	return real_pthread_rwlock_trywrlock(l) == EBUSY ? LOOK_WAIT : LOOK_GOT;
}

static int take_rw(struct g *g, pthread_rwlock_t *l, bool write, clockid_t clock, TS *when)
{
	unsigned round = 0;
	int r;

	while ((r = write ? real_pthread_rwlock_trywrlock(l) : real_pthread_rwlock_tryrdlock(l)) == EBUSY) {
		if (!is_time(clock, when))
			return EINVAL;
		if (WRITER(l) == me(g))
			return EDEADLK;
		r = await(g, l, write ? look_write : look_read, WAIT_PTHREAD_LOCK, until(clock, when), &round);
		if (r == ETIMEDOUT)
			return r;
		if (r == LOOK_GOT) {
			r = 0;
			break;
		}
	}
	if (r == 0 && write)
		WRITER(l) = me(g);
	return r;
}

int pthread_rwlock_rdlock(pthread_rwlock_t *l)
{
	struct g *g = on_g();

	return SHARED(l) ? take_rw(g, l, false, 0, NULL) : real_pthread_rwlock_rdlock(l);
}

int pthread_rwlock_wrlock(pthread_rwlock_t *l)
{
	struct g *g = on_g();

	return SHARED(l) ? take_rw(g, l, true, 0, NULL) : real_pthread_rwlock_wrlock(l);
}

int pthread_rwlock_trywrlock(pthread_rwlock_t *l)
{
	struct g *g = on_g();
	int r = real_pthread_rwlock_trywrlock(l);

	if (r == 0 && SHARED(l))
		WRITER(l) = me(g);
	return r;
}

int pthread_rwlock_timedrdlock(pthread_rwlock_t *restrict l, TS *restrict when)
{
	struct g *g = on_g();

	return SHARED(l) ? take_rw(g, l, false, CLOCK_REALTIME, when) : real_pthread_rwlock_timedrdlock(l, when);
}

int pthread_rwlock_timedwrlock(pthread_rwlock_t *restrict l, TS *restrict when)
{
	struct g *g = on_g();

	return SHARED(l) ? take_rw(g, l, true, CLOCK_REALTIME, when) : real_pthread_rwlock_timedwrlock(l, when);
}

int pthread_rwlock_clockrdlock(pthread_rwlock_t *restrict l, clockid_t clock, TS *restrict when)
{
	struct g *g = on_g();

	return SHARED(l) ? take_rw(g, l, false, clock, when) : real_pthread_rwlock_clockrdlock(l, clock, when);
}

int pthread_rwlock_clockwrlock(pthread_rwlock_t *restrict l, clockid_t clock, TS *restrict when)
{
	struct g *g = on_g();

	return SHARED(l) ? take_rw(g, l, true, clock, when) : real_pthread_rwlock_clockwrlock(l, clock, when);
}

int pthread_rwlock_unlock(pthread_rwlock_t *l)
{
	struct g *g = on_g();
	int r;

	if (!SHARED(l))
		return real_pthread_rwlock_unlock(l);
	if (WRITER(l)) /* libc takes it for a reader's unless the writer is this thread */
		WRITER(l) = (int)syscall(SYS_gettid);
	r = real_pthread_rwlock_unlock(l);
	let_others(g, l, true);
	return r;
}

/* ---- barrier: libc's first words; one is for goroutines alone ---- */

REAL(int, pthread_barrier_wait, (pthread_barrier_t * b), b)
REAL(int, pthread_barrier_destroy, (pthread_barrier_t * b), b)

struct barrier {
	unsigned in, done, count; /* arrived, and of these gone on, since it was made */
	int shared;
	unsigned out;
};

int pthread_barrier_wait(pthread_barrier_t *at)
{
	struct barrier *b = (struct barrier *)at;
	struct shoal_waitq_ *q;
	struct g *g = on_g();
	unsigned round = 0, mine;
	int r;

	if (!g || !sh_shared(at))
		return real_pthread_barrier_wait(at);
	while (!(q = semtable_lock(g, b)))
		turn(&round);
	mine = ++b->in;
	if (mine - b->done == b->count) { /* the last, who says so to the others: they are told under the lock */
		b->done = b->out = mine;
		semtable_unlock(q);
		semtable_wake(g, b, true);
		return PTHREAD_BARRIER_SERIAL_THREAD;
	}
	while ((r = semtable_wait(q, g, b, WAIT_PTHREAD_LOCK, 0)) != 0) {
		while (!(q = semtable_lock(g, b)))
			turn(&round);
		if ((int)(b->done - mine) >= 0) {
			semtable_unlock(q);
			break;
		}
	}
	return 0;
}

int pthread_barrier_destroy(pthread_barrier_t *at)
{
	struct barrier *b = (struct barrier *)at;

	if (!on_g() || !sh_shared(at))
		return real_pthread_barrier_destroy(at);
	return b->in == b->done ? 0 : EBUSY;
}

/* ---- once: 0, 2 when it has been run (as libc has it); between them, who runs it ---- */

REAL(int, pthread_once, (pthread_once_t * o, void (*fn)(void)), o, fn)

#define ONCE(o) ((_Atomic int *)(o))
#define ONCE_DONE 2

static int runs_it(const struct g *g)
{
	return (int)(run_mark(g) << 2 | 1);
}

static bool is_gone(int by)
{
	return run_gone((uint32_t)by >> 2);
}

static int look_once(void *o)
{
	int by = atomic_load(ONCE(o));

	return by == 0 || by == ONCE_DONE || is_gone(by) ? LOOK_AGAIN : LOOK_WAIT;
}

struct once_run {
	pthread_once_t *once;
	struct g *g;
	int end;    /* what it is when it has been left: by an exception, to be run again */
	bool inner; /* it is run by the function of another */
};

static void leave_once(struct once_run *run)
{
	atomic_store(ONCE(run->once), run->end);
	if (!run->inner)
		run->g->flags &= (uint8_t)~GF_ONCE;
	semtable_wake(run->g, run->once, true);
}

static void run_once(struct once_run *of, void (*fn)(void))
{
	__attribute__((cleanup(leave_once))) struct once_run run = *of;

	fn();
	run.end = ONCE_DONE;
}

int pthread_once(pthread_once_t *o, void (*fn)(void))
{
	struct g *g = on_g();
	unsigned round = 0;
	int by;

	if (!g || !sh_shared(o))
		return real_pthread_once(o, fn);
	while ((by = atomic_load(ONCE(o))) != ONCE_DONE) {
		if (by == runs_it(g))
			host_misuse("pthread_once: it is called from the function that it runs");
		if (by == 0 || is_gone(by)) {
			struct once_run run = {o, g, 0, (g->flags & GF_ONCE) != 0};

			g->flags |= GF_ONCE; /* first: whoever sees the word waits for this one */
			if (atomic_compare_exchange_strong(ONCE(o), &by, runs_it(g))) {
				thread_once(g);
				run_once(&run, fn);
				return 0;
			}
			if (!run.inner)
				g->flags &= (uint8_t)~GF_ONCE;
		}
		await(g, o, look_once, WAIT_PTHREAD_LOCK, 0, &round);
	}
	return 0;
}

/* ---- semaphore ---- */

REAL(int, sem_wait, (sem_t * s), s)
REAL(int, sem_timedwait, (sem_t * s, TS *t), s, t)
REAL(int, sem_clockwait, (sem_t * s, clockid_t c, TS *t), s, c, t)
REAL(int, sem_post, (sem_t * s), s)

static int look_sem(void *s)
{
	int v;

	return sem_getvalue(s, &v) == 0 && v <= 0 ? LOOK_WAIT : LOOK_AGAIN;
}

static int wait_sem(struct g *g, sem_t *s, clockid_t clock, TS *when)
{
	unsigned round = 0;
	int r;

	while (sem_trywait(s) < 0) {
		if (errno != EAGAIN)
			return -1;
		r = is_time(clock, when) ? await(g, s, look_sem, WAIT_PTHREAD_SEM, until(clock, when), &round) : EINVAL;
		if (r) {
			errno = r;
			return -1;
		}
	}
	return 0;
}

int sem_wait(sem_t *s)
{
	struct g *g = on_g();

	return SHARED(s) ? wait_sem(g, s, 0, NULL) : real_sem_wait(s);
}

int sem_timedwait(sem_t *restrict s, TS *restrict when)
{
	struct g *g = on_g();

	return SHARED(s) ? wait_sem(g, s, CLOCK_REALTIME, when) : real_sem_timedwait(s, when);
}

int sem_clockwait(sem_t *restrict s, clockid_t clock, TS *restrict when)
{
	struct g *g = on_g();

	return SHARED(s) ? wait_sem(g, s, clock, when) : real_sem_clockwait(s, clock, when);
}

int sem_post(sem_t *s)
{
	struct g *g = on_g();
	int r = real_sem_post(s);

	if (r == 0 && SHARED(s))
		let_others(g, s, false);
	return r;
}

/* One with a name lies in a mapping of one worker's. */
sem_t *sem_open(const char *name, int flags, ...)
{
	static sem_t *(*libc)(const char *, int, mode_t, unsigned);
	va_list ap;
	mode_t mode;
	unsigned n;

	if (on_g()) {
		errno = ENOTSUP;
		return SEM_FAILED;
	}
	va_start(ap, flags);
	mode = va_arg(ap, mode_t);
	n = va_arg(ap, unsigned);
	va_end(ap);
	if (!libc)
		*(void **)&libc = dlsym(RTLD_NEXT, "sem_open");
	return libc(name, flags, mode, n);
}

/* ---- C11's names: libc calls its own inside ---- */

static int c11(int r)
{
	return r == 0 ? thrd_success : r == EBUSY ? thrd_busy : r == ETIMEDOUT ? thrd_timedout : thrd_error;
}

int mtx_lock(mtx_t *m)
{
	return c11(pthread_mutex_lock((pthread_mutex_t *)m));
}

int mtx_trylock(mtx_t *m)
{
	return c11(pthread_mutex_trylock((pthread_mutex_t *)m));
}

int mtx_timedlock(mtx_t *restrict m, TS *restrict when)
{
	return c11(pthread_mutex_timedlock((pthread_mutex_t *)m, when));
}

int mtx_unlock(mtx_t *m)
{
	return c11(pthread_mutex_unlock((pthread_mutex_t *)m));
}

int cnd_wait(cnd_t *c, mtx_t *m)
{
	return c11(pthread_cond_wait((pthread_cond_t *)c, (pthread_mutex_t *)m));
}

int cnd_timedwait(cnd_t *restrict c, mtx_t *restrict m, TS *restrict when)
{
	return c11(pthread_cond_timedwait((pthread_cond_t *)c, (pthread_mutex_t *)m, when));
}

int cnd_signal(cnd_t *c)
{
	return c11(pthread_cond_signal((pthread_cond_t *)c));
}

int cnd_broadcast(cnd_t *c)
{
	return c11(pthread_cond_broadcast((pthread_cond_t *)c));
}

void call_once(once_flag *o, void (*fn)(void))
{
	pthread_once((pthread_once_t *)o, fn);
}
