/*
 * rwmutex.c - reader/writer lock (sync/rwmutex.go). A waiting writer keeps new readers out.
 *
 * Each G lists the rwmutexes that it holds or waits for (its holds), where they survive its worker; a waiter in
 * the queue does not count. writer and readers follow from these lists, so a death in the middle of anything
 * leaves nothing that could not be counted again.
 *
 * OWNER  writer: gid of the holder. readers: the number of holds for reading
 * LOCK   q's lock guards all of it, and the holds of all Gs for this rwmutex
 * ORDER  a hold is listed before it is counted, and unlisted before it is counted out. But a writer leaves
 *        writer first, and for a moment looks like a reader
 * DEATH  lock held: rw_repair() counts the holds of the task. Not held: holds and counts agree, and
 *        rw_abandon() gives up what the lost G held. If the queue is not empty, a writer is in it or holds
 *        the lock
 */
#include "core/sync/rwmutex.h"
#include "core/g/api.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/repair/note.h"
#include "core/repair/repair.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/proc.h"
#include "core/shoal.h"
#include "core/sync/waitq.h"
#include "core/task/task.h"
#include "shm/check.h"
#include "shm/heap.h"
#include "shm/kill.h"
#include "shm/lock.h"
#include "shm/segment.h"

#include <errno.h>
#include <string.h>

#define ON_STACK "an rwmutex on a goroutine's stack; put it in a global or on the heap"
enum { RW_READ, RW_WRITE }; /* in sudog.n */

/*
 * g->rwheld: 0; or the one rwmutex that is held once; or a table of holds, with bit 0 set.
 * OWNER  the G; the medic after the death of its worker
 * LOCK   the lock of the rwmutex, for entries that name it
 * ORDER  rw, then n; n = 0 frees the entry
 * DEATH  rw_repair() and rw_abandon() read it
 */
struct hold {
	struct shoal_rwmutex *rw;
	uint32_t n; /* 0: this entry is free */
};
struct holds {
	/* the smaller table before this one, which the medic may be reading; freed at the end of the G */
	struct holds *old;
	uint32_t cap;
	struct hold e[];
};

static struct holds *table_of(const struct g *g)
{
	uintptr_t held = *(const volatile uintptr_t *)&g->rwheld;

	return held & 1 ? (struct holds *)(held & ~1ull) : NULL;
}

static struct sh_lock *lock_of(struct shoal_rwmutex *rw)
{
	struct sh_lock *l = (struct sh_lock *)&rw->q;

	l->kind = SH_LOCK_RWMUTEX;
	return l;
}

/* ---- holds ---- */

static struct holds *grow_holds(struct g *g, struct holds *old)
{
	uint32_t cap = old ? old->cap * 2 : 4;
	size_t size = sizeof *old + cap * sizeof old->e[0];
	struct holds *t = g_alloc(g, size);

	sh_check(g->task != NULL);
	if (!t) /* the limit is reached: take it from the reserve, as for a stack */
		t = task_alloc_reserved(g->task, size);
	sh_check(t);
	memset(t, 0, size);
	t->cap = cap;
	t->old = old;
	if (old)
		memcpy(t->e, old->e, old->cap * sizeof old->e[0]);
	else if (g->rwheld)
		t->e[0] = (struct hold){(struct shoal_rwmutex *)g->rwheld, 1};
	return t;
}

static struct hold *find_hold(struct holds *t, const struct shoal_rwmutex *rw)
{
	for (uint32_t i = 0; i < t->cap; i++)
		if (t->e[i].n && t->e[i].rw == rw)
			return &t->e[i];
	return NULL;
}

static void hold_add(struct g *g, struct shoal_rwmutex *rw)
{
	struct holds *t = table_of(g), *new;
	struct hold *h;
	uint32_t i;

	if (!g->rwheld) {
		g->rwheld = (uintptr_t)rw;
		KILL_POINT("rwmutex.hold.first");
		return;
	}
	if (t && (h = find_hold(t, rw))) {
		h->n++;
		KILL_POINT("rwmutex.hold.again");
		return;
	}
	for (i = 0; t && i < t->cap && t->e[i].n; i++)
		;
	if (!t || i == t->cap) {
		new = grow_holds(g, t);
		g->rwheld = (uintptr_t) new | 1;
		KILL_POINT("rwmutex.hold.grown");
		hold_add(g, rw);
		return;
	}
	t->e[i].rw = rw;
	KILL_POINT("rwmutex.hold.named");
	t->e[i].n = 1;
	KILL_POINT("rwmutex.hold.added");
}

static void hold_sub(struct g *g, const struct shoal_rwmutex *rw)
{
	struct holds *t = table_of(g);
	struct hold *h;

	if (!t && g->rwheld == (uintptr_t)rw)
		g->rwheld = 0;
	else if (t && (h = find_hold(t, rw)))
		h->n--;
	KILL_POINT("rwmutex.hold.gone");
}

static bool queued(struct g *g, const struct shoal_rwmutex *rw)
{
	return g->sudog.queue == rw && atomic_load(&g->sudog.state) == SG_QUEUED;
}

