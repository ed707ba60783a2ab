/*
 * waitq.c - wait queues. See waitq.h.
 *
 * An object that is all zeros is ready for use. It lies in the memory of the task; the sudogs lie in the
 * segment, so every worker can use it.
 *
 * LOCK   the lock of the object
 * DEATH  a worker with the lock: all waiters are woken and check again, because it is not known whose wait it
 *        was about to finish
 */
#include "core/sync/waitq.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/repair/note.h"
#include "core/repair/repair.h"
#include "core/sched/m.h"
#include "core/sched/proc.h"
#include "core/shoal.h"
#include "core/sync/sem.h"
#include "core/sync/wg.h"
#include "shm/check.h"
#include "shm/kill.h"
#include "shm/lock.h"
#include "shm/segment.h"

#include <errno.h>
#include <stddef.h>

void waitq_push(struct waitq *q, struct sudog *sg)
{
	sg->next = NULL;
	sg->prev = q->last;
	KILL_POINT("waitq.push.linked");
	if (q->last)
		q->last->next = sg;
	else
		q->first = sg;
	KILL_POINT("waitq.push.done");
	q->last = sg;
	KILL_POINT("waitq.push.last");
}

void waitq_pop(struct waitq *q)
{
	struct sudog *next = q->first->next;

	q->first = next;
	KILL_POINT("waitq.pop.done");
	if (next) {
		next->prev = NULL;
		/*
		 * If all waiters are woken, the one after the next is needed soon: its links and its status.
		 */
		__builtin_prefetch(next->next, 1);
		__builtin_prefetch((const void *)((uintptr_t)next->next - offsetof(struct g, sudog)), 1);
	} else
		q->last = NULL;
	KILL_POINT("waitq.pop.last");
}

void waitq_push_first(struct waitq *q, struct sudog *sg)
{
	sg->next = q->first;
	sg->prev = NULL;
	if (q->first)
		q->first->prev = sg;
	else
		q->last = sg;
	q->first = sg;
	KILL_POINT("waitq.push_first.done");
}

void waitq_remove(struct waitq *q, struct sudog *sg)
{
	if (sg->prev)
		sg->prev->next = sg->next;
	else
		q->first = sg->next;
	KILL_POINT("waitq.remove.done");
	if (sg->next)
		sg->next->prev = sg->prev;
	else
		q->last = sg->prev;
	KILL_POINT("waitq.remove.last");
}

void waitq_relink(struct waitq *q)
{
	struct sudog *prev = NULL;

	for (struct sudog *sg = q->first; sg; sg = sg->next) {
		sg->prev = prev;
		prev = sg;
	}
	q->last = prev;
	KILL_POINT("waitq.relink.done");
}

void waitq_relink_near(struct waitq *q, struct sudog *touched)
{
	struct sudog *next = touched->next;

	/* It was being unlinked from the middle, and its successor still points back to it. */
	if (next && sh_in_segment(next) && next->prev == touched && !waitq_has(q, touched)) {
		next->prev = touched->prev;
		KILL_POINT("waitq.relink.middle");
	}
}

void waitq_relink_ends(struct waitq *q)
{
	struct sudog *last = q->last;

	if (!q->first) {
		q->last = NULL;
		KILL_POINT("waitq.relink.empty");
		return;
	}
	q->first->prev = NULL;
	KILL_POINT("waitq.relink.first");
	if (last && sh_in_segment(last) && !waitq_has(q, last)) /* it was the last one and has been unlinked */
		last = last->prev;
	if (!last || !sh_in_segment(last) || !waitq_has(q, last))
		last = q->first;
	for (; last->next; last = last->next) /* usually one step: this one had just been linked */
		last->next->prev = last;
	q->last = last;
	KILL_POINT("waitq.relink.last");
}

bool waitq_has(const struct waitq *q, const struct sudog *sg)
{
	return q->first == sg || (sg->prev && sh_in_segment(sg->prev) && sg->prev->next == sg);
}

int waitq_wait(struct shoal_waitq_ *q, struct g *g, enum waitreason why, bool first)
{
	struct sudog *sg = &g->sudog;
	struct sh_lock *l = waitq_lock(q);

	sh_check(g == getg());
	sg->g = g;
	sg->seq = g_next_seq(g);
	sg->queue = q;
	atomic_store_explicit(&sg->state, SG_QUEUED, memory_order_relaxed);
	if (first)
		waitq_push_first(waitq_list(q), sg);
	else
		waitq_push(waitq_list(q), sg);
	gopark(l, why, 0);
	return waitq_wait_end(q, g);
}

