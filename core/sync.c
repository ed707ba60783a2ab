/*
 * sync.c - wait queues, mutex, wait group, join.
 *
 * Zero is ready for use; the objects lie in the task's memory. Waiters are sudogs in the segment,
 * so an object may be used from every worker.
 *
 * DEATH  mutex: owner names the holder's gid, and each G lists what it holds, so the next holder
 *        can be told. Wait group: the count changes by one store under the lock; who is counted
 *        (a member's g->wg, or note.wg_given of a spawner that has counted a member and not made
 *        it yet) is stored after it, and the note tells the medic what the count was to be.
 */
#include "core/sync.h"
#include "shm/check.h"
#include "shm/kill.h"

#include <errno.h>
#include <stddef.h>

#define MUTEX_DEAD (1ull << 63) /* in owner: free, but its last holder died with it */
#define STARVING_NS 1000000

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
		__builtin_prefetch(next->g, 1); /* who is woken next, and who after that, if all are */
		__builtin_prefetch(next->next, 1);
	} else
		q->last = NULL;
	KILL_POINT("waitq.pop.last");
}

void waitq_unpop(struct waitq *q, struct sudog *sg)
{
	sg->next = q->first;
	sg->prev = NULL;
	if (q->first)
		q->first->prev = sg;
	else
		q->last = sg;
	q->first = sg;
	KILL_POINT("waitq.unpop.done");
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

void waitq_mend(struct waitq *q)
{
	struct sudog *prev = NULL;

	for (struct sudog *sg = q->first; sg; sg = sg->next) {
		sg->prev = prev;
		prev = sg;
	}
	q->last = prev;
	KILL_POINT("waitq.mend.done");
}

bool waitq_has(const struct waitq *q, const struct sudog *sg)
{
	for (const struct sudog *s = q->first; s; s = s->next)
		if (s == sg)
			return true;
	return false;
}

struct g *api_enter(const char *call)
{
	struct m *m = getm;
	struct g *g = m ? getg() : NULL;

	if (__builtin_expect(!g, 0))
		host_misuse(call);
	if (__builtin_expect(atomic_load_explicit(&g->preempt, memory_order_relaxed), 0))
		gopreempt();
	return g;
}

void api_shared(const void *object, const char *call)
{
	uintptr_t at = (uintptr_t)object - SH_WIN_BASE;

	if (__builtin_expect(at < SH_REGION, 0))
		host_misuse(call);
}

static struct sh_lock *lock_of(struct shoal_waitq_ *q)
{
	struct sh_lock *l = (struct sh_lock *)q;

	l->kind = SH_LOCK_WAITQ;
	return l;
}

static struct waitq *queue_of(struct shoal_waitq_ *q)
{
	return (struct waitq *)&q->first;
}
_Static_assert(offsetof(struct shoal_waitq_, first) == sizeof(struct sh_lock), "a waitq begins with its lock");

/* Waits in q. Holds: its lock; drops it. Parks. 0 delivered, -EAGAIN look again (a repair), -ECANCELED. */
static int wait_on(struct shoal_waitq_ *q, struct g *g, enum waitreason why)
{
	struct sudog *sg = &g->sudog;
	struct sh_lock *l = lock_of(q);
	unsigned how;

	sg->g = g;
	sg->seq = g_next_seq(g);
	sg->queue = q;
	atomic_store_explicit(&sg->state, SG_QUEUED, memory_order_relaxed);
	waitq_push(queue_of(q), sg);
	gopark(l, why, 0);
	how = atomic_load_explicit(&sg->state, memory_order_acquire);
	if (how == SG_QUEUED) {
		sh_lock_take(l, (unsigned)getm->seat);
		how = atomic_load_explicit(&sg->state, memory_order_acquire);
		if (how == SG_QUEUED)
			waitq_remove(queue_of(q), sg);
		sh_lock_drop(l, (unsigned)getm->seat);
	}
	if (why == WAIT_MUTEX)
		getm->note.chan = (char *)q - offsetof(struct shoal_mutex, q); /* told: if it dies now another must be */
	atomic_store_explicit(&sg->state, SG_IDLE, memory_order_relaxed);
	sg->queue = NULL;
	if (how == SG_CLOSED)
		return -EAGAIN;
	return how == SG_QUEUED ? -ECANCELED : 0;
}

/* Tells the first waiter. Holds: the lock. */
static void tell_first(struct shoal_waitq_ *q)
{
	struct sudog *sg = queue_of(q)->first;
	uint32_t seq = sg->seq;
	struct g *g = sg->g;

	getm->note.sg_seq = seq;
	getm->note.sg = sg;
	KILL_POINT("sync.tell.noted");
	atomic_store_explicit(&sg->state, SG_DELIVERED, memory_order_release);
	KILL_POINT("sync.tell.delivered");
	waitq_pop(queue_of(q));
	goready(g, seq);
	getm->note.sg = NULL;
}

/* ---- mutex ---- */

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

static bool take_mutex(struct shoal_mutex *mu, struct g *g, int *r)
{
	uint64_t owner = atomic_load_explicit(&mu->owner, memory_order_relaxed);

	if (owner != 0 && owner != MUTEX_DEAD)
		return false;
	/* Noted until it is listed: a holder that dies between is found by the note, see mutex_lost(). */
	getm->note.chan = mu;
	if (!atomic_compare_exchange_strong_explicit(&mu->owner, &owner, g->gid, memory_order_acquire,
						     memory_order_relaxed))
		return false;
	KILL_POINT("mutex.taken");
	now_mine(mu, g);
	getm->note.chan = NULL;
	*r = owner == MUTEX_DEAD ? -EOWNERDEAD : 0;
	return true;
}

int shoal_mutex_trylock(struct shoal_mutex *mu)
{
	struct g *g = api_enter("shoal_mutex_trylock");
	int r;

	api_shared(mu, "shoal_mutex_trylock: a mutex on a goroutine's stack; put it in a global or on the heap");
	return take_mutex(mu, g, &r) ? r : -EBUSY;
}

int shoal_mutex_lock(struct shoal_mutex *mu)
{
	struct g *g = api_enter("shoal_mutex_lock");
	struct sh_lock *l;
	int r;

	api_shared(mu, "shoal_mutex_lock: a mutex on a goroutine's stack; put it in a global or on the heap");
	if (__builtin_expect(take_mutex(mu, g, &r), 1))
		return r;
	l = lock_of(&mu->q);
	for (;;) {
		sh_lock_take(l, (unsigned)getm->seat);
		atomic_fetch_add(&mu->waiters, 1); /* before the last try: pairs with unlock */
		KILL_POINT("mutex.waiter.counted");
		if (take_mutex(mu, g, &r)) {
			atomic_fetch_sub(&mu->waiters, 1);
			sh_lock_drop(l, (unsigned)getm->seat);
			return r;
		}
		wait_on(&mu->q, g, WAIT_MUTEX); /* whoever wakes us has counted us out */
		if (take_mutex(mu, g, &r))
			return r;
	}
}

static void wake_one(struct shoal_mutex *mu)
{
	struct sh_lock *l = lock_of(&mu->q);

	sh_lock_take(l, (unsigned)getm->seat);
	if (queue_of(&mu->q)->first) {
		tell_first(&mu->q);
		atomic_fetch_sub(&mu->waiters, 1); /* after it: one too many is harmless, one too few is not */
	}
	sh_lock_drop(l, (unsigned)getm->seat);
}

int shoal_mutex_unlock(struct shoal_mutex *mu)
{
	struct g *g = api_enter("shoal_mutex_unlock");

	if (atomic_load_explicit(&mu->owner, memory_order_relaxed) != g->gid)
		host_misuse("shoal_mutex_unlock: the mutex is not held by this goroutine");
	getm->note.chan = mu; /* until the next one is told */
	not_mine(mu, g);
	atomic_exchange(&mu->owner, 0);
	KILL_POINT("mutex.freed");
	if (atomic_load(&mu->waiters))
		wake_one(mu);
	getm->note.chan = NULL;
	return 0;
}

void mutexes_abandon(struct g *g)
{
	struct shoal_mutex *mu;

	for (unsigned n = 0; (mu = g->mutexes) && n < 1000000; n++) {
		if (!sh_shared(mu))
			break;
		g->mutexes = mu->next;
		if (atomic_load(&mu->owner) == g->gid) {
			atomic_store(&mu->owner, MUTEX_DEAD);
			KILL_POINT("mutex.abandoned");
			if (atomic_load(&mu->waiters))
				wake_one(mu);
		}
	}
	g->mutexes = NULL;
}

/* g was lost, mu was in its hands: taken and not listed, freed and nobody told, or told and not taken. */
void mutex_lost(struct shoal_mutex *mu, struct g *g)
{
	uint64_t mine = g->gid;

	atomic_compare_exchange_strong(&mu->owner, &mine, MUTEX_DEAD);
	KILL_POINT("mutex.lost");
	if ((atomic_load(&mu->owner) & ~MUTEX_DEAD) == 0 && atomic_load(&mu->waiters))
		wake_one(mu);
}

/* ---- wait group ---- */

/*
 * Changes the count by `by` and *slot to value, as one: dead between the two, the medic finds by
 * the note whether the count has changed, and brings the slot after it.
 */
static int wg_change(struct shoal_wg *wg, int64_t by, struct shoal_wg **slot, struct shoal_wg *value)
{
	struct sh_lock *l = lock_of(&wg->q);
	struct m *m = getm;
	int64_t n;

	sh_lock_take(l, (unsigned)m->seat);
	n = atomic_load_explicit(&wg->count, memory_order_relaxed) + by;
	if (n < 0) {
		sh_lock_drop(l, (unsigned)m->seat);
		return -EINVAL;
	}
	m->note.wg_slot = slot;
	m->note.wg_value = value;
	m->note.wg_count = n;
	m->note.wg = wg;
	KILL_POINT("wg.change.noted");
	atomic_store_explicit(&wg->count, n, memory_order_release);
	KILL_POINT("wg.change.counted");
	*slot = value;
	KILL_POINT("wg.change.slot");
	m->note.wg = NULL;
	if (n == 0)
		while (queue_of(&wg->q)->first)
			tell_first(&wg->q);
	sh_lock_drop(l, (unsigned)m->seat);
	return 0;
}

/* Holds: the lock, in the dead seat's name. */
static void wg_mend(struct shoal_wg *wg, struct note *n)
{
	if (n->wg != wg)
		return;
	if (atomic_load(&wg->count) == n->wg_count)
		*n->wg_slot = n->wg_value;
	KILL_POINT("wg.mend.slot");
	n->wg = NULL;
}

int shoal_wg_add(struct shoal_wg *wg, int n)
{
	api_enter("shoal_wg_add");
	api_shared(wg, "shoal_wg_add: a wait group on a goroutine's stack; put it in a global or on the heap");
	if (wg_change(wg, n, &getm->note.wg_given, NULL) < 0)
		host_misuse("shoal_wg_add: negative wait group counter");
	return 0;
}

int shoal_wg_done(struct shoal_wg *wg)
{
	api_enter("shoal_wg_done");
	api_shared(wg, "shoal_wg_done: a wait group on a goroutine's stack; put it in a global or on the heap");
	if (wg_change(wg, -1, &getm->note.wg_given, NULL) < 0)
		host_misuse("shoal_wg_done: negative wait group counter");
	return 0;
}

void wg_leave(struct g *g)
{
	wg_change(g->wg, -1, &g->wg, NULL);
}

/* Counted for a goroutine that was never made. slot: in the dead spawner's note. */
void wg_ungive(struct shoal_wg **slot)
{
	wg_change(*slot, -1, slot, NULL);
}

int shoal_wg_wait(struct shoal_wg *wg)
{
	struct g *g = api_enter("shoal_wg_wait");
	struct sh_lock *l = lock_of(&wg->q);

	api_shared(wg, "shoal_wg_wait: a wait group on a goroutine's stack; put it in a global or on the heap");
	for (;;) {
		int r;

		sh_lock_take(l, (unsigned)getm->seat);
		if (atomic_load_explicit(&wg->count, memory_order_relaxed) == 0) {
			sh_lock_drop(l, (unsigned)getm->seat);
			return 0;
		}
		r = wait_on(&wg->q, g, WAIT_WG);
		if (r != -EAGAIN)
			return r;
	}
}

static inline shoal_gid wg_go(struct shoal_wg *wg, const struct shoal_go_opts *o, void (*fn)(void *), const void *arg,
			      size_t size, void *pc)
{
	struct g *self = api_enter("shoal_wg_go"), *g;
	int err;

	api_shared(wg, "shoal_wg_go: a wait group on a goroutine's stack; put it in a global or on the heap");
	wg_change(wg, 1, &getm->note.wg_given, wg); /* until newproc has made its member */
	getm->gopc = pc;
	g = newproc(self->task, o, fn, arg, size, wg, &err);
	if (!g) {
		wg_ungive(&getm->note.wg_given);
		errno = err;
		return 0;
	}
	return getm->note.gid;
}

shoal_gid shoal_wg_go_with(struct shoal_wg *wg, const struct shoal_go_opts *o, void (*fn)(void *), const void *arg,
			   size_t size)
{
	return wg_go(wg, o, fn, arg, size, __builtin_return_address(0));
}

shoal_gid shoal_wg_go(struct shoal_wg *wg, void (*fn)(void *), const void *arg, size_t size)
{
	return wg_go(wg, NULL, fn, arg, size, __builtin_return_address(0));
}

/* ---- join ---- */

int shoal_join(shoal_gid gid, struct shoal_end *end)
{
	struct g *self = api_enter("shoal_join"), *g;
	struct shoal_end how = {SHOAL_DONE, 0, NULL, 1};
	struct sudog *sg = &self->sudog;
	bool ended = false;

	if (gid == self->gid)
		return -EDEADLK;
	g = g_find(gid, &ended);
	if (!g)
		return -ESRCH;
	while (!ended) {
		sh_lock_take(&g->join_lock, (unsigned)getm->seat);
		atomic_store(&g->joined, 1); /* seq_cst: pairs with g_end, which raises gid and then looks here */
		if (*(volatile uint64_t *)&g->gid != gid) {
			sh_lock_drop(&g->join_lock, (unsigned)getm->seat);
			break;
		}
		sg->g = self;
		sg->seq = g_next_seq(self);
		sg->queue = g;
		sg->next = g->joiners;
		atomic_store(&sg->state, SG_QUEUED);
		g->joiners = sg;
		KILL_POINT("join.queued");
		gopark(&g->join_lock, WAIT_JOIN, 0);
		ended = atomic_load(&sg->state) == SG_DELIVERED;
		atomic_store(&sg->state, SG_IDLE);
		sg->queue = NULL;
	}
	task_told(self->task, gid, &how);
	if (end)
		*end = how;
	return 0;
}

/* Holds: the lock, in the dead seat's name, whose note the medic uses: see chan_repair. */
void sync_repair(struct sh_lock *l, struct note *n)
{
	struct shoal_waitq_ *q = (struct shoal_waitq_ *)l;
	struct sudog *sg;

	note_told(n);
	wg_mend((struct shoal_wg *)l, n);
	waitq_mend(queue_of(q));
	/* Whom the dead was about to tell is not known: all who wait are woken to look for themselves. */
	while ((sg = queue_of(q)->first)) {
		n->sg_seq = sg->seq;
		n->sg = sg;
		if (atomic_load(&sg->state) == SG_QUEUED)
			atomic_store(&sg->state, SG_CLOSED);
		KILL_POINT("sync.repair.told");
		waitq_pop(queue_of(q));
		note_told(n);
		n->sg = NULL;
	}
}

void sync_forget(struct sh_lock *l, struct sudog *sg)
{
	struct shoal_waitq_ *q = (struct shoal_waitq_ *)l;
	unsigned seat = (unsigned)getm->seat;

	sh_lock_take(l, seat);
	if (waitq_has(queue_of(q), sg))
		waitq_remove(queue_of(q), sg);
	sh_lock_drop(l, seat);
}

void join_forget(struct g *g, struct sudog *sg)
{
	unsigned seat = (unsigned)getm->seat;
	struct sudog **at = &g->joiners;

	sh_lock_take(&g->join_lock, seat);
	while (*at && *at != sg)
		at = &(*at)->next;
	if (*at)
		*at = sg->next;
	KILL_POINT("join.forgotten");
	sh_lock_drop(&g->join_lock, seat);
}
