/*
 * mutex.c - mutex and once.
 *
 * The word:
 *
 *   63     62        61      60                                                  0
 *   +------+---------+-------+----------------------------------------------------+
 *   | DEAD | WAITERS | WOKEN |            gid of the holder, 0: free              |
 *   +------+---------+-------+----------------------------------------------------+
 *
 * DEAD     free, and the last holder died with it: the next one gets -EOWNERDEAD
 * WAITERS  the queue is not empty: the unlock wakes one, unless WOKEN is set
 * WOKEN    one waiter was woken and has not tried yet
 *
 * Two modes, as in Go (sync/mutex.go). Normal: a goroutine that finds the mutex free takes it, ahead of those that
 * wait; a woken waiter tries again. Starving: a waiter has failed for more than 1 ms; then unlock hands the mutex
 * to the first in the queue, until one has waited for less. An unlock without waiters touches the mutex only
 * once, so the next holder may free its memory.
 *
 * OWNER  the gid in the word
 * LOCK   q's lock: the queue, starving, setting WAITERS; WOKEN, except when a holder's death clears it
 * ORDER  taken with acquire, released with release
 * DEATH  each G lists the mutexes it holds, so that the next holder is told (mutexes_abandon). The only one
 *        is named before it is taken (ALONE). note.chan names a mutex that is taken and not listed yet, or
 *        released while no waiter is woken yet, or whose woken waiter has not tried (mutex_abandon). Handed
 *        over but the wait not finished: the queue's lock is held, the medic wakes all waiters, and the new
 *        owner finds its gid in the word
 */
#include "core/sync/mutex.h"
#include "core/g/api.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/sched/m.h"
#include "core/shoal.h"
#include "core/sync/waitq.h"
#include "shm/check.h"
#include "shm/kill.h"
#include "shm/lock.h"
#include "shm/segment.h"

#include <errno.h>

#define MUTEX_DEAD (1ull << 63)
#define MUTEX_WAITERS (1ull << 62)
#define MUTEX_WOKEN (1ull << 61)
#define STARVING_NS 1000000
#define ON_STACK "a mutex on a goroutine's stack; put it in a global or on the heap"

/*
 * A G that holds only one mutex has its address + ALONE in g->mutexes, and the links of the mutex are not used.
 * The mutex is named before it is taken, and until after it is free. If its holder is another G, the name
 * means nothing.
 */
#define ALONE 1u

static inline void *only_mutex(struct shoal_mutex *mu)
{
	return (char *)mu + ALONE;
}

static inline bool is_only_mutex(const void *mutexes)
{
	return (uintptr_t)mutexes & ALONE;
}

/* Turns the single name into a list: from now on the links of the mutex are good. */
static void make_list(struct g *g)
{
	struct shoal_mutex *mu = (void *)((char *)g->mutexes - ALONE);

	sh_check(is_only_mutex(g->mutexes));
	mu->prev = mu->next = NULL;
	sh_noted();
	g->mutexes = mu;
	KILL_POINT("mutex.list.made");
}

static void mutex_list(struct shoal_mutex *mu, struct g *g)
{
	struct shoal_mutex *head;

	if (is_only_mutex(g->mutexes))
		make_list(g);
	head = g->mutexes;
	mu->prev = NULL;
	mu->next = head;
	if (head)
		head->prev = mu;
	g->mutexes = mu;
	KILL_POINT("mutex.listed");
}

static void mutex_unlist(struct shoal_mutex *mu, struct g *g)
{
	if (mu->prev)
		mu->prev->next = mu->next;
	else
		g->mutexes = mu->next;
	if (mu->next)
		mu->next->prev = mu->prev;
	KILL_POINT("mutex.unlisted");
}

