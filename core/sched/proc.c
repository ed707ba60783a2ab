/*
 * proc.c - the scheduler: start, park, ready, exit, findrunnable and schedule.
 *
 * A goroutine is always left on g0, where its frames are complete: host_mcall saves it, m->oncpu becomes
 * 0, and from then on a death of this worker loses nothing of it. A function on g0 returns the G to enter
 * next, which host_mcall enters. So g0 has no frame that outlives a switch, and calls and returns stay
 * paired; otherwise the processor would mispredict each return. Names and order are Go's (proc.go).
 *
 * Park against ready, with a lock in common (a channel's, a wait queue's):
 *
 *      the G that parks                          the waker
 *   a  takes the lock, finds nothing
 *   b  stores its sudog in the queue
 *   c  gopark: status becomes waiting
 *   d  drops the lock                         e  takes the lock, unlinks the sudog
 *                                             f  stores the result in sudog->state
 *                                             g  g_rouse(seq): waiting -> runnable
 *
 * Without a lock in common (cond, netpoll, a timer) the waker may come between b and c, where g_rouse fails
 * because the G is still running. So park_m looks once more after c, behind a full fence: wait_finished()
 * sees f, or the waker's g_rouse sees c. Either one makes the G runnable; the park sequence keeps the other
 * from waking a later wait.
 */
#include "core/sched/proc.h"
#include "core/g/g.h"
#include "core/g/life.h"
#include "core/g/names.h"
#include "core/g/stack.h"
#include "core/g/tstack.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/idle.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "core/sched/pin.h"
#include "core/sched/runq.h"
#include "core/sched/timer.h"
#include "core/shoal.h"
#include "core/sync/cancel.h"
#include "core/task/hold.h"
#include "core/task/task.h"
#include "shm/check.h"
#include "shm/heap.h"
#include "shm/kill.h"
#include "shm/lock.h"
#include "shm/segment.h"

#include <errno.h>
#include <string.h>

struct m *getm;

#define SPIN_NS 20000 /* an idle worker searches this long before it sleeps: waking it again would cost 25 us */
#define NAP_NS 50000
#define LOOK_NS 2000

void schedinit(unsigned procs)
{
	sh_check(procs >= 1 && procs <= P_MAX);
	for (unsigned i = 0; i < P_MAX; i++) {
		struct p *p = allp(i);

		p->id = i;
		atomic_store(&p->m, NOSEAT);
		atomic_store(&p->status, i < procs ? P_IDLE : P_DEAD);
		p->timers_lock.kind = SH_LOCK_TIMERS;
	}
	for (unsigned i = 0; i < SH_SEATS; i++) {
		struct m *m = allm(i);

		m->seat = (int32_t)i;
		atomic_store(&m->p, -1);
		atomic_store(&m->handed, -1);
		m->rng = 0x9e3779b97f4a7c15u * (i + 1);
	}
	sched.lock.kind = SH_LOCK_SCHED;
	atomic_store(&sched.poller, NOSEAT);
	atomic_store(&sched.ngs, 1); /* index 0 is no goroutine */
	atomic_store(&sched.procs_most, procs);
	atomic_store(&sched.procs, procs);
	atomic_store(&sched.pidle, procs == P_MAX ? ~0ull : (1ull << procs) - 1);
}

void acquirem(void)
{
	getm->locks++;
}

void releasem(void)
{
	sh_check(getm->locks > 0);
	getm->locks--;
}

/* ---- making runnable ---- */

void ready_hint(struct g *g)
{
	sh_check(g_plausible(g));
	globrunqput(g);
	/* pairs with findrunnable, whose host_barrier does not reach a process without a P */
	atomic_thread_fence(memory_order_seq_cst);
	wakep();
}

inline __attribute__((always_inline)) void ready(struct g *g, enum ready_where where)
{
	struct m *m = getm;
	struct p *p = getp();

	sh_check(where <= READY_WAKE);
	if (__builtin_expect(p && where <= READY_TAIL, 1)) {
		runqput(p, g, where == READY_NEXT); /* clears the note */
		if (where == READY_NEXT)
			wakep();
		return;
	}
	if (where == READY_NEXT || where == READY_WAKE)
		ready_hint(g);
	else
		globrunqput(g);
	m->note.ready = NULL;
}

