/*
 * idle.c - idle Ps, sleeping workers and spinning workers: how workers fall asleep and are woken.
 *
 * Three masks of sched have one bit each: pidle (a P without owner), midle (a sleeping worker), mspinning
 * (a worker that searches for work). They are hints: p->m says who has a P, m->blocked who sleeps. A waker
 * gives a P to the worker that it wakes; a worker that wakes for another reason gives back what it did not
 * expect.
 *
 * Idle against wakep (Go's "delicate dance"). A waker must not miss a worker that is falling asleep:
 *
 *      worker that becomes idle                  waker
 *   a  finds no work                          e  puts G into a queue
 *   b  pidleput: its bit in pidle             f  fence (the one in wakep, or the barrier c)
 *   c  host_barrier(): all processes pass it  g  reads pidle, mspinning: nobody to wake?
 *   d  work_in_sight(): any queue not empty?
 *
 * If g does not see b, then e came before c and d sees the G. The fence on the waker's side is free: the idle
 * worker forces it on all others with host_barrier (0.6 us). wakep has a fence of its own only once it
 * has found an idle P.
 *
 * The same for a worker that is asleep: it sets midle (stopm), then looks for work; wakep reads midle after
 * its fence.
 */
#include "core/sched/idle.h"
#include "core/g/g.h"
#include "core/g/life.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "core/sched/runq.h"
#include "core/sched/timer.h"
#include "shm/check.h"
#include "shm/kill.h"

/*
 * Takes an idle P: stores `to`, a seat, or P_GIVEN + seat for a P on its way there. The compare-and-swap of
 * p->m is the commit. The bit in pidle is a hint and is cleared first, so that a later pidleput sets it
 * after us.
 */
struct p *pidleget(int to)
{
	uint64_t idle;

	sh_check(to > NOSEAT);
	if (atomic_load(&sched.gcwaiting))
		return NULL; /* the medic is taking all of them */
	while ((idle = atomic_load(&sched.pidle)) != 0) {
		unsigned id = (unsigned)__builtin_ctzll(idle);
		struct p *p = allp(id);
		int32_t none = NOSEAT;

		if (!(atomic_fetch_and(&sched.pidle, ~(1ull << id)) & (1ull << id)))
			continue;
		KILL_POINT("p.idle.unmarked");
		if (atomic_load(&p->status) == P_DEAD)
			continue;
		if (atomic_compare_exchange_strong(&p->m, &none, to)) {
			KILL_POINT("p.idle.taken");
			return p;
		}
	}
	return NULL;
}

void pidleput(struct p *p)
{
	sh_check(p->id < P_MAX);
	atomic_store(&p->status, P_IDLE);
	KILL_POINT("p.put.idle");
	atomic_store(&p->m, NOSEAT);
	KILL_POINT("p.put.free");
	atomic_fetch_or(&sched.pidle, 1ull << p->id);
	/* it went out of use meanwhile: pairs with procresize */
	if (__builtin_expect(atomic_load(&p->status) == P_DEAD, 0))
		atomic_fetch_and(&sched.pidle, ~(1ull << p->id));
	KILL_POINT("p.put.marked");
}

void acquirep(struct p *p)
{
	struct m *m = getm;

	sh_check(atomic_load(&p->m) == m->seat && atomic_load(&m->p) == -1);
	atomic_store(&m->p, (int32_t)p->id);
	life_p(m);
	KILL_POINT("p.acquire.wired");
	atomic_store(&p->status, P_RUNNING);
	/* after m->p; pairs with sysmon, which stores sysmonwait and then reads the Ps */
	if (__builtin_expect(atomic_load(&sched.sysmonwait), 0))
		host_bell();
}

struct p *releasep(void)
{
	struct p *p = getp();

	sh_check(p && atomic_load(&p->m) == getm->seat);
	atomic_store(&getm->p, -1);
	life_p(getm);
	KILL_POINT("p.release.unwired");
	return p;
}

