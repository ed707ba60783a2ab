/* white.c - see white.h. */
#include "tests/sim/white.h"
#include "core/g/g.h"
#include "core/g/life.h"
#include "core/g/names.h"
#include "core/g/stack.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/idle.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "core/sched/proc.h"
#include "core/task/task.h"
#include "shm/check.h"
#include "shm/segment.h"

#include <unistd.h>

static bool there;

void white_begin(unsigned procs, uint32_t gs)
{
	struct sim_plan plan = {.workers = 3, .procs = procs};
	struct task *t = task_at(1);
	int fd;

	if (there)
		sh_segment_detach();
	there = true;
	fd = sh_segment_create(0);
	if (fd < 0)
		sim_fail("no segment: %d", fd);
	close(fd);
	schedinit(procs);
	sim_begin(1, &plan);
	sim_windows = 1024;
	t->id = t->slot = 1;
	atomic_store(&t->state, TASK_RUNNING);
	atomic_store(&sched.ngs, gs + 1);
	for (uint32_t i = 1; i <= gs; i++) {
		struct g *g = allg(i);

		g->idx = (int32_t)i;
		g->gid = i;
		g->task = t;
		g->sudog.g = g;
		g->win = WIN_NONE;
		g->stack_max = WIN_SIZE;
		atomic_store(&g->res, RES_NONE);
		atomic_store(&g->status, G_MAKE(G_RUNNABLE, 0));
	}
	getm = allm(1);
	windows_init(getm);
}

unsigned white_run(const char *what, bool (*const test[])(void), size_t n)
{
	unsigned failed = 0;

	for (size_t i = 0; i < n; i++) {
		failed += !test[i]();
		sim_probe = NULL;
	}
	if (there)
		sh_segment_detach();
	there = false;
	printf("%s: %zu cases, %u failed\n", what, n, failed);
	return failed;
}

struct p *white_p(unsigned id, int seat)
{
	struct m *us = getm;
	struct p *p = allp(id);

	getm = allm(seat);
	atomic_fetch_and(&sched.pidle, ~(1ull << id));
	atomic_store(&p->m, seat);
	acquirep(p);
	getm = us;
	return p;
}

void white_leave(struct g *g)
{
	sh_check(getg() == g);
	atomic_store(&getm->oncpu, 0);
	g->waitreason = WAIT_RECV;
	casgstatus(g, G_RUNNING, G_WAITING);
	dropg(getm);
}

void white_wait(struct g *g, enum waitreason why)
{
	g->waitreason = (uint8_t)why;
	atomic_store(&g->status, G_MAKE(G_WAITING, 1));
}
