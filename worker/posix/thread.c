/*
 * thread.c - threads of pthreads and C11 are goroutines: create, join, detach, exit.
 *
 * pthread_create makes a goroutine on the P of the caller; all Ps run it. Its record (struct own) is what the
 * pthread_t points to. Any goroutine can ask for its own pthread_t: one made by shoal_go is a detached thread, the
 * root goroutine is the main thread.
 *
 *	joiner						thread
 *	set THREAD_JOINING
 *	THREAD_ENDED? no: wait in the table of waits
 *							run destructors, store result
 *							set THREAD_ENDED; was THREAD_JOINING set? wake the joiner
 *	read result, free the record
 *
 * Where no goroutine runs (in the zygote, libraries' own threads, libuv) libc answers.
 *
 * DEATH  a thread that dies with its worker is a goroutine that does: the task ends, or the thread starts again with
 *        its argument (--attempts). A worker that dies after THREAD_ENDED and before the wake: repair makes all
 *        waiters of the task look again
 */
#include "worker/posix/thread.h"
#include "worker/posix/libc.h"
#include "worker/posix/sync/word.h"
#include "core/sync/cancel.h"
#include "worker/posix/thread_cancel.h"
#include "worker/posix/tls.h"

#include <limits.h>
#include <sched.h>
#include <threads.h>
#include <time.h>

REAL(int, pthread_create, (pthread_t * t, const pthread_attr_t *a, void *(*fn)(void *), void *arg), t, a, fn, arg)
REAL(int, pthread_join, (pthread_t t, void **result), t, result)
REAL(int, pthread_detach, (pthread_t t), t)
REAL(int, pthread_tryjoin_np, (pthread_t t, void **result), t, result)
REAL(int, pthread_timedjoin_np, (pthread_t t, void **result, const struct timespec *when), t, result, when)
REAL(int, pthread_clockjoin_np, (pthread_t t, void **result, clockid_t clock, const struct timespec *when), t, result,
     clock, when)
REAL(pthread_t, pthread_self, (void), )

/* ---- records ---- */

struct own *own_make(struct g *g)
{
	struct own *o = own_of(g);

	if (o || !(o = g_alloc(g, sizeof *o)))
		return o;
	memset(o, 0, sizeof *o);
	o->magic = OWN_MAGIC;
	o->gid = g->gid;
	atomic_store_explicit(&o->state, g->flags & GF_ROOT ? 0 : THREAD_DETACHED, memory_order_relaxed);
	g->own = o;
	g->flags |= GF_OWN;
	return o;
}

static void own_free(struct g *g, struct own *o)
{
	o->magic = 0;
	g_free(g, o);
}

struct own *thread_of(pthread_t t)
{
	struct own *o = (struct own *)t;

	if (!sh_heap_owns(sh_root->arena, o) || sh_heap_usable(sh_root->arena, o) < sizeof *o || o->magic != OWN_MAGIC)
		return NULL;
	return o;
}

struct g *thread_g(const struct own *o)
{
	bool ended = false;
	struct g *g = g_find(o->gid, &ended);

	return g && !ended ? g : NULL;
}

int thread_number(const struct g *g)
{
	return (int)(g_index(g) | 1u << 30);
}

pthread_t pthread_self(void)
{
	struct g *g = tls_g();
	struct own *o;

	if (!g)
		return real_pthread_self();
	if (__builtin_expect(!(o = own_of(g)), 0) && !(o = own_make(g)))
		host_misuse("out of memory: no room for the record of a thread");
	return (pthread_t)o;
}

thrd_t thrd_current(void)
{
	return (thrd_t)pthread_self();
}

pid_t gettid(void)
{
	struct g *g = tls_g();

	return g ? thread_number(g) : (pid_t)syscall(SYS_gettid);
}

/* ---- the end of one ---- */

/* The record is the joiner's from here on, if there is to be one. */
static void tell_end(struct g *g, struct own *o)
{
	uint32_t before = atomic_fetch_or(&o->state, THREAD_ENDED);

	if (before & THREAD_DETACHED)
		own_free(g, o);
	else if (before & THREAD_JOINING)
		sh_word_wake_all(g, &o->state, false);
}