void goready(struct g *g, uint32_t seq)
{
	struct m *m = getm;

	m->note.ready = g;
	KILL_POINT("g.ready.noted");
	if (g_rouse(g, seq))
		ready(g, READY_NEXT);
	else
		m->note.ready = NULL;
}

bool injectg(struct g *g, uint32_t seq)
{
	struct m *m = getm;
	bool woken;

	m->note.ready = g;
	KILL_POINT("g.inject.noted");
	woken = g_rouse(g, seq);
	if (woken)
		ready(g, READY_TAIL);
	else
		m->note.ready = NULL;
	KILL_POINT("g.inject.done");
	return woken;
}

/* ---- leaving a goroutine, on g0 ---- */

inline __attribute__((always_inline)) void off_cpu(struct m *m, struct g *g)
{
	g->err = *host_errno();
	if (__builtin_expect(g->flags & GF_ROOT, 0))
		host_off_cpu(g);
	atomic_signal_fence(memory_order_seq_cst); /* its frames and sp are in memory before oncpu says so */
	atomic_store_explicit(&m->oncpu, 0, memory_order_relaxed);
	KILL_POINT("g.off.cpu");
}

void dropg(struct m *m)
{
	atomic_store_explicit(&m->curg, NULL, memory_order_relaxed);
}

/*
 * Makes the image large enough for its frames. If that fails (no memory is left, even in the reserve, or
 * sp is outside of its window), the goroutine ends as crashed.
 */
inline __attribute__((always_inline)) void keep_frames(struct m *m, struct g *g)
{
	if (__builtin_expect(stack_fit(g), 1))
		return;
	atomic_store(&m->oncpu, 1); /* it ends like a goroutine that still runs */
	if (!stack_whole(g))
		host_stack_damaged(g);
	host_misuse("out of memory: no room to keep the goroutine's stack");
}

/*
 * A goroutine that was asked to give way parks or exits instead. Those in runnext would inherit its time
 * slice, and so on for ever. So move runnext to the global queue, behind all others.
 */
static __attribute__((noinline)) void slice_over(struct m *m, struct g *g)
{
	struct p *p = allp(atomic_load_explicit(&m->p, memory_order_relaxed));
	struct g *next = atomic_load_explicit(&p->runnext, memory_order_relaxed);

	sh_check(m == getm);
	sh_check(getp() != NULL);
	atomic_fetch_and(&g->preempt, (uint8_t)~PREEMPT_YIELD);
	p->preemptions++;
	if (!next)
		return;
	m->note.kicked = next;
	KILL_POINT("g.slice.noted");
	globrunqput(next);
	atomic_store_explicit(&p->runnext, NULL, memory_order_relaxed);
	m->note.kicked = NULL;
	KILL_POINT("g.slice.kicked");
}

static bool asked_to_yield(const struct g *g)
{
	uint8_t asked = atomic_load_explicit(&((struct g *)g)->preempt, memory_order_relaxed);

	return (asked & (PREEMPT_YIELD | PREEMPT_STOP)) == PREEMPT_YIELD;
}

/* What a waker without a lock in common does before it looks whether the G waits: mark it as cancelled, or as signalled. */
static inline bool marked(struct g *g)
{
	return (atomic_load_explicit(&g->cancelled, memory_order_relaxed) |
		(atomic_load_explicit(&g->preempt, memory_order_relaxed) & PREEMPT_SIGNAL)) != 0;
}

static struct g *park_m(struct g *g)
{
	struct m *m = getm;
	bool again, asked = asked_to_yield(g);

