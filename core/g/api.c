/* api.c - the calls of shoal.h about goroutines. */
#include "core/g/api.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/sched/m.h"
#include "core/sched/preempt.h"
#include "core/sched/proc.h"
#include "core/shoal.h"
#include "shm/segment.h"

#include <errno.h>

void api_check_object(const void *object, const char *call)
{
	uintptr_t at = (uintptr_t)object - SH_WIN_BASE;

	if (__builtin_expect(at < SH_WIN_SPAN, 0))
		host_misuse(call);
}

void api_reject_value(const void *p, const char *call)
{
	struct g *g = getg();

	if ((uintptr_t)p - (uintptr_t)host_window(g->win) >= host_window_size(g->win))
		host_misuse(call);
}

static inline shoal_gid go(const struct shoal_go_opts *o, void (*fn)(void *), const void *arg, size_t size, void *pc)
{
	struct g *self = api_enter("shoal_go");
	int err;

	getm->gopc = pc;
	api_check_value(arg, "shoal_go: the argument is on another goroutine's stack");
	if (!newproc(self->task, o, fn, arg, size, NULL, &err)) {
		errno = err;
		return 0;
	}
	return getm->note.gid; /* the new goroutine may have ended already; the note still has its number */
}

shoal_gid shoal_go_with(const struct shoal_go_opts *o, void (*fn)(void *), const void *arg, size_t size)
{
	return go(o, fn, arg, size, __builtin_return_address(0));
}

shoal_gid shoal_go(void (*fn)(void *), const void *arg, size_t size)
{
	return go(NULL, fn, arg, size, __builtin_return_address(0));
}

shoal_gid shoal_self(void)
{
	return getm && getg() ? getg()->gid : 0;
}

void shoal_yield(void)
{
	api_enter("shoal_yield");
	goyield();
}

void shoal_exit(void)
{
	api_enter("shoal_exit");
	goexit();
}

int sleep_until(int64_t when, enum waitreason why)
{
	struct g *g = getg();
	bool signalled;
	int r;

	gopark(NULL, why, when);
	signalled = (atomic_load_explicit(&g->preempt, memory_order_relaxed) & PREEMPT_SIGNAL) != 0;
	r = g_cancelled(g) ? -ECANCELED : wait_signals(g);
	return r == 0 && signalled && (!when || host_now() < when) ? -EAGAIN : r;
}

int shoal_sleep(int64_t ns)
{
	int64_t when;
	int r;

	api_enter("shoal_sleep");
	if (ns == 0)
		return 0;
	when = deadline(ns);
	do
		r = sleep_until(when, WAIT_SLEEP);
	while (r == -EAGAIN || ((r == -EINTR || r == -ERESTART) && (!when || host_now() < when)));
	return r == -ECANCELED ? r : 0;
}

int64_t shoal_now(void)
{
	struct g *g = getm ? getg() : NULL;

	if (g && __builtin_expect(atomic_load_explicit(&g->preempt, memory_order_relaxed), 0))
		gopreempt(); /* a loop that waits for a time calls nothing else */
	return host_now();
}

int shoal_worker(void)
{
	return getm ? getm->seat : -1;
}
