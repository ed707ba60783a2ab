/* proc.h - the scheduler: start, park, ready, exit, schedule. */
#ifndef CORE_SCHED_PROC_H
#define CORE_SCHED_PROC_H

#include "core/g/names.h"
#include "core/shoal.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STEAL_ROUNDS 4
#define SCHEDTICK_GLOBAL 61 /* each 61st choice takes from the global queue first */

struct g;
struct m;
struct sh_lock;
struct task;

/* Lays out the scheduler in a fresh segment: procs Ps, all idle. */
void schedinit(unsigned procs);

void keep_frames(struct m *, struct g *);
struct g *schedule(void); /* on g0: chooses the next G and prepares it; sleeps until there is one */
void gmain(struct g *);	  /* the first function of every G; never returns */
/*
 * Running -> waiting. Parks. lock (or NULL) is held by the caller and dropped once the G waits. when: a
 * timer wakes the G at that time (monotonic ns); 0: none. The caller reads its sudog to learn why it woke.
 */
void gopark(struct sh_lock *lock, enum waitreason, int64_t when);
/*
 * gopark for waits without a lock. commit is called on g0 once g waits; if it returns false, g is made ready
 * at once.
 */
void gopark_commit(bool (*commit)(struct g *, void *), void *arg, enum waitreason, int64_t when);
void goready(struct g *, uint32_t seq); /* waiting -> runnable if seq is its park sequence; to runnext */
/*
 * goready for a poller or a timer: to the tail of the local queue, or without a P to the global one. Go's
 * injectglist, but one G at a time: a death would lose a list. The caller calls wakep once after several.
 */
bool injectg(struct g *, uint32_t seq);
/*
 * The one way into a queue for a G that becomes runnable. The caller has stored g in note.ready, then made the G
 * runnable; ready() queues it and clears the note.
 */
enum ready_where {
	READY_NEXT,   /* runnext of our P, and a worker is woken if one is needed */
	READY_TAIL,   /* the tail of our local queue */
	READY_GLOBAL, /* the global queue */
	READY_WAKE    /* the global queue, and a worker is woken if one is needed */
};
void ready(struct g *, enum ready_where); /* without a P, NEXT means WAKE and TAIL means GLOBAL */
void goyield(void);			  /* Gives way. Parks. */
_Noreturn void goexit(void);
#define GO_ROOT (1u << 31)   /* flag in shoal_go_opts: the root of its task. Only the medic uses it */
#define GO_THREAD (1u << 30) /* another one: it has a thread's stack (core/g/tstack.h), as a root has */
struct g *newproc(struct task *, const struct shoal_go_opts *, void (*fn)(void *), const void *arg, size_t size,
		  struct shoal_wg *wg, int *err);
/* entry of the worker to the scheduler, on g0: takes a P or idles; returns its first G */
struct g *mstart(unsigned seat);
void ready_hint(struct g *); /* one more entry for a G that is runnable already; wakes a worker. For repair */

/* on g0: the frames are complete, so a death of this worker no longer loses the G */
void off_cpu(struct m *, struct g *);
void dropg(struct m *);

void acquirem(void); /* between these the worker must not change: no preemption */
void releasem(void);

#endif
