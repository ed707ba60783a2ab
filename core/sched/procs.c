/*
 * procs.c - changing the number of Ps: stop the world, procresize, start the world (proc.go).
 *
 * The medic does it, one step in each of its rounds. So the asker may die at any moment, repair continues
 * meanwhile, and a new medic completes what it finds. The world is stopped when the medic has all Ps that
 * are in use: workers release theirs in findrunnable when they see gcwaiting; running goroutines are
 * preempted; the Ps of workers in system calls and idle Ps are taken; pidleget refuses to hand one out.
 *
 * One request at a time:
 *
 *   procs_by     0 -> asker (a run of a goroutine, or PROCS_COMMAND)                    -> 0
 *   procs_want        0 -> number -> PROCS_OVER                                       -> 0
 *   procs_done                       asker whose request is complete
 *
 * ORDER  procs_by, then procs_want; at the end procs_done, then PROCS_OVER, then procs_by = 0 by
 *        compare-and-swap with procs_done, so that a new medic clears no later request
 * DEATH  asker: before procs_want is stored nothing was asked, and the medic clears procs_by; a goroutine
 *        with attempts left asks under another number. Medic: repair makes its Ps idle; gcwaiting and
 *        procs_want still stand, and the next medic takes the Ps again. Every step may be done twice
 */
#include "core/sched/procs.h"
#include "core/g/api.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/idle.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "core/sched/preempt.h"
#include "core/sched/proc.h"
#include "core/sched/runq.h"
#include "core/sched/syscall.h"
#include "core/sched/timer.h"
#include "core/task/task.h"
#include "shm/check.h"
#include "shm/kill.h"
#include "shm/segment.h"

#include <errno.h>

/* a goroutine that runs this long without a point where it can stop makes the request fail */
#define STW_MAX_NS 2000000000l
#define KICK_NS 1000000
#define ASK_NS 1000000

#define ASKER_GID ((1ull << 56) - 1)

/* Identifies this run of the goroutine. */
static uint64_t request_id(const struct g *g)
{
	return g->gid | (uint64_t)(uint8_t)g->attempt << 56;
}

int shoal_procs(int n)
{
	struct g *g = api_enter("shoal_procs");
	uint64_t mine = request_id(g), none;
	int old = (int)atomic_load(&sched.procs);

	if (n <= 0)
		return old;
	atomic_store(&sched.procs_custom, 1);
	KILL_POINT("procs.custom");
	if (n == old)
		return old;
	while (none = 0, !atomic_compare_exchange_strong(&sched.procs_by, &none, mine))
		gopark(NULL, WAIT_STOPTHEWORLD, host_now() + ASK_NS);
	KILL_POINT("procs.asker");
	old = (int)atomic_load(&sched.procs);
	/* may replace the PROCS_OVER of the request before */
	atomic_store(&sched.procs_want, n < PROCS_MAX ? (uint32_t)n : PROCS_MAX);
	KILL_POINT("procs.asked");
	host_bell();
	/* the medic wakes it; the timeout is for a medic that died before that */
	while (atomic_load(&sched.procs_by) == mine)
		gopark(NULL, WAIT_STOPTHEWORLD, host_now() + 100 * ASK_NS);
	return atomic_load(&sched.procs_failed) == mine ? -EAGAIN : old;
}

/* ---- the medic ---- */

static bool requester_lives(uint64_t by)
{
	bool ended = false;
	struct g *g = g_find(by & ASKER_GID, &ended);

	return g && !ended && g_state(g) != G_DEAD && request_id(g) == by &&
	       atomic_load(&g->task->state) == TASK_RUNNING;
}

/* Clears the request named by procs_done. */
static void finish_request(void)
{
	uint64_t by = atomic_load(&sched.procs_done);
	uint32_t over = PROCS_OVER;

	sh_check(atomic_load(&sched.procs_want) == PROCS_OVER);
	atomic_compare_exchange_strong(&sched.procs_by, &by, 0);
	KILL_POINT("stw.free");
	/* the next asker may have stored its number already */
	atomic_compare_exchange_strong(&sched.procs_want, &over, 0);
	KILL_POINT("stw.over");
}

static uint32_t clamp_procs(uint32_t n)
{
	return n < PROCS_MAX ? n : PROCS_MAX;
}

/* True: a request is under way. */
static bool begin_request(void)
{
	uint64_t by, none = 0;
	uint32_t n = atomic_load(&sched.procs_asked);

	if (atomic_load(&sched.procs_want) == PROCS_OVER) /* a medic died in finish_request */
		finish_request();
	if (atomic_load(&sched.procs_want))
		return true;
	by = atomic_load(&sched.procs_by);
	if (by && by != PROCS_COMMAND && !requester_lives(by)) {
		atomic_compare_exchange_strong(&sched.procs_by, &by, 0);
		KILL_POINT("procs.forgotten");
		by = 0;
	}
	if (!n || (by && by != PROCS_COMMAND) ||
	    (!by && !atomic_compare_exchange_strong(&sched.procs_by, &none, PROCS_COMMAND)))
		return false;
	KILL_POINT("procs.command");
	atomic_store(&sched.procs_want, clamp_procs(n));
	KILL_POINT("procs.command.asked");
	return true;
}

