/*
 * syscall.c - goroutines in system calls (entersyscall to exitsyscall of Go 1.26's proc.go).
 *
 * The P stays wired to the worker; only the status of the G says syscall. Entering is a store, leaving a
 * compare-and-swap. To take such a P, the medic holds the scan bit of the G, which stops exitsyscall:
 *
 *      medic: retake                             the worker: exitsyscall
 *   a  takes the scan bit: syscall + S        c  compare-and-swap syscall -> running
 *   b  reads m->p, p->m, curg: still the same    fails while the bit is up: waits
 *   d  m->p = -1, then p is idle              f  running
 *   e  clears the scan bit                    g  reads m->p: none? takes an idle P or queues itself
 *
 * a and c change the same word, so either c comes before a, and retake leaves the P alone, or c waits
 * for e, and g sees d.
 *
 * suspendG takes the same bit to read the stack, which stands still from the frame on that entered the call
 * (m->syscallsp). One reader at a time. The medic does not wait for a reader: if the worker dies, it takes
 * the G from under the bit, and syscall_release tells the reader. The frames of a G in a system call are live
 * in its window, and oncpu stays 1.
 *
 * The number of workers is limited. If all were in blocking calls, the goroutines that would end those calls
 * could not run. So the last few workers are kept out: a goroutine that wants to make a blocking call parks
 * in syscall_backoff. One whose call waits for another goroutine or process backs off earlier, so that there
 * is room for calls that end by themselves.
 *
 * DEATH  worker: the G is lost as in running, and its P becomes idle with the seat. Medic in retake: the scan
 *        bit is up and note.scan names the G; if m->p is -1 already, the P becomes idle (retake_repair).
 *        Reader: note.scan names the G, repair_hold clears the bit
 */
#include "core/sched/syscall.h"
#include "core/g/g.h"
#include "core/g/life.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/idle.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "core/sched/proc.h"
#include "shm/check.h"
#include "shm/kill.h"
#include "shm/segment.h"

/* The frame of our caller's caller: our caller must be a function that returns only after exitsyscall. */
static inline __attribute__((always_inline)) void save(struct m *m)
{
	uintptr_t *frame = __builtin_frame_address(0);

	m->syscallbp = frame[0];
	m->syscallpc = frame[1];
	m->syscallsp = (uintptr_t)(frame + 2);
}

static void syscall_enter(struct g *g)
{
	casgstatus(g, G_RUNNING, G_SYSCALL);
	if (__builtin_expect(atomic_load_explicit(&sched.sysmonwait, memory_order_relaxed), 0))
		host_bell();
}

__attribute__((noinline)) void entersyscall(void)
{
	struct g *g = getg();

	save(getm);
	host_before_park(g); /* what it has written is seen before it blocks */
	syscall_enter(g);
}

/* For a call that is known to block: releases the P first. */
__attribute__((noinline)) void entersyscallblock(void)
{
	struct g *g = getg();

	sh_check(getp() != NULL);
	save(getm);
	host_before_park(g);
	handoffp(releasep());
	syscall_enter(g);
}

/*
 * A signal has interrupted the goroutine in code that cannot be switched out. It goes on there without its P. What
 * lies above sp, the frame of the function at pc, stands still meanwhile.
 */
void entersyscall_computing(uintptr_t pc, uintptr_t sp)
{
	struct g *g = getg();
	struct m *m = getm;

	m->syscallpc = pc;
	m->syscallsp = sp;
	m->syscallbp = 0;
	host_before_park(g);
	atomic_store(&m->computes, 1);
	KILL_POINT("syscall.computing");
	/* also if it was only asked to stop, and that is withdrawn meanwhile: by this it finds that it has no P */
	atomic_fetch_or(&g->preempt, PREEMPT_YIELD);
	KILL_POINT("syscall.computing.asked");
	handoffp(releasep());
	syscall_enter(g);
}

