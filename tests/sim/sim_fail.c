/* sim_fail.c - the random numbers of a run, and the report of its failure. */
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/proc.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_worker.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct sim_count sim_count;
bool sim_trace;

static uint64_t rng;

void sim_rand_begin(uint64_t seed)
{
	rng = seed * 0x9e3779b97f4a7c15u + 1;
}

uint64_t sim_rand(void)
{
	uint64_t z = (rng += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

unsigned sim_below(unsigned n)
{
	return (unsigned)((sim_rand() >> 32) * n >> 32);
}

static void print_state(void)
{
	printf("sim: seed %lu failed at point %lu, %u deaths, %u goroutines lost; the last points:\n",
	       (unsigned long)sim_seed, (unsigned long)sim_count.points, sim_count.deaths, sim_count.lost);
	sim_points_print();
	for (unsigned i = 0; i <= sim_plan.workers; i++)
		printf("  seat %u: state %d, P %d, G %u, oncpu %u\n", i, (int)sim_worker[i].state,
		       atomic_load(&allm(i)->p), atomic_load(&allm(i)->curg) ? g_index(atomic_load(&allm(i)->curg)) : 0,
		       atomic_load(&allm(i)->oncpu));
	printf("  idle Ps %lx, idle Ms %lx, spinning %lx\n", (unsigned long)atomic_load(&sched.pidle),
	       (unsigned long)atomic_load(&sched.midle), (unsigned long)atomic_load(&sched.mspinning));
	for (uint64_t i = 1; i < atomic_load(&sched.ngs) && i < 300; i++)
		if (g_state(allg(i)) != G_DEAD)
			printf("  G %lu: %s, %s, res %d\n", (unsigned long)i, g_status_name(g_state(allg(i))),
			       waitreason_name[allg(i)->waitreason], atomic_load(&allg(i)->res));
	printf("again: sim --seed %lu%s\n", (unsigned long)sim_seed, sim_plan.death_rate ? " --deaths" : "");
}

void sim_fail(const char *fmt, ...)
{
	va_list ap;

	sim_active = false;
	fputs("sim: ", stdout);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	print_state();
	sim_failed();
	fflush(stdout);
	_Exit(1);
}
