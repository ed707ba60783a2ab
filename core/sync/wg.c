/*
 * wg.c - wait groups.
 *
 * OWNER  the program
 * LOCK   the lock of q guards count and the queue
 * ORDER  under the lock; count is stored with release
 * DEATH  the count changes by one store. Who is counted (a member's g->wg, or note.wg_promised of a spawner
 *        that has counted a member and not made it yet) is stored after it; the note says what the count
 *        becomes, so the medic can complete the second store
 */
#include "core/sync/wg.h"
#include "core/g/api.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/repair/note.h"
#include "core/sched/m.h"
#include "core/sched/proc.h"
#include "core/shoal.h"
#include "core/sync/waitq.h"
#include "shm/kill.h"
#include "shm/lock.h"

#include <errno.h>

/*
 * Adds `by` to the count and sets *slot to value, as one change: after a death in between, the medic finds by
 * the note whether the count has changed and completes the slot.
 */
static int wg_change(struct shoal_wg *wg, int64_t by, struct shoal_wg **slot, struct shoal_wg *value)
{
	struct sh_lock *l = waitq_lock(&wg->q);
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
	atomic_store_explicit(&wg->count, n, memory_order_release); /* after the note: pairs with wg_repair */
	KILL_POINT("wg.change.counted");
	*slot = value;
	KILL_POINT("wg.change.slot");
	sh_noted();
	m->note.wg = NULL;
	if (n == 0)
		waitq_finish_all(&wg->q);
	else
		sh_lock_drop(l, (unsigned)m->seat);
	return 0;
}

/* Holds: the lock, in the dead worker's name. */
void wg_repair(struct shoal_wg *wg, struct note *n)
{
	if (n->wg != wg)
		return;
	if (atomic_load(&wg->count) == n->wg_count)
		*n->wg_slot = n->wg_value;
	KILL_POINT("wg.repair.slot");
	n->wg = NULL;
}

int shoal_wg_add(struct shoal_wg *wg, int n)
{
	api_enter("shoal_wg_add");
	api_check_object(wg, "shoal_wg_add: a wait group on a goroutine's stack; put it in a global or on the heap");
	if (wg_change(wg, n, &getm->note.wg_promised, NULL) < 0)
		host_misuse("shoal_wg_add: negative wait group counter");
	return 0;
}

int shoal_wg_done(struct shoal_wg *wg)
{
	api_enter("shoal_wg_done");
	api_check_object(wg, "shoal_wg_done: a wait group on a goroutine's stack; put it in a global or on the heap");
	if (wg_change(wg, -1, &getm->note.wg_promised, NULL) < 0)
		host_misuse("shoal_wg_done: negative wait group counter");
	return 0;
}

void wg_leave(struct g *g)
{
	wg_change(g->wg, -1, &g->wg, NULL);
}

/* Takes back the count for a goroutine that was never made. slot: in the note of the spawner. */
void wg_unpromise(struct shoal_wg **slot)
{
	wg_change(*slot, -1, slot, NULL);
}

int shoal_wg_wait(struct shoal_wg *wg)
{
	struct g *g = api_enter("shoal_wg_wait");
	struct sh_lock *l = waitq_lock(&wg->q);

	api_check_object(wg, "shoal_wg_wait: a wait group on a goroutine's stack; put it in a global or on the heap");
	for (;;) {
		int r;

		sh_lock_take(l, (unsigned)getm->seat);
		if (atomic_load_explicit(&wg->count, memory_order_relaxed) == 0) {
			sh_lock_drop(l, (unsigned)getm->seat);
			return 0;
		}
		r = waitq_wait(&wg->q, g, WAIT_WG, false);
		if (r != -EAGAIN)
			return r;
	}
}

static inline shoal_gid wg_go(struct shoal_wg *wg, const struct shoal_go_opts *o, void (*fn)(void *), const void *arg,
			      size_t size, void *pc)
{
	struct g *self = api_enter("shoal_wg_go"), *g;
	int err;

	api_check_object(wg, "shoal_wg_go: a wait group on a goroutine's stack; put it in a global or on the heap");
	api_check_value(arg, "shoal_wg_go: the argument is on another goroutine's stack");
	wg_change(wg, 1, &getm->note.wg_promised, wg); /* until newproc has made the member */
	getm->gopc = pc;
	g = newproc(self->task, o, fn, arg, size, wg, &err);
	if (!g) {
		wg_unpromise(&getm->note.wg_promised);
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