static void stop_m(struct p *p, int seat, bool kick)
{
	struct m *m = allm(seat);
	struct g *g;

	sh_check(seat > 0 && seat < SH_SEATS);
	if (in_syscall(m)) {
		retake(p);
		return;
	}
	g = atomic_load(&m->curg);
	if (!kick || !atomic_load(&m->oncpu) || !g)
		return;
	preempt_ask(g);
	host_kick((unsigned)seat);
}

/* Go's stopTheWorldWithSema. True: we have all Ps. */
static bool world_stopped(int64_t now)
{
	bool kick = now - sched.stw_kicked >= KICK_NS, all = true;

	if (kick)
		sched.stw_kicked = now;
	for (unsigned i = 0; i < atomic_load(&sched.procs); i++) {
		struct p *p = allp(i);
		int32_t has = atomic_load(&p->m);

		if (has > 0 && has < SH_SEATS)
			stop_m(p, has, kick);
		if (has < P_GIVEN) /* on its way to an idle worker it is free to take as well */
			has = NOSEAT;
		if (atomic_load(&p->m) == getm->seat || atomic_compare_exchange_strong(&p->m, &has, getm->seat)) {
			atomic_store(&p->status, P_GCSTOP);
			KILL_POINT("stw.taken");
			atomic_fetch_and(&sched.pidle, ~(1ull << i));
			KILL_POINT("stw.unmarked");
		} else {
			all = false;
		}
	}
	return all;
}

/* Holds: all Ps. Moves what is queued on those that go out of use. */
static void procresize(unsigned n)
{
	sh_check(n >= 1 && n <= P_MAX);
	for (unsigned i = n; i < P_MAX; i++) {
		struct p *p = allp(i);

		if (atomic_load(&p->status) == P_DEAD)
			continue;
		runqdrain(p);
		timers_move(p, allp(0));
		gfpurge(p);
		KILL_POINT("stw.emptied");
		atomic_store(&p->status, P_DEAD);
		/* a worker may mark it idle late: pairs with pidleput */
		atomic_fetch_and(&sched.pidle, ~(1ull << i));
		KILL_POINT("stw.status");
		atomic_store(&p->m, NOSEAT);
		KILL_POINT("stw.dead");
	}
	if (n > atomic_load(&sched.procs_most)) {
		atomic_store(&sched.procs_most, n);
		KILL_POINT("stw.most");
	}
	atomic_store(&sched.procs, n);
	KILL_POINT("stw.resized");
}

static void start_the_world(void)
{
	unsigned n = atomic_load(&sched.procs);
	uint64_t by = atomic_load(&sched.procs_by);
	uint32_t command = atomic_load(&sched.procs_asked);
	bool ended = false;
	struct g *g;

	sh_check(atomic_load(&sched.gcwaiting));
	for (unsigned i = 0; i < n; i++) {
		struct p *p = allp(i);

		if (atomic_load(&p->m) == getm->seat || atomic_load(&p->status) == P_DEAD)
			pidleput(p);
	}
	atomic_store(&sched.gcwaiting, 0);
	KILL_POINT("stw.started");
	if (by == PROCS_COMMAND && clamp_procs(command) == atomic_load(&sched.procs_want)) /* a later command stays */
		atomic_compare_exchange_strong(&sched.procs_asked, &command, 0);
	KILL_POINT("stw.answered");
	atomic_store(&sched.procs_done, by);
	KILL_POINT("stw.named");
	atomic_store(&sched.procs_want, PROCS_OVER);
	KILL_POINT("stw.done");
	finish_request();
	g = g_find(by & ASKER_GID, &ended);
	if (g && !ended && g->waitreason == WAIT_STOPTHEWORLD)
		goready(g, G_SEQ(atomic_load(&g->status)));
	for (unsigned i = 0; i < n && atomic_load(&sched.pidle); i++)
		wakep_if_needed();
}

bool procs_step(int64_t now)
{
	if (!begin_request())
		return false;
	if (!atomic_load(&sched.gcwaiting)) {
		sched.stw_since = now;
		sched.stw_kicked = 0;
		atomic_store(&sched.gcwaiting, 1);
		KILL_POINT("stw.begun");
	}
	if (world_stopped(now)) {
		procresize(atomic_load(&sched.procs_want));
	} else if (now - sched.stw_since < STW_MAX_NS) {
		return true;
	} else {
		atomic_store(&sched.procs_failed, atomic_load(&sched.procs_by));
		KILL_POINT("stw.failed");
	}
	start_the_world();
	return false;
}
