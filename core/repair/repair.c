/*
 * repair.c - what the medic does for a dead worker. Pure code over the segment.
 *
 * Every step looks at the facts again and may be done twice: the medic itself may be killed
 * between any two instructions, and its successor begins anew. Nothing in the seat is trusted: an
 * index or pointer that points nowhere is passed over.
 *
 * The order: the inner locks, or all that follows would wait for the dead; what it held in its
 * hands (the notes), before the medic, whose predecessor it may be, has something in hand itself;
 * the queues and their locks; the goroutine that ran there; then the P. Only the P's next owner uses
 * the ring, so what lies behind its tail is read before.
 */
#include "core/repair/repair.h"
#include "core/g/g.h"
#include "core/g/life.h"
#include "core/g/names.h"
#include "core/g/stack.h"
#include "core/host.h"
#include "core/repair/crash.h"
#include "core/repair/note.h"
#include "core/root.h"
#include "core/sched/stuck.h"
#include "core/sched/idle.h"
#include "core/sched/m.h"
#include "core/sched/netpoll.h"
#include "core/sched/p.h"
#include "core/sched/pin.h"
#include "core/sched/preempt.h"
#include "core/sched/proc.h"
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

/* One more hint for a G that may be on no queue. */
static void add_hint(struct g *g)
{
	if (valid_g(g) && g_state(g) == G_RUNNABLE)
		gogive(g);
}

/* A lost one may be in a queue: it was on its way to wait there, or had been woken by a timer. */
static void g_lost_unqueue(struct g *g)
{
	struct sudog *sg = &g->sudog;
	uint32_t wait = G_SEQ(atomic_load(&g->status)); /* its last one; or it was about to begin the next */
	void *q = sg->queue;

	select_forget(g);
	/* Told, it is in no queue any more, and what it waited for may be other memory by now. */
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
	/* What it was told, or is about to be, does not concern its next wait: nor that of who gets this G next. */
	atomic_store(&sg->state, SG_IDLE);
	atomic_fetch_add(&g->status, 1ull << 32);
	KILL_POINT("repair.lost.raised");
}

/* The worker's last words name this goroutine: it ran, or could not be entered. */
static bool to_blame(const struct m *m, const struct g *g)
{
	return atomic_load(&((struct m *)m)->crash.valid) && m->crash.gid == g->gid;
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

	g->wake_at = 0; /* a goroutine that is lost waits for no timer any more */
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
		/* The task is on its way out: as waiting it is ended with the rest. Its frames are no more than a hindrance. */
		stack_free(g);
		casgstatus(g, G_RUNNING, G_WAITING);
		return;
	}
	semtable_g_gone(g);
	if (!root && g->attempt < g->attempts) {
		g_restart(g);
		return;
	}
	if (root && atomic_load(&t->attempt) < t->attempts) {
		stack_free(g);
		task_end(t, (crashed ? TASK_CRASHED : TASK_LOST) | TASK_AGAIN, crashed ? 128 + sig : 137, sig);
		casgstatus(g, G_RUNNING, G_WAITING); /* last: a successor would not find it here again */
		return;
	}
	sh_format(t->message, sizeof t->message,
		  crashed ? "goroutine %lu crashed: %s" : "goroutine %lu was lost with its worker",
		  (unsigned long)g->gid, c->message[0] ? c->message : "signal");
	if (!isolated || root) {
		stack_free(g);
		task_end(t, crashed ? TASK_CRASHED : TASK_LOST, crashed ? 128 + sig : 137, sig);
		casgstatus(g, G_RUNNING, G_WAITING);
		return;
	}
	g_end(g, how, sig, crashed ? c->address : NULL);
}

/* The lock under which it queued was freed before it waited: who told it then found it running. */
static void finished_while_running(struct g *g)
{
	uint32_t seq = G_SEQ(atomic_load(&g->status));

	if (wait_finished(g, seq))
		goready(g, seq);
}