/* 0, -EOWNERDEAD, or -EBUSY. keep: flags to preserve; set: flags to add. */
static inline int mutex_try(struct shoal_mutex *mu, struct g *g, uint64_t keep, uint64_t set)
{
	uint64_t owner = atomic_load_explicit(&mu->owner, memory_order_relaxed);
	void *noted = getm->note.chan; /* mu, if this is the waiter that was woken */

	if (mutex_holder(owner))
		return -EBUSY;
	getm->note.chan = mu;
	/* pairs with release_only_mutex and mutex_release */
	if (!atomic_compare_exchange_strong_explicit(&mu->owner, &owner, g->gid | (owner & keep) | set,
						     memory_order_acquire, memory_order_relaxed)) {
		getm->note.chan = noted;
		return -EBUSY;
	}
	KILL_POINT("mutex.taken");
	mutex_list(mu, g);
	sh_noted();
	getm->note.chan = NULL;
	return owner & MUTEX_DEAD ? -EOWNERDEAD : 0;
}

static bool has_waiters(struct shoal_mutex *mu)
{
	return waitq_list(&mu->q)->first != NULL;
}

/*
 * Marks a held mutex, so that its holder sees a waiter. False: it has become free. Holds: q's lock. keep:
 * MUTEX_WOKEN is preserved.
 */
static bool mark_waiters(struct shoal_mutex *mu, uint64_t keep)
{
	uint64_t owner = atomic_load(&mu->owner), marked;

	while (mutex_holder(owner)) {
		marked = (owner & ~(MUTEX_WOKEN & ~keep)) | MUTEX_WAITERS;
		if (owner == marked || atomic_compare_exchange_weak(&mu->owner, &owner, marked))
			return true;
	}
	return false;
}

#define SPIN_ROUNDS 4
#define SPIN_PAUSES 100

/*
 * The holder runs, so the mutex will be free soon, sooner than a park and a wake take. Go spins as well
 * (sync_runtime_canSpin). The pauses leave the cache line to the holder, which takes and releases the mutex a
 * hundred times before we have it.
 */
static void mutex_spin(struct shoal_mutex *mu)
{
	for (unsigned i = 0; i < SPIN_ROUNDS; i++) {
		uint64_t gid = mutex_holder(atomic_load_explicit(&mu->owner, memory_order_relaxed)),
			 at = gid & (GID_STEP - 1);

		if (!gid || at >= G_MAX || g_state(allg(at)) != G_RUNNING)
			return;
		sh_pause(SPIN_PAUSES);
	}
}

static __attribute__((noinline)) int mutex_lock_slow(struct shoal_mutex *mu, struct g *g)
{
	struct sh_lock *l = waitq_lock(&mu->q);
	uint64_t keep = MUTEX_WOKEN;
	int64_t since = 0;
	int r;

	if ((r = mutex_try(mu, g, MUTEX_WAITERS | MUTEX_WOKEN, 0)) != -EBUSY) /* g holds other mutexes */
		return r;
	/* The holder runs: spin before parking. */
	mutex_spin(mu);
	if ((r = mutex_try(mu, g, MUTEX_WAITERS | MUTEX_WOKEN, 0)) != -EBUSY)
		return r;
	for (;; keep = 0) { /* from the second round on, MUTEX_WOKEN may refer to this waiter: clear it */
		/* Under the queue's lock: take it if it is free, otherwise leave a mark for the holder. */
		sh_lock_take(l, (unsigned)getm->seat);
		do {
			if ((r = mutex_try(mu, g, keep, has_waiters(mu) ? MUTEX_WAITERS : 0)) != -EBUSY) {
				sh_lock_drop(l, (unsigned)getm->seat);
				return r;
			}
		} while (!mark_waiters(mu, keep));
		KILL_POINT("mutex.marked");
		getm->note.chan = NULL; /* whichever waiter was woken, another one will be */
		/* Wait at the tail, or from the second round on at the head; after 1 ms ask to be next. */
		if (since && host_now() - since > STARVING_NS)
			atomic_store_explicit(&mu->starving, 1, memory_order_relaxed);
		waitq_wait(&mu->q, g, WAIT_MUTEX, since != 0);
		if (!since)
			since = host_now();
		if (mutex_holder(atomic_load(&mu->owner)) != g->gid)
			continue;
		mutex_list(mu, g); /* it was handed to us */
		sh_noted();
		getm->note.chan = NULL;
		if (host_now() - since < STARVING_NS)
			atomic_store_explicit(&mu->starving, 0, memory_order_relaxed);
		return 0;
	}
}