	/* From here on a death of this worker no longer loses the G. */
	off_cpu(m, g);
	host_before_park(g);
	keep_frames(m, g);
	g->wake_at = m->park_when;
	/* It waits: a waker may claim it from here on. */
	casgstatus(g, G_RUNNING, G_WAITING);
	if (m->park_when) {
		timer_add(getp(), m->park_when, g, m->park_seq); /* it may wait for something else by now */
		KILL_POINT("g.park.timed");
	}
	if (m->park_lock) {
		sh_lock_drop(m->park_lock, (unsigned)m->seat);
		KILL_POINT("g.park.unlocked");
	} else {
		atomic_thread_fence(memory_order_seq_cst); /* pairs with a waker that has no lock in common with us */
	}
	sh_lock_none((unsigned)m->seat);
	again = m->park_unlockf && !m->park_unlockf(g, m->park_arg);
	/* Another worker may run it already; the park sequence says whether it is still this wait. */
	again |= (!m->park_lock || __builtin_expect(marked(g), 0)) && wait_finished(g, m->park_seq);
	if (again)
		goready(g, m->park_seq);
	m->parking = 0;
	KILL_POINT("g.park.done");
	if (__builtin_expect(asked, 0))
		slice_over(m, g);
	dropg(m);
	return schedule();
}

void gopark(struct sh_lock *lock, enum waitreason why, int64_t when)
{
	struct m *m = getm;
	struct g *g = getg();

	sh_check(g && m->locks == 0);
	g->waitreason = (uint8_t)why;
	m->park_lock = lock;
	m->park_unlockf = NULL;
	m->park_seq = g_next_seq(g);
	m->park_when = when;
	m->parking = 1;
	host_mcall(park_m);
}

void gopark_commit(bool (*commit)(struct g *, void *), void *arg, enum waitreason why, int64_t when)
{
	struct m *m = getm;
	struct g *g = getg();

	sh_check(g && m->locks == 0);
	g->waitreason = (uint8_t)why;
	m->park_lock = NULL;
	m->park_unlockf = commit;
	m->park_seq = g_next_seq(g);
	m->park_arg = arg;
	m->park_when = when;
	m->parking = 1;
	host_mcall(park_m);
}

/*
 * Each 61st choice is from the global queue. If the preempted G is the only entry there, skip this turn:
 * the G would run again before those in the local queue.
 */
static void skip_lone_global_turn(struct p *p)
{
	uint32_t tick = atomic_load_explicit(&p->schedtick, memory_order_relaxed);

	if (tick % SCHEDTICK_GLOBAL == 0 && atomic_load(&sched.grunq_tail) - atomic_load(&sched.grunq_head) == 1)
		atomic_store_explicit(&p->schedtick, tick + 1, memory_order_relaxed);
}

static struct g *goyield_m(struct g *g)
{
	struct m *m = getm;

	sh_lock_none((unsigned)m->seat);
	off_cpu(m, g);
	g->waitreason = WAIT_ZERO;
	if (atomic_load_explicit(&g->preempt, memory_order_relaxed) & (PREEMPT_YIELD | PREEMPT_STOP)) {
		atomic_fetch_and(&g->preempt, PREEMPT_SIGNAL);
		g->waitreason = WAIT_PREEMPTED;
		getp()->preemptions++;
	}
	host_before_park(g);
	keep_frames(m, g);
	if (g->waitreason == WAIT_PREEMPTED) /* a sleeper that became due comes before it */
		timers_run(getp(), life_clock(m, host_now()));
	m->note.ready = g;
	casgstatus(g, G_RUNNING, G_RUNNABLE);
	/*
	 * A yield goes to the local tail, not to Go's global queue: no lock, and thieves find it. A preempted G
	 * goes to the global queue, behind all others; those there would otherwise wait 61 time slices each.
	 */
	if (__builtin_expect(g->waitreason == WAIT_PREEMPTED, 0)) {
		ready(g, READY_GLOBAL);
		skip_lone_global_turn(getp());
	} else {
		ready(g, READY_TAIL);
	}
	dropg(m);
	return schedule();
}

void goyield(void)
{
	host_mcall(goyield_m);
}