/* In our own name from here on, with all that a successor must know of it. */
static void take_over(struct m *m, struct g *g, uint64_t status)
{
	struct m *me = getm;

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

	if (state == G_RUNNABLE) {
		gogive(g);
		return;
	}
	if (state == G_PREEMPTED) {
		if (atomic_load(&g->preempt) != PREEMPT_STOP)
			unpreempt(g);
		return;
	}
	if (state == G_WAITING && !m->parking && g->waitreason == WAIT_PREEMPTED) {
		if (atomic_load(&g->preempt) != PREEMPT_STOP) /* in unpreempt: else it is its suspender's */
			goready(g, G_SEQ(s));
		return;
	}
	if (state == G_WAITING && m->parking) { /* it may not have come to its timer, or have been told too early */
		if (m->park_unlockf)		/* committed or not: it looks for itself */
			goready(g, m->park_seq);
		else if (g->wake_at)
			timer_add(allp(0), g->wake_at, g, G_SEQ(s));
		finished_while_running(g);
		return;
	}
	if (state == G_DEAD && m->note.ending == g && m->note.ending_how != END_AGAIN) {
		g_end_publish(g, &m->note);
		return; /* note.g says whether it is on a list */
	}
	if ((state != G_RUNNING && state != G_COPYSTACK && state != G_SYSCALL) || G_OWNER_SEAT(s) != (int)seat)
		return; /* claimed by somebody else: we only meant to */
	take_over(m, g, (s & G_SEQ_MASK) | G_OWNER(me->seat) | G_RUNNING);
	if (m->note.ending == g && m->note.ending_gid == g->gid) { /* first: of who ends nothing is lost any more */
		if (m->note.ending_how == END_AGAIN)
			g_restart(g);
		else
			g_end(g, m->note.ending_how, m->note.ending_signal, m->note.ending_address);
	} else if (m->note.ending == g && m->note.ending_gid + GID_STEP == g->gid) {
		casgstatus(g, G_RUNNING, G_DEAD); /* all but the end itself was done */
		g_end_publish(g, &me->note);
		gfput(g);
	} else if (atomic_load(&m->oncpu) || to_blame(m, g)) {
		g_lost(m, g);
	} else if (g->sp && atomic_load(&g->res) != RES_IMAGE && !stack_fit(g)) {
		g_lost(m, g); /* its frames are in the dead one's window, and there is no memory to keep them in */
	} else if (m->parking && g->sp) {
		g->wake_at = m->park_when;
		casgstatus(g, G_RUNNING, G_WAITING);
		if (g->wake_at)
			timer_add(allp(0), g->wake_at, g, G_SEQ(atomic_load(&g->status)));
		finished_while_running(g);
		if (m->park_unlockf)
			goready(g, m->park_seq);
	} else { /* it had not been entered, or was giving way */
		if (!g->sp)
			atomic_store(&g->res, RES_NONE);
		casgstatus(g, G_RUNNING, G_RUNNABLE);
		gogive(g);
	}
	atomic_store(&me->curg, NULL);
	me->oncpu = 0;
	me->parking = 0;
	me->note.ending = NULL;
	KILL_POINT("repair.curg.done");
}

/*
 * A dead G that was in the hands of the dead. note.g is set and cleared under sched.lock where the
 * global list is concerned: whose lock was not held, or is mended (see below), it is not on that list.
 */
static void repair_free(struct m *m, struct p *p)
{
	struct g *g = valid_g(m->note.g);

	if (!g || g->gid != m->note.gid || g_state(g) != G_DEAD || (p && p->gfree == g))
		return;
	gfreturn(g, &m->note.g);
	KILL_POINT("repair.free.put");
}

/* A G that the dead was making for the first time: in its hands, dead, and counted. */
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

/* Holds: sched.lock, in a dead seat's name. What heads the free list is in no dead hand any more. */
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

static struct sh_lock *repairing[8]; /* the medic is at work on these, the first was begun first */
static unsigned nrepairing;

