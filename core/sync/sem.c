/*
 * sem.c - counting semaphores. Waiters are served in order: one that wants many units is not overtaken by
 * one that wants few.
 *
 * OWNER  the program
 * LOCK   the lock of q guards units and the queue
 * ORDER  under the lock
 * DEATH  units are taken on behalf of a waiter before its wait is finished: note.sg_mark holds the units that
 *        stay, plus 1, so the medic knows whether they were taken (sem_repair). Then all waiters check again
 */
#include "core/sync/sem.h"
#include "core/g/api.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/repair/note.h"
#include "core/sched/m.h"
#include "core/shoal.h"
#include "core/sync/waitq.h"
#include "shm/kill.h"
#include "shm/lock.h"

#include <errno.h>

#define ON_STACK "a semaphore on a goroutine's stack; put it in a global or on the heap"

/* Serves the waiters for which there are enough units. Holds: the lock; drops it. */
static void sem_serve(struct shoal_sem *sem)
{
	struct sudog *sg;

	while ((sg = waitq_list(&sem->q)->first) && sem->units >= sg->n) {
		getm->note.sg_mark = (uint64_t)(sem->units - sg->n) + 1;
		getm->note.sg_seq = sg->seq;
		sh_noted();
		getm->note.sg = sg;
		sh_noted();
		KILL_POINT("sem.serve.noted");
		sem->units -= sg->n;
		KILL_POINT("sem.serve.taken");
		if (!sg->next || sem->units < sg->next->n) {
			waitq_finish_unlock(&sem->q, sg);
			getm->note.sg_mark = 0;
			return;
		}
		waitq_finish(&sem->q, sg, &getm->note);
		getm->note.sg_mark = 0;
	}
	sh_lock_drop(waitq_lock(&sem->q), (unsigned)getm->seat);
}

int shoal_sem_acquire(struct shoal_sem *sem, int n)
{
	struct g *g = api_enter("shoal_sem_acquire");
	int r;

	api_check_object(sem, "shoal_sem_acquire: " ON_STACK);
	if (n < 0)
		host_misuse("shoal_sem_acquire: a negative number of units");
	for (;;) {
		sh_lock_take(waitq_lock(&sem->q), (unsigned)getm->seat);
		if (!waitq_list(&sem->q)->first && sem->units >= n) {
			sem->units -= n;
			KILL_POINT("sem.acquire.taken");
			sh_lock_drop(waitq_lock(&sem->q), (unsigned)getm->seat);
			return 0;
		}
		g->sudog.n = (uint32_t)n;
		r = waitq_wait(&sem->q, g, WAIT_SEM, false);
		if (r == 0)
			return 0;
		if (r == -ECANCELED) { /* those behind it may have waited only because it was first */
			sh_lock_take(waitq_lock(&sem->q), (unsigned)getm->seat);
			sem_serve(sem);
			return r;
		}
	}
}

int shoal_sem_release(struct shoal_sem *sem, int n)
{
	int64_t units;

	api_enter("shoal_sem_release");
	api_check_object(sem, "shoal_sem_release: " ON_STACK);
	if (n < 0)
		host_misuse("shoal_sem_release: a negative number of units");
	sh_lock_take(waitq_lock(&sem->q), (unsigned)getm->seat);
	if (__builtin_add_overflow(sem->units, n, &units)) {
		sh_lock_drop(waitq_lock(&sem->q), (unsigned)getm->seat);
		return -EOVERFLOW;
	}
	sem->units = units;
	KILL_POINT("sem.release.added");
	sem_serve(sem);
	return 0;
}

void sem_repair(struct shoal_sem *sem, const struct note *n)
{
	struct sudog *sg = n->sg;

	if (!sg || !n->sg_mark || sg->queue != &sem->q || sg->g->waitreason != WAIT_SEM ||
	    atomic_load(&sg->state) != SG_QUEUED || (uint64_t)sem->units + 1 != n->sg_mark)
		return;
	atomic_store(&sg->state, SG_DELIVERED); /* the medic wakes it with the others */
	KILL_POINT("sem.repair.told");
}