static struct g *goexit0(struct g *g)
{
	struct m *m = getm;
	int how = g_cancelled(g) ? SHOAL_CANCELLED : SHOAL_DONE;
	bool pinned = g->locked != 0, asked = asked_to_yield(g);

	/*
	 * Write the note first: a death after off_cpu would otherwise find the G whole and let it run past
	 * its end.
	 */
	g_end_note(g, how, 0, NULL);
	off_cpu(m, g);
	g_end(g, how, 0, NULL);
	dropg(m);
	if (__builtin_expect(asked, 0))
		slice_over(m, g);
	if (__builtin_expect(pinned, 0))
		pin_retire(m);
	return schedule();
}

void goexit(void)
{
	struct g *g = getg();

	sh_check(g && getm->locks == 0);
	host_g_end(g);
	host_mexit(goexit0);
}

/* ---- starting a goroutine ---- */

void gmain(struct g *g)
{
	void *arg = NULL;

	sh_check(g == getg());
	if (__builtin_expect(atomic_load_explicit(&g->task->paused_until, memory_order_relaxed) != 0, 0))
		sh_task_wait_held(g);
	if (g->arg_size) { /* its own copy: the original is kept for another attempt */
		arg = __builtin_alloca(g->arg_size);
		memcpy(arg, g->arg, g->arg_size);
	}
	g->fn(arg);
	goexit();
}

static int copy_extras(struct g *g, struct task *t, const struct shoal_go_opts *o, const void *arg, size_t size)
{
	unsigned seat = (unsigned)getm->seat, cpu = getp() ? getp()->id : SH_HEAP_NOCPU;

	sh_check(t->heap != NULL);
	g->arg = g->arg_inline;
	if (size > G_ARG_INLINE) {
		g->arg = sh_heap_alloc(t->heap, seat, cpu, size, 16, false);
		if (!g->arg)
			return ENOMEM;
	}
	if (size)
		memcpy(g->arg, arg, size);
	if (o && o->name && o->name[0]) {
		size_t n = strnlen(o->name, 31);

		g->name = sh_heap_alloc(t->heap, seat, cpu, n + 1, 0, false);
		if (!g->name) {
			if (g->arg != g->arg_inline)
				sh_heap_free(sh_root->arena, seat, cpu, g->arg);
			return ENOMEM;
		}
		memcpy(g->name, o->name, n);
		g->name[n] = 0;
	}
	return 0;
}

static void set_options(struct g *g, const struct task *t, const struct shoal_go_opts *o)
{
	g->stack_max = WIN_SIZE;
	g->attempts = (uint16_t)(t->attempts ? t->attempts : 1);
	g->flags = g->name ? GF_NAMED : 0;
	if (!o)
		return;
	if (o->stack_max)
		g->stack_max = (uint32_t)((o->stack_max + SH_PAGE - 1) & ~(SH_PAGE - 1));
	if (o->attempts > 0)
		g->attempts = (uint16_t)(o->attempts < 65535 ? o->attempts : 65535);
	if (o->flags & SHOAL_ISOLATED)
		g->flags |= GF_ISOLATED;
	if (o->flags & GO_ROOT) {
		g->flags |= GF_ROOT;
		sh_heap_privilege(
			t->heap,
			false); /* the root has what it needs to begin: the reserve is closed to it before it runs */
	}
	if (o->flags & SHOAL_PINNED)
		g->flags |= GF_PINNED;
}

struct g *newproc(struct task *t, const struct shoal_go_opts *o, void (*fn)(void *), const void *arg, size_t size,
		  struct shoal_wg *wg, int *err)
{
	struct m *m = getm;
	struct p *p = getp();
	struct g *g, *self = getg();

