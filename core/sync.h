/*
 * sync.h - wait queues, and what every call of the interface begins with.
 */
#ifndef CORE_SYNC_H
#define CORE_SYNC_H

#include "core/host.h"
#include "core/sched.h"
#include "shm/heap.h"

/*
 * A FIFO of sudogs.
 * LOCK   the lock of the object it is part of
 * DEATH  every change is one store to a next pointer (or first); prev and last are derived
 */
struct waitq {
	struct sudog *first, *last;
};

void waitq_push(struct waitq *, struct sudog *);
void waitq_pop(struct waitq *);
void waitq_unpop(struct waitq *, struct sudog *);
void waitq_remove(struct waitq *, struct sudog *);
void waitq_mend(struct waitq *);
bool waitq_has(const struct waitq *, const struct sudog *);

/* The current goroutine; gives way first if asked to. Ends the process' business if there is none. */
struct g *api_enter(const char *call);
/* Refuses an object on a goroutine's stack. */
void api_shared(const void *object, const char *call);

static inline int64_t deadline(int64_t timeout)
{
	int64_t now;

	if (timeout < 0)
		return 0;
	now = host_now();
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