/* Makes the P idle again, unless it was taken meanwhile. */
static void take_back_p(struct p *p, int32_t on_its_way)
{
	sh_check(on_its_way >= P_GIVEN);
	if (!atomic_compare_exchange_strong(&p->m, &on_its_way, NOSEAT))
		return;
	KILL_POINT("m.wake.back");
	atomic_fetch_or(&sched.pidle, 1ull << p->id);
}

/*
 * Wakes a sleeping worker and gives it a P, which it takes out of p->m (take_given_p).
 *
 *      waker                                     sleeper, woken for another reason
 *   a  clears its bit in midle                c  blocked = 0
 *   b  p->m = P_GIVEN + seat                  d  give_back_others: looks for given Ps
 *   e  reads blocked: 0? takes the P back
 *
 * Both orders are sequentially consistent: either e sees c, or d sees b. So no P stays under way for ever.
 */
static bool wake_idle_worker(bool spin)
{
	uint64_t idle;

	sh_check(atomic_load(&sched.procs) >= 1);
	while ((idle = atomic_load(&sched.midle)) != 0) {
		int seat = __builtin_ctzll(idle);
		struct p *p;

		if (!(atomic_fetch_and(&sched.midle, ~MBIT(seat)) & MBIT(seat)))
			continue;
		KILL_POINT("m.wake.unmarked");
		/* before it has a P: it may wake, find nothing and sleep again before our next step */
		if (spin)
			atomic_fetch_or(&sched.mspinning, MBIT(seat));
		KILL_POINT("m.wake.spinning");
		p = pidleget(P_GIVEN + seat);
		if (!p) {
			atomic_fetch_and(&sched.mspinning, ~MBIT(seat));
			atomic_fetch_or(&sched.midle, MBIT(seat));
			KILL_POINT("m.wake.remarked");
			return false;
		}
		KILL_POINT("m.wake.given");
		if (atomic_load(&allm(seat)->blocked)) {
			host_wake((unsigned)seat);
			return true;
		}
		atomic_fetch_and(&sched.mspinning, ~MBIT(seat));
		take_back_p(p, P_GIVEN + seat);
	}
	return false;
}

void wakep(void)
{
	/* One searcher is enough: when it finds work it wakes the next one. */
	if (atomic_load_explicit(&sched.pidle, memory_order_relaxed) == 0 ||
	    atomic_load_explicit(&sched.mspinning, memory_order_relaxed) != 0)
		return;
	/* pairs with stopm: queue, then masks here; masks, then queues there */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load(&sched.mspinning) != 0)
		return;
	wake_idle_worker(true);
}

/* A P is idle: wakes a worker for it if there is work, or if no worker watches timers and descriptors. */
void wakep_if_needed(void)
{
	if (work_in_sight() || (atomic_load(&sched.poller) == NOSEAT && !atomic_load(&sched.mspinning)))
		wake_idle_worker(true);
}

void handoffp(struct p *p)
{
	sh_check(p != NULL);
	pidleput(p);
	wakep_if_needed();
}

void resetspinning(struct m *m)
{
	sh_check(m == getm);
	atomic_fetch_and(&sched.mspinning, ~MBIT(m->seat));
	KILL_POINT("m.spinning.off");
	wakep();
}

/* True if there is work that a worker without a P can see. It must take a P before it takes the work. */
bool work_in_sight(void)
{
	unsigned n = atomic_load(&sched.procs);
	int64_t when;

	if (atomic_load(&sched.grunq_head) != atomic_load(&sched.grunq_tail))
		return true;
	for (unsigned i = 0; i < n; i++)
		if (!runqempty(allp(i)))
			return true;
	when = timers_next();
	return when && when <= host_now();
}

struct p *take_given_p(struct m *m)
{
	unsigned most = atomic_load_explicit(&sched.procs_most, memory_order_acquire);

	sh_check(m == getm);
	for (unsigned i = 0; i < most; i++) {
		int32_t given = P_GIVEN + m->seat, has = atomic_load_explicit(&allp(i)->m, memory_order_acquire);

		if (has == m->seat) /* we took it before and have not acquired it */
			return allp(i);
		if (has == given && atomic_compare_exchange_strong(&allp(i)->m, &given, m->seat)) {
			KILL_POINT("p.given.taken");
			return allp(i);
		}
	}
	return NULL;
}