int waitq_wait_end(struct shoal_waitq_ *q, struct g *g)
{
	struct sudog *sg = &g->sudog;
	unsigned how = atomic_load_explicit(&sg->state, memory_order_acquire);

	sh_check(g == getg());
	if (how == SG_QUEUED) { /* it was cancelled, but a waker may be finishing its wait right now */
		sh_lock_take(waitq_lock(q), (unsigned)getm->seat);
		how = atomic_load_explicit(&sg->state, memory_order_acquire);
		if (how == SG_QUEUED)
			waitq_remove(waitq_list(q), sg);
		sh_lock_drop(waitq_lock(q), (unsigned)getm->seat);
	}
	if (g->waitreason == WAIT_MUTEX)
		getm->note.chan =
			/*
			 * its wait for the mutex is finished: if it dies before it has the mutex, another
			 * one must be woken
			 */
			(char *)q - offsetof(struct shoal_mutex, q);
	atomic_store_explicit(&sg->state, SG_IDLE, memory_order_relaxed);
	sg->queue = NULL;
	KILL_POINT("waitq.woken");
	if (how == SG_CLOSED)
		return -EAGAIN;
	return how == SG_QUEUED ? -ECANCELED : 0;
}

/* lock: dropped before the waiter runs, which may free the memory of the object; or NULL. */
static void finish_wait(struct shoal_waitq_ *q, struct sudog *sg, struct note *n, struct sh_lock *lock)
{
	uint32_t seq = sg->seq;
	struct g *g = sg->g;

	n->sg_seq = seq;
	sh_noted();
	n->sg = sg;
	sh_noted();
	KILL_POINT("waitq.finish.noted");
	waitq_remove(
		waitq_list(q),
		sg); /* first: after the store of state it may reuse its sudog, for it may be cancelled or not yet parked */
	/* seq_cst: pairs with park_m, which reads it after the status is waiting */
	atomic_store(&sg->state, SG_DELIVERED);
	KILL_POINT("waitq.finish.delivered");
	if (lock)
		sh_lock_drop(lock, (unsigned)getm->seat);
	goready(g, seq);
	n->sg = NULL;
}

void waitq_finish(struct shoal_waitq_ *q, struct sudog *sg, struct note *n)
{
	finish_wait(q, sg, n, NULL);
}

void waitq_finish_unlock(struct shoal_waitq_ *q, struct sudog *sg)
{
	finish_wait(q, sg, &getm->note, (struct sh_lock *)q);
}

void waitq_finish_all(struct shoal_waitq_ *q)
{
	struct sudog *sg;

	while ((sg = waitq_list(q)->first)) {
		if (!sg->next) {
			waitq_finish_unlock(q, sg);
			return;
		}
		waitq_finish(q, sg, &getm->note);
	}
	sh_lock_drop((struct sh_lock *)q, (unsigned)getm->seat);
}

void waitq_repair_noted(struct shoal_waitq_ *q, struct note *n)
{
	struct sudog *sg = n->sg;

	if (!sg || !sh_in_segment(sg) || sg->queue != q || waitq_has(waitq_list(q), sg))
		return;
	if (atomic_load(&sg->state) == SG_QUEUED)
		atomic_store(&sg->state, SG_CLOSED);
	KILL_POINT("waitq.repair.told");
	note_wake_finished(n);
	n->sg = NULL;
}

/* Holds: the lock, in the dead worker's name. Works on that worker's note: see chan_repair. */
void waitq_repair(struct sh_lock *l, struct note *n)
{
	struct shoal_waitq_ *q = (struct shoal_waitq_ *)l;
	struct sudog *sg;

	note_wake_finished(n);
	wg_repair((struct shoal_wg *)l, n);
	waitq_relink(waitq_list(q));
	sem_repair((struct shoal_sem *)l, n);
	waitq_repair_noted(q, n);
	/* It is not known whose wait the dead worker was about to finish: all waiters check again. */
	while ((sg = waitq_list(q)->first)) {
		n->sg_seq = sg->seq;
		sh_noted();
		n->sg = sg;
		sh_noted();
		KILL_POINT("waitq.repair.noted");
		waitq_pop(waitq_list(q));
		waitq_repair_noted(q, n);
	}
}

void waitq_forget(struct sh_lock *l, struct sudog *sg)
{
	struct shoal_waitq_ *q = (struct shoal_waitq_ *)l;
	unsigned seat = (unsigned)getm->seat;

	sh_lock_take(l, seat);
	if (waitq_has(waitq_list(q), sg))
		waitq_remove(waitq_list(q), sg);
	sh_lock_drop(l, seat);
}