	*err = 0;
	if (!fn || (size && !arg) || size > (o && o->stack_max ? o->stack_max : WIN_SIZE) / 2 ||
	    (o && (o->stack_max > (o->flags & GO_THREAD ? TSTACK_MAX : WIN_LARGE_SIZE) || o->attempts < 0 ||
		   (o->flags & ~(SHOAL_PINNED | SHOAL_ISOLATED | GO_ROOT | GO_THREAD))))) {
		*err = EINVAL;
		return NULL;
	}
	if (o && o->flags & SHOAL_PINNED && !pin_room()) {
		*err = EAGAIN;
		return NULL;
	}
	g = gfget();
	if (!g) {
		*err = EAGAIN;
		return NULL;
	}
	g->task = t;
	g->name = NULL;
	g->arg_size = (uint32_t)size;
	g->err = 0;
	if (__builtin_expect(size > 0 || o, 0)) {
		bool stack = !o || !(o->flags & (GO_ROOT | GO_THREAD)) ||
			     tstack_bind(g, o->stack_max ? o->stack_max : WIN_SIZE);

		*err = stack ? copy_extras(g, t, o, arg, size) : EAGAIN;
		if (*err) {
			tstack_unbind(g);
			gfput(g);
			return NULL;
		}
	} else {
		g->arg = g->arg_inline;
	}
	set_options(g, t, o);
	atomic_store_explicit(&g->signals, 0, memory_order_relaxed);
	g->own = NULL;
	if (__builtin_expect(
		    self && (self->flags & GF_OWN || atomic_load_explicit(&self->signals, memory_order_relaxed)), 0))
		host_g_inherit(self, g);
	g->fn = fn;
	g->parent = self ? self->gid : 0;
	g->gopc = m->gopc;
	g->attempt = 1;
	g->migrations = g->grows = 0;
	g->wg = wg;
	if (atomic_load_explicit(&gtask_slot[g->idx], memory_order_relaxed) != t->slot + 1)
		atomic_store_explicit(&gtask_slot[g->idx], t->slot + 1, memory_order_relaxed);
	m->note.made = t->per_p[p ? p->id : P_MAX - 1].created + 1;
	KILL_POINT("g.new.count");
	sh_noted();
	t->per_p[p ? p->id : P_MAX - 1].created = m->note.made;
	(p ? p : allp(P_MAX - 1))->created++; /* the last P is never used by a worker: it counts for the medic */
	m->note.ready = g;
	KILL_POINT("g.new.noted");
	casgstatus(g, G_DEAD, G_RUNNABLE);
	sh_noted();
	m->note.wg_promised = NULL; /* from now on the G counts itself out */
	m->note.g = NULL;
	sh_noted();
	m->note.made = 0;
	ready(g, READY_NEXT);
	return g;
}

/* ---- choosing the next goroutine ---- */

/* Claims g. NULL: the hint was stale. */
static struct g *claim_hint(struct g *g)
{
	bool mine;

	if (!g)
		return NULL;
	mine = g_claim(g);
	getm->note.ready = NULL;
	return mine ? g : NULL;
}

static struct g *from_local(struct p *p, bool *inherit)
{
	struct g *g;

	while ((g = runqget(p, inherit)))
		if (claim_hint(g))
			return g;
	return NULL;
}

static struct g *from_global(struct p *p, unsigned max)
{
	struct g *g;

	sh_check(max > 0);
	while (atomic_load_explicit(&sched.grunq_head, memory_order_relaxed) !=
	       atomic_load_explicit(&sched.grunq_tail, memory_order_relaxed)) {
		g = globrunqget(p, max);
		if (!g)
			return NULL;
		if (claim_hint(g))
			return g;
	}
	return NULL;
}

static struct g *stealwork(struct m *m, struct p *p, int64_t now)
{
	unsigned n = atomic_load(&sched.procs);

	sh_check(p == getp());
	for (unsigned round = 0; round < STEAL_ROUNDS; round++) {
		bool last = round == STEAL_ROUNDS - 1;
		unsigned at, step;
		bool inherit;
		struct g *g;

		stealorder(m_random(m), n, &at, &step);
		for (unsigned i = 0; i < n; i++, at = (at + step) % n) {
			struct p *victim = allp(at);

			if (victim == p)
				continue;
			if (last && timers_run(victim, now) && (g = from_local(p, &inherit)))
				return g;
			/*
			 * Steal from idle Ps too, unlike Go: a worker that left or died may have left work in
			 * its ring.
			 */
			while (runqsteal(p, victim, last && runnext_ripe(m, victim, now), &g))
				if (claim_hint(g))
					return g;
		}
	}
	return NULL;
}

