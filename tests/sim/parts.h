/*
 * parts.h - what a simulated run does: up to four parts, each of goroutines that use one thing of the
 * interface, with counts that must be right in the end.
 */
#ifndef TESTS_SIM_PARTS_H
#define TESTS_SIM_PARTS_H

#include "tests/sim/parts.h"
#include "tests/sim/sim.h"
#include "core/shoal.h"
#include "core/sync/chan.h"

#define PARTS 4
#define VALUES 256

enum what { CHANNEL, TREE, MUTEX, SLEEP, JOIN, TIMED, RWMUTEX, COND, SEM, CANCEL, SYSCALL, PIPE, SELECT, KINDS };

struct part {
	enum what what;
	unsigned n, k, cap; /* goroutines, rounds, capacity */
	unsigned leaves;
	struct shoal_chan *c, *c2;
	struct shoal_wg *wg, *wg2;
	struct shoal_mutex *mu, *inner;
	struct shoal_rwmutex *rw;
	struct shoal_cond *cond;
	struct shoal_sem *sem;
	unsigned inside, level, closed, counter, sent, received, done;
	unsigned char seen[VALUES];
};

extern struct part part[PARTS];
extern unsigned nparts;
extern unsigned workers; /* of this run */

void parts_make(void); /* draws them from the seed */
void parts_share(void);
int parts_root(int argc, char **argv, char **envp); /* the task's entry: 7 when all is done */
bool parts_done(void);

#endif
