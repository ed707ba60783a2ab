/* sim_worker.c - the contexts of simulated workers: which one runs, which sleep, and the clock. See sim_worker.h. */
#undef _FORTIFY_SOURCE /* its longjmp allows one stack only */
#include "tests/sim/sim_worker.h"
#include "core/g/g.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/proc.h"
#include "shm/check.h"
#include "shm/segment.h"
#include "tests/sim/sim.h"

#include <stdlib.h>
#include <string.h>

#define G0_STACK (256ul << 10)

struct sim_worker sim_worker[SIM_SEATS], *sim_cur;
struct sim_plan sim_plan;
struct task *sim_task;
uint64_t sim_seed;
int64_t sim_now;
bool sim_active, sim_stalled;

static struct sim_worker driver; /* the test program itself */

static void on_check(const char *file, int line, const char *what)
{
	sim_fail("check failed in seat %u: %s:%d: %s", sim_cur->seat, file, line, what);
}

static struct sim_worker *making;

static void run_worker(void)
{
	struct sim_worker *w;

	SIM_STACK_BEGIN(&making->g0);
	w = sim_cur;
	if (w->seat == 0)
		sim_medic();
	else
		sim_g_enter(w->fn ? w->fn(w->g) : mstart(w->seat));
}

void sim_switch(struct sim_worker *w)
{
	if (w == sim_cur && !w->fresh)
		return;
	if (_setjmp(sim_cur->here))
		return;
	sim_count.switches++;
	sim_cur = w;
	getm = allm(w->seat);
	if (!w->fresh)
		_longjmp(w->here, 1);
	w->fresh = false;
	sim_stack_enter(&w->g0);
}

void sim_stop(void)
{
	sim_active = false;
	sim_switch(&driver);
}

static struct sim_worker *pick_running(bool not_me)
{
	struct sim_worker *run[SIM_SEATS];
	unsigned n = 0;

	for (unsigned i = 0; i <= sim_plan.workers; i++) {
		struct sim_worker *w = &sim_worker[i];

		if (w->state == SIM_SLEEPS && w->until && w->until <= sim_now)
			w->state = SIM_RUNS;
		if (w->state == SIM_RUNS && !(not_me && w == sim_cur))
			run[n++] = w;
	}
	return n ? run[sim_below(n)] : NULL;
}

struct sim_worker *sim_pick(bool not_me)
{
	int64_t next = 0;
	struct sim_worker *w = pick_running(not_me);

	if (w)
		return w;
	if (not_me && sim_cur->state == SIM_RUNS)
		return sim_cur;
	for (unsigned i = 0; i <= sim_plan.workers; i++)
		if (sim_worker[i].state == SIM_SLEEPS && sim_worker[i].until && (!next || sim_worker[i].until < next))
			next = sim_worker[i].until;
	if (next) {
		sim_now = next;
		return pick_running(false);
	}
	sim_stalled = true;
	sim_worker[0].state = SIM_RUNS;
	return &sim_worker[0];
}

void sim_wake(struct sim_worker *w)
{
	w->woken = true;
	if (w->state == SIM_SLEEPS)
		w->state = SIM_RUNS;
}

void sim_sleep(int64_t until)
{
	struct sim_worker *w = sim_cur;

	if (!w->woken) {
		w->until = until;
		w->state = SIM_SLEEPS;
		sim_switch(sim_pick(false));
	}
	w->woken = false;
}

void sim_block(int64_t ns)
{
	struct sim_worker *w = sim_cur;
	int64_t until = sim_now + ns;

	while (sim_now < until) {
		w->until = until;
		w->state = SIM_SLEEPS;
		sim_switch(sim_pick(false));
		w->state = SIM_RUNS;
	}
}

void sim_restart(struct sim_worker *w)
{
	w->state = SIM_RUNS;
	w->fresh = true;
	w->woken = w->leave = false;
	w->fn = NULL;
}

void sim_begin(uint64_t seed, const struct sim_plan *p)
{
	sim_seed = seed;
	sim_rand_begin(seed);
	sim_plan = *p;
	sim_now = 1000000000;
	sim_active = sim_stalled = false;
	sim_entered = 0;
	memset(&sim_count, 0, sizeof sim_count);
	sim_points_begin();
	sim_net_begin();
	sh_check_hook = on_check;
	sim_cur = &driver;
	getm = allm(0);
	for (unsigned i = 0; i <= p->workers; i++) {
		struct sim_worker *w = &sim_worker[i];

		w->seat = i;
		if (!w->g0.size) {
			making = w;
			sim_stack_make(&w->g0, G0_STACK, run_worker);
		}
		sim_restart(w);
		atomic_store(&sh_root->seat[i].state, SEAT_LIVE);
	}
}

void sim_run(struct task *t, void (*stalled)(struct task *))
{
	sim_task = t;
	sim_medic_begin(stalled);
	sim_active = true;
	sim_switch(sim_pick(false));
	getm = allm(0);
}
