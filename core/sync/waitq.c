/*
 * waitq.c - wait queues, wait group, join, cancellation.
 *
 * Zero is ready for use; the objects lie in the task's memory. Waiters are sudogs in the segment,
 * so an object may be used from every worker.
 *
 * DEATH  a waiter in a queue whose lock the dead held is woken to look again. Wait group: the count
 *        changes by one store under the lock; who is counted (a member's g->wg, or note.wg_given of
 *        a spawner that has counted a member and not made it yet) is stored after it, and the note
 *        tells the medic what the count was to be.
 */
#include "core/sync/waitq.h"
#include "shm/check.h"
#include "shm/kill.h"

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
		/* If all are woken, who comes after the next: its place in the queue, and its status. */
		__builtin_prefetch(next->next, 1);
		__builtin_prefetch((const void *)((uintptr_t)next->next - offsetof(struct g, sudog)), 1);
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

void waitq_mend_at(struct waitq *q, struct sudog *touched)
{
	struct sudog *next = touched->next;

	/* Taken out of the middle, and who comes after it does not know yet. */
	if (next && sh_in_segment(next) && next->prev == touched && !waitq_has(q, touched)) {
		next->prev = touched->prev;
		KILL_POINT("waitq.mend.middle");
	}
}

void waitq_mend_ends(struct waitq *q)
{
	struct sudog *last = q->last;

	if (!q->first) {
		q->last = NULL;
		KILL_POINT("waitq.mend.empty");
		return;
	}
	q->first->prev = NULL;
	KILL_POINT("waitq.mend.first");
	if (last && sh_in_segment(last) && !waitq_has(q, last)) /* it was taken out, and was the last */
		last = last->prev;
	if (!last || !sh_in_segment(last) || !waitq_has(q, last))
		last = q->first;
	for (; last->next; last = last->next) /* one, mostly: it had just been linked */
		last->next->prev = last;
	q->last = last;
	KILL_POINT("waitq.mend.last");
}

bool waitq_has(const struct waitq *q, const struct sudog *sg)
{
	return q->first == sg || (sg->prev && sh_in_segment(sg->prev) && sg->prev->next == sg);
}

void api_shared(const void *object, const char *call)
{
	uintptr_t at = (uintptr_t)object - SH_WIN_BASE;

	if (__builtin_expect(at < SH_REGION, 0))
		host_misuse(call);
}

void api_foreign(const void *p, const char *call)
{
	struct g *g = getg();

	if ((uintptr_t)p - (uintptr_t)host_window(g->win) >= host_window_size(g->win))
		host_misuse(call);
}

int wq_wait(struct shoal_waitq_ *q, struct g *g, enum waitreason why, bool first)
{
	struct sudog *sg = &g->sudog;
	struct sh_lock *l = wq_lock(q);

	sg->g = g;
	sg->seq = g_next_seq(g);
	sg->queue = q;
	atomic_store_explicit(&sg->state, SG_QUEUED, memory_order_relaxed);
	if (first)
		waitq_unpop(wq_queue(q), sg);
	else
		waitq_push(wq_queue(q), sg);
	gopark(l, why, 0);
	return wq_woken(q, g);
}

int wq_woken(struct shoal_waitq_ *q, struct g *g)
{
	struct sudog *sg = &g->sudog;
	unsigned how = atomic_load_explicit(&sg->state, memory_order_acquire);

	if (how == SG_QUEUED) { /* cancelled: but somebody may be telling it right now */
		sh_lock_take(wq_lock(q), (unsigned)getm->seat);
		how = atomic_load_explicit(&sg->state, memory_order_acquire);
		if (how == SG_QUEUED)
			waitq_remove(wq_queue(q), sg);
		sh_lock_drop(wq_lock(q), (unsigned)getm->seat);
	}
	if (g->waitreason == WAIT_MUTEX)
		getm->note.chan =
			(char *)q - offsetof(struct shoal_mutex, q); /* told: if it dies now another must be */
	atomic_store_explicit(&sg->state, SG_IDLE, memory_order_relaxed);
	sg->queue = NULL;
	KILL_POINT("waitq.woken");
	if (how == SG_CLOSED)
		return -EAGAIN;
	return how == SG_QUEUED ? -ECANCELED : 0;
}

