/*
 * idle.h - idle Ps and sleeping workers.
 */
#ifndef CORE_SCHED_IDLE_H
#define CORE_SCHED_IDLE_H

#include "core/root.h"

/* Idle Ps. Who put one down that is no longer in use may have marked it late. */
static inline unsigned npidle(void)
{
	unsigned procs = atomic_load_explicit(&sched.procs, memory_order_relaxed);

	return (unsigned)__builtin_popcountll(atomic_load(&sched.pidle) & (procs < 64 ? (1ull << procs) - 1 : ~0ull));
}

static inline bool spinning(const struct m *m)
{
	return (atomic_load_explicit(&sched.mspinning, memory_order_relaxed) & MBIT(m->seat)) != 0;
}
struct p *pidleget(int to); /* an idle P, which says so in p->m from now on; NULL */
void pidleput(struct p *);
void acquirep(struct p *);
struct p *releasep(void);
void wakep(void);
void handoffp(struct p *);
void wakep_if_needed(void);
void resetspinning(struct m *);
bool work_in_sight(void);
struct p *take_given_p(struct m *);	       /* takes the P that somebody has given to it */
void give_back_others(struct m *, struct p *); /* it has this one: what else was given to it */
void stopm(struct m *);			       /* without a P: sleeps until it has one */
void gcstopm(struct m *);

#endif
