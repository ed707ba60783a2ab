/*
 * preempt.c - goroutines that are made to give way, or to hold still for a reader of their stack (Go's
 * suspendG and resumeG).
 *
 * g->preempt is the request: PREEMPT_YIELD asks the G to give way, PREEMPT_STOP to stop for suspendG. Calls of
 * the runtime and the preemption signal look at it. A G that stops becomes preempted. Whoever makes it
 * waiting (one compare-and-swap) must also make it runnable again.
 *
 * Preemption against park: the G may park, exit or enter a call just as it is asked to stop.
 *
 *      suspendG                                  the G, on its worker
 *   a  reads status: running
 *   b  preempt = STOP, sends the signal       c  parks for a channel: status waiting
 *   d  reads status again: waiting            or
 *   e  takes the scan bit: HELD               f  preempt_park_m: status preempted
 *                                             g  reads preempt: no longer STOP? resumes itself
 *   h  gives up: preempt = 0
 *   i  reads status: preempted? resumes it
 *
 * suspendG only acts on the status, so a G that parks for another reason is held as it is. f before g and
 * h before i, sequentially consistent: at least one of the two sees the other, and casfrom_preempted lets
 * one of them resume the G.
 *
 * OWNER  preempt: the asking process and the G's worker, by compare-and-swap or single stores
 * LOCK   the scan bit, for the reader of a stack
 * DEATH  suspender: note.suspend names the G, note.scan the one whose scan bit it has; repair withdraws the
 *        request and resumes the G. The G's worker: once preempted the G is like any other; if no
 *        request is left, repair resumes it
 */
#include "core/sched/preempt.h"
#include "core/g/g.h"
#include "core/g/life.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/proc.h"
#include "core/sched/syscall.h"
#include "shm/check.h"
#include "shm/kernel.h"
#include "shm/kill.h"
#include "shm/segment.h"

#include <errno.h>
#include <time.h>

#define KICK_NS 1000000

/* Resumes a preempted G that no reader wants any more. The winner of the change makes it runnable. */
void unpreempt(struct g *g)
{
	sh_check(g_plausible(g));
	if (!casfrom_preempted(g))
		return;
	KILL_POINT("g.preempted.waiting");
	goready(g, G_SEQ(atomic_load(&g->status)));
}

static struct g *preempt_park_m(struct g *g)
{
	struct m *m = getm;

	sh_check(m->locks == 0);
	sh_check(getp() != NULL);
	off_cpu(m, g);
	host_before_park(g);
	keep_frames(m, g);
	g->waitreason = WAIT_PREEMPTED;
	g->wake_at = 0;
	getp()->preemptions++;
	casgstatus(g, G_RUNNING, G_PREEMPTED);
	/* status, then the request here; the request, then status there: pairs with suspend_withdraw */
	atomic_thread_fence(memory_order_seq_cst);
	if (!(atomic_load(&g->preempt) & PREEMPT_STOP))
		unpreempt(g);
	dropg(m);
	return schedule();
}

void gopreempt(void)
{
	struct g *g = getg();
	uint8_t asked;

	if (__builtin_expect(atomic_load_explicit(&getm->computes, memory_order_relaxed), 0))
		exitsyscall_computing();
	asked = atomic_load_explicit(&g->preempt, memory_order_relaxed);
	if (__builtin_expect((asked & PREEMPT_SIGNAL) != 0, 0)) {
		host_signals(g);
		asked = atomic_load_explicit(&g->preempt, memory_order_relaxed);
	}
	if (asked & PREEMPT_STOP)
		host_mcall(preempt_park_m);
	else if (asked & PREEMPT_YIELD)
		goyield();
}

void preempt_ask(struct g *g)
{
	if (!(atomic_load(&g->preempt) & PREEMPT_STOP))
		atomic_fetch_or(&g->preempt, PREEMPT_YIELD);
}

