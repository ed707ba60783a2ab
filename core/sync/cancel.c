/*
 * cancel.c - cancellation.
 *
 *      canceller                                 the goroutine, on its worker
 *   a  g->cancelled = incarnation             c  status becomes waiting
 *   b  host_barrier(): all processes pass it  d  reads g->cancelled: set? wakes itself
 *   e  reads status: waiting? wakes it
 *
 * The goroutine pays for no fence between c and d: the barrier b is its fence. Either d sees a, or e sees c.
 *
 * OWNER  cancelled: the canceller, for this incarnation; cleared at the end of the G
 * DEATH  canceller between a and e: note.ready names the G, and repair_notes calls g_cancel_wake
 */
#include "core/sync/cancel.h"
#include "core/g/api.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/sched/m.h"
#include "core/sched/preempt.h"
#include "core/sched/proc.h"
#include "shm/check.h"
#include "shm/kill.h"
#include "shm/segment.h"

#include <errno.h>

bool wait_cancellable(unsigned why)
{
	return why != WAIT_MUTEX && why != WAIT_RW_LOCK && why != WAIT_RW_RLOCK && why != WAIT_PREEMPTED &&
	       why != WAIT_STOPTHEWORLD && why != WAIT_PTHREAD_LOCK && why != WAIT_LIBRARY && why != WAIT_FUTEX &&
	       why != WAIT_CRASHED && why != WAIT_LOST;
}

bool wait_interruptible(unsigned why)
{
	return why == WAIT_IO || why == WAIT_SLEEP || why == WAIT_SIGNAL || why == WAIT_PTHREAD_LOCK ||
	       why == WAIT_PTHREAD_COND || why == WAIT_PTHREAD_SEM;
}

bool wait_finished(struct g *g, uint32_t seq)
{
	uint32_t how = atomic_load(&g->sudog.state);

	if ((atomic_load(&g->preempt) & PREEMPT_SIGNAL) && wait_interruptible(g->waitreason))
		return true;
	if (g_cancelled(g) && wait_cancellable(g->waitreason))
		return true;
	return g->sudog.seq == seq && (how == SG_DELIVERED || how == SG_CLOSED);
}

void g_cancel_mark(struct g *g, uint64_t gid)
{
	sh_check(g_plausible(g));
	getm->note.ready = g; /* if we die before the wake, the medic does it */
	KILL_POINT("g.cancel.noted");
	atomic_store(&g->cancelled, (uint32_t)(gid >> 24) + 1);
	KILL_POINT("g.cancel.marked");
}

bool g_cancel_ask(struct g *g, uint64_t gid)
{
	uint32_t old = atomic_load(&g->cancelled), asked;

	getm->note.ready = g;
	KILL_POINT("g.cancel.asking");
	do
		asked = old == CANCEL_HELD || old == CANCEL_HELD_ASKED ? CANCEL_HELD_ASKED : (uint32_t)(gid >> 24) + 1;
	while (!atomic_compare_exchange_weak(&g->cancelled, &old, asked));
	KILL_POINT("g.cancel.asked");
	if (asked != CANCEL_HELD_ASKED)
		return true;
	getm->note.ready = NULL;
	return false;
}

void g_cancel_hold(struct g *g)
{
	uint32_t old = atomic_load(&g->cancelled);

	while (old != CANCEL_HELD && old != CANCEL_HELD_ASKED &&
	       !atomic_compare_exchange_weak(&g->cancelled, &old, g_cancelled(g) ? CANCEL_HELD_ASKED : CANCEL_HELD))
		;
	KILL_POINT("g.cancel.held");
}

void g_cancel_release(struct g *g)
{
	uint32_t old = atomic_load(&g->cancelled);

	while ((old == CANCEL_HELD || old == CANCEL_HELD_ASKED) &&
	       !atomic_compare_exchange_weak(&g->cancelled, &old,
					     old == CANCEL_HELD_ASKED ? (uint32_t)(g->gid >> 24) + 1 : 0))
		;
	KILL_POINT("g.cancel.released");
}

void g_cancel_interrupt(struct g *g)
{
	uint64_t s = atomic_load(&g->status);

	if ((s & G_STATE) != G_RUNNING || G_OWNER_SEAT(s) <= 0 || G_OWNER_SEAT(s) >= SH_SEATS)
		return;
	preempt_ask(g);
	host_kick((unsigned)G_OWNER_SEAT(s));
}

void g_cancel_wake(struct g *g)
{
	uint64_t s = atomic_load(&g->status);

	sh_check(g_plausible(g));
	if ((s & G_STATE) == G_WAITING && g_cancelled(g) && wait_cancellable(g->waitreason))
		goready(g, G_SEQ(s));
	else if ((s & G_STATE) == G_SYSCALL && g_cancelled(g) && G_OWNER_SEAT(s) > 0 && G_OWNER_SEAT(s) < SH_SEATS)
		host_kick((unsigned)G_OWNER_SEAT(s)); /* interrupts its system call: worker/blocking.c */
	getm->note.ready = NULL;
}

void g_signal_wake(struct g *g)
{
	uint64_t s = atomic_load(&g->status);
	unsigned state = s & G_STATE;

	if (!(atomic_load(&g->preempt) & PREEMPT_SIGNAL))
		return;
	if (state == G_WAITING && wait_interruptible(g->waitreason))
		goready(g, G_SEQ(s));
	else if ((state == G_RUNNING || state == G_SYSCALL) && G_OWNER_SEAT(s) > 0 && G_OWNER_SEAT(s) < SH_SEATS)
		host_kick((unsigned)G_OWNER_SEAT(s));
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
	host_barrier(); /* pairs with park_m: see the picture above */
	g_cancel_wake(g);
	return 0;
}
