/*
 * mutex.c - mutex and once.
 *
 * Go's two modes (sync/mutex.go). Normal: who finds it free takes it, also ahead of those who wait;
 * one waiter at a time is woken to try its luck. Starving: a waiter has failed for longer than 1 ms;
 * from then on the mutex is handed over at unlock to the first in the queue, until one has waited
 * for less or is the last.
 *
 * OWNER  owner: the holder's gid, 0, or MUTEX_DEAD: free, its last holder died with it
 * LOCK   q's lock: the queue, starving; waiters is raised under it, before the last try
 * DEATH  each G lists what it holds, so that the next holder is told (mutexes_abandon). While a mutex
 *        is taken and not listed, freed and nobody told, or its waiter told and not yet trying,
 *        note.chan names it (mutex_lost). Handed over and not told: the queue's lock is held, the
 *        medic wakes all, and the new owner finds its name
 */
#include "core/sync.h"
#include "shm/check.h"
#include "shm/kill.h"

#include <errno.h>

#define MUTEX_DEAD (1ull << 63)
#define STARVING_NS 1000000
#define ON_STACK "a mutex on a goroutine's stack; put it in a global or on the heap"

static void now_mine(struct shoal_mutex *mu, struct g *g)
{
	struct shoal_mutex *head = g->mutexes;

	mu->prev = NULL;
	mu->next = head;
	if (head)
		head->prev = mu;
	g->mutexes = mu;
	KILL_POINT("mutex.listed");
}

static void not_mine(struct shoal_mutex *mu, struct g *g)
{
	if (mu->prev)
		mu->prev->next = mu->next;
	else
		g->mutexes = mu->next;
	if (mu->next)
		mu->next->prev = mu->prev;
	KILL_POINT("mutex.unlisted");
}

/* 0, -EOWNERDEAD, or -EBUSY. */
static inline int try_mutex(struct shoal_mutex *mu, struct g *g)
{
	uint64_t owner = atomic_load_explicit(&mu->owner, memory_order_relaxed);

	if (owner != 0 && owner != MUTEX_DEAD)
		return -EBUSY;
	getm->note.chan = mu;
	if (!atomic_compare_exchange_strong_explicit(&mu->owner, &owner, g->gid, memory_order_acquire,
						     memory_order_relaxed)) {
		getm->note.chan = NULL;
		return -EBUSY;
	}
	KILL_POINT("mutex.taken");
	now_mine(mu, g);
	getm->note.chan = NULL;
	return owner == MUTEX_DEAD ? -EOWNERDEAD : 0;
}

/* It was handed to g. */
static int handed(struct shoal_mutex *mu, struct g *g, int64_t since)
{
	now_mine(mu, g);
	getm->note.chan = NULL;
	if (host_now() - since < STARVING_NS || !atomic_load(&mu->waiters))
		atomic_store_explicit(&mu->starving, 0, memory_order_relaxed);
	return 0;
}

static __attribute__((noinline)) int lock_slow(struct shoal_mutex *mu, struct g *g)
{
	struct sh_lock *l = wq_lock(&mu->q);
	int64_t since = 0;
	int r;

	for (;;) {
		bool again = since != 0;

		sh_lock_take(l, (unsigned)getm->seat);
		atomic_fetch_add(&mu->waiters, 1); /* pairs with mutex_give: it sees us, or we see it free */
		KILL_POINT("mutex.waiter.counted");
		if ((r = try_mutex(mu, g)) != -EBUSY) {
			atomic_fetch_sub(&mu->waiters, 1);
			sh_lock_drop(l, (unsigned)getm->seat);
			return r;
		}
		if (!again)
			since = host_now();
		else if (host_now() - since > STARVING_NS)
			atomic_store_explicit(&mu->starving, 1, memory_order_relaxed);
		wq_wait(&mu->q, g, WAIT_MUTEX, again); /* whoever wakes us has counted us out */
		if (atomic_load(&mu->owner) == g->gid)
			return handed(mu, g, since);
		atomic_store(&mu->woken, 0);
		KILL_POINT("mutex.woken.tries");
		getm->note.chan = NULL;
		if ((r = try_mutex(mu, g)) != -EBUSY)
			return r;
	}
}

int mutex_take(struct shoal_mutex *mu, struct g *g)
{
	int r = try_mutex(mu, g);

	return __builtin_expect(r != -EBUSY, 1) ? r : lock_slow(mu, g);
}

int shoal_mutex_trylock(struct shoal_mutex *mu)
{
	struct g *g = api_enter("shoal_mutex_trylock");

	api_shared(mu, "shoal_mutex_trylock: " ON_STACK);
	return try_mutex(mu, g);
}

