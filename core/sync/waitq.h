/*
 * waitq.h - wait queues, and what every call of the interface begins with.
 */
#ifndef CORE_SYNC_WAITQ_H
#define CORE_SYNC_WAITQ_H

#include "core/host.h"
#include "core/sched/sched.h"
#include "shm/heap.h"

#include <stddef.h>

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
/* Holds: the lock, of one who died with it. prev and last from next, all the way. */
void waitq_mend(struct waitq *);
/*
 * The same where nobody may be held up for long, in two steps: next to each sudog that the dead may have
 * been taking out, then at both ends. That is all that one change can have left half done.
 */
void waitq_mend_at(struct waitq *, struct sudog *touched);
void waitq_mend_ends(struct waitq *);
struct waitq *queue_waited_in(const struct sudog *); /* of one that waits; NULL: no such queue. audit.c */
bool waitq_has(const struct waitq *,
	       const struct sudog *); /* of a whole queue. A sudog that waited there, or in another */

/* The lock and the queue of a public object. */
static inline struct sh_lock *wq_lock(struct shoal_waitq_ *q)
{
	struct sh_lock *l = (struct sh_lock *)q;

	l->kind = SH_LOCK_WAITQ;
	return l;
}

static inline struct waitq *wq_queue(struct shoal_waitq_ *q)
{
	return (struct waitq *)&q->first;
}
_Static_assert(offsetof(struct shoal_waitq_, first) == sizeof(struct sh_lock), "a waitq begins with its lock");

/* Waits in q, at its head if first. Holds: its lock; drops it. Parks. 0 told, -EAGAIN look again (a repair), -ECANCELED. */
int wq_wait(struct shoal_waitq_ *, struct g *, enum waitreason, bool first);
int wq_woken(struct shoal_waitq_ *, struct g *); /* the part of it after the park */
/* Tells a waiter that its wait is over; the note is the caller's, or the one that the medic mends by. Holds: the lock. */
void wq_tell(struct shoal_waitq_ *, struct sudog *, struct note *);
/* The same, of the last to be told, or of all that wait. Holds: the lock; drops it and touches the object no more. */
void wq_tell_last(struct shoal_waitq_ *, struct sudog *);
void wq_tell_all(struct shoal_waitq_ *);
/* Holds: the lock, in a dead seat's name. Whom it was telling looks again. */
void wq_repair(struct shoal_waitq_ *, struct note *);

/* The mutex without the ado of an interface call: for cond and once. */
int mutex_take(struct shoal_mutex *, struct g *);
static inline uint64_t mutex_holder(uint64_t owner) /* its gid, without the flags in the three highest bits */
{
	return owner << 3 >> 3;
}
void mutex_give(struct shoal_mutex *, struct g *);

void g_cancel_mark(struct g *, uint64_t gid);
void g_cancel_wake(struct g *);
/* The wait with this sequence is over before it has begun: told, or cancelled. */
bool wait_over(struct g *, uint32_t seq);
bool wait_cancellable(unsigned why);

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
void api_shared(const void *object, const char *call);

/* Refuses a value on the stack of another goroutine, whose memory may be anywhere. */
void api_foreign(const void *p, const char *call);
static inline void api_value(const void *p, const char *call)
{
	/* In a window, and not in the one we stand on. The second compare is exact for the common size. */
	if (__builtin_expect(((uintptr_t)p ^ (uintptr_t)__builtin_frame_address(0)) >= WIN_SIZE, 0) &&
	    (uintptr_t)p - SH_WIN_BASE < SH_REGION)
		api_foreign(p, call);
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
