/* sim_point.c - kill points of the simulation: the seed switches to another worker here, or kills this one. */
#include "core/g/g.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "shm/kill.h"
#include "shm/segment.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_worker.h"

#include <linux/futex.h>
#include <stdio.h>
#include <string.h>

#define POINTS_MAX 3000000u
#define LAST 64u

void (*sim_probe)(const char *point);

static struct {
	const char *name;
	unsigned seat;
} last[LAST];
static unsigned waiting; /* points in a row at which a worker spins for a lock */

void sim_points_begin(void)
{
	waiting = 0;
}

void sim_points_print(void)
{
	for (uint64_t n = sim_count.points > LAST ? sim_count.points - LAST : 0; n < sim_count.points; n++)
		printf("  %u %s\n", last[n % LAST].seat, last[n % LAST].name);
}

const char *sim_point_last(void)
{
	return last[(sim_count.points - 1) % LAST].name;
}

void sim_probe_call(const char *what)
{
	if (!sim_active && sim_probe)
		sim_probe(what);
}

static void die(void)
{
	struct sim_worker *w = sim_cur;
	struct m *m = allm(w->seat);

	sim_count.deaths++;
	if (w->seat == 0) { /* the supervisor starts the next medic at once */
		if (sim_trace)
			printf("  the medic dies\n");
		w->fresh = true;
		w->fn = NULL;
	} else {
		if (atomic_load(&m->oncpu) && atomic_load(&m->curg))
			sim_count.lost++;
		if (sim_trace)
			printf("  seat %u dies at %s, G %u, oncpu %u\n", w->seat, sim_point_last(),
			       atomic_load(&m->curg) ? g_index(atomic_load(&m->curg)) : 0, atomic_load(&m->oncpu));
		w->state = SIM_DEAD;
		atomic_fetch_or(&sh_root->seat[w->seat].liveness, FUTEX_OWNER_DIED);
		sim_wake(&sim_worker[0]);
	}
	sim_switch(sim_pick(false));
}

/* Few runs pass these points, so deaths are 16 times as likely there. */
static bool seldom(const char *name)
{
	return !strncmp(name, "netpoll.", 8) || !strncmp(name, "syscall.", 8) || !strncmp(name, "sim.", 4);
}

static void maybe_die(const char *name)
{
	unsigned rate = seldom(name) ? sim_plan.death_rate / 16 + 1 : sim_plan.death_rate;

	if (!sim_plan.deaths || sim_below(rate) != 0 || !(sim_cur->seat || sim_plan.medic_dies))
		return;
	sim_plan.deaths--;
	die();
}

/* Asks a worker to leave in good order. */
static void maybe_renew(void)
{
	struct sim_worker *w;

	if (!sim_plan.renewals || sim_below(500) != 0)
		return;
	w = &sim_worker[1 + sim_below(sim_plan.workers)];
	sim_plan.renewals--;
	if (w->state == SIM_RUNS || w->state == SIM_SLEEPS) {
		w->leave = true;
		sim_wake(w);
	}
}

static void record_point(const char *name)
{
	last[sim_count.points % LAST].name = name;
	last[sim_count.points % LAST].seat = sim_cur->seat;
	if (++sim_count.points > POINTS_MAX)
		sim_fail("no end after %u points", POINTS_MAX);
	if (sim_trace)
		printf("%lu %u %s G %u\n", (unsigned long)sim_count.points, sim_cur->seat, name,
		       atomic_load(&getm->curg) ? g_index(atomic_load(&getm->curg)) : 0);
}

void sh_sim_point(const char *name)
{
	size_t n = strlen(name);
	bool waits = n > 5 && strcmp(name + n - 5, ".wait") == 0;

	if (!sim_active) {
		sim_now += 20;
		if (sim_probe)
			sim_probe(name);
		return;
	}
	record_point(name);
	sim_now += 20 + (int64_t)sim_below(400);
	maybe_die(name);
	if (sim_cur->seat && sim_below(1000) == 0) /* a round of sysmon */
		sim_wake(&sim_worker[0]);
	maybe_renew();
	waiting = strcmp(name, "lock.wait") == 0 ? waiting + 1 : 0;
	if (waiting > 3000)
		sim_fail("a worker waits for a lock for ever");
	if (waits || sim_below(sim_plan.switch_rate) == 0)
		sim_switch(sim_pick(waits));
}
