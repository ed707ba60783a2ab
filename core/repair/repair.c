/*
 * repair.c - what the medic does for a dead worker. Pure code over the segment.
 *
 * Every step checks the facts again and may be done twice: the medic itself may be killed between any two
 * instructions, and its successor begins anew. Nothing in the seat is trusted: a damaged index or pointer is
 * skipped.
 *
 * Order, and why:
 *   1  the scan bit and the inner locks      otherwise all that follows would wait for the dead worker
 *   2  the notes                             the medic, perhaps the successor of the dead, needs its own soon
 *   3  the outer locks with their queues     finishing waits makes goroutines runnable
 *   4  the goroutine that ran there          needs the locks to be free
 *   5  the P                                 its next owner overwrites what lies behind the ring's tail
 */
#include "core/repair/repair.h"
#include "core/g/g.h"
#include "core/g/life.h"
#include "core/g/names.h"
#include "core/g/stack.h"
#include "core/g/tstack.h"
#include "core/host.h"
#include "core/repair/crash.h"
#include "core/repair/note.h"
#include "core/root.h"
#include "core/sched/idle.h"
#include "core/sched/m.h"
#include "core/sched/netpoll.h"
#include "core/sched/p.h"
#include "core/sched/pin.h"
#include "core/sched/preempt.h"
#include "core/sched/proc.h"
#include "core/sched/stuck.h"
#include "core/sched/syscall.h"
#include "core/sched/timer.h"
#include "core/shoal.h"
#include "core/sync/cancel.h"
#include "core/sync/chan.h"
#include "core/sync/cond.h"
#include "core/sync/join.h"
#include "core/sync/mutex.h"
#include "core/sync/rwmutex.h"
#include "core/sync/select.h"
#include "core/sync/semtable.h"
#include "core/sync/waitq.h"
#include "core/sync/wg.h"
#include "core/task/maps.h"
#include "core/task/hold.h"
#include "core/task/task.h"
#include "shm/check.h"
#include "shm/heap.h"
#include "shm/kill.h"
#include "shm/lock.h"
#include "shm/segment.h"

#include <signal.h>
#include <string.h>

static struct g *valid_g(struct g *g)
{
	return g_plausible(g) && g_index(g) < atomic_load(&sched.ngs) ? g : NULL;
}

/* Adds a queue entry for a runnable G that may be in no queue. */
static void add_hint(struct g *g)
{
	if (valid_g(g) && g_state(g) == G_RUNNABLE)
		ready_hint(g);
}

/* A lost G may still be in a wait queue: it was about to wait there, or a timer had woken it. */
static void g_lost_unqueue(struct g *g)
{
	struct sudog *sg = &g->sudog;
	/* the park sequence of its last wait; it may also have been about to begin the next */
	uint32_t wait = G_SEQ(atomic_load(&g->status));
	void *q = sg->queue;

	select_forget(g);
	/* If its wait was finished, it is in no queue, and the object may be other memory by now. */
	if (!q || !sh_shared(q) || atomic_load(&sg->state) != SG_QUEUED || (sg->seq != wait && sg->seq != wait + 1))
		;
	else if (q >= (void *)allg(0) && q < (void *)allg(G_MAX))
		join_forget(q, sg);
	else if (sh_heap_owns(sh_root->arena, q) && ((struct sh_lock *)q)->kind == SH_LOCK_CHAN)
		chan_forget(q, sg);
	else if (((struct sh_lock *)q)->kind == SH_LOCK_RWMUTEX)
		rw_forget(q, sg);
	else if (((struct sh_lock *)q)->kind == SH_LOCK_WAITQ)
		waitq_forget(q, sg);
	KILL_POINT("repair.lost.unqueued");
	sg->queue = NULL;
	/*
	 * A result that it got, or is about to get, does not concern its next wait, nor the next user of this
	 * G.
	 */
	atomic_store(&sg->state, SG_IDLE);
	atomic_fetch_add(&g->status, 1ull << 32);
	KILL_POINT("repair.lost.raised");
}

/* True if the dead worker's crash record names this goroutine: it ran, or could not be entered. */
static bool to_blame(const struct m *m, const struct g *g)
{
	return atomic_load(&((struct m *)m)->crash.valid) && m->crash.gid == g->gid;
}

