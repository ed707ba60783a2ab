/*
 * sim.h - a whole runtime in one process, driven by one seed.
 *
 * Each worker is a context with a stack of its own; at every KILL_POINT the seed decides whether
 * another one goes on, or whether this one is dead. The medic is one of them, in seat 0, and can
 * die as well. Time is a number that grows a little at every point and jumps when all sleep.
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include "tests/sim/sim.h"
#include "core/task/task.h"

struct sim_plan {
	unsigned workers, procs;
	unsigned deaths;      /* at most so many */
	unsigned death_rate;  /* one in so many points */
	unsigned renewals;    /* workers asked to leave in good order, at most */
	unsigned switch_rate; /* one in so many points */
	bool medic_dies;
};

struct sim_count {
	uint64_t points, switches;
	unsigned deaths, lost; /* lost: deaths that took a goroutine along */
};
extern struct sim_count sim_count;
extern bool sim_trace;

uint64_t sim_rand(void); /* of the run's seed */
unsigned sim_below(unsigned n);
void sim_begin(uint64_t seed, const struct sim_plan *); /* the segment is fresh and schedinit was called */
/* Until the task has ended and all sleep. stalled() is called when all sleep for ever, and the task runs still. */
void sim_run(struct task *, void (*stalled)(struct task *));
void sim_block(int64_t ns); /* the worker is in the kernel so long */
_Noreturn void sim_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void sim_failed(void); /* main's: prints the counts */

/* For tests from inside (white.h): called at each point, and for what the core asks of its host. */
extern void (*sim_probe)(const char *point);

/* The tests from inside: how many failed. */
unsigned runq_tests(void);
unsigned schedule_tests(void);
unsigned sysmon_tests(void);
unsigned gfree_tests(void);
unsigned waitq_tests(void);
unsigned timers_tests(void);

/* ---- looks.c: what must hold between any two steps ---- */
void sim_look_at_queues(void);
void sim_look_at_timers(void);

/* ---- sim_net.c: pipes of a simulated kernel ---- */
void sim_net_begin(void);
bool sim_net_edge(void); /* somebody would find an event */
#define SIM_PIPE_FD(i) ((int)(i) + 10)
void sim_pipe_watch(unsigned i); /* it is in the set */
void sim_pipe_put(unsigned i);
int sim_pipe_take(unsigned i, int64_t when); /* Parks. 0, -EBADF closed, -ETIMEDOUT */
void sim_pipe_close(unsigned i);
bool sim_pipe_lost(unsigned i); /* nobody should be waiting */

#endif
