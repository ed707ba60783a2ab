/*
 * idle.c - what puts a worker to sleep and what wakes it: idle Ps, sleeping workers, who searches.
 *
 * Three masks of sched say it, one bit each: pidle, Ps that nobody has; midle, workers that sleep;
 * mspinning, workers that search. They are hints: p->m says who has a P, m->blocked who sleeps. A
 * worker is woken by giving it a P, and whatever it wakes from, it gives up what it did not expect.
 * The protocol against lost wake-ups is Go's: who makes work looks for idle Ps after it; who goes
 * idle puts its P down, then looks for work again (findrunnable, stopm).
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
 * Takes an idle P for a seat, or, with P_GIVEN added, on its way to one. The compare-and-swap on
 * p->m is the commit; the bit is a hint, cleared first, so that who puts the P back later sets it
 * after us.
 */
struct p *pidleget(int to)
{
	uint64_t idle;

	if (atomic_load(&sched.gcwaiting))
		return NULL; /* the medic takes them all */
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
	atomic_store(&p->status, P_IDLE);
	KILL_POINT("p.put.idle");
	atomic_store(&p->m, NOSEAT);
	KILL_POINT("p.put.free");
	atomic_fetch_or(&sched.pidle, 1ull << p->id);
	if (__builtin_expect(atomic_load(&p->status) == P_DEAD, 0)) /* out of use by now: pairs with procresize */
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
	if (__builtin_expect(atomic_load(&sched.sysmonwait), 0)) /* after m->p: pairs with sysmon */
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

/* Nobody's again, unless somebody has taken it meanwhile. */
static void take_back_p(struct p *p, int32_t on_its_way)
{
	if (!atomic_compare_exchange_strong(&p->m, &on_its_way, NOSEAT))
		return;
	KILL_POINT("m.wake.back");
	atomic_fetch_or(&sched.pidle, 1ull << p->id);
}

/*
 * Wakes an idle worker and sends it a P, which it takes out of p->m (take_given_p). One that has woken
 * for another reason meanwhile, and was perhaps marked again and given a P by somebody else, is no
 * longer blocked: either we see that and take ours back, or it sees ours once it is not (give_back_others).
 */
static bool wake_idle_worker(bool spin)
{
	uint64_t idle;

	while ((idle = atomic_load(&sched.midle)) != 0) {
		int seat = __builtin_ctzll(idle);
		struct p *p;

		if (!(atomic_fetch_and(&sched.midle, ~MBIT(seat)) & MBIT(seat)))
			continue;
		KILL_POINT("m.wake.unmarked");
		/* Before it has a P: it may come, find nothing and sleep again before we do our next step. */
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
	/* One searcher at a time: it starts the next when it finds work. */
	if (atomic_load_explicit(&sched.pidle, memory_order_relaxed) == 0 ||
	    atomic_load_explicit(&sched.mspinning, memory_order_relaxed) != 0)
		return;
	atomic_thread_fence(memory_order_seq_cst); /* pairs with stopm: the queue, then who sleeps */
	if (atomic_load(&sched.mspinning) != 0)
		return;
	wake_idle_worker(true);
}

/* An idle P is there: somebody is woken for it if there is work, or if nobody looks at timers and the net. */
void wakep_if_needed(void)
{
	if (work_in_sight() || (atomic_load(&sched.poller) == NOSEAT && !atomic_load(&sched.mspinning)))
		wake_idle_worker(true);
}

void handoffp(struct p *p)
{
	pidleput(p);
	wakep_if_needed();
}

void resetspinning(struct m *m)
{
	atomic_fetch_and(&sched.mspinning, ~MBIT(m->seat));
	KILL_POINT("m.spinning.off");
	wakep();
}

/* Work that an M without P can see: it must take a P before it may have it. */
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

	for (unsigned i = 0; i < most; i++) {
		int32_t given = P_GIVEN + m->seat, has = atomic_load_explicit(&allp(i)->m, memory_order_acquire);

		if (has == m->seat) /* taken before, and not used */
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

	for (unsigned i = 0; i < most; i++) {
		struct p *p = allp(i);
		int32_t has = atomic_load(&p->m);

		if (p != mine && has == P_GIVEN + m->seat)
			take_back_p(p, has);
		else if (p != mine && has == m->seat)
			pidleput(p);
	}
}

/* Sleeps until somebody gives us a P. */
void stopm(struct m *m)
{
	struct p *p;

	for (;;) {
		int64_t until = 0, when;
		int32_t none = NOSEAT;
		bool poller;

		atomic_store(&m->blocked, 1);
		KILL_POINT("m.stop.blocked");
		/* A waker that died may have left us as searching without a P; one that lives gives us the P now. */
		atomic_fetch_and(&sched.mspinning, ~MBIT(m->seat));
		KILL_POINT("m.stop.nospin");
		atomic_fetch_or(&sched.midle, MBIT(m->seat));
		KILL_POINT("m.stop.marked");
		p = take_given_p(m);
		if (!p && host_must_leave()) {
			atomic_fetch_and(&sched.midle, ~MBIT(m->seat));
			if (!(p = take_given_p(m)))
				host_leave();
		}
		/*
		 * One of those who sleep watches the clock for all, while there is a P to run timers with:
		 * else those who have one look, and who puts his down comes by here.
		 */
		poller = atomic_load(&sched.pidle) &&
			 (atomic_compare_exchange_strong(&sched.poller, &none, m->seat) || none == m->seat);
		if (poller) {
			atomic_store(&sched.poll_until, INT64_MAX);
			when = timers_next();
			if (when) {
				until = when;
				atomic_store(&sched.poll_until, when);
				when = timers_next(); /* one that came before poll_until was there to be seen */
				if (when && when < until)
					until = when;
			}
		}
		/* What came before our mark was there found nobody to wake: pairs with wake_worker. */
		if (!p && !(until && until <= host_now()) &&
		    !(atomic_load(&sched.pidle) && !atomic_load(&sched.gcwaiting) && work_in_sight()))
			host_idle(until);
		if (poller)
			atomic_store(&sched.poller, NOSEAT);
		KILL_POINT("m.stop.woken");
		if (!p)
			p = take_given_p(m);
		/* Only who takes its own mark off may help itself: else somebody is about to give us one. */
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
		give_back_others(m, p); /* after blocked: pairs with wake_worker */
		return;
	}
}

/* The world is being stopped: the P goes, and the worker sleeps until it is given one. */
void gcstopm(struct m *m)
{
	atomic_fetch_and(&sched.mspinning, ~MBIT(m->seat));
	pidleput(releasep());
	stopm(m);
}