void give_back_others(struct m *m, struct p *mine)
{
	unsigned most = atomic_load_explicit(&sched.procs_most, memory_order_acquire);

	sh_check(m == getm && mine);
	for (unsigned i = 0; i < most; i++) {
		struct p *p = allp(i);
		int32_t has = atomic_load(&p->m);

		if (p != mine && has == P_GIVEN + m->seat)
			take_back_p(p, has);
		else if (p != mine && has == m->seat)
			pidleput(p);
	}
}

/* Sleeps until a waker gives us a P. */
void stopm(struct m *m)
{
	struct p *p;

	sh_check(m == getm && atomic_load(&m->p) == -1);
	sh_check(!m->lockedg);
	for (;;) {
		int64_t until = 0, when;
		int32_t none = NOSEAT;
		bool poller;

		/* Announce that we sleep: blocked, then our bit in midle. */
		atomic_store(&m->blocked, 1);
		KILL_POINT("m.stop.blocked");
		/*
		 * A waker that died may have left our bit in mspinning without giving us a P; one that is
		 * alive gives it now.
		 */
		atomic_fetch_and(&sched.mspinning, ~MBIT(m->seat));
		KILL_POINT("m.stop.nospin");
		atomic_fetch_or(&sched.midle, MBIT(m->seat));
		KILL_POINT("m.stop.marked");
		/* A P may have been given already; otherwise leave if we were asked to. */
		p = take_given_p(m);
		if (!p && host_must_leave()) {
			atomic_fetch_and(&sched.midle, ~MBIT(m->seat));
			if (!(p = take_given_p(m)))
				host_leave();
		}
		/*
		 * One sleeper, the poller, sleeps only until the next timer, on behalf of all, while a P is idle. If none
		 * is idle, the workers that have Ps run the timers, and one that releases its P comes by here.
		 */
		poller = atomic_load(&sched.pidle) &&
			 (atomic_compare_exchange_strong(&sched.poller, &none, m->seat) || none == m->seat);
		if (poller) {
			atomic_store(&sched.poll_until, INT64_MAX);
			when = timers_next();
			if (when) {
				until = when;
				atomic_store(&sched.poll_until, when);
				when = timers_next(); /* a timer that was added before poll_until could be seen */
				if (when && when < until)
					until = when;
			}
		}
		/*
		 * A waker that came before our bit was in midle found nobody to wake. So look for its work:
		 * pairs with wakep.
		 */
		if (!p && !(until && until <= host_now()) &&
		    !(atomic_load(&sched.pidle) && !atomic_load(&sched.gcwaiting) && work_in_sight()))
			host_idle(until);
		/* Awake: with a P that a waker gave, or with one that we take ourselves. */
		if (poller)
			atomic_store(&sched.poller, NOSEAT);
		KILL_POINT("m.stop.woken");
		if (!p)
			p = take_given_p(m);
		/*
		 * A worker that clears its own idle bit may take a P. If a waker has cleared the bit, the
		 * waker gives us one.
		 */
		if (!p && work_in_sight() && (atomic_fetch_and(&sched.midle, ~MBIT(m->seat)) & MBIT(m->seat)))
			p = pidleget(m->seat);
		if (!p)
			continue;
		atomic_fetch_or(&sched.mspinning, MBIT(m->seat));
		atomic_fetch_and(&sched.midle, ~MBIT(m->seat));
		atomic_store(&m->blocked, 0);
		KILL_POINT("m.stop.unblocked");
		life_look(m);
		acquirep(p);
		give_back_others(m, p); /* after blocked; pairs with wake_idle_worker */
		return;
	}
}

/* The world is being stopped: releases the P and sleeps until a waker gives it one. */
void gcstopm(struct m *m)
{
	sh_check(m == getm && getp());
	atomic_fetch_and(&sched.mspinning, ~MBIT(m->seat));
	pidleput(releasep());
	stopm(m);
}
