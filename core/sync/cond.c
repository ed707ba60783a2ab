/*
 * cond.c - condition variables. Waiters are woken in order.
 *
 * A waiter enters the queue before it releases the mutex, so no signal after that is missed. It parks without
 * the lock of the queue: if a waker finishes its wait in between, park_m sees that (wait_finished).
 *
 * LOCK   the lock of the queue
 * ORDER  sudog->state, then status (waker); status, then state (park_m)
 * DEATH  a waiter whose wait is finished and that is lost before it returns: g_lost() passes the signal on. A
 *        signaller that holds the lock of the queue: all waiters wake
 */
#include "core/sync/cond.h"
#include "core/g/api.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/sched/m.h"
#include "core/sched/proc.h"
#include "core/shoal.h"
#include "core/sync/mutex.h"
#include "core/sync/waitq.h"
#include "shm/kill.h"
#include "shm/lock.h"

#include <errno.h>

#define ON_STACK "a condition on a goroutine's stack; put it in a global or on the heap"

int shoal_cond_wait(struct shoal_cond *cond, struct shoal_mutex *mu)
{
	struct g *g = api_enter("shoal_cond_wait");
	struct sudog *sg = &g->sudog;
	int r, dead;

	api_check_object(cond, "shoal_cond_wait: " ON_STACK);
	if (__builtin_expect(mutex_holder(atomic_load_explicit(&mu->owner, memory_order_relaxed)) != g->gid, 0))
		host_misuse("shoal_cond_wait: the mutex is not held by this goroutine");
	sh_lock_take(waitq_lock(&cond->q), (unsigned)getm->seat);
	sg->g = g;
	sg->seq = g_next_seq(g);
	sg->queue = &cond->q;
	g->waitreason = WAIT_COND;
	atomic_store_explicit(&sg->state, SG_QUEUED, memory_order_relaxed);
	waitq_push(waitq_list(&cond->q), sg);
	sh_lock_drop(waitq_lock(&cond->q), (unsigned)getm->seat);
	KILL_POINT("cond.wait.queued");
	mutex_release(mu, g);
	KILL_POINT("cond.wait.given");
	gopark(NULL, WAIT_COND, 0);
	r = waitq_wait_end(&cond->q, g);
	dead = mutex_acquire(mu, g);
	if (dead)
		return dead;
	return r == -ECANCELED ? r : 0;
}

int shoal_cond_signal(struct shoal_cond *cond)
{
	api_enter("shoal_cond_signal");
	api_check_object(cond, "shoal_cond_signal: " ON_STACK);
	cond_signal_first(cond);
	return 0;
}

void cond_signal_first(struct shoal_cond *cond)
{
	sh_lock_take(waitq_lock(&cond->q), (unsigned)getm->seat);
	if (waitq_list(&cond->q)->first)
		waitq_finish_unlock(&cond->q, waitq_list(&cond->q)->first);
	else
		sh_lock_drop(waitq_lock(&cond->q), (unsigned)getm->seat);
}

int shoal_cond_broadcast(struct shoal_cond *cond)
{
	api_enter("shoal_cond_broadcast");
	api_check_object(cond, "shoal_cond_broadcast: " ON_STACK);
	sh_lock_take(waitq_lock(&cond->q), (unsigned)getm->seat);
	waitq_finish_all(&cond->q);
	return 0;
}