/* On g0: no P is free. */
static struct g *exitsyscall0(struct g *g)
{
	struct m *m = getm;

	sh_check(!getp());
	off_cpu(m, g);
	keep_frames(m, g);
	m->note.ready = g;
	KILL_POINT("syscall.exit.noted");
	casgstatus(g, G_RUNNING, G_RUNNABLE);
	ready(g, READY_GLOBAL);
	dropg(m);
	return schedule(); /* sleeps until a waker gives it a P */
}

/* sysmon sees by this that the next call on this P is another one. */
static void count_syscall(struct p *p)
{
	atomic_store_explicit(&p->syscalltick, atomic_load_explicit(&p->syscalltick, memory_order_relaxed) + 1,
			      memory_order_relaxed);
	p->syscalls++;
}

static __attribute__((noinline)) void exit_slow(void)
{
	struct m *m = getm;
	struct p *p = pidleget(m->seat);

	sh_check(!getp());
	if (p) {
		acquirep(p);
		count_syscall(p);
		KILL_POINT("syscall.exit.acquired");
		return;
	}
	host_mcall(exitsyscall0);
}

void exitsyscall(void)
{
	struct g *g = getg();
	struct p *p;

	casgstatus(g, G_SYSCALL, G_RUNNING); /* waits while the scan bit is up: pairs with retake */
	p = getp();
	if (__builtin_expect(!p, 0)) {
		exit_slow();
		return;
	}
	count_syscall(p);
}

void exitsyscall_computing(void)
{
	atomic_store(&getm->computes, 0);
	KILL_POINT("syscall.computed");
	exitsyscall();
}

/* ---- a limit for blocking calls ---- */

#define BACKOFF_NS 1000000
#define BACKOFF_MAX_NS 20000000

/* So many workers may enter a call before the medic looks again. */
static unsigned entrants_max(void)
{
	unsigned procs = atomic_load_explicit(&sched.procs, memory_order_relaxed);

	return procs < 16 ? procs : 16;
}

/* Workers, or vacant seats, that are neither in a call nor reserved for a pinned goroutine. */
static unsigned workers_left(void)
{
	uint64_t locked = atomic_load(&sched.mlocked);
	unsigned left = 0;

	for (int seat = 1; seat < WORKERS_MAX; seat++)
		left += !(locked & MBIT(seat)) && !in_syscall(allm(seat));
	return left;
}

/*
 * With fewer workers left than this, calls that wait for others back off; with fewer than entrants_max(),
 * all.
 */
static unsigned left_for_others(void)
{
	return 2 * entrants_max() + 2;
}

static void look_for_crowd(void)
{
	atomic_store(&sched.crowded, workers_left() <= left_for_others() + entrants_max());
	KILL_POINT("syscall.crowded");
}

/* Few goroutines wait here, and seldom: nothing wakes them, they try again. */
__attribute__((noinline)) bool syscall_backoff_wait(bool (*at_once_if)(void *), void *call)
{
	struct g *g = getg();
	int64_t ns = BACKOFF_NS;

	sh_check(g != NULL);
	while (!g->lockedm && getm->locks == 0 && workers_left() <= (at_once_if ? left_for_others() : entrants_max()) &&
	       !g_cancelled(g)) {
		if (at_once_if && at_once_if(call))
			return true;
		gopark(NULL, WAIT_WORKER, host_now() + ns);
		ns = ns < BACKOFF_MAX_NS ? 2 * ns : ns;
	}
	if (workers_left() > left_for_others() + entrants_max())
		/* if that is wrong, the medic sets it again with the next P that it takes */
		atomic_store(&sched.crowded, 0);
	KILL_POINT("syscall.backoff");
	return false;
}

/* ---- readers of the stack ---- */

