/* runq.h - local and global run queues. See runq.c. */
#ifndef CORE_SCHED_RUNQ_H
#define CORE_SCHED_RUNQ_H

#include "core/g/g.h"
#include "core/sched/p.h"

struct m;

#define GRUNQ_SIZE (2 * G_MAX) /* slots of the global queue: a power of two */

void runqput(struct p *, struct g *, bool next);
struct g *runqget(struct p *, bool *inherit);
bool runqempty(struct p *);
uint32_t runqlen(struct p *); /* approximate: read without synchronization */
/* true if the victim's runnext has stood there long enough to be stolen */
bool runnext_ripe(struct m *, struct p *victim, int64_t now);
unsigned runqsteal(struct p *, struct p *victim, bool steal_next, struct g **out);
/* the sequence at, at + step, ... modulo n visits each of n once */
void stealorder(uint32_t r, unsigned n, unsigned *at, unsigned *step);
void globrunqput(struct g *);	     /* takes sched.lock */
void globrunqput_locked(struct g *); /* Holds: sched.lock */
/* returns the first entry, moves a share of the rest to p's ring. Takes sched.lock */
struct g *globrunqget(struct p *, unsigned max);
void runqdrain(struct p *); /* Holds: the P. Moves its queue to the global one */

#endif
