/*
 * cxx.c - C++ on goroutines: memory by new, and statics that are being initialized.
 *
 * jemalloc has operators of its own, and would give memory of the process. What libstdc++ keeps for each thread
 * (exceptions in flight, the callable of std::call_once) are thread-local variables: tls.c.
 *
 * DEATH  a static whose initializer died is begun anew by another
 */
#include "worker/posix/dl_symbol.h"
#include "worker/posix/posix.h"
#include "worker/posix/sync/word.h"

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

/* ---- statics ---- */

struct guard {
	_Atomic uint8_t done; /* as the compiler looks at it */
	_Atomic uint32_t by;
};

int __cxa_guard_acquire(struct guard *);
void __cxa_guard_release(struct guard *);
void __cxa_guard_abort(struct guard *);

#define OF_G (1u << RUN_MARK_BITS)

/* Who initializes it: a goroutine, or a constructor of a module, which is alone. */
static uint32_t initializer(const struct g *g)
{
	return g ? run_mark(g) | OF_G : 1;
}

static bool initializer_gone(uint32_t by)
{
	return by & OF_G && run_gone(by & ~OF_G);
}

int __cxa_guard_acquire(struct guard *guard)
{
	struct word_waiter w = {.why = WAIT_PTHREAD_LOCK};
	struct g *g = on_g();
	uint32_t mine = initializer(g), by;

	while (!atomic_load(&guard->done)) {
		by = atomic_load(&guard->by);
		if (by == 0 || initializer_gone(by)) {
			if (g) /* first: whoever sees the word waits for this one. It stays so until its end */
				g->flags |= GF_ONCE;
			if (atomic_compare_exchange_strong(&guard->by, &by, mine))
				return 1;
			continue;
		}
		if (by == mine && g)
			host_misuse("a static of C++ needs itself to be initialized");
		if (g)
			sh_word_wait(g, &guard->by, by, &w);
		else
			sched_yield();
	}
	return 0;
}

static void leave_guard(struct guard *guard)
{
	struct g *g = on_g();

	atomic_store(&guard->by, 0);
	if (g)
		sh_word_wake_all(g, &guard->by, false);
}

void __cxa_guard_release(struct guard *guard)
{
	atomic_store(&guard->done, 1);
	leave_guard(guard);
}

void __cxa_guard_abort(struct guard *guard)
{
	leave_guard(guard);
}
