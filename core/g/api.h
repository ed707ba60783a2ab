/* api.h - the first steps of every call in shoal.h. */
#ifndef CORE_G_API_H
#define CORE_G_API_H

#include "core/g/g.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/preempt.h"
#include "core/shoal.h"
#include "shm/heap.h"

/* The current goroutine; gives way first if it was asked to. A caller that is on no goroutine is ended. */
static inline struct g *api_enter(const char *call)
{
	struct g *g;

	if (__builtin_expect(!host_on_stack(), 0))
		host_outside(call);
	g = getg();
	if (__builtin_expect(atomic_load_explicit(&g->preempt, memory_order_relaxed), 0))
		gopreempt();
	return g;
}
/* Ends the caller as a crash if the object lies on a goroutine's stack. */
void api_check_object(const void *object, const char *call);

/*
 * Ends the caller as a crash if the value lies on the stack of another goroutine, whose memory may be
 * anywhere.
 */
void api_reject_value(const void *p, const char *call);
static inline void api_check_value(const void *p, const char *call)
{
	/*
	 * True for a window that is not the one we stand on. The compare with WIN_SIZE is exact for the usual
	 * size.
	 */
	if (__builtin_expect(((uintptr_t)p ^ (uintptr_t)__builtin_frame_address(0)) >= WIN_SIZE, 0) &&
	    (uintptr_t)p - SH_WIN_BASE < SH_WIN_SPAN)
		api_reject_value(p, call);
}

static inline int64_t deadline(int64_t timeout)
{
	int64_t now;

	if (timeout == SHOAL_FOREVER)
		return 0;
	now = host_now();
	if (timeout < 0) /* a deadline that has passed already */
		return now;
	return timeout > INT64_MAX - now ? INT64_MAX : now + timeout;
}

static inline void *g_alloc(struct g *g, size_t n)
{
	struct p *p = getp();

	return sh_heap_alloc(g->task->heap, (unsigned)getm->seat, p ? p->id : SH_HEAP_NOCPU, n, 0, false);
}

static inline void g_free(struct g *g, void *b)
{
	struct p *p = getp();

	(void)g;
	sh_heap_free(sh_root->arena, (unsigned)getm->seat, p ? p->id : SH_HEAP_NOCPU, b);
}

/*
 * One park until then, 0: for ever. Parks. 0: it is that time. -EAGAIN: not yet. -ECANCELED; -EINTR, -ERESTART as
 * wait_signals says.
 */
int sleep_until(int64_t when, enum waitreason why);

#endif
