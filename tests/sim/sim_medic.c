/* sim_medic.c - the simulated medic, in seat 0: it repairs, runs sysmon, and checks what must hold meanwhile. */
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/repair/repair.h"
#include "core/root.h"
#include "core/sched/idle.h"
#include "core/sched/preempt.h"
#include "core/sched/procs.h"
#include "core/sched/sysmon.h"
#include "core/task/checkdead.h"
#include "core/task/task.h"
#include "shm/kill.h"
#include "shm/segment.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_worker.h"

#define REAP_NS 1000000
#define STW_NS 20000
#define NOT_DEAD UINT64_MAX

static void (*on_stall)(struct task *);
static unsigned lives;	 /* medics so far */
static uint64_t dead_at; /* sim_entered when checkdead() found a deadlock */

void sim_medic_begin(void (*stalled)(struct task *))
{
	on_stall = stalled;
	lives = 0;
	dead_at = NOT_DEAD;
}

/* Does the work of supervisor and medic after the death of a worker. */
static void repair_worker(unsigned seat)
{
	struct sh_seat *s = &sh_root->seat[seat];

	atomic_store(&s->state, SEAT_DEAD);
	KILL_POINT("sim.repair.dead");
	repair_seat(seat);
	sim_check_queues();
	sim_check_timers();
	repair_wake();
	atomic_store(&s->state, SEAT_VACANT);
	wakep();
	KILL_POINT("sim.repair.vacant");
	sim_restart(&sim_worker[seat]);
	atomic_store(&s->liveness, 1);
	atomic_store(&s->state, SEAT_LIVE);
}

static bool waits_for_io(void)
{
	for (uint64_t i = 1; i < atomic_load(&sched.ngs); i++)
		if (g_state(allg(i)) == G_WAITING && allg(i)->waitreason == WAIT_IO)
			return true;
	return false;
}

/*
 * After checkdead() has found a deadlock, no goroutine may go on; and if all workers sleep for ever, it must find
 * one. all_sleep: they do.
 */
static void check_deadlock(bool all_sleep)
{
	bool dead;

	if (atomic_load(&sim_task->state) != TASK_RUNNING)
		return;
	if (dead_at != NOT_DEAD && dead_at != sim_entered)
		sim_fail("a goroutine went on after checkdead() found a deadlock");
	if (!all_sleep && dead_at != NOT_DEAD)
		return;
	dead = checkdead(sim_task);
	if (dead)
		dead_at = sim_entered;
	else if (all_sleep && !atomic_load(&sim_task->verdict) && !waits_for_io())
		sim_fail("all sleep for ever, and checkdead() finds no deadlock");
}

/* Changes the number of Ps, and suspends a goroutine for a moment. */
static void disturb(void)
{
	uint64_t ngs = atomic_load(&sched.ngs);
	enum suspended how;
	struct g *g;

	if (sim_below(8) == 0 && !atomic_load(&sched.procs_asked))
		atomic_store(&sched.procs_asked, 1 + sim_below(5));
	if (sim_below(3) || ngs < 2 || atomic_load(&sched.gcwaiting))
		return;
	g = allg(1 + sim_below((unsigned)ngs - 1));
	how = suspendG(g, g->gid, sim_now + 100000);
	resumeG(g, how);
}

void sim_medic(void)
{
	unsigned ending = 0, stalls = 0, rounds = 0;
	bool stops;

	repair_begin();
	if (lives++) {
		repair_seat(0);
		repair_wake();
	}
	for (;;) {
		bool soon, news = false, all = sim_stalled;
		int64_t tick;
		uint32_t state;

		sim_stalled = false;
		for (unsigned i = 1; i <= sim_plan.workers; i++)
			if (sim_worker[i].state == SIM_DEAD) {
				all = false;
				repair_worker(i);
			}
		state = atomic_load(&sim_task->state);
		task_step(sim_task, &news);
		check_deadlock(all);
		if (atomic_load(&sim_task->state) == TASK_RUNNING)
			disturb();
		stops = procs_step(sim_now);
		soon = state == TASK_ENDING && !news;
		if (soon && ++ending > 2000)
			sim_fail("the task does not end");
		if (all && state == TASK_RUNNING && atomic_load(&sim_task->state) == TASK_RUNNING) {
			if (++stalls > 10)
				sim_fail("the stalled task does not end");
			on_stall(sim_task);
		} else if (all && state == TASK_ENDED) {
			sim_stop();
		}
		if (++rounds % 16 == 0)
			sim_check_timers();
		tick = sysmon(sim_now);
		sim_sleep(stops ? sim_now + STW_NS : tick ? sim_now + tick : soon ? sim_now + REAP_NS : 0);
	}
}
