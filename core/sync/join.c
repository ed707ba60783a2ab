/*
 * join.c - waiting for the end of a goroutine.
 *
 *      joiner                                    the goroutine that ends: g_end
 *   a  takes join_lock; joined = 1            d  gid++
 *   b  reads gid: ended? does not wait        e  reads joined: 0? wakes nobody
 *   c  enters joiners, parks                  f  takes join_lock, wakes the joiners
 *
 * a before b and d before e, all sequentially consistent: either b sees the new gid, or e sees joined.
 *
 * LOCK   join_lock of the G that ends guards joiners
 * DEATH  a waker that has unlinked a joiner and not finished its wait: join_repair finishes it. A joiner:
 *        join_forget unlinks it
 */
#include "core/sync/join.h"
#include "core/g/api.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/repair/note.h"
#include "core/sched/m.h"
#include "core/sched/proc.h"
#include "core/shoal.h"
#include "core/task/task.h"
#include "shm/kill.h"
#include "shm/lock.h"
#include "shm/segment.h"

#include <errno.h>
#include <stddef.h>

int shoal_join(shoal_gid gid, struct shoal_end *end)
{
	struct g *self = api_enter("shoal_join"), *g;
	struct shoal_end how = {SHOAL_DONE, 0, NULL, 1};
	struct sudog *sg = &self->sudog;
	bool ended = false;

	api_check_value(end, "shoal_join: its end would be told to another goroutine's stack");
	if (gid == self->gid)
		return -EDEADLK;
	g = g_find(gid, &ended);
	if (!g)
		return -ESRCH;
	while (!ended) {
		sh_lock_take(&g->join_lock, (unsigned)getm->seat);
		atomic_store(&g->joined, 1); /* pairs with g_end: see the picture above */
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
	task_tombstone_find(self->task, gid, &how);
	if (end)
		*end = how;
	return 0;
}

/* Finishes the wait of a joiner that was unlinked. Holds: the lock, in the dead worker's name. */
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
