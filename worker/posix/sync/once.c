/*
 * once.c - pthread_once and call_once on goroutines.
 *
 *	0 not yet   2 it has been run, as libc has it   else | 31-2: run_mark of who runs it | 1-0: 1 |
 *
 * OWNER  the program: the object lies in its memory
 * LOCK   none: one word
 * DEATH  who finds that the runner has ended runs it again; the end of a goroutine that has run one wakes all
 *        waiters of its task, and they look (semtable_g_gone)
 */
#include "worker/posix/sync/word.h"
#include "worker/posix/libc.h"

#include <pthread.h>
#include <threads.h>

ALSO(pthread_once)

REAL(int, pthread_once, (pthread_once_t * o, void (*fn)(void)), o, fn)

#define WORD(o) ((_Atomic uint32_t *)(o))
#define ONCE_DONE 2

static uint32_t run_by(const struct g *g)
{
	return run_mark(g) << 2 | 1;
}

struct once_run {
	pthread_once_t *once;
	struct g *g;
	uint32_t end; /* what the word becomes: 0 if the function is left by an exception or a cancellation */
	bool inner;   /* it is run by the function of another */
};

static void leave_once(struct once_run *run)
{
	atomic_store(WORD(run->once), run->end);
	if (!run->inner)
		run->g->flags &= (uint8_t)~GF_ONCE;
	sh_word_wake_all(run->g, WORD(run->once), false);
}

static void run_once(struct once_run *of, void (*fn)(void))
{
	__attribute__((cleanup(leave_once))) struct once_run run = *of;

	fn();
	run.end = ONCE_DONE;
}

static __attribute__((noinline)) int once_slow(struct g *g, pthread_once_t *o, void (*fn)(void))
{
	struct word_waiter w = {.why = WAIT_PTHREAD_LOCK};
	uint32_t by;

	while ((by = atomic_load(WORD(o))) != ONCE_DONE) {
		if (by == run_by(g))
			host_misuse("pthread_once: it is called from the function that it runs");
		if (by == 0 || run_gone(by >> 2)) {
			struct once_run run = {o, g, 0, (g->flags & GF_ONCE) != 0};

			g->flags |= GF_ONCE; /* first: whoever sees the word waits for this one */
			if (atomic_compare_exchange_strong(WORD(o), &by, run_by(g))) {
				run_once(&run, fn);
				return 0;
			}
			if (!run.inner)
				g->flags &= (uint8_t)~GF_ONCE;
			continue;
		}
		sh_word_wait(g, WORD(o), by, &w);
	}
	return 0;
}

int pthread_once(pthread_once_t *o, void (*fn)(void))
{
	struct g *g = on_g();

	if (__builtin_expect(atomic_load_explicit(WORD(o), memory_order_acquire) == ONCE_DONE, 1))
		return 0;
	return g ? once_slow(g, o, fn) : real_pthread_once(o, fn);
}

void call_once(once_flag *o, void (*fn)(void))
{
	pthread_once((pthread_once_t *)o, fn);
}