/* Its task ends. Until the medic ends it with the others, its wait reason says how it ended. */
static void leave_to_reaper(struct g *g, int how)
{
	g->waitreason = how == SHOAL_CRASHED ? WAIT_CRASHED : WAIT_LOST;
	casgstatus(g, G_RUNNING, G_WAITING);
}

static void g_lost(struct m *m, struct g *g)
{
	struct crash *c = &m->crash;
	bool crashed = to_blame(m, g);
	int how = crashed ? SHOAL_CRASHED : SHOAL_LOST, sig = crashed ? c->signal : SIGKILL;
	struct task *t = g->task;
	bool root = (g->flags & GF_ROOT) != 0, isolated = (g->flags & GF_ISOLATED) != 0;

	struct sudog *sg = &g->sudog;
	struct sh_lock *q = sg->queue;
	struct shoal_mutex *mu = m->note.chan;

	sh_check(getm->seat == SH_SEAT_MEDIC);
	g->wake_at = 0; /* a lost goroutine waits for no timer */
	atomic_fetch_add(&sched.gs_lost, 1);
	KILL_POINT("repair.lost.begun");
	if (g->waitreason == WAIT_COND && q && sh_shared(q) && atomic_load(&sg->state) == SG_DELIVERED)
		cond_signal_first((struct shoal_cond *)q);
	if (g->waitreason == WAIT_MUTEX && q)
		mu = (struct shoal_mutex *)((char *)q - offsetof(struct shoal_mutex, q));
	g_lost_unqueue(g);
	if (mu && sh_shared(mu))
		mutex_abandon(mu, g);
	if (atomic_load(&t->state) != TASK_RUNNING) {
		/* The task is ending: as waiting it is ended with the others. Its frames are not needed. */
		stack_free(g);
		leave_to_reaper(g, how);
		return;
	}
	semtable_g_gone(g);
	if (crashed)
		sh_task_crashed(t);
	if (!root && g->attempt < g->attempts) {
		g_restart(g);
		return;
	}
	if (root && atomic_load(&t->attempt) < t->attempts) {
		stack_free(g);
		task_end(t, (crashed ? TASK_CRASHED : TASK_LOST) | TASK_AGAIN, crashed ? 128 + sig : 137, sig);
		/* last: after this a successor of the medic would not find it here */
		leave_to_reaper(g, how);
		return;
	}
	sh_format(t->message, sizeof t->message,
		  crashed ? "goroutine %lu crashed: %s" : "goroutine %lu was lost with its worker",
		  (unsigned long)g->gid, c->message[0] ? c->message : "signal");
	if (!isolated || root) {
		stack_free(g);
		task_end(t, crashed ? TASK_CRASHED : TASK_LOST, crashed ? 128 + sig : 137, sig);
		leave_to_reaper(g, how);
		return;
	}
	g_end(g, how, sig, crashed ? c->address : NULL);
}

/*
 * It had entered a queue and dropped the lock but was not waiting yet: a waker that finished its wait found
 * it running.
 */
static void finished_while_running(struct g *g)
{
	uint32_t seq = G_SEQ(atomic_load(&g->status));

	if (wait_finished(g, seq))
		goready(g, seq);
}

/*
 * Moves the work from the dead worker's seat to the medic's, with all that a successor of the medic must
 * know.
 */
static void take_over(struct m *m, struct g *g, uint64_t status)
{
	struct m *me = getm;

	sh_check(m != getm || m->seat == SH_SEAT_MEDIC);
	me->oncpu = m->oncpu || to_blame(m, g);
	me->parking = m->parking;
	me->park_when = m->park_when;
	me->park_unlockf = m->park_unlockf;
	me->note.chan = m->note.chan;
	me->note.ending_gid = m->note.ending_gid;
	me->note.ending_how = m->note.ending_how;
	me->note.ending_signal = m->note.ending_signal;
	me->note.ending_address = m->note.ending_address;
	me->note.ended_counter = m->note.ended_counter;
	me->note.ended_value = m->note.ended_value;
	atomic_signal_fence(memory_order_seq_cst);
	me->note.ending = m->note.ending;
	atomic_store(&me->curg, g);
	KILL_POINT("repair.curg.named");
	atomic_store(&g->status, status);
	KILL_POINT("repair.curg.taken");
}

