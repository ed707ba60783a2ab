/*
 * cxx.c - what the library of C++ keeps for a process or a thread, and a goroutine needs for itself:
 * memory by new, exceptions in hand, statics that are being initialized.
 *
 * jemalloc has operators of its own, and would give memory of the process.
 *
 * DEATH  a static whose initializer died is begun anew by another
 */
#include "core/sync/semtable.h"
#include "worker/posix/dl_symbol.h"
#include "worker/posix/own.h"
#include "worker/posix/posix.h"

#include <sched.h>

/* ---- new and delete: malloc looks at where it stands ---- */

/* The C++ library that throws is the task's, or the process has none. */
static _Noreturn void no_memory(void)
{
	struct g *g = on_g();
	const struct objects *s = g ? sh_objects_of(g->task) : NULL;
	void (*throw)(void) = NULL;

	for (unsigned i = 0; s && i < s->n && !throw; i++)
		dl_symbol(&s->object[i], "_ZSt17__throw_bad_allocv", NULL, (void **)&throw);
	if (throw)
		throw();
	abort();
}

static void *aligned(size_t n, size_t align)
{
	void *p = NULL;

	return posix_memalign(&p, align < sizeof p ? sizeof p : align, n) == 0 ? p : NULL;
}

#define NEW(name, params, expr, fails) \
	void *name params; \
	void *name params \
	{ \
		void *p = expr; \
		if (__builtin_expect(!p, 0)) \
			fails; \
		return p; \
	}
#define DELETE(name, params) \
	void name params; \
	void name params \
	{ \
		free(p); \
	}

NEW(_Znwm, (size_t n), malloc(n), no_memory())
NEW(_Znam, (size_t n), malloc(n), no_memory())
NEW(_ZnwmSt11align_val_t, (size_t n, size_t a), aligned(n, a), no_memory())
NEW(_ZnamSt11align_val_t, (size_t n, size_t a), aligned(n, a), no_memory())
NEW(_ZnwmRKSt9nothrow_t, (size_t n, const void *t), ((void)t, malloc(n)), return NULL)
NEW(_ZnamRKSt9nothrow_t, (size_t n, const void *t), ((void)t, malloc(n)), return NULL)
NEW(_ZnwmSt11align_val_tRKSt9nothrow_t, (size_t n, size_t a, const void *t), ((void)t, aligned(n, a)), return NULL)
NEW(_ZnamSt11align_val_tRKSt9nothrow_t, (size_t n, size_t a, const void *t), ((void)t, aligned(n, a)), return NULL)
DELETE(_ZdlPv, (void *p))
DELETE(_ZdaPv, (void *p))
DELETE(_ZdlPvm, (void *p, size_t n __attribute__((unused))))
DELETE(_ZdaPvm, (void *p, size_t n __attribute__((unused))))
DELETE(_ZdlPvRKSt9nothrow_t, (void *p, const void *t __attribute__((unused))))
DELETE(_ZdaPvRKSt9nothrow_t, (void *p, const void *t __attribute__((unused))))
DELETE(_ZdlPvSt11align_val_t, (void *p, size_t a __attribute__((unused))))
DELETE(_ZdaPvSt11align_val_t, (void *p, size_t a __attribute__((unused))))
DELETE(_ZdlPvmSt11align_val_t, (void *p, size_t n __attribute__((unused)), size_t a __attribute__((unused))))
DELETE(_ZdaPvmSt11align_val_t, (void *p, size_t n __attribute__((unused)), size_t a __attribute__((unused))))

/* ---- exceptions in hand, which the library keeps for each thread and we for each goroutine ---- */

void *__cxa_get_globals(void);
void *__cxa_get_globals_fast(void);

void *__cxa_get_globals(void)
{
	static _Thread_local struct {
		void *caught;
		unsigned uncaught;
	} thread;
	struct g *g = on_g();

	if (!g)
		return &thread;
	g_fresh(g);
	return g_cxx(g);
}

void *__cxa_get_globals_fast(void)
{
	return __cxa_get_globals();
}

/* ---- statics ---- */

struct guard {
	_Atomic uint8_t done; /* as the compiler looks at it */
	_Atomic int by;
};

int __cxa_guard_acquire(struct guard *);
void __cxa_guard_release(struct guard *);
void __cxa_guard_abort(struct guard *);

#define OF_G (1 << RUN_MARK_BITS) /* no thread has such a number */

/* Who initializes it. */
static int initializer(struct g *g)
{
	return g ? (int)run_mark(g) | OF_G : (int)syscall(SYS_gettid);
}

static bool gone(int by)
{
	return by & OF_G && run_gone((uint32_t)by & ~(uint32_t)OF_G);
}

/* Until the initializer is done with it; a thread tells nobody. */
static void await(struct g *g, struct guard *guard)
{
	struct shoal_waitq_ *q = atomic_load(&guard->by) & OF_G ? semtable_lock(g, guard) : NULL;
	int by = q ? atomic_load(&guard->by) : 0;

	if (by & OF_G && !gone(by)) {
		semtable_wait(q, g, guard, WAIT_PTHREAD_LOCK, 0);
		return;
	}
	if (q)
		semtable_unlock(q);
	shoal_yield();
}

int __cxa_guard_acquire(struct guard *guard)
{
	struct g *g = on_g();
	int mine = initializer(g), by;

	while (!atomic_load(&guard->done)) {
		by = atomic_load(&guard->by);
		if (by == 0 || gone(by)) {
			if (g)
				g->flags |=
					GF_ONCE; /* first: whoever sees the word waits for this one. It stays so until its end */
			if (atomic_compare_exchange_strong(&guard->by, &by, mine))
				return 1;
		}
		if (by == mine && g)
			host_misuse("a static of C++ needs itself to be initialized");
		if (g)
			await(g, guard);
		else
			sched_yield();
	}
	return 0;
}

static void leave(struct guard *guard)
{
	struct g *g = on_g();

	atomic_store(&guard->by, 0);
	if (g)
		semtable_wake(g, guard, true);
}

void __cxa_guard_release(struct guard *guard)
{
	atomic_store(&guard->done, 1);
	leave(guard);
}

void __cxa_guard_abort(struct guard *guard)
{
	leave(guard);
}
