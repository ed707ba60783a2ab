/*
 * preempt.c - goroutines that are made to give way, or to hold still while somebody reads their
 * stack: Go's suspendG and resumeG.
 *
 * g->preempt asks: PREEMPT_YIELD to give way, PREEMPT_STOP to stop for who suspends it. It is
 * looked at when the runtime is called and by the preemption signal. Who stops becomes preempted,
 * and whoever makes that waiting (one compare-and-swap) must make it runnable again.
 *
 * DEATH  the suspender: note.suspend names the G it asked, note.scan the one whose scan bit it has;
 *        repair takes the request back and resumes who has stopped for it. The goroutine's worker:
 *        past the change it is preempted like any other, and if nobody asks any more, resumed by
 *        itself or by repair: so either the suspender sees that it has stopped, or it sees that
 *        it is not wanted
 */
#include "shm/kernel.h"
#include "core/sched/preempt.h"
#include "core/g/g.h"
#include "core/g/life.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/proc.h"
#include "core/sched/syscall.h"
#include "shm/kill.h"
#include "shm/segment.h"

#include <time.h>

#define KICK_NS 1000000

/* Preempted, and nobody will read it: on it goes. Whoever wins the change does it. */
void unpreempt(struct g *g)
{
	if (!casfrom_preempted(g))
		return;
	KILL_POINT("g.preempted.waiting");
	goready(g, G_SEQ(atomic_load(&g->status)));
}

static struct g *preempt_park_m(struct g *g)
{
	struct m *m = getm;

	off_cpu(m, g);
	host_before_park(g);
	keep_frames(m, g);
	g->waitreason = WAIT_PREEMPTED;
	g->wake_at = 0;
	getp()->preemptions++;
	casgstatus(g, G_RUNNING, G_PREEMPTED);
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load(&g->preempt) != PREEMPT_STOP) /* pairs with suspend_withdraw */
		unpreempt(g);
	dropg(m);
	return schedule();
}

void gopreempt(void)
{
	if (atomic_load_explicit(&getg()->preempt, memory_order_relaxed) == PREEMPT_STOP)
		host_mcall(preempt_park_m);
	else
		goyield();
}

void preempt_ask(struct g *g)
{
	uint8_t none = 0;

	atomic_compare_exchange_strong(&g->preempt, &none, PREEMPT_YIELD);
}

/* ---- the other side ---- */

static void suspend_nap(void)
{
#if !defined(SHOAL_SIM)
	kernel_nanosleep(&(struct timespec){0, 20000}, NULL);
#endif
	KILL_POINT("g.suspend.wait");
}

void suspend_withdraw(struct g *g)
{
	uint8_t stop = PREEMPT_STOP;

	atomic_compare_exchange_strong(&g->preempt, &stop, 0);
	KILL_POINT("g.suspend.withdrawn");
	if (g_state(g) == G_PREEMPTED)
		unpreempt(g);
}

enum suspended suspendG(struct g *g, uint64_t gid, int64_t until)
{
	int64_t kicked = 0, now;
	bool asked = false, stopped = false;
	enum suspended how;

	getm->note.suspend = g;
	KILL_POINT("g.suspend.noted");
	for (;;) {
		uint64_t s = atomic_load(&g->status);
		unsigned state = s & G_STATE;

		if (g->gid != gid || state == G_DEAD || state == G_IDLE) {
			how = SUSPEND_GONE;
			break;
		}
		if (state == G_PREEMPTED && casfrom_preempted(g))
			stopped = true;
		if ((state == G_WAITING || state == G_RUNNABLE || stopped) && g_scan_lock(g)) {
			how = stopped ? SUSPEND_STOPPED : SUSPEND_HELD;
			if (g->gid == gid)
				break;
			g_scan_unlock(g);
			continue;
		}
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
		if (state == G_RUNNING && now - kicked >= KICK_NS) {
			kicked = now;
			asked = true;
			atomic_store(&g->preempt, PREEMPT_STOP);
			KILL_POINT("g.suspend.asked");
			if (G_OWNER_SEAT(s) > 0 && G_OWNER_SEAT(s) < SH_SEATS)
				host_kick((unsigned)G_OWNER_SEAT(s));
		}
		suspend_nap();
	}
	if (asked && (how == SUSPEND_GONE || how == SUSPEND_NOT || how == SUSPEND_SYSCALL))
		suspend_withdraw(g);
	else if (asked)
		atomic_store(&g->preempt, 0);
	KILL_POINT("g.suspend.settled");
	return how;
}

bool resumeG(struct g *g, enum suspended how)
{
	bool held = how == SUSPEND_HELD || how == SUSPEND_STOPPED;

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
	if ((s & G_STATE) == G_WAITING && g->waitreason == WAIT_PREEMPTED) /* taken over, and not resumed */
		goready(g, G_SEQ(s));
}