int wait_signals(struct g *g)
{
	enum signals_ran ran;

	if (__builtin_expect(!(atomic_load_explicit(&g->preempt, memory_order_relaxed) & PREEMPT_SIGNAL), 1))
		return 0;
	ran = host_signals(g);
	return ran == SIGNALS_NONE ? 0 : ran == SIGNALS_RESTART ? -ERESTART : -EINTR;
}

/* ---- the process that suspends ---- */

static void suspend_nap(void)
{
#if !defined(SHOAL_SIM)
	kernel_nanosleep(&(struct timespec){0, 20000}, NULL);
#endif
	KILL_POINT("g.suspend.wait");
}

void suspend_withdraw(struct g *g)
{
	atomic_fetch_and(&g->preempt, (uint8_t)~PREEMPT_STOP);
	KILL_POINT("g.suspend.withdrawn");
	if (g_state(g) == G_PREEMPTED)
		unpreempt(g);
}

enum suspended suspendG(struct g *g, uint64_t gid, int64_t until)
{
	int64_t kicked = 0, now;
	bool asked = false, stopped = false;
	enum suspended how;

	sh_check(g_plausible(g));
	sh_check(!getm->note.suspend);
	getm->note.suspend = g;
	KILL_POINT("g.suspend.noted");
	for (;;) {
		uint64_t s = atomic_load(&g->status);
		unsigned state = s & G_STATE;

		/* It has ended. */
		if (g->gid != gid || state == G_DEAD || state == G_IDLE) {
			how = SUSPEND_GONE;
			break;
		}
		/* It stopped, for us or for another suspender: the one that takes it resumes it. */
		if (state == G_PREEMPTED && casfrom_preempted(g))
			stopped = true;
		/* It does not run: hold its stack by the scan bit. */
		if ((state == G_WAITING || state == G_RUNNABLE || stopped) && g_scan_lock(g)) {
			how = stopped ? SUSPEND_STOPPED : SUSPEND_HELD;
			if (g->gid == gid)
				break;
			g_scan_unlock(g);
			continue;
		}
		/* It is in a system call: the scan bit keeps it there. */
		if (state == G_SYSCALL && syscall_hold(g, s)) {
			how = SUSPEND_SYSCALL;
			if (g->gid == gid)
				break;
			syscall_release(g);
			continue;
		}
		now = host_now();
		if (now >= until) {
			how = SUSPEND_NOT;
			break;
		}
		/* It runs: ask it to stop, and send the signal again each millisecond. */
		if (state == G_RUNNING && now - kicked >= KICK_NS) {
			kicked = now;
			asked = true;
			atomic_fetch_or(&g->preempt, PREEMPT_STOP);
			KILL_POINT("g.suspend.asked");
			if (G_OWNER_SEAT(s) > 0 && G_OWNER_SEAT(s) < SH_SEATS)
				host_kick((unsigned)G_OWNER_SEAT(s));
		}
		suspend_nap();
	}
	if (asked && (how == SUSPEND_GONE || how == SUSPEND_NOT || how == SUSPEND_SYSCALL))
		suspend_withdraw(g);
	else if (asked)
		atomic_fetch_and(&g->preempt, (uint8_t)~PREEMPT_STOP);
	KILL_POINT("g.suspend.settled");
	return how;
}

bool resumeG(struct g *g, enum suspended how)
{
	bool held = how == SUSPEND_HELD || how == SUSPEND_STOPPED;

	sh_check(getm->note.suspend == g);
	if (held) {
		uint32_t seq = G_SEQ(atomic_load(&g->status));

		g_scan_unlock(g);
		if (how == SUSPEND_STOPPED)
			goready(g, seq);
	} else if (how == SUSPEND_SYSCALL) {
		held = syscall_release(g);
	}
	getm->note.suspend = NULL;
	KILL_POINT("g.resume.done");
	return held;
}

void repair_suspend(struct g *g)
{
	uint64_t s;

	suspend_withdraw(g);
	s = atomic_load(&g->status);
	/* the dead suspender had taken it and not resumed it */
	if ((s & G_STATE) == G_WAITING && g->waitreason == WAIT_PREEMPTED)
		goready(g, G_SEQ(s));
}