/* lock: dropped before the waiter runs, who may give the object's memory back; or NULL. */
static void tell(struct shoal_waitq_ *q, struct sudog *sg, struct note *n, struct sh_lock *lock)
{
	uint32_t seq = sg->seq;
	struct g *g = sg->g;

	n->sg_seq = seq;
	sh_noted();
	n->sg = sg;
	sh_noted();
	KILL_POINT("sync.tell.noted");
	waitq_remove(wq_queue(q),
		     sg); /* first: once told it may use its sudog again, cancelled or not yet parked as it is */
	atomic_store(&sg->state,
		     SG_DELIVERED); /* seq_cst: pairs with park_m, which looks after it says that it waits */
	KILL_POINT("sync.tell.delivered");
	if (lock)
		sh_lock_drop(lock, (unsigned)getm->seat);
	goready(g, seq);
	n->sg = NULL;
}

void wq_tell(struct shoal_waitq_ *q, struct sudog *sg, struct note *n)
{
	tell(q, sg, n, NULL);
}

void wq_tell_last(struct shoal_waitq_ *q, struct sudog *sg)
{
	tell(q, sg, &getm->note, (struct sh_lock *)q);
}

void wq_tell_all(struct shoal_waitq_ *q)
{
	struct sudog *sg;

	while ((sg = wq_queue(q)->first)) {
		if (!sg->next) {
			wq_tell_last(q, sg);
			return;
		}
		wq_tell(q, sg, &getm->note);
	}
	sh_lock_drop((struct sh_lock *)q, (unsigned)getm->seat);
}

void wq_repair(struct shoal_waitq_ *q, struct note *n)
{
	struct sudog *sg = n->sg;

	if (!sg || !sh_in_segment(sg) || sg->queue != q || waitq_has(wq_queue(q), sg))
		return;
	if (atomic_load(&sg->state) == SG_QUEUED)
		atomic_store(&sg->state, SG_CLOSED);
	KILL_POINT("sync.repair.told");
	note_told(n);
	n->sg = NULL;
}

/* ---- cancellation ---- */

bool wait_cancellable(unsigned why)
{
	return why != WAIT_MUTEX && why != WAIT_RW_LOCK && why != WAIT_RW_RLOCK && why != WAIT_PREEMPTED &&
	       why != WAIT_STOPTHEWORLD && why != WAIT_PTHREAD_LOCK;
}

bool wait_over(struct g *g, uint32_t seq)
{
	uint32_t how = atomic_load(&g->sudog.state);

	if (g_cancelled(g) && wait_cancellable(g->waitreason))
		return true;
	return g->sudog.seq == seq && (how == SG_DELIVERED || how == SG_CLOSED);
}

void g_cancel_mark(struct g *g, uint64_t gid)
{
	getm->note.ready = g; /* dead before it is woken: the medic does that */
	KILL_POINT("g.cancel.noted");
	atomic_store(&g->cancelled, (uint32_t)(gid >> 24) + 1);
	KILL_POINT("g.cancel.marked");
}

void g_cancel_wake(struct g *g)
{
	uint64_t s = atomic_load(&g->status);

	if ((s & G_STATE) == G_WAITING && g_cancelled(g) && wait_cancellable(g->waitreason))
		goready(g, G_SEQ(s));
	else if ((s & G_STATE) == G_SYSCALL && g_cancelled(g) && G_OWNER_SEAT(s) > 0 && G_OWNER_SEAT(s) < SH_SEATS)
		host_kick((unsigned)G_OWNER_SEAT(s)); /* the kernel lets it go: worker/blocking.c */
	getm->note.ready = NULL;
}