static struct g *findrunnable(bool *inherit)
{
	struct m *m = getm;
	struct p *p;
	struct g *g;
	int64_t now, spin_until = 0;

top:
	/* The world is being stopped: give the P to the medic. */
	if (__builtin_expect(atomic_load_explicit(&sched.gcwaiting, memory_order_relaxed), 0))
		gcstopm(m);
	p = getp();
	*inherit = false;
	now = 0;
	/* Timers that are due make goroutines ready. */
	if (atomic_load_explicit(&p->timer_when, memory_order_relaxed)) {
		now = life_clock(m, host_now());
		if (timers_run(p, now) > 1)
			wakep();
	}
	/* Each 61st time the global queue first, so that it is not forgotten. */
	if (atomic_load_explicit(&p->schedtick, memory_order_relaxed) % SCHEDTICK_GLOBAL == 0 &&
	    (g = from_global(p, 1)))
		return g;
	/* Our own queue, then a share of the global one. */
	if ((g = from_local(p, inherit)) || (g = from_global(p, RUNQ_SIZE / 2)))
		return g;
	/* Descriptors that are ready. */
	if (host_poll() > 1)
		wakep();
	if ((g = from_local(p, inherit)))
		return g;
	now = life_clock(m, host_now());
	/* Steal, unless half of the busy Ps have a thief already. Search for SPIN_NS, then nap once if a runnext is worth it. */
	if (spinning(m) ||
	    2 * (unsigned)__builtin_popcountll(atomic_load(&sched.mspinning)) < atomic_load(&sched.procs) - npidle()) {
		if (!spinning(m))
			atomic_fetch_or(&sched.mspinning, MBIT(m->seat));
		KILL_POINT("m.spinning.on");
		if ((g = stealwork(m, p, now)))
			return g;
		if (!spin_until)
			spin_until = now + SPIN_NS;
		if (now < spin_until && !host_must_leave()) {
			sh_pause(20);
			goto top;
		}
		if (m->watched_fresh && !host_must_leave()) {
			m->watched_fresh = 0;
			host_nap(NAP_NS);
			spin_until = host_now() + LOOK_NS;
			goto top;
		}
	}
	/*
	 * Found nothing. Release the P, stop spinning, then look once more: Go's "delicate dance", drawn in
	 * idle.c.
	 */
	pidleput(releasep());
	if (spinning(m)) {
		atomic_fetch_and(&sched.mspinning, ~MBIT(m->seat));
		KILL_POINT("m.idle.nospin");
	}
	/* The wakers pay for no fence (see wakep), so this worker makes every process pass one. */
	if (atomic_load_explicit(&sched.procs, memory_order_relaxed) > 1)
		host_barrier();
	if (work_in_sight() && (p = pidleget(m->seat))) {
		atomic_fetch_or(&sched.mspinning, MBIT(m->seat));
		acquirep(p);
		goto top;
	}
	stopm(m);
	spin_until = 0;
	goto top;
}

/* This process was asked to leave or lacks a module: another worker runs the G. */
static _Noreturn void leave_process(struct g *g)
{
	struct m *m = getm;

	sh_check(getp() != NULL);
	m->note.ready = g;
	casgstatus(g, G_RUNNING, G_RUNNABLE);
	ready(g, READY_GLOBAL);
	dropg(m);
	atomic_fetch_and(&sched.mspinning, ~MBIT(m->seat));
	handoffp(releasep());
	host_leave();
}

/* The frames are not in the window of this worker, or the G has none yet. */
static __attribute__((noinline)) void fetch_frames(struct m *m, struct g *g)
{
	sh_check(m == getm);
	stack_enter(g);
	if (atomic_load_explicit(&g->res, memory_order_relaxed) != RES_NONE)
		return;
	atomic_store_explicit(&g->res, m->seat, memory_order_relaxed);
	KILL_POINT("g.execute.first");
	if (g->flags & GF_PINNED && !g->locked)
		pin(g);
}

