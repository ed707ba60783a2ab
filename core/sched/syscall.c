/*
 * syscall.c - goroutines in system calls (proc.go, entersyscall to exitsyscall), Go 1.26's way.
 *
 * The P stays wired to the worker, only the G's status says syscall: entering and leaving are one
 * compare-and-swap each. Who wants the P takes the scan bit of the G, which holds it up in
 * exitsyscall, looks again, unwires the P and lets go. Only the medic does that.
 *
 * The frames of a G in a system call are live in its window, and oncpu stays 1.
 *
 * So does who reads its stack (suspendG): it stands still from the frame on that called us, which
 * m names. One such reader at a time; the medic does not wait for it, and when a worker dies takes
 * its G from under the bit, which the reader is told when it lets go.
 *
 * There are at most so many workers. If all were in calls that block, who would end those calls could
 * not run: so the last of them are left out, and who wants to make such a call waits (syscall_backoff);
 * sooner where it would wait for others, so that there is room for calls that end by themselves.
 *
 * DEATH  of the worker: the G is lost as in running, the P goes back with its seat. Of the medic
 *        that takes a P: the scan bit is up and note.scan names the G; once m->p says that it has
 *        none, whatever P still names that seat is put back (retake_repair). Of a reader: note.scan
 *        names the G, repair_hold takes the bit down
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
#include "core/sched/runq.h"
#include "shm/kill.h"
#include "shm/segment.h"

/* In the function that the system call's own calls: one of ours that does not return before exitsyscall. */
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
	host_before_park(g); /* lines that it has written are seen before it blocks */
	syscall_enter(g);
}

/* Known to block: the P goes first. */
__attribute__((noinline)) void entersyscallblock(void)
{
	struct g *g = getg();

	save(getm);
	host_before_park(g);
	handoffp(releasep());
	syscall_enter(g);
}

/* On g0: no P is to be had. */
static struct g *exitsyscall0(struct g *g)
{
	struct m *m = getm;

	off_cpu(m, g);
	keep_frames(m, g);
	m->note.ready = g;
	KILL_POINT("syscall.exit.noted");
	casgstatus(g, G_RUNNING, G_RUNNABLE);
	globrunqput(g);
	m->note.ready = NULL;
	dropg(m);
	return schedule(); /* sleeps until somebody hands it a P */
}

/* The next system call on this P is another one: sysmon gives it its time anew. */
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

	casgstatus(g, G_SYSCALL, G_RUNNING); /* waits while the scan bit is up */
	p = getp();
	if (__builtin_expect(!p, 0)) {
		exit_slow();
		return;
	}
	count_syscall(p);
}

/* ---- not all at once ---- */

#define BACKOFF_NS 1000000
#define BACKOFF_MAX_NS 20000000

/* So many may enter a call before the medic has looked again. */
static unsigned entrants_max(void)
{
	unsigned procs = atomic_load_explicit(&sched.procs, memory_order_relaxed);

	return procs < 16 ? procs : 16;
}

/* Workers, or seats for them, that are neither in a call nor one goroutine's own. */
static unsigned workers_left(void)
{
	uint64_t locked = atomic_load(&sched.mlocked);
	unsigned left = 0;

	for (int seat = 1; seat < WORKERS_MAX; seat++)
		left += !(locked & MBIT(seat)) && !in_syscall(allm(seat));
	return left;
}

/* Below this who waits for others in a call has to wait outside; below at_once() everybody. */
static unsigned left_for_others(void)
{
	return 2 * entrants_max() + 2;
}

static void look_for_crowd(void)
{
	atomic_store(&sched.crowded, workers_left() <= left_for_others() + entrants_max());
	KILL_POINT("syscall.crowded");
}

/* They are few who wait here, and seldom: nobody tells them, they look again. */
__attribute__((noinline)) bool syscall_backoff_wait(bool (*at_once_if)(void *), void *call)
{
	struct g *g = getg();
	int64_t ns = BACKOFF_NS;

	while (!g->lockedm && getm->locks == 0 && workers_left() <= (at_once_if ? left_for_others() : entrants_max()) &&
	       !g_cancelled(g)) {
		if (at_once_if && at_once_if(call))
			return true;
		gopark(NULL, WAIT_WORKER, host_now() + ns);
		ns = ns < BACKOFF_MAX_NS ? 2 * ns : ns;
	}
	if (workers_left() > left_for_others() + entrants_max())
		atomic_store(&sched.crowded, 0); /* or the medic says so again with the next P that it takes */
	KILL_POINT("syscall.backoff");
	return false;
}

/* ---- who reads its stack ---- */

bool syscall_hold(struct g *g, uint64_t s)
{
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

	KILL_POINT("syscall.hold.freed");
	getm->note.scan = NULL;
	return held;
}

/* The medic's own bit is not up: it takes and frees that between two repairs, or retake_repair has. */
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
	atomic_store(&g->status, s); /* nobody else changes it while the bit is up */
	KILL_POINT("syscall.retake.freed");
	getm->note.scan = NULL;
	if (took) {
		wakep_if_needed();
		look_for_crowd();
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