static void repair_lock(struct m *m, struct sh_held *h, unsigned i, unsigned seat)
{
	struct sh_lock *l = h->lock[i];

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
	case SH_LOCK_HEAP: /* sh_heap_repair frees it */
	case SH_LOCK_TIMERS: /* mended with its P */ return;
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

	for (unsigned k = 0; k < nrepairing; k++)
		if (repairing[k] == l)
			return; /* further up: it needs the one that is waited for */
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

/* Locks of this kind and above, the innermost first: mending a queue makes goroutines runnable, which takes sched.lock. */
static void repair_locks(unsigned seat, unsigned from)
{
	struct sh_held *h = sh_seat_held(seat);

	for (unsigned kind = SH_LOCK_KINDS; kind-- > from;)
		for (unsigned i = SH_HELD_MAX; i-- > 0;)
			if (h->lock[i] && (!sh_shared(h->lock[i]) || h->lock[i]->kind == kind))
				repair_held(seat, i);
}

/* Dead and not yet mended. A vacant seat keeps the mark until somebody is cloned into it: that one must not be mended. */
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
 * The medic waits for a lock, and whoever has it may be dead and not repaired yet, or wait for one
 * whose owner is. Those are of the same rank or a higher one: they are mended on the spot, of all
 * the dead. (With a note in hand the medic waits only for ranks whose mending needs no note.)
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
	sh_lock_waits = repair_while_waiting;
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
	if (valid_g(n->ready)) /* or cancelled, and not woken. Last: in the medic's own seat this clears the note */
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

/* Whether the member that the dead counted into a wait group exists: from then on it counts itself out. */
static bool member_made(const struct m *m)
{
	struct g *g = valid_g(m->note.g);
	unsigned state = g ? g_state(g) : G_DEAD;

	/* Idle: it died before what it had just laid out was a dead one. */
	return g && (g->gid != m->note.gid || (state != G_DEAD && state != G_IDLE));
}

/* What it counted for a goroutine that it did not come to make is counted out. */
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

/* On its way to an idle worker that does not look for it: the dead one itself, or the dead one gave it too late. */
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
			atomic_compare_exchange_strong(&p->m, &m, NOSEAT); /* unless the giver has it back */
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
			 ~0ull >> (64 - atomic_load(&sched.procs))); /* it may have died as it marked one out of use */
	KILL_POINT("repair.p.marked");
}

void repair_seat(unsigned seat)
{
	struct m *m = allm(seat);
	int32_t id = atomic_load(&m->p), mine = (int32_t)seat;
	struct p *p = id >= 0 && id < P_MAX && atomic_load(&allp(id)->m) == mine ? allp(id) : NULL;
	struct g *g = valid_g(atomic_load(&m->curg));

	free_scan(m, seat);
	if (g)
		repair_pinned(m, g);
	repair_locks(seat, SH_LOCK_TIMERS);
	repair_timers(seat);
	sh_heap_repair(sh_root->arena, seat, (unsigned)getm->seat);
	repair_notes(m, p);
	repair_locks(seat, 0);
	host_output_finish(seat, g); /* before it can run again and write more */
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
	atomic_store(&m->blocked, 0); /* before its Ps: pairs with wake_worker */
	KILL_POINT("repair.unblocked");
	free_p(seat);
	if (seat < WORKERS_MAX) {
		atomic_fetch_and(&sched.mspinning, ~(1ull << seat));
		atomic_fetch_and(&sched.midle, ~(1ull << seat));
	}
	atomic_compare_exchange_strong(&sched.poller, &mine, NOSEAT);
	KILL_POINT("repair.masks");
	atomic_store(&m->p, -1);
	atomic_store(&m->curg, NULL);
	atomic_store(&m->oncpu, 0);
	m->parking = 0;
	m->locks = 0;
	memset(&m->note, 0, sizeof m->note);
	KILL_POINT("repair.seat.clear");
	wakep(); /* for its P, before anything else is done */
}

void repair_wake(void)
{
	for (unsigned i = 1; i < WORKERS_MAX; i++)
		if (atomic_load(&sh_root->seat[i].state) == SEAT_LIVE && atomic_load(&allm(i)->blocked))
			host_wake(i);
}
