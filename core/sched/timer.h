/*
 * timer.h - the timer heaps of the Ps.
 */
#ifndef CORE_SCHED_TIMER_H
#define CORE_SCHED_TIMER_H

#include "shm/segment.h"

#include <stdbool.h>
#include <stdint.h>

struct g;
struct p;

/* An entry of a timer heap: a hint, as in a run queue; g and seq say whom it wakes. */
struct timer_entry {
	int64_t when;
	struct g *g;
	uint32_t seq, pad;
};
#define TIMERS_MAX (1u << 22) /* a P; sparse */

enum timers_dirty { TIMERS_WHOLE, TIMERS_STEP, TIMERS_ALL };

#define p_timers(p) \
	((struct timer_entry *)(SH_BASE + SH_OFF_TIMERS + (uint64_t)(p)->id * TIMERS_MAX * sizeof(struct timer_entry)))

void timer_add(struct p *, int64_t when, struct g *, uint32_t seq);
unsigned timers_run(struct p *, int64_t now);	/* readies what is due; how many */
int64_t timers_next(void);			/* earliest of all Ps, 0 if none */
void timers_rebuild(struct p *);		/* medic. Holds: timers_lock */
void timers_move(struct p *from, struct p *to); /* Holds: from */

#endif
