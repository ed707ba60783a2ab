/* timer.h - the timer heaps of the Ps. See timer.c. */
#ifndef CORE_SCHED_TIMER_H
#define CORE_SCHED_TIMER_H

#include "shm/segment.h"

#include <stdbool.h>
#include <stdint.h>

struct g;
struct p;

/*
 * An entry of a timer heap. It is a hint, as in a run queue: g and seq name the wait that it ends.
 * OWNER  the worker with timers_lock
 * LOCK   timers_lock of the P
 * ORDER  under the lock
 * DEATH  see timer.c
 */
struct timer_entry {
	int64_t when;
	struct g *g;
	uint32_t seq, pad;
};
#define TIMERS_MAX (1u << 22) /* entries of a P; the memory is sparse */

enum timers_dirty { TIMERS_WHOLE, TIMERS_STEP, TIMERS_ALL };

#define p_timers(p) \
	((struct timer_entry *)(SH_BASE + SH_OFF_TIMERS + (uint64_t)(p)->id * TIMERS_MAX * sizeof(struct timer_entry)))

void timer_add(struct p *, int64_t when, struct g *, uint32_t seq);
unsigned timers_run(struct p *, int64_t now);	/* makes ready what is due; returns how many */
int64_t timers_next(void);			/* the earliest time of all Ps, 0: none */
void timers_rebuild(struct p *);		/* medic. Holds: timers_lock */
void timers_move(struct p *from, struct p *to); /* Holds: from */

#endif
