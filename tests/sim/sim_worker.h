/*
 * sim_worker.h - what the files of the simulation share: the contexts of the simulated workers.
 *
 * sim_worker.c   contexts: which worker runs, which sleep, and the clock
 * sim_point.c    kill points: the seed switches to another worker here, or kills this one
 * sim_medic.c    the medic in seat 0: repairs, sysmon, deadlocks, changes of the number of Ps
 * sim_stack.c    stacks: bodies of goroutines, and the pattern that stands for their frames
 * sim_host.c     the other functions of core/host.h
 * sim_net.c      pipes of a simulated kernel
 * sim_fail.c     random numbers, and the report of a failure
 */
#ifndef TESTS_SIM_SIM_WORKER_H
#define TESTS_SIM_SIM_WORKER_H

#include "core/g/g.h"
#include "tests/sim/sim.h"

#include <setjmp.h>

#define SIM_SEATS 8

enum sim_state { SIM_NONE, SIM_RUNS, SIM_SLEEPS, SIM_DEAD };

/* A stack on which a context begins again and again: base is the place. */
struct sim_stack {
	jmp_buf base;
	void *at;
	size_t size; /* 0: not made yet */
};

/*
 * A simulated worker; the medic is the one in seat 0. here: where it continues after a switch, on g0 or in the body
 * of a goroutine.
 */
struct sim_worker {
	struct sim_stack g0;
	jmp_buf here;
	enum sim_state state;
	bool fresh; /* begins at g0.base, not at here */
	bool woken; /* its next sleep returns at once */
	bool leave; /* it was asked to leave in good order */
	unsigned seat;
	int64_t until; /* sleeps until then; 0: until it is woken */
	struct g *(*fn)(struct g *);
	struct g *g;
};

extern struct sim_worker sim_worker[SIM_SEATS], *sim_cur; /* sim_cur: the one that runs */
extern struct sim_plan sim_plan;
extern uint64_t sim_seed;
extern int64_t sim_now;
extern bool sim_active;	      /* false in white-box tests and between runs */
extern bool sim_stalled;      /* all sleep, and no timer wakes one */
extern uint64_t sim_entered;  /* how often a goroutine was started or resumed */
extern struct task *sim_task; /* the one that runs */

/* ---- sim_worker.c ---- */
/* Picks a worker that runs, at random. If all sleep, time jumps to the first timer; without one the medic runs. */
struct sim_worker *sim_pick(bool not_me);
void sim_switch(struct sim_worker *);
void sim_wake(struct sim_worker *);
void sim_sleep(int64_t until);
void sim_rand_begin(uint64_t seed);
void sim_stop(void);		       /* the run is over: sim_run returns */
void sim_restart(struct sim_worker *); /* from its beginning */

/* ---- sim_stack.c ---- */
void sim_stack_make(struct sim_stack *, size_t size, void (*fn)(void));
/* fn begins with it: what follows runs each time that sim_stack_enter() is called. */
#define SIM_STACK_BEGIN(s) \
	do { \
		if (!_setjmp((s)->base)) \
			_longjmp(sim_stack_maker, 1); \
	} while (0)
extern jmp_buf sim_stack_maker;
_Noreturn void sim_stack_enter(struct sim_stack *);
_Noreturn void sim_g_enter(struct g *); /* on g0: runs the body of g */

/* ---- sim_medic.c ---- */
void sim_medic_begin(void (*stalled)(struct task *)); /* before a run */
_Noreturn void sim_medic(void);

/* ---- sim_point.c ---- */
void sim_points_begin(void);
void sim_points_print(void);	       /* the last ones */
const char *sim_point_last(void);      /* its name */
void sim_probe_call(const char *what); /* for what is not a kill point: seen by white-box tests only */

#endif