/* The task has ended: the medic ends this G when none of the task runs. */
static __attribute__((noinline)) void park_for_reap(struct m *m, struct g *g)
{
	sh_check(atomic_load(&m->curg) == g);
	g->waitreason = WAIT_ZERO;
	g->wake_at = 0; /* of its last wait */
	casgstatus(g, G_RUNNING, G_WAITING);
	dropg(m);
}

/* Prepares g to be entered. False: it may not run any more. */
static inline bool execute(struct m *m, struct p *p, struct g *g, bool inherit)
{
	if (__builtin_expect(host_must_leave(), 0) && !pin_keeps(m))
		leave_process(g);
	if (__builtin_expect(atomic_load_explicit(&g->task->state, memory_order_relaxed) != TASK_RUNNING, 0)) {
		park_for_reap(m, g);
		return false;
	}
	if (!inherit) {
		uint32_t tick = atomic_load_explicit(&p->schedtick, memory_order_relaxed) + 1;

		atomic_store_explicit(&p->schedtick, tick, memory_order_relaxed);
		if (__builtin_expect(tick % SCHEDTICK_GLOBAL == 0, 0))
			life_look(m);
	}
	if (__builtin_expect(atomic_load_explicit(&g->res, memory_order_acquire) != m->seat, 0))
		fetch_frames(m, g);
	host_before_run(g);
	m->park_lock = NULL;
	*host_errno() = g->err;
	atomic_store_explicit(&m->oncpu, 1, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst); /* from here on a death loses the G */
	KILL_POINT("g.execute.oncpu");
	return true;
}

/* g is claimed already, or NULL. */
static __attribute__((noinline)) struct g *schedule_from(struct m *m, struct g *g, bool inherit)
{
	sh_check(m == getm);
	for (;; g = NULL) {
		if (__builtin_expect(m->lockedg != NULL, 0)) {
			inherit = false;
			g = stoplockedm(m);
		} else {
			if (__builtin_expect(!getp(), 0))
				stopm(m);
			if (!g)
				g = findrunnable(&inherit);
			if (__builtin_expect(spinning(m), 0))
				resetspinning(m);
			if (__builtin_expect(g->lockedm, 0)) {
				startlockedm(m, g);
				continue;
			}
		}
		host_works();
		if (__builtin_expect(execute(m, getp(), g, inherit), 1))
			return g;
	}
}

/* The usual case: we have a P, nothing else is to be done, and runnext or the ring has a G. */
struct g *schedule(void)
{
	struct m *m = getm;
	struct p *p = getp();
	bool inherit;
	struct g *g;

	sh_check(m->locks == 0 && !getg());
	if (__builtin_expect(!p || m->lockedg || spinning(m) ||
				     atomic_load_explicit(&sched.gcwaiting, memory_order_relaxed) ||
				     atomic_load_explicit(&p->timer_when, memory_order_relaxed) ||
				     atomic_load_explicit(&p->schedtick, memory_order_relaxed) % SCHEDTICK_GLOBAL == 0,
			     0) ||
	    !(g = runqget(p, &inherit)) || !claim_hint(g))
		return schedule_from(m, NULL, false);
	if (__builtin_expect(g->lockedm, 0))
		return schedule_from(m, g, inherit);
	return __builtin_expect(execute(m, p, g, inherit), 1) ? g : schedule_from(m, NULL, false);
}

struct g *mstart(unsigned seat)
{
	struct p *p;

	sh_check(seat > 0 && seat < SH_SEATS);
	getm = allm(seat);
	life_look(getm);
	sh_populate(life_ring_of(seat), sizeof(struct life_ring));
	windows_init(getm);
	pin_begin(getm);
	p = take_given_p(getm);
	if (!p && !getm->lockedg)
		p = pidleget((int)seat);
	if (p) {
		atomic_fetch_or(&sched.mspinning, MBIT(seat));
		acquirep(p);
	}
	return schedule();
}
