/*
 * api.h - what every call of the interface begins with.
 */
#ifndef CORE_G_API_H
#define CORE_G_API_H

#include "core/g/g.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/preempt.h"
#include "core/shoal.h"
#include "shm/heap.h"

/* The current goroutine; gives way first if asked to. Ends the process' business if there is none. */
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
/* Refuses an object on a goroutine's stack. */
void api_check_object(const void *object, const char *call);

/* Refuses a value on the stack of another goroutine, whose memory may be anywhere. */
void api_reject_value(const void *p, const char *call);
static inline void api_check_value(const void *p, const char *call)
{
	/* In a window, and not in the one we stand on. The second compare is exact for the common size. */
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
	if (timeout < 0) /* until - now of a time that is past */
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

#endif