int shoal_mutex_lock(struct shoal_mutex *mu)
{
	struct g *g = api_enter("shoal_mutex_lock");

	api_shared(mu, "shoal_mutex_lock: " ON_STACK);
	return mutex_take(mu, g);
}

static __attribute__((noinline)) void wake_one(struct shoal_mutex *mu)
{
	struct sh_lock *l = wq_lock(&mu->q);
	struct sudog *sg;

	sh_lock_take(l, (unsigned)getm->seat);
	if ((sg = wq_queue(&mu->q)->first)) {
		atomic_store(&mu->woken, 1);
		atomic_fetch_sub(&mu->waiters, 1); /* dead before it is told: all are woken, and count themselves again */
		KILL_POINT("mutex.wake.counted");
		wq_tell_last(&mu->q, sg);
		return;
	}
	atomic_store(&mu->waiters, 0); /* those that a repair has woken */
	sh_lock_drop(l, (unsigned)getm->seat);
}

/* Starving: the first in the queue has it from here on. False: nobody waits. */
static __attribute__((noinline)) bool hand_over(struct shoal_mutex *mu, struct g *g)
{
	struct sh_lock *l = wq_lock(&mu->q);
	struct sudog *sg;

	sh_lock_take(l, (unsigned)getm->seat);
	if ((sg = wq_queue(&mu->q)->first)) {
		not_mine(mu, g);
		atomic_store(&mu->owner, sg->g->gid);
		KILL_POINT("mutex.handed");
		atomic_fetch_sub(&mu->waiters, 1);
		wq_tell_last(&mu->q, sg);
		return true;
	}
	atomic_store_explicit(&mu->starving, 0, memory_order_relaxed);
	sh_lock_drop(l, (unsigned)getm->seat);
	return false;
}

void mutex_give(struct shoal_mutex *mu, struct g *g)
{
	getm->note.chan = mu; /* until the next one is told */
	if (__builtin_expect(atomic_load_explicit(&mu->starving, memory_order_relaxed), 0) && hand_over(mu, g)) {
		getm->note.chan = NULL;
		return;
	}
	not_mine(mu, g);
	atomic_exchange(&mu->owner, 0);
	KILL_POINT("mutex.freed");
	if (atomic_load(&mu->waiters) && !atomic_load(&mu->woken)) /* one that was woken has yet to try */
		wake_one(mu);
	getm->note.chan = NULL;
}

int shoal_mutex_unlock(struct shoal_mutex *mu)
{
	struct g *g = api_enter("shoal_mutex_unlock");

	if (__builtin_expect(atomic_load_explicit(&mu->owner, memory_order_relaxed) != g->gid, 0))
		host_misuse("shoal_mutex_unlock: the mutex is not held by this goroutine");
	mutex_give(mu, g);
	return 0;
}

void mutexes_abandon(struct g *g)
{
	struct shoal_mutex *mu = getm->note.chan;

	if (mu && sh_shared(mu)) /* a medic died between taking it off the list and telling the next */
		mutex_lost(mu, g);
	for (unsigned n = 0; (mu = g->mutexes) && n < 1000000 && sh_shared(mu); n++) {
		getm->note.chan = mu;
		KILL_POINT("mutex.abandon.noted");
		g->mutexes = mu->next;
		KILL_POINT("mutex.abandon.unlisted");
		mutex_lost(mu, g);
		getm->note.chan = NULL;
	}
	g->mutexes = NULL;
}

void mutex_lost(struct shoal_mutex *mu, struct g *g)
{
	uint64_t mine = g->gid;

	atomic_compare_exchange_strong(&mu->owner, &mine, MUTEX_DEAD);
	KILL_POINT("mutex.lost");
	atomic_store(&mu->woken, 0); /* it may have been the one; one too many is harmless */
	if ((atomic_load(&mu->owner) & ~MUTEX_DEAD) == 0 && atomic_load(&mu->waiters))
		wake_one(mu);
}

/* ---- once ---- */

int shoal_once_do(struct shoal_once *once, void (*fn)(void))
{
	struct g *g = api_enter("shoal_once_do");

	api_shared(once, "shoal_once_do: a once on a goroutine's stack; put it in a global or on the heap");
	if (__builtin_expect(atomic_load_explicit(&once->done, memory_order_acquire), 1))
		return 0;
	mutex_take(&once->mu, g); /* -EOWNERDEAD: who ran fn did not come to its end, it is run again */
	if (!atomic_load_explicit(&once->done, memory_order_relaxed)) {
		fn();
		atomic_store_explicit(&once->done, 1, memory_order_release);
		KILL_POINT("once.done");
	}
	mutex_give(&once->mu, g);
	return 0;
}