int shoal_cancel(shoal_gid gid)
{
	struct g *self = api_enter("shoal_cancel"), *g;
	bool ended = false;

	g = g_find(gid, &ended);
	if (!g)
		return -ESRCH;
	if (ended)
		return 0;
	if (g->task != self->task)
		return -ESRCH;
	g_cancel_mark(g, gid);
	host_barrier(); /* pairs with park_m: it has seen the mark, or we see that it waits */
	g_cancel_wake(g);
	return 0;
}

/* ---- wait group ---- */

/*
 * Changes the count by `by` and *slot to value, as one: dead between the two, the medic finds by
 * the note whether the count has changed, and brings the slot after it.
 */
static int wg_change(struct shoal_wg *wg, int64_t by, struct shoal_wg **slot, struct shoal_wg *value)
{
	struct sh_lock *l = wq_lock(&wg->q);
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
	sh_noted();
	m->note.wg = wg;
	sh_noted();
	KILL_POINT("wg.change.noted");
	atomic_store_explicit(&wg->count, n, memory_order_release);
	KILL_POINT("wg.change.counted");
	*slot = value;
	KILL_POINT("wg.change.slot");
	sh_noted();
	m->note.wg = NULL;
	if (n == 0)
		wq_tell_all(&wg->q);
	else
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
	struct sh_lock *l = wq_lock(&wg->q);

	api_shared(wg, "shoal_wg_wait: a wait group on a goroutine's stack; put it in a global or on the heap");
	for (;;) {
		int r;

		sh_lock_take(l, (unsigned)getm->seat);
		if (atomic_load_explicit(&wg->count, memory_order_relaxed) == 0) {
			sh_lock_drop(l, (unsigned)getm->seat);
			return 0;
		}
		r = wq_wait(&wg->q, g, WAIT_WG, false);
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
	api_value(arg, "shoal_wg_go: the argument is on another goroutine's stack");
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

	api_value(end, "shoal_join: its end would be told to another goroutine's stack");
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
		if (!ended && g_cancelled(self)) {
			join_forget(g, sg);
			ended = atomic_load(&sg->state) == SG_DELIVERED;
			if (!ended) {
				atomic_store(&sg->state, SG_IDLE);
				sg->queue = NULL;
				return -ECANCELED;
			}
		}
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
	waitq_mend(wq_queue(q));
	sem_repair((struct shoal_sem *)l, n);
	wq_repair(q, n);
	/* Whom the dead was about to tell is not known: all who wait are woken to look for themselves. */
	while ((sg = wq_queue(q)->first)) {
		n->sg_seq = sg->seq;
		sh_noted();
		n->sg = sg;
		sh_noted();
		KILL_POINT("sync.repair.noted");
		waitq_pop(wq_queue(q));
		wq_repair(q, n);
	}
}

void sync_forget(struct sh_lock *l, struct sudog *sg)
{
	struct shoal_waitq_ *q = (struct shoal_waitq_ *)l;
	unsigned seat = (unsigned)getm->seat;

	sh_lock_take(l, seat);
	if (waitq_has(wq_queue(q), sg))
		waitq_remove(wq_queue(q), sg);
	sh_lock_drop(l, seat);
}

/* Holds: the lock, in the dead seat's name. A joiner that is off the list and was not told. */
void join_repair(struct sh_lock *l, struct note *n)
{
	struct g *g = (struct g *)((char *)l - offsetof(struct g, join_lock));
	struct sudog *sg = n->sg;

	if (!sg || !sh_in_segment(sg) || sg->queue != g || sg == g->joiners || atomic_load(&sg->state) != SG_QUEUED)
		return;
	atomic_store(&sg->state, SG_DELIVERED);
	KILL_POINT("join.repair.told");
	goready(sg->g, n->sg_seq);
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
