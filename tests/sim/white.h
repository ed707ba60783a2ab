/*
 * white.h - white-box tests of the scheduler: a test puts a fresh segment into a state, calls one function of the
 * core, and checks what it returned and changed. No goroutine's code runs.
 */
#ifndef TESTS_SIM_WHITE_H
#define TESTS_SIM_WHITE_H

#include "tests/sim/white.h"
#include "tests/sim/sim.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/sched/p.h"

#include <stdio.h>

#define MUST(cond) \
	do { \
		if (!(cond)) { \
			printf("white: %s:%d: not so: %s\n", __FILE__, __LINE__, #cond); \
			return false; \
		} \
	} while (0)

/* A fresh segment, procs idle Ps, gs runnable Gs of one task in no queue; we are the M in seat 1. */
void white_begin(unsigned procs, uint32_t gs);
unsigned white_run(const char *what, bool (*const test[])(void), size_t n); /* how many failed */
#define WHITE_RUN(what, ...) \
	white_run(what, (bool (*const[])(void)){__VA_ARGS__}, \
		  sizeof((bool (*const[])(void)){__VA_ARGS__}) / sizeof(void *))

struct p *white_p(unsigned id, int seat);     /* gives that P to the M in that seat */
void white_leave(struct g *);		      /* the one that schedule() has chosen is off its M again, and waits */
void white_wait(struct g *, enum waitreason); /* a runnable one in no queue waits */

#endif