int mutex_acquire(struct shoal_mutex *mu, struct g *g)
{
	uint64_t owner = atomic_load_explicit(&mu->owner, memory_order_relaxed);

	if (__builtin_expect(mutex_holder(owner) || g->mutexes, 0))
		return mutex_lock_slow(mu, g);
	g->mutexes = only_mutex(mu);
	sh_noted();
	KILL_POINT("mutex.named");
	/* pairs with release_only_mutex and mutex_release */
	if (__builtin_expect(!atomic_compare_exchange_strong_explicit(&mu->owner, &owner,
								      g->gid | (owner & ~MUTEX_DEAD),
								      memory_order_acquire, memory_order_relaxed),
			     0)) {
		g->mutexes = NULL;
		return mutex_lock_slow(mu, g);
	}
	KILL_POINT("mutex.alone");
	return __builtin_expect((owner & MUTEX_DEAD) != 0, 0) ? -EOWNERDEAD : 0;
}

int shoal_mutex_trylock(struct shoal_mutex *mu)
{
	struct g *g = api_enter("shoal_mutex_trylock");

	api_check_object(mu, "shoal_mutex_trylock: " ON_STACK);
	return mutex_try(mu, g, MUTEX_WAITERS | MUTEX_WOKEN, 0);
}

int shoal_mutex_lock(struct shoal_mutex *mu)
{
	struct g *g = api_enter("shoal_mutex_lock");

	api_check_object(mu, "shoal_mutex_lock: " ON_STACK);
	return mutex_acquire(mu, g);
}

/* The mutex was released: wakes the first waiter, unless a new holder has it, which will. */
static __attribute__((noinline)) void mutex_wake_one(struct shoal_mutex *mu)
{
	struct sh_lock *l = waitq_lock(&mu->q);
	uint64_t owner, told;

	sh_lock_take(l, (unsigned)getm->seat);
	owner = atomic_load(&mu->owner);
	do {
		told = has_waiters(mu) ? owner | MUTEX_WAITERS : owner & ~MUTEX_WAITERS;
		if (!mutex_holder(owner) && has_waiters(mu))
			told |= MUTEX_WOKEN;
	} while (!atomic_compare_exchange_weak(&mu->owner, &owner, told));
	KILL_POINT("mutex.woken");
	if (!mutex_holder(told) && has_waiters(mu))
		waitq_finish_unlock(&mu->q, waitq_list(&mu->q)->first);
	else
		sh_lock_drop(l, (unsigned)getm->seat);
}

/* Starving: hands the mutex to the first waiter. False: there is none. */
static __attribute__((noinline)) bool mutex_hand_over(struct shoal_mutex *mu, struct g *g)
{
	struct sh_lock *l = waitq_lock(&mu->q);
	struct sudog *sg;

	sh_lock_take(l, (unsigned)getm->seat);
	if ((sg = waitq_list(&mu->q)->first)) {
		mutex_unlist(mu, g);
		atomic_store(&mu->owner,
			     sg->g->gid | (sg->next ? MUTEX_WAITERS : 0) | (atomic_load(&mu->owner) & MUTEX_WOKEN));
		KILL_POINT("mutex.handed");
		waitq_finish_unlock(&mu->q, sg);
		return true;
	}
	atomic_store_explicit(&mu->starving, 0, memory_order_relaxed);
	sh_lock_drop(l, (unsigned)getm->seat);
	return false;
}

/* The usual case: g holds only this mutex, and no waiter is to be woken. */
static inline bool release_only_mutex(struct shoal_mutex *mu, struct g *g)
{
	uint64_t owner = atomic_load_explicit(&mu->owner, memory_order_relaxed);

	if (__builtin_expect(g->mutexes != only_mutex(mu), 0))
		return false;
	do {
		if (__builtin_expect(owner & MUTEX_WAITERS, 0) &&
		    (!(owner & MUTEX_WOKEN) || atomic_load_explicit(&mu->starving, memory_order_relaxed)))
			return false;
		/* pairs with the next holder: mutex_acquire, mutex_try */
	} while (!atomic_compare_exchange_weak_explicit(&mu->owner, &owner, owner - g->gid, memory_order_release,
							memory_order_relaxed));
	KILL_POINT("mutex.alone.freed");
	g->mutexes = NULL;
	return true;
}

