/*
 * proc.h - the scheduler loop: park, ready, start, end.
 */
#ifndef CORE_SCHED_PROC_H
#define CORE_SCHED_PROC_H

#include "core/g/names.h"
#include "core/shoal.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STEAL_ROUNDS 4
#define SCHEDTICK_GLOBAL 61 /* so often the global queue comes first */

struct g;
struct m;
struct sh_lock;
struct task;

/* Lays out an empty runtime in a fresh segment: procs Ps, all idle. */
void schedinit(unsigned procs);

void keep_frames(struct m *, struct g *);
struct g *schedule(void); /* on g0: the G to enter, ready to be; sleeps until there is one */
void gmain(struct g *);	  /* the first function of every G; ends it */
/*
 * Running -> waiting. Parks. lock (or NULL) is held and is dropped once the G waits; when: it is
 * woken at that time (monotonic ns), 0 for never. Who called looks at its sudog to see why it woke.
 */
void gopark(struct sh_lock *lock, enum waitreason, int64_t when);
/* The same, for waits that no lock guards: commit is called on g0 once g waits; false: it does not wait after all. */
void gopark_commit(bool (*commit)(struct g *, void *), void *arg, enum waitreason, int64_t when);
void goready(struct g *, uint32_t seq); /* wakes if the sequence is the one meant; to runnext */
/*
 * Go's injectglist, one by one: wakes for a poller or a timer; to the tail, or without a P to the global
 * queue. A list of them in hand would be lost with a death. Who has woken some calls wakep once.
 */
bool injectg(struct g *, uint32_t seq);
void ready(struct g *); /* just made runnable by us: queue it; note.ready names it, and no more then */
void goyield(void);	/* Parks. */
_Noreturn void goexit(void);
#define GO_ROOT (1u << 31) /* in shoal_go_opts.flags: the root of its task. The medic's alone */
struct g *newproc(struct task *, const struct shoal_go_opts *, void (*fn)(void *), const void *arg, size_t size,
		  struct shoal_wg *wg, int *err);
struct g *mstart(unsigned seat); /* the worker's entry to the scheduler, on g0: takes a P, or idles; its first G */
void gogive(struct g *);	 /* adds a hint to the global queue and wakes a P: repair, tasks */

void off_cpu(struct m *, struct g *); /* its frames are whole: a death of this worker loses nothing of it */
void dropg(struct m *);

void acquirem(void); /* no preemption between these: the worker must not change under the caller */
void releasem(void);

#endif