static void repair_curg(struct m *m, struct g *g, unsigned seat)
{
	uint64_t s = atomic_load(&g->status);
	unsigned state = s & G_STATE;
	struct m *me = getm;

	/* It was never claimed, or is runnable again. */
	if (state == G_RUNNABLE) {
		ready_hint(g);
		return;
	}
	/* It had stopped for a suspender. */
	if (state == G_PREEMPTED) {
		if (!(atomic_load(&g->preempt) & PREEMPT_STOP))
			unpreempt(g);
		return;
	}
	/* A suspender, or its own worker, was resuming it. */
	if (state == G_WAITING && !m->parking && g->waitreason == WAIT_PREEMPTED) {
		/* the worker died in unpreempt; otherwise the suspender resumes it */
		if (!(atomic_load(&g->preempt) & PREEMPT_STOP))
			goready(g, G_SEQ(s));
		return;
	}
	/* its timer may not have been added, or its wait was finished too early */
	if (state == G_WAITING && m->parking) {
		if (m->park_unlockf) /* whether it was committed or not: wake it, it checks again */
			goready(g, m->park_seq);
		else if (g->wake_at)
			timer_add(allp(0), g->wake_at, g, G_SEQ(s));
		finished_while_running(g);
		return;
	}
	/* Its end was complete but for joiners and counters. */
	if (state == G_DEAD && m->note.ending == g && m->note.ending_how != END_AGAIN) {
		g_end_publish(g, &m->note);
		return; /* note.g says whether it is on a list */
	}
	if ((state != G_RUNNING && state != G_COPYSTACK && state != G_SYSCALL) || G_OWNER_SEAT(s) != (int)seat)
		return; /* another worker has claimed it; ours had only announced its claim */
	take_over(m, g, (s & G_SEQ_MASK) | G_OWNER(me->seat) | G_RUNNING);
	/* first: a G that is already ending cannot be lost */
	if (m->note.ending == g && m->note.ending_gid == g->gid) {
		if (m->note.ending_how == END_AGAIN)
			g_restart(g);
		else
			g_end(g, m->note.ending_how, m->note.ending_signal, m->note.ending_address);
	} else if (m->note.ending == g && m->note.ending_gid + GID_STEP == g->gid) {
		casgstatus(g, G_RUNNING, G_DEAD); /* the end was complete but for the status */
		g_end_publish(g, &me->note);
		gfput(g);
	} else if (atomic_load(&m->oncpu) || to_blame(m, g)) {
		g_lost(m, g);
	} else if (g->sp && atomic_load(&g->res) != RES_IMAGE && !stack_fit(g)) {
		g_lost(m, g); /* its frames are in the dead worker's window, and there is no memory to keep them */
	} else if (m->parking && g->sp) {
		g->wake_at = m->park_when;
		casgstatus(g, G_RUNNING, G_WAITING);
		if (g->wake_at)
			timer_add(allp(0), g->wake_at, g, G_SEQ(atomic_load(&g->status)));
		finished_while_running(g);
		if (m->park_unlockf)
			goready(g, m->park_seq);
	} else { /* it was not entered yet, or was giving way */
		if (!g->sp)
			atomic_store(&g->res, RES_NONE);
		casgstatus(g, G_RUNNING, G_RUNNABLE);
		ready(g, READY_WAKE);
	}
	atomic_store(&me->curg, NULL);
	me->oncpu = 0;
	me->parking = 0;
	me->note.ending = NULL;
	KILL_POINT("repair.curg.done");
}

/*
 * A dead G that the dead worker had in hand. note.g changes under sched.lock where the global list is concerned.
 * So if that lock was free, or is repaired (sched_repair), the G is not on the global list.
 */
static void repair_free(struct m *m, struct p *p)
{
	struct g *g = valid_g(m->note.g);

	if (!g || g->gid != m->note.gid || g_state(g) != G_DEAD || (p && p->gfree == g))
		return;
	tstack_unbind(g); /* newproc had given it one */
	gfreturn(g, &m->note.g);
	KILL_POINT("repair.free.put");
}

