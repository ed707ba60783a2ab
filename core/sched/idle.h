/* idle.h - idle Ps, sleeping workers, spinning workers. See idle.c. */
#ifndef CORE_SCHED_IDLE_H
#define CORE_SCHED_IDLE_H

#include "core/root.h"

/* The number of idle Ps. The mask may briefly have a bit of a P that is no longer in use. */
static inline unsigned npidle(void)
{
	unsigned procs = atomic_load_explicit(&sched.procs, memory_order_relaxed);

	return (unsigned)__builtin_popcountll(atomic_load(&sched.pidle) &
					      (procs < P_MAX ? (1ull << procs) - 1 : ~0ull));
}

static inline bool spinning(const struct m *m)
{
	return (atomic_load_explicit(&sched.mspinning, memory_order_relaxed) & MBIT(m->seat)) != 0;
}
struct p *pidleget(int to); /* takes an idle P and stores `to` in its p->m; NULL: none */
void pidleput(struct p *);
void acquirep(struct p *);
struct p *releasep(void);
void wakep(void);
void handoffp(struct p *);
void wakep_if_needed(void);
void resetspinning(struct m *);
bool work_in_sight(void);
struct p *take_given_p(struct m *); /* the worker takes the P that a waker has given to it; NULL: none */
/* the worker has acquired this P: it gives back all other Ps that it was given */
void give_back_others(struct m *, struct p *);
void stopm(struct m *); /* for a worker without a P: sleeps until it has one */
void gcstopm(struct m *);

#endif