void mutex_release(struct shoal_mutex *mu, struct g *g)
{
	uint64_t owner;

	if (__builtin_expect(release_only_mutex(mu, g), 1))
		return;
	if (is_only_mutex(g->mutexes))
		make_list(g);
	getm->note.chan = mu; /* until the next holder or waiter knows */
	sh_noted();
	if (__builtin_expect(atomic_load_explicit(&mu->starving, memory_order_relaxed), 0) && mutex_hand_over(mu, g)) {
		getm->note.chan = NULL;
		return;
	}
	mutex_unlist(mu, g);
	owner = atomic_fetch_sub(&mu->owner, g->gid); /* the flags stay */
	KILL_POINT("mutex.freed");
	if (__builtin_expect((owner & (MUTEX_WAITERS | MUTEX_WOKEN)) == MUTEX_WAITERS, 0))
		mutex_wake_one(mu);
	getm->note.chan = NULL;
}

int shoal_mutex_unlock(struct shoal_mutex *mu)
{
	struct g *g = api_enter("shoal_mutex_unlock");

	if (__builtin_expect(mutex_holder(atomic_load_explicit(&mu->owner, memory_order_relaxed)) != g->gid, 0)) {
		api_check_object(mu, "shoal_mutex_unlock: " ON_STACK);
		host_misuse("shoal_mutex_unlock: the mutex is not held by this goroutine");
	}
	mutex_release(mu, g);
	return 0;
}

void mutexes_abandon(struct g *g)
{
	struct shoal_mutex *mu = getm->note.chan;

	if (mu && sh_shared(mu)) /* a medic died between unlisting it and waking the next */
		mutex_abandon(mu, g);
	if (is_only_mutex(g->mutexes)) {
		mu = (void *)((char *)g->mutexes - ALONE);
		if (sh_shared(mu) && mutex_holder(atomic_load(&mu->owner)) == g->gid)
			make_list(g);
		else
			g->mutexes = NULL;
	}
	for (unsigned n = 0; (mu = g->mutexes) && n < 1000000 && sh_shared(mu); n++) {
		getm->note.chan = mu;
		sh_noted();
		KILL_POINT("mutex.abandon.noted");
		g->mutexes = mu->next;
		KILL_POINT("mutex.abandon.unlisted");
		mutex_abandon(mu, g);
		getm->note.chan = NULL;
	}
	g->mutexes = NULL;
}

void mutex_abandon(struct shoal_mutex *mu, struct g *g)
{
	uint64_t owner = atomic_load(&mu->owner), freed;

	do { /* whichever waiter was woken: it may have been this one */
		freed = owner & ~MUTEX_WOKEN;
		if (mutex_holder(owner) == g->gid)
			freed = MUTEX_DEAD | (owner & MUTEX_WAITERS);
	} while (!atomic_compare_exchange_weak(&mu->owner, &owner, freed));
	KILL_POINT("mutex.lost");
	mutex_wake_one(mu);
}

/* ---- once ---- */

int shoal_once_do(struct shoal_once *once, void (*fn)(void))
{
	struct g *g = api_enter("shoal_once_do");

	api_check_object(once, "shoal_once_do: a once on a goroutine's stack; put it in a global or on the heap");
	/* pairs with the store below: what fn wrote is seen */
	if (__builtin_expect(atomic_load_explicit(&once->done, memory_order_acquire), 1))
		return 0;
	mutex_acquire(&once->mu, g); /* -EOWNERDEAD: the goroutine that ran fn did not finish it, so run it again */
	if (!atomic_load_explicit(&once->done, memory_order_relaxed)) {
		fn();
		atomic_store_explicit(&once->done, 1, memory_order_release); /* pairs with the load above */
		KILL_POINT("once.done");
	}
	mutex_release(&once->mu, g);
	return 0;
}