void thread_end(struct g *g)
{
	struct own *o = own_of(g);

	if (!o)
		return;
	if (atomic_fetch_or(&o->cancel, CANCEL_EXITING) & CANCEL_PENDING)
		g_cancel_hold(g); /* it has come to its end first */
	tls_run_destructors(g);
	key_run_destructors(g, o);
	tls_run_destructors(g); /* of variables that a key's destructor touched first */
	tls_free(g, o);
	if (o->values)
		g_free(g, o->values);
	if (o->unwinding)
		g_free(g, o->unwinding);
	if (g->name == o->name)
		g->name = NULL;
	g->own = NULL;
	g->flags &= (uint8_t)~GF_OWN;
	tell_end(g, o);
}

/* ---- the start of one ---- */

bool thread_real_ones;

struct start {
	struct own *own;
	void *(*fn)(void *);
	void *arg;
};

/* Made by the creator, for thread_adopt: nothing parks between the two. */
static struct own *next_own;

void thread_adopt(struct g *child)
{
	struct own *o = next_own;

	if (!o)
		return;
	next_own = NULL;
	o->gid = child->gid;
	child->own = o;
	child->flags |= GF_OWN;
}

/* A second attempt begins as the first one did. */
static void begin_again(struct g *g, struct own *o)
{
	uint32_t state = atomic_load(&o->state);

	memset(o, 0, offsetof(struct own, magic));
	o->result = NULL;
	o->joins = NULL;
	atomic_store(&o->state, state & ~(uint32_t)THREAD_ENDED);
	g->own = o;
	g->flags |= GF_OWN;
}

static void thread_main(void *arg)
{
	struct start s = *(struct start *)arg;
	struct g *g = getg();

	if (!g->own)
		begin_again(g, s.own);
	s.own->result = s.fn(s.arg);
}

/* What C11 calls; its result is an int. */
static void thrd_main(void *arg)
{
	struct start s = *(struct start *)arg;
	struct g *g = getg();

	if (!g->own)
		begin_again(g, s.own);
	s.own->result = (void *)(intptr_t)((thrd_start_t)(void (*)(void))s.fn)(s.arg);
}

/* The same on memory that the program has given. */
static void thread_main_on(void *arg)
{
	struct start *s = arg;

	sh_call_on(s->own->stack + (s->own->stack_size & ~15ul), thread_main, arg);
}

static int make_thread(struct g *g, pthread_t *t, const pthread_attr_t *attr, void (*main)(void *), struct start s)
{
	struct thread_options o;
	int err;

	if ((err = thread_options(attr, &o)) != 0)
		return err;
	if (!own_make(g) || !(s.own = g_alloc(g, sizeof *s.own)))
		return EAGAIN;
	memset(s.own, 0, sizeof *s.own);
	s.own->magic = OWN_MAGIC;
	s.own->stack = o.given;
	s.own->stack_size = o.given_size;
	atomic_store_explicit(&s.own->state, o.detach == PTHREAD_CREATE_DETACHED ? THREAD_DETACHED : 0,
			      memory_order_relaxed);
	*t = (pthread_t)s.own; /* first: the thread may look at it, and be gone before newproc returns */
	next_own = s.own;
	getm->gopc = __builtin_return_address(0);
	if (newproc(g->task, &o.go, o.given ? thread_main_on : main, &s, sizeof s, NULL, &err))
		return 0;
	next_own = NULL;
	g_free(g, s.own);
	return err == ENOMEM ? EAGAIN : err;
}

int pthread_create(pthread_t *restrict t, const pthread_attr_t *restrict attr, void *(*fn)(void *), void *restrict arg)
{
	struct g *g = posix_enter();

	if (!g) {
		thread_real_ones = true;
		return real_pthread_create(t, attr, fn, arg);
	}
	return make_thread(g, t, attr, thread_main, (struct start){NULL, fn, arg});
}

int thrd_create(thrd_t *t, thrd_start_t fn, void *arg)
{
	static int (*libc)(thrd_t *, thrd_start_t, void *);
	struct g *g = posix_enter();
	int r;

	if (!g) {
		LIBC_FIND(libc, "thrd_create");
		thread_real_ones = true;
		return libc(t, fn, arg);
	}
	r = make_thread(g, (pthread_t *)t, NULL, thrd_main,
			(struct start){NULL, (void *(*)(void *))(void (*)(void))fn, arg});
	return r == 0 ? thrd_success : r == EAGAIN ? thrd_nomem : thrd_error;
}

/* ---- join and detach ---- */