/* How many times g holds rw for reading. Holds: the lock. */
static uint32_t reads(struct g *g, const struct shoal_rwmutex *rw)
{
	struct holds *t = table_of(g);
	struct hold *h = t ? find_hold(t, rw) : NULL;
	uint32_t n = t ? (h ? h->n : 0) : g->rwheld == (uintptr_t)rw;

	if (n && atomic_load(&rw->writer) == g->gid)
		n--;
	return n && queued(g, rw) ? n - 1 : n;
}

/* ---- admission ---- */

/*
 * last: no other is admitted now, so the lock is dropped. repair: the note of a dead worker, whose lock the
 * medic holds; then the lock stays.
 */
static void admit(struct shoal_rwmutex *rw, struct sudog *sg, struct note *repair, bool last)
{
	sg->size = rw->dead;
	rw->dead = 0;
	KILL_POINT("rwmutex.admit.told");
	if (sg->n == RW_WRITE)
		atomic_store(&rw->writer, sg->g->gid);
	else
		rw->readers++;
	KILL_POINT("rwmutex.admit.counted");
	if (last && !repair)
		waitq_finish_unlock(&rw->q, sg);
	else
		waitq_finish(&rw->q, sg, repair ? repair : &getm->note);
}

static struct sudog *first_waiter(struct sudog *sg, uint32_t kind)
{
	while (sg && sg->n != kind)
		sg = sg->next;
	return sg;
}

/*
 * Admits whom it can: after a writer, all waiting readers; otherwise the first writer, once no reader is left.
 * Holds: the lock; drops it, unless it repairs.
 */
static void rw_admit_next(struct shoal_rwmutex *rw, bool after_writer, struct note *repair)
{
	struct sudog *first = waitq_list(&rw->q)->first, *writer = first_waiter(first, RW_WRITE), *sg, *after;

	if (!atomic_load(&rw->writer) && (after_writer || !writer) && (sg = first_waiter(first, RW_READ))) {
		for (; sg; sg = after) {
			after = first_waiter(sg->next, RW_READ);
			admit(rw, sg, repair, !after);
		}
		return;
	}
	if (!atomic_load(&rw->writer) && !rw->readers && writer)
		admit(rw, writer, repair, true);
	else if (!repair)
		sh_lock_drop((struct sh_lock *)&rw->q, (unsigned)getm->seat);
}

/* ---- the calls ---- */

/* Waits in the queue. Holds: the lock; drops it. Parks. */
static int rw_wait(struct shoal_rwmutex *rw, struct g *g, uint32_t kind)
{
	struct sudog *sg = &g->sudog;

	sh_check(g == getg());
	sg->g = g;
	sg->n = kind;
	sg->size = 0;
	sg->seq = g_next_seq(g);
	atomic_store_explicit(&sg->state, SG_QUEUED, memory_order_relaxed);
	sg->queue = rw; /* from here on its hold does not count */
	KILL_POINT("rwmutex.wait.named");
	waitq_push(waitq_list(&rw->q), sg);
	gopark(lock_of(rw), kind == RW_READ ? WAIT_RW_RLOCK : WAIT_RW_LOCK, 0);
	/* nothing else ends this wait */
	sh_check(atomic_load_explicit(&sg->state, memory_order_acquire) == SG_DELIVERED);
	atomic_store_explicit(&sg->state, SG_IDLE, memory_order_relaxed);
	sg->queue = NULL;
	return sg->size ? -EOWNERDEAD : 0;
}

static int rw_enter(struct shoal_rwmutex *rw, struct g *g, uint32_t kind)
{
	struct sh_lock *l = lock_of(rw);
	uint32_t dead;

	sh_lock_take(l, (unsigned)getm->seat);
	hold_add(g, rw);
	if (atomic_load(&rw->writer) || waitq_list(&rw->q)->first || (kind == RW_WRITE && rw->readers))
		return rw_wait(rw, g, kind);
	if (kind == RW_WRITE)
		atomic_store(&rw->writer, g->gid);
	else
		rw->readers++;
	KILL_POINT("rwmutex.enter.counted");
	dead = rw->dead;
	rw->dead = 0;
	sh_lock_drop(l, (unsigned)getm->seat);
	return dead ? -EOWNERDEAD : 0;
}

int shoal_rwmutex_rlock(struct shoal_rwmutex *rw)
{
	struct g *g = api_enter("shoal_rwmutex_rlock");

	api_check_object(rw, "shoal_rwmutex_rlock: " ON_STACK);
	return rw_enter(rw, g, RW_READ);
}

int shoal_rwmutex_lock(struct shoal_rwmutex *rw)
{
	struct g *g = api_enter("shoal_rwmutex_lock");

	api_check_object(rw, "shoal_rwmutex_lock: " ON_STACK);
	return rw_enter(rw, g, RW_WRITE);
}

