/*
 * semtable.c - goroutines that wait for a word in memory.
 *
 * pthread objects and the semaphores of libc have no room for a queue. So each task has a table of queues, as Go
 * has its semtable, made when its first goroutine waits. A queue holds all waiters whose addresses map to
 * it, in the order in which they came.
 *
 * OWNER  the task
 * LOCK   each queue has its own
 * ORDER  a waker stores the word, then takes the lock; a waiter reads the word under the lock. So either the
 *        waiter sees the new word, or the waker sees the waiter
 * DEATH  a goroutine that is lost between the store and the wake, or woken and before it used that, leaves
 *        others asleep: all waiters of its task check again (g_lost), after the G is marked with GF_GONE,
 *        for they may look while it is still being ended
 */
#include "core/sync/semtable.h"
#include "core/g/api.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/sched/m.h"
#include "core/sched/preempt.h"
#include "core/sched/proc.h"
#include "core/shoal.h"
#include "core/sync/cancel.h"
#include "core/sync/waitq.h"
#include "core/task/task.h"
#include "shm/check.h"
#include "shm/kill.h"
#include "shm/lock.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define QUEUES 64

/*
 * The table of a task: queues for words in memory.
 * OWNER  the task
 * LOCK   each queue has its own
 * ORDER  set in task->waits by compare-and-swap when it is complete
 * DEATH  a table that was not set yet goes with the heap
 */
struct waits {
	struct shoal_waitq_ q[QUEUES];
};

static struct shoal_waitq_ *semtable_queue(struct waits *w, const void *at)
{
	return &w->q[(uintptr_t)at / 8 * 0x9e3779b97f4a7c15ul >> 58];
}

static __attribute__((noinline)) struct waits *make_table(struct g *g)
{
	struct waits *w = g_alloc(g, sizeof *w);
	struct waits *none = NULL;

	sh_check(g == getg());
	if (!w)
		return NULL;
	memset(w, 0, sizeof *w);
	if (atomic_compare_exchange_strong(&g->task->waits, &none, w)) {
		KILL_POINT("semtable.made");
		return w;
	}
	g_free(g, w);
	return none;
}

struct shoal_waitq_ *semtable_lock(struct g *g, const void *at)
{
	struct waits *w = atomic_load(&g->task->waits);
	struct shoal_waitq_ *q;

	if (!w && !(w = make_table(g)))
		return NULL;
	q = semtable_queue(w, at);
	sh_lock_take(waitq_lock(q), (unsigned)getm->seat);
	return q;
}

void semtable_unlock(struct shoal_waitq_ *q)
{
	sh_lock_drop(waitq_lock(q), (unsigned)getm->seat);
}

void semtable_enqueue(struct shoal_waitq_ *q, struct g *g, const void *at, enum waitreason why)
{
	struct sudog *sg = &g->sudog;

	sg->g = g;
	sg->seq = g_next_seq(g);
	sg->queue = q;
	sg->elem = (void *)at;
	g->waitreason = (uint8_t)why; /* park_m, which may find the wait finished, and a cancellation read it */
	atomic_store_explicit(&sg->state, SG_QUEUED, memory_order_relaxed);
	waitq_push(waitq_list(q), sg);
}

static int semtable_result(struct shoal_waitq_ *q, struct g *g, enum waitreason why, int64_t when)
{
	int r = waitq_wait_end(q, g);

	if (r != -ECANCELED)
		return r;
	if (g_cancelled(g) && wait_cancellable(why))
		return -ECANCELED;
	r = wait_signals(g);
	if (r && (why == WAIT_SIGNAL || (why == WAIT_PTHREAD_SEM && (r == -EINTR || when))))
		return -EINTR;
	return when && host_now() >= when ? -ETIMEDOUT : -EAGAIN;
}

int semtable_park(struct shoal_waitq_ *q, struct g *g, enum waitreason why, int64_t when)
{
	sh_check(g == getg());
	gopark(NULL, why, when);
	return semtable_result(q, g, why, when);
}

int semtable_wait(struct shoal_waitq_ *q, struct g *g, const void *at, enum waitreason why, int64_t when)
{
	sh_check(g == getg());
	semtable_enqueue(q, g, at, why);
	gopark(waitq_lock(q), why, when);
	return semtable_result(q, g, why, when);
}

/* A sudog is touched no more once its waiter is told: the next one of the queue is read before. */
static unsigned semtable_wake_n(struct task *t, const void *at, unsigned n, uint32_t bits)
{
	struct waits *w = atomic_load(&t->waits);
	struct shoal_waitq_ *q;
	struct sudog *sg, *next;
	unsigned woken = 0;

	if (!w)
		return 0;
	q = semtable_queue(w, at);
	sh_lock_take(waitq_lock(q), (unsigned)getm->seat);
	for (sg = waitq_list(q)->first; sg && woken < n; sg = next) {
		next = sg->next;
		if (sg->elem != at || (bits && !(sg->n & bits)))
			continue;
		if (++woken == n) {
			waitq_finish_unlock(q, sg);
			return woken;
		}
		waitq_finish(q, sg, &getm->note);
	}
	semtable_unlock(q);
	return woken;
}

void semtable_wake(struct g *g, const void *at, bool all)
{
	semtable_wake_n(g->task, at, all ? UINT_MAX : 1, 0);
}

void semtable_wake_in(struct task *t, const void *at, bool all)
{
	semtable_wake_n(t, at, all ? UINT_MAX : 1, 0);
}

unsigned semtable_wake_some(struct g *g, const void *at, unsigned n, uint32_t bits)
{
	return semtable_wake_n(g->task, at, n, bits);
}

void semtable_wake_all(struct task *t)
{
	struct waits *w = atomic_load(&t->waits);

	for (unsigned i = 0; w && i < QUEUES; i++) {
		sh_lock_take(waitq_lock(&w->q[i]), (unsigned)getm->seat);
		waitq_finish_all(&w->q[i]);
	}
}

void semtable_g_gone(struct g *g)
{
	/* First: a woken waiter may check before the end of g is complete, and would wait for it again. */
	__atomic_store_n(&g->flags, (uint8_t)(g->flags | GF_GONE), __ATOMIC_RELAXED);
	KILL_POINT("semtable.gone");
	semtable_wake_all(g->task);
}
