/*
 * sim_host.c - the functions of core/host.h for simulated workers: time, sleep and wake-ups go to sim_worker.c;
 * what the simulation does not have (signals, files, output) does nothing.
 */
#include "core/host.h"
#include "core/g/g.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/netpoll.h"
#include "core/task/task.h"
#include "shm/lock.h"
#include "shm/segment.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_worker.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>

int64_t host_now(void)
{
	return sim_now;
}

void host_works(void)
{
}

void host_idle(int64_t until)
{
	bool poller = atomic_load(&sched.poller) == getm->seat;

	if (!sim_active) {
		sim_now = until > sim_now ? until : sim_now;
		sim_probe_call("host.idle");
		return;
	}
	if (!poller || !sim_net_edge())
		sim_sleep(until);
	if (poller)
		host_poll();
}

void host_nap(int64_t ns)
{
	if (sim_active)
		sim_block(ns);
	else
		sim_now += ns;
}

void host_wake(unsigned seat)
{
	if (seat <= sim_plan.workers && sim_worker[seat].state != SIM_DEAD)
		sim_wake(&sim_worker[seat]);
}

void host_bell(void)
{
	sim_probe_call("host.bell");
	sim_wake(&sim_worker[0]);
}

void host_kill(unsigned seat)
{
	sim_fail("seat %u would be killed: its goroutine ignores preemption", seat);
}

enum host_doing host_doing(unsigned seat, int64_t *cpu_ns)
{
	(void)seat;
	*cpu_ns = 0;
	return HOST_RUNS;
}

bool host_must_leave(void)
{
	return sim_cur->leave;
}

void host_die(void)
{
	sim_fail("G %u: the process that it depends on has died", g_index(getg()));
	abort();
}

void host_leave(void)
{
	sim_cur->state = SIM_DEAD;
	atomic_fetch_or(&sh_root->seat[sim_cur->seat].liveness, FUTEX_OWNER_DIED);
	sim_wake(&sim_worker[0]);
	sim_switch(sim_pick(false));
	abort();
}

void host_outside(const char *call)
{
	sim_fail("%s: called outside a goroutine", call);
}

void host_stack_damaged(struct g *g)
{
	sim_fail("G %u: its stack pointer is outside of its stack", g_index(g));
	abort();
}

enum signals_ran host_signals(struct g *g)
{
	atomic_fetch_and(&g->preempt, (uint8_t)~PREEMPT_SIGNAL);
	return SIGNALS_NONE;
}

void host_g_inherit(struct g *parent, struct g *child)
{
	(void)parent;
	(void)child;
}

void host_misuse(const char *what)
{
	sim_fail("misuse: %s", what);
}

int *host_errno(void)
{
	return &errno;
}

void host_barrier(void)
{
	sim_probe_call("host.barrier");
}

void host_kick(unsigned seat)
{
	(void)seat;
	sim_probe_call("host.kick");
}

void host_switch_task(struct task *t)
{
	(void)t;
}

void host_task_start(struct task *t)
{
	(void)t;
}

void host_task_changed(struct task *t)
{
	(void)t;
}

void host_before_run(struct g *g)
{
	(void)g;
}

void host_off_cpu(struct g *g)
{
	(void)g;
}

void host_before_park(struct g *g)
{
	(void)g;
}

void host_task_begin(struct g *g)
{
	(void)g;
}

void host_task_exit(struct g *g)
{
	(void)g;
}

void host_g_end(struct g *g)
{
	(void)g;
}

void host_part_end(struct g *g)
{
	g->part = NULL;
}

void host_output_finish(unsigned seat, struct g *g)
{
	(void)seat;
	(void)g;
}

void host_output_repair(struct sh_lock *l)
{
	(void)l;
}

void host_file_close(int fd)
{
	atomic_store(&poll_owner[fd], 0);
}

void host_file_unlock(int fd, bool whole)
{
	(void)fd;
	(void)whole;
}

bool host_file_open(int fd)
{
	(void)fd;
	return true;
}

const char *host_seat_fault(unsigned seat)
{
	(void)seat;
	return NULL;
}