/* A G that the worker was making for the first time: count it and finish it as a dead G. */
static void repair_making(struct m *m)
{
	uint64_t i = m->note.making;
	struct g *g = allg(i);

	if (i == 0 || i >= G_MAX || atomic_load(&g->status) != (G_OWNER(m->seat) | G_IDLE))
		return;
	atomic_compare_exchange_strong(&sched.ngs, &i, i + 1);
	KILL_POINT("repair.making.counted");
	g_lay_out(g);
	m->note.gid = g->gid;
	m->note.g = g;
	KILL_POINT("repair.making.noted");
	atomic_store(&g->status, G_MAKE(G_DEAD, 0));
	KILL_POINT("repair.making.dead");
}

/*
 * The head of the free list is listed: clear dead workers' notes that name it. Holds: sched.lock, in a dead
 * worker's name.
 */
static void sched_repair(struct m *m)
{
	if (m->note.g == sched.gfree)
		m->note.g = NULL;
	for (unsigned i = 0; i < SH_SEATS; i++)
		if (sh_seat_dead(i) && allm(i)->note.g == sched.gfree)
			allm(i)->note.g = NULL;
	KILL_POINT("repair.sched.free");
}

static void free_scan(struct m *m, unsigned seat)
{
	struct g *g = valid_g(m->note.scan);
	uint64_t s;

	if (!g)
		return;
	if (seat == SH_SEAT_MEDIC)
		retake_repair(g);
	else
		repair_hold(g);
	s = atomic_load(&g->status);
	if ((s & G_SCAN) && (s & G_STATE) != G_SYSCALL && G_OWNER_SEAT(s) == (int)seat)
		atomic_store(&g->status, s & ~(G_SCAN | G_OWNER_MASK));
	KILL_POINT("repair.scan.freed");
}

static struct sh_lock *repairing[8]; /* locks that the medic is repairing, the outermost first */
static unsigned nrepairing;

static void repair_lock(struct m *m, struct sh_held *h, unsigned i, unsigned seat)
{
	struct sh_lock *l = h->lock[i];

	sh_check(i < SH_HELD_MAX);
	if (!sh_shared(l) || atomic_load(&l->owner) != seat + 1) {
		h->lock[i] = NULL;
		return;
	}
	switch (l->kind) {
	case SH_LOCK_CHAN: chan_repair(l, &m->note); break;
	case SH_LOCK_JOIN: join_repair(l, &m->note); break;
	case SH_LOCK_RWMUTEX: rw_repair(l, &m->note); break;
	case SH_LOCK_WAITQ: waitq_repair(l, &m->note); break;
	case SH_LOCK_SCHED: sched_repair(m); break;
	case SH_LOCK_OUTPUT: host_output_repair(l); break;
	case SH_LOCK_MAPS: sh_maps_repair(l); break;
	case SH_LOCK_HEAP: /* sh_heap_repair frees it */
	case SH_LOCK_TIMERS: /* repaired with its P */ return;
	default: /* whole after each store */ break;
	}
	atomic_store(&l->owner, 0);
	KILL_POINT("repair.lock.freed");
	h->lock[i] = NULL;
}

static void repair_timers(unsigned seat)
{
	for (unsigned i = 0; i < P_MAX; i++) {
		struct p *p = allp(i);

		if (atomic_load(&p->timers_lock.owner) != seat + 1)
			continue;
		if (p->timers_dirty)
			timers_rebuild(p);
		atomic_store(&p->timers_lock.owner, 0);
		KILL_POINT("repair.timers.freed");
	}
}

static void repair_held(unsigned seat, unsigned i)
{
	struct sh_held *h = sh_seat_held(seat);
	struct sh_lock *l = h->lock[i];

	sh_check(i < SH_HELD_MAX);
	for (unsigned k = 0; k < nrepairing; k++)
		if (repairing[k] == l)
			return; /* it is being repaired further up, where this one is needed */
	if (!l || nrepairing == sizeof repairing / sizeof *repairing)
		return;
	repairing[nrepairing++] = l;
	if (sh_shared(l) && l->kind == SH_LOCK_HEAP)
		sh_heap_repair(sh_root->arena, seat, SH_SEAT_MEDIC);
	else if (sh_shared(l) && l->kind == SH_LOCK_TIMERS)
		repair_timers(seat);
	else
		repair_lock(allm(seat), h, i, seat);
	nrepairing--;
}