bool syscall_hold(struct g *g, uint64_t s)
{
	sh_check(!getm->note.scan);
	if ((s & (G_STATE | G_SCAN)) != G_SYSCALL)
		return false;
	getm->note.scan = g;
	KILL_POINT("syscall.hold.noted");
	if (!atomic_compare_exchange_strong(&g->status, &s, s | G_SCAN)) {
		getm->note.scan = NULL;
		return false;
	}
	KILL_POINT("syscall.hold.scan");
	return true;
}

bool syscall_release(struct g *g)
{
	uint64_t s = atomic_load(&g->status);
	bool held = (s & (G_STATE | G_SCAN)) == (G_SYSCALL | G_SCAN) &&
		    atomic_compare_exchange_strong(&g->status, &s, s & ~G_SCAN);

	sh_check(getm->note.scan == g);
	KILL_POINT("syscall.hold.freed");
	getm->note.scan = NULL;
	return held;
}

/*
 * Cannot be the medic's own bit: it takes and clears that between two repairs, or retake_repair has cleared
 * it.
 */
void repair_hold(struct g *g)
{
	uint64_t s = atomic_load(&g->status);

	if ((s & (G_STATE | G_SCAN)) == (G_SYSCALL | G_SCAN))
		atomic_compare_exchange_strong(&g->status, &s, s & ~G_SCAN);
	KILL_POINT("syscall.hold.repaired");
}

/* ---- the medic ---- */

bool in_syscall(struct m *m)
{
	struct g *g = atomic_load(&m->curg);
	uint64_t s = g ? atomic_load(&g->status) : 0;

	return (s & G_STATE) == G_SYSCALL && G_OWNER_SEAT(s) == m->seat;
}

static void unwire(struct m *m, struct p *p)
{
	sh_check(atomic_load(&p->m) == m->seat);
	atomic_store(&m->p, -1);
	life_p(m);
	KILL_POINT("syscall.retake.unwired");
	count_syscall(p);
	pidleput(p);
}

bool retake(struct p *p)
{
	int seat = atomic_load(&p->m);
	bool took = false;
	struct m *m;
	struct g *g;
	uint64_t s;

	sh_check(!getm->note.scan);
	if (seat <= 0 || seat >= SH_SEATS)
		return false;
	m = allm(seat);
	g = atomic_load(&m->curg);
	s = g ? atomic_load(&g->status) : 0;
	if ((s & (G_STATE | G_SCAN)) != G_SYSCALL || G_OWNER_SEAT(s) != seat)
		return false;
	getm->note.scan = g;
	KILL_POINT("syscall.retake.noted");
	if (!atomic_compare_exchange_strong(&g->status, &s, s | G_SCAN)) {
		getm->note.scan = NULL;
		return false;
	}
	KILL_POINT("syscall.retake.scan");
	if (atomic_load(&m->p) == (int32_t)p->id && atomic_load(&p->m) == seat && atomic_load(&m->curg) == g) {
		unwire(m, p);
		took = true;
	}
	atomic_store(&g->status, s); /* nobody else changes the word while the bit is up */
	KILL_POINT("syscall.retake.freed");
	getm->note.scan = NULL;
	if (took) {
		wakep_if_needed();
		look_for_crowd();
		if (atomic_load(&m->comes_out)) /* after m->p: pairs with call_begin */
			host_kick((unsigned)seat);
	}
	return took;
}

void retake_repair(struct g *g)
{
	uint64_t s = atomic_load(&g->status);
	int seat = G_OWNER_SEAT(s);

	if ((s & G_STATE) != G_SYSCALL || !(s & G_SCAN))
		return;
	for (unsigned i = 0; i < atomic_load(&sched.procs_most) && seat > 0 && seat < SH_SEATS; i++)
		if (atomic_load(&allp(i)->m) == seat && atomic_load(&allm(seat)->p) != (int32_t)i)
			pidleput(allp(i));
	atomic_store(&g->status, s & ~G_SCAN);
	KILL_POINT("syscall.retake.repaired");
}
