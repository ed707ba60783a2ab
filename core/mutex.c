/*
 * mutex.c - mutex and once.
 *
 * Go's two modes (sync/mutex.go). Normal: who finds it free takes it, also ahead of those who wait;
 * a waiter that is woken tries its luck again. Starving: a waiter has failed for longer than 1 ms; from
 * then on the mutex is handed over at unlock to the first in the queue, until one has waited for less.
 *
 * OWNER  owner: the holder's gid, 0, or MUTEX_DEAD: free, its last holder died with it. MUTEX_WAITERS
 *        beside it: somebody is in the queue, and the unlock wakes one. So who lets it go looks at it
 *        no more unless somebody waits, and the next may give its memory back
 * LOCK   q's lock: the queue, starving, setting MUTEX_WAITERS
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
#define MUTEX_WAITERS (1ull << 62)
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
static inline int try_mutex(struct shoal_mutex *mu, struct g *g, uint64_t flag)
{
	uint64_t owner = atomic_load_explicit(&mu->owner, memory_order_relaxed);

	if (mutex_holder(owner))
		return -EBUSY;
	getm->note.chan = mu;
	if (!atomic_compare_exchange_strong_explicit(&mu->owner, &owner, g->gid | flag, memory_order_acquire,
						     memory_order_relaxed)) {
		getm->note.chan = NULL;
		return -EBUSY;
	}
	KILL_POINT("mutex.taken");
	now_mine(mu, g);
	sh_noted();
	getm->note.chan = NULL;
	return owner & MUTEX_DEAD ? -EOWNERDEAD : 0;
}

static bool anybody(struct shoal_mutex *mu)
{
	return wq_queue(&mu->q)->first != NULL;
}

/* It is held, and its holder will see that somebody waits; false: it has become free. Holds: q's lock. */
static bool mark(struct shoal_mutex *mu)
{
	uint64_t owner = atomic_load(&mu->owner);

	while (mutex_holder(owner))
		if ((owner & MUTEX_WAITERS) || atomic_compare_exchange_weak(&mu->owner, &owner, owner | MUTEX_WAITERS))
			return true;
	return false;
}

static __attribute__((noinline)) int lock_slow(struct shoal_mutex *mu, struct g *g)
{
	struct sh_lock *l = wq_lock(&mu->q);
	int64_t since = 0;
	int r;

	for (;;) {
		sh_lock_take(l, (unsigned)getm->seat);
		do {
			if ((r = try_mutex(mu, g, anybody(mu) ? MUTEX_WAITERS : 0)) != -EBUSY) {
				sh_lock_drop(l, (unsigned)getm->seat);
				return r;
			}
		} while (!mark(mu));
		KILL_POINT("mutex.marked");
		if (since && host_now() - since > STARVING_NS)
			atomic_store_explicit(&mu->starving, 1, memory_order_relaxed);
		wq_wait(&mu->q, g, WAIT_MUTEX, since != 0);
		if (!since)
			since = host_now();
		if (mutex_holder(atomic_load(&mu->owner)) != g->gid)
			continue;
		now_mine(mu, g); /* it was handed to us */
		sh_noted();
		getm->note.chan = NULL;
		if (host_now() - since < STARVING_NS)
			atomic_store_explicit(&mu->starving, 0, memory_order_relaxed);
		return 0;
	}
}

int mutex_take(struct shoal_mutex *mu, struct g *g)
{
	int r = try_mutex(mu, g, 0);

	return __builtin_expect(r != -EBUSY, 1) ? r : lock_slow(mu, g);
}

int shoal_mutex_trylock(struct shoal_mutex *mu)
{
	struct g *g = api_enter("shoal_mutex_trylock");

	api_shared(mu, "shoal_mutex_trylock: " ON_STACK);
	return try_mutex(mu, g, 0);
}

int shoal_mutex_lock(struct shoal_mutex *mu)
{
	struct g *g = api_enter("shoal_mutex_lock");

	api_shared(mu, "shoal_mutex_lock: " ON_STACK);
	return mutex_take(mu, g);
}

/* It was free: tells the first waiter, or leaves word with who has taken it since. */
static __attribute__((noinline)) void wake_one(struct shoal_mutex *mu)
{
	struct sh_lock *l = wq_lock(&mu->q);

	sh_lock_take(l, (unsigned)getm->seat);
	if (anybody(mu) && !mark(mu))
		wq_tell_last(&mu->q, wq_queue(&mu->q)->first);
	else
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
		atomic_store(&mu->owner, sg->g->gid | (sg->next ? MUTEX_WAITERS : 0));
		KILL_POINT("mutex.handed");
		wq_tell_last(&mu->q, sg);
		return true;
	}
	atomic_store_explicit(&mu->starving, 0, memory_order_relaxed);
	sh_lock_drop(l, (unsigned)getm->seat);
	return false;
}

void mutex_give(struct shoal_mutex *mu, struct g *g)
{
	uint64_t owner;

	getm->note.chan = mu; /* until the next one is told */
	sh_noted();
	if (__builtin_expect(atomic_load_explicit(&mu->starving, memory_order_relaxed), 0) && hand_over(mu, g)) {
		getm->note.chan = NULL;
		return;
	}
	not_mine(mu, g);
	owner = atomic_exchange(&mu->owner, 0);
	KILL_POINT("mutex.freed");
	if (__builtin_expect((owner & MUTEX_WAITERS) != 0, 0))
		wake_one(mu);
	getm->note.chan = NULL;
}

int shoal_mutex_unlock(struct shoal_mutex *mu)
{
	struct g *g = api_enter("shoal_mutex_unlock");

	if (__builtin_expect(mutex_holder(atomic_load_explicit(&mu->owner, memory_order_relaxed)) != g->gid, 0)) {
		api_shared(mu, "shoal_mutex_unlock: " ON_STACK);
		host_misuse("shoal_mutex_unlock: the mutex is not held by this goroutine");
	}
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
		sh_noted();
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
	uint64_t owner = atomic_load(&mu->owner);

	while (mutex_holder(owner) == g->gid && !atomic_compare_exchange_weak(&mu->owner, &owner, MUTEX_DEAD))
		;
	KILL_POINT("mutex.lost");
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