/*
 * Repairs locks of kind `from` and above, the innermost first: finishing a wait makes a goroutine runnable,
 * which takes sched.lock.
 */
static void repair_locks(unsigned seat, unsigned from)
{
	struct sh_held *h = sh_seat_held(seat);

	for (unsigned kind = SH_LOCK_KINDS; kind-- > from;)
		for (unsigned i = SH_HELD_MAX; i-- > 0;)
			if (h->lock[i] && (!sh_shared(h->lock[i]) || h->lock[i]->kind == kind))
				repair_held(seat, i);
}

/*
 * True if the worker is dead and not repaired. A vacant seat keeps the kernel's mark until a process is
 * cloned into it: that one must not be repaired.
 */
static bool needs_repair(unsigned seat)
{
	uint32_t state = atomic_load(&sh_root->seat[seat].state);

	return state != SEAT_EMPTY && state != SEAT_VACANT && sh_seat_dead(seat);
}

bool repair_pending(void)
{
	for (unsigned i = 1; i < SH_SEATS; i++)
		if (needs_repair(i))
			return true;
	return false;
}

/*
 * The medic waits for a lock. Its owner may be dead and not yet repaired, or may wait for a lock whose owner is.
 * Those locks have the same rank or a higher one: repair them at once, for all dead workers. (While the medic
 * has a note in hand it waits only for ranks whose repair needs no note.)
 */
static void repair_while_waiting(struct sh_lock *l, unsigned waiter)
{
	if (waiter != SH_SEAT_MEDIC)
		return;
	stuck_check_waited((int)atomic_load(&l->owner) - 1);
	for (unsigned i = 1; i < SH_SEATS; i++)
		if (needs_repair(i)) {
			sh_check(l->kind > SH_LOCK_WAITQ || !getm->note.ready);
			repair_locks(i, l->kind);
		}
}

void repair_begin(void)
{
	nrepairing = 0;
	sh_lock_wait_hook = repair_while_waiting;
}

void note_wake_finished(struct note *n)
{
	struct sudog *sg = n->sg;
	uint32_t how;

	if (!sg || !sh_in_segment(sg) || !valid_g(sg->g))
		return;
	how = atomic_load(&sg->state);
	if (how == SG_DELIVERED || how == SG_CLOSED || how == SG_RETRY)
		goready(sg->g, n->sg_seq);
}

static void repair_notes(struct m *m, struct p *p)
{
	struct note *n = &m->note;

	add_hint(n->ready);
	if (valid_g(n->ready))
		g_signal_wake(n->ready);
	if (valid_g(n->ready)) /* it may have been cancelled and not woken. Last: in the medic's own seat this clears the note */
		g_cancel_wake(n->ready);
	add_hint(n->kicked);
	if (p && n->grab_n && n->grab_n <= RUNQ_SIZE / 2)
		for (uint32_t i = 0; i < n->grab_n; i++)
			add_hint(atomic_load(&p->runq[(n->grab_at + i) % RUNQ_SIZE]));
	KILL_POINT("repair.notes.hints");
	note_wake_finished(n);
	n->ready = n->kicked = NULL;
	n->grab_n = 0;
	KILL_POINT("repair.notes.done");
}

/* True if the member that the worker counted into a wait group exists: from then on it counts itself out. */
static bool member_made(const struct m *m)
{
	struct g *g = valid_g(m->note.g);
	unsigned state = g ? g_state(g) : G_DEAD;

	/* idle: the worker died before the new G was a dead one */
	return g && (g->gid != m->note.gid || (state != G_DEAD && state != G_IDLE));
}

/* Takes back the counts for a goroutine that was not made. */
static void repair_made(struct m *m)
{
	struct g *g = valid_g(m->note.g);
	int32_t id = atomic_load(&m->p);

	if (member_made(m))
		return;
	if (m->note.wg_promised)
		wg_unpromise(&m->note.wg_promised);
	if (g && m->note.made && g->gid == m->note.gid && g->task)
		g->task->per_p[id >= 0 && id < P_MAX ? id : P_MAX - 1].created = m->note.made - 1;
	KILL_POINT("repair.made");
}