static bool may_join(struct own *o)
{
	uint32_t state = atomic_load(&o->state);

	do
		if (state & (THREAD_DETACHED | THREAD_JOINING))
			return false;
	while (!atomic_compare_exchange_weak(&o->state, &state, state | THREAD_JOINING));
	return true;
}

/* Until it has ended. Parks. 0, ETIMEDOUT, ECANCELED. */
static int await_end(struct g *g, struct own *o, int64_t when)
{
	struct word_waiter w = {.why = WAIT_PTHREAD_JOIN, .when = when, .holder = o->gid};
	uint32_t state;
	int r = 0;

	while (!((state = atomic_load(&o->state)) & THREAD_ENDED) && r == 0)
		r = sh_word_wait(g, &o->state, state, &w);
	return state & THREAD_ENDED ? 0 : r;
}

static int join_thread(struct g *g, pthread_t t, void **result, int64_t when)
{
	struct own *o = thread_of(t), *self;
	int r;

	if (!o)
		return ESRCH;
	if (!(self = own_make(g)))
		return ENOMEM;
	if (o == self || o->joins == self)
		return EDEADLK;
	if (!may_join(o))
		return EINVAL;
	self->joins = o;
	r = await_end(g, o, when);
	self->joins = NULL;
	if (r != 0) {
		atomic_fetch_and(&o->state, ~(uint32_t)THREAD_JOINING);
		if (r == ECANCELED)
			errno = r; /* for CANCEL_POINT */
		return r;
	}
	if (result)
		*result = o->result;
	own_free(g, o);
	return 0;
}

int pthread_join(pthread_t t, void **result)
{
	CANCEL_POINT();
	struct g *g = posix_enter();

	return g ? join_thread(g, t, result, 0) : real_pthread_join(t, result);
}

int pthread_tryjoin_np(pthread_t t, void **result)
{
	struct g *g = posix_enter();
	int r;

	if (!g)
		return real_pthread_tryjoin_np(t, result);
	r = join_thread(g, t, result, WORD_PAST);
	return r == ETIMEDOUT ? EBUSY : r;
}

int pthread_clockjoin_np(pthread_t t, void **result, clockid_t clock, const struct timespec *when)
{
	CANCEL_POINT();
	struct g *g = posix_enter();

	if (!g)
		return real_pthread_clockjoin_np(t, result, clock, when);
	if (!sh_word_time_valid(clock, when))
		return EINVAL;
	return join_thread(g, t, result, sh_word_deadline(clock, when));
}

int pthread_timedjoin_np(pthread_t t, void **result, const struct timespec *when)
{
	return on_g() ? pthread_clockjoin_np(t, result, CLOCK_REALTIME, when)
		      : real_pthread_timedjoin_np(t, result, when);
}

int pthread_detach(pthread_t t)
{
	struct g *g = posix_enter();
	struct own *o;
	uint32_t state;

	if (!g)
		return real_pthread_detach(t);
	if (!(o = thread_of(t)))
		return ESRCH;
	state = atomic_load(&o->state);
	do
		if (state & (THREAD_DETACHED | THREAD_JOINING))
			return EINVAL;
	while (!atomic_compare_exchange_weak(&o->state, &state, state | THREAD_DETACHED));
	if (state & THREAD_ENDED)
		own_free(g, o);
	return 0;
}

int thrd_join(thrd_t t, int *result)
{
	void *value = NULL;

	if (pthread_join((pthread_t)t, &value) != 0)
		return thrd_error;
	if (result)
		*result = (int)(intptr_t)value;
	return thrd_success;
}

int thrd_detach(thrd_t t)
{
	return pthread_detach((pthread_t)t) == 0 ? thrd_success : thrd_error;
}

/* ---- others ---- */

int thrd_sleep(const struct timespec *want, struct timespec *left)
{
	CANCEL_POINT();
	return nanosleep(want, left) == 0 ? 0 : errno == EINTR || errno == ECANCELED ? -1 : -2;
}

void thrd_yield(void)
{
	sched_yield();
}

/* A thread of the task may ask for them; no task forks. libc would list them in the process for good. */
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso);
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso)
{
	static int (*libc)(void (*)(void), void (*)(void), void (*)(void), void *);

	if (on_g())
		return 0;
	LIBC_FIND(libc, "__register_atfork");
	return libc(prepare, parent, child, dso);
}
