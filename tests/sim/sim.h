/*
 * sim.h - a whole runtime in one process, driven by one seed.
 *
 * Each worker is a context with a stack of its own; at every KILL_POINT the seed decides whether
 * another one goes on, or whether this one is dead. The medic is one of them, in seat 0, and can
 * die as well. Time is a number that grows a little at every point and jumps when all sleep.
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include "core/task/task.h"

struct sim_plan {
	unsigned workers, procs;
	unsigned deaths;      /* the most */
	unsigned death_rate;  /* on average a worker dies once in this many points */
	unsigned renewals;    /* the most workers that are asked to leave in good order */
	unsigned switch_rate; /* on average one switch in this many points */
	bool medic_dies;
};

struct sim_count {
	uint64_t points, switches;
	unsigned deaths, lost; /* lost: deaths that ended a goroutine, too */
};
extern struct sim_count sim_count;
extern bool sim_trace;

uint64_t sim_rand(void); /* the same numbers for the same seed */
unsigned sim_below(unsigned n);
void sim_begin(uint64_t seed, const struct sim_plan *); /* after schedinit() in a fresh segment */
/* Runs until the task has ended and all workers sleep. If all sleep for ever before that, it calls stalled(). */
void sim_run(struct task *, void (*stalled)(struct task *));
void sim_block(int64_t ns); /* the worker spends this time in the kernel */
_Noreturn void sim_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void sim_failed(void); /* in sim.c: prints the counts */

/* For white-box tests (white.h): called at each kill point and for some calls of the host. */
extern void (*sim_probe)(const char *point);

/* White-box tests; each returns how many failed. */
unsigned runq_tests(void);
unsigned schedule_tests(void);
unsigned sysmon_tests(void);
unsigned gfree_tests(void);
unsigned waitq_tests(void);
unsigned timers_tests(void);

/* ---- invariants.c: what must hold between any two steps ---- */
void sim_check_queues(void);
void sim_check_timers(void);

/* ---- sim_net.c: pipes of a simulated kernel ---- */
void sim_net_begin(void);
bool sim_net_edge(void); /* a poll would find an event */
#define SIM_PIPE_FD(i) ((int)(i) + 10)
void sim_pipe_watch(unsigned i); /* adds it to the epoll set */
void sim_pipe_put(unsigned i);
int sim_pipe_take(unsigned i, int64_t when); /* Parks. 0, -EBADF closed, -ETIMEDOUT */
void sim_pipe_close(unsigned i);
bool sim_pipe_lost(unsigned i); /* it can be read, so no goroutine may wait for it */

#endif