/*
 * True for a P on its way to an idle worker that will not look for it: that worker is dead, or the dead waker
 * gave it too late.
 */
static bool given_too_late(int32_t m, unsigned dead)
{
	int seat = m - P_GIVEN;

	return seat > 0 && seat < SH_SEATS && (seat == (int)dead || !atomic_load(&allm(seat)->blocked));
}

static void free_p(unsigned seat)
{
	uint64_t none = 0;

	for (unsigned i = 0; i < atomic_load(&sched.procs_most); i++) {
		struct p *p = allp(i);

		int32_t m = atomic_load(&p->m);

		if (m == (int32_t)seat) {
			atomic_store(&p->status, P_IDLE);
			KILL_POINT("repair.p.idle");
			atomic_store(&p->m, NOSEAT);
		} else if (m == P_HANDED + (int32_t)seat || given_too_late(m, seat)) {
			atomic_compare_exchange_strong(&p->m, &m, NOSEAT); /* unless the giver has taken it back */
		} else {
			continue;
		}
		KILL_POINT("repair.p.free");
	}
	for (unsigned i = 0; i < atomic_load(&sched.procs); i++)
		if (atomic_load(&allp(i)->m) == NOSEAT)
			none |= 1ull << i;
	atomic_fetch_or(&sched.pidle, none);
	atomic_fetch_and(&sched.pidle,
			 /* it may have died while it marked a P out of use */
			 ~0ull >> (64 - atomic_load(&sched.procs)));
	KILL_POINT("repair.p.marked");
}

void repair_seat(unsigned seat)
{
	struct m *m = allm(seat);
	int32_t id = atomic_load(&m->p), mine = (int32_t)seat;
	struct p *p = id >= 0 && id < P_MAX && atomic_load(&allp(id)->m) == mine ? allp(id) : NULL;
	struct g *g = valid_g(atomic_load(&m->curg));

	sh_check(seat < SH_SEATS);
	sh_check(getm->seat == SH_SEAT_MEDIC);
	free_scan(m, seat);
	if (g)
		repair_pinned(m, g);
	repair_locks(seat, SH_LOCK_TIMERS);
	repair_timers(seat);
	sh_heap_repair(sh_root->arena, seat, (unsigned)getm->seat);
	repair_notes(m, p);
	repair_locks(seat, 0);
	host_output_finish(seat, g); /* before the goroutine can run again and write more */
	if (g)
		repair_curg(m, g, seat);
	repair_made(m);
	if (netpoll_deliver(m, POLL_BATCH) + netpoll_closed_repair(m->note.closed))
		wakep();
	repair_making(m);
	repair_free(m, p);
	if (valid_g(m->note.suspend))
		repair_suspend(m->note.suspend);
	memset(sh_seat_held(seat), 0, sizeof(struct sh_held));
	repair_handed(m);
	repair_pin(m, valid_g(m->lockedg));
	atomic_store(&m->blocked, 0); /* before its Ps: pairs with wake_idle_worker */
	KILL_POINT("repair.unblocked");
	free_p(seat);
	if (seat < WORKERS_MAX) {
		atomic_fetch_and(&sched.mspinning, ~(1ull << seat));
		atomic_fetch_and(&sched.midle, ~(1ull << seat));
	}
	atomic_compare_exchange_strong(&sched.poller, &mine, NOSEAT);
	KILL_POINT("repair.masks");
	atomic_store(&m->p, -1);
	atomic_store(&m->maps, NULL);
	atomic_store(&m->curg, NULL);
	atomic_store(&m->oncpu, 0);
	m->parking = 0;
	m->locks = 0;
	memset(&m->note, 0, sizeof m->note);
	KILL_POINT("repair.seat.clear");
	wakep(); /* first of all a worker for its P */
}

void repair_wake(void)
{
	for (unsigned i = 1; i < WORKERS_MAX; i++)
		if (atomic_load(&sh_root->seat[i].state) == SEAT_LIVE && atomic_load(&allm(i)->blocked))
			host_wake(i);
}