int shoal_rwmutex_runlock(struct shoal_rwmutex *rw)
{
	struct g *g = api_enter("shoal_rwmutex_runlock");
	struct sh_lock *l = lock_of(rw);

	api_check_object(rw, "shoal_rwmutex_runlock: " ON_STACK);
	sh_lock_take(l, (unsigned)getm->seat);
	if (!reads(g, rw)) {
		sh_lock_drop(l, (unsigned)getm->seat);
		host_misuse("shoal_rwmutex_runlock: the rwmutex is not held for reading by this goroutine");
	}
	hold_sub(g, rw);
	rw->readers--;
	KILL_POINT("rwmutex.runlock.counted");
	rw_admit_next(rw, false, NULL);
	return 0;
}

int shoal_rwmutex_unlock(struct shoal_rwmutex *rw)
{
	struct g *g = api_enter("shoal_rwmutex_unlock");
	struct sh_lock *l = lock_of(rw);

	api_check_object(rw, "shoal_rwmutex_unlock: " ON_STACK);
	if (atomic_load(&rw->writer) != g->gid)
		host_misuse("shoal_rwmutex_unlock: the rwmutex is not held for writing by this goroutine");
	sh_lock_take(l, (unsigned)getm->seat);
	atomic_store(&rw->writer, 0);
	KILL_POINT("rwmutex.unlock.freed");
	hold_sub(g, rw);
	rw_admit_next(rw, true, NULL);
	return 0;
}

/* ---- deaths ---- */

/* Gives up the holds of g, which has ended or is lost, for one rwmutex. */
static void rw_give_up(struct shoal_rwmutex *rw, struct g *g)
{
	struct sh_lock *l = lock_of(rw);
	bool wrote;

	sh_lock_take(l, (unsigned)getm->seat);
	wrote = atomic_load(&rw->writer) == g->gid;
	if (wrote) {
		rw->dead = 1;
		KILL_POINT("rwmutex.abandon.dead");
		atomic_store(&rw->writer, 0);
		KILL_POINT("rwmutex.abandon.freed");
		hold_sub(g, rw);
	}
	while (reads(g, rw)) {
		hold_sub(g, rw);
		KILL_POINT("rwmutex.abandon.reader");
		rw->readers--;
	}
	rw_admit_next(rw, wrote, NULL);
}

void rw_abandon(struct g *g)
{
	struct holds *t = table_of(g);

	if (!t) {
		if (sh_shared((void *)g->rwheld))
			rw_give_up((struct shoal_rwmutex *)g->rwheld, g);
	} else if (sh_heap_usable(sh_root->arena, t)) {
		for (uint32_t i = 0; i < t->cap; i++)
			if (t->e[i].n && sh_shared(t->e[i].rw))
				rw_give_up(t->e[i].rw, g);
	}
	g->rwheld = 0;
	KILL_POINT("rwmutex.abandon.done");
	for (struct holds *old; t && sh_heap_usable(sh_root->arena, t); t = old) {
		old = t->old;
		g_free(g, t);
	}
}

void rw_forget(struct sh_lock *l, struct sudog *sg)
{
	struct shoal_rwmutex *rw = (struct shoal_rwmutex *)l;

	sh_lock_take(l, (unsigned)getm->seat);
	if (waitq_has(waitq_list(&rw->q), sg))
		waitq_remove(waitq_list(&rw->q), sg);
	if (queued(sg->g, rw)) {
		hold_sub(sg->g, rw);
		KILL_POINT("rwmutex.forget.entry");
		atomic_store(&sg->state, SG_IDLE);
		KILL_POINT("rwmutex.forget.idle");
		rw_admit_next(rw, false, NULL); /* it may have kept readers out */
		return;
	}
	sh_lock_drop(l, (unsigned)getm->seat);
}

/* Makes the rwmutex whole. Holds: the lock, in the dead worker's name. */
void rw_repair(struct sh_lock *l, struct note *note)
{
	struct shoal_rwmutex *rw = (struct shoal_rwmutex *)l;
	struct waitq *q = waitq_list(&rw->q);
	uint64_t ngs = atomic_load(&sched.ngs);
	struct sudog *sg = note->sg, *after;
	uint32_t n = 0;

	note_wake_finished(note);
	waitq_relink(q);
	if (sg && sh_in_segment(sg) && sg->queue == rw && !waitq_has(q, sg) && atomic_load(&sg->state) == SG_QUEUED) {
		/* it was admitted and unlinked, but its wait was not finished: admitted again below */
		waitq_push_first(q, sg);
		KILL_POINT("rwmutex.repair.back");
	}
	for (sg = q->first; sg; sg = after) {
		after = sg->next;
		if (sg->n == RW_WRITE && atomic_load(&rw->writer) == sg->g->gid) {
			waitq_finish(&rw->q, sg, note);
		} else if (sg->size) { /* -EOWNERDEAD was meant for it and now goes to the next */
			rw->dead = 1;
			KILL_POINT("rwmutex.repair.dead");
			sg->size = 0;
		}
	}
	for (uint64_t i = 1; i < ngs && i < G_MAX; i++)
		if (allg(i)->rwheld)
			n += reads(allg(i), rw);
	rw->readers = n;
	KILL_POINT("rwmutex.repair.counted");
	rw_admit_next(rw, false, note);
}
