/*
 * runq.h - local and global run queues.
 */
#ifndef CORE_SCHED_RUNQ_H
#define CORE_SCHED_RUNQ_H

#include "core/g/g.h"
#include "core/sched/p.h"

struct m;

#define GRUNQ_SIZE (2 * G_MAX) /* global queue: power of two */

void runqput(struct p *, struct g *, bool next);
struct g *runqget(struct p *, bool *inherit);
bool runqempty(struct p *);
uint32_t runqlen(struct p *);				      /* about: others are at it */
bool runnext_ripe(struct m *, struct p *victim, int64_t now); /* it stands there for long enough to be stolen */
unsigned runqsteal(struct p *, struct p *victim, bool steal_next, struct g **out);
void stealorder(uint32_t r, unsigned n, unsigned *at,
		unsigned *step);		 /* at, at + step, ... modulo n is each of n once */
void globrunqput(struct g *);			 /* takes sched.lock */
void globrunqput_locked(struct g *);		 /* Holds: sched.lock */
struct g *globrunqget(struct p *, unsigned max); /* first to run, the rest to p's ring. Takes the lock */
void runqdrain(struct p *);			 /* Holds: the P. All to the global queue */

#endif
