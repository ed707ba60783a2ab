/*
 * sched.h - what all workers share (Go's schedt): global queue, idle Ps and Ms, free Gs.
 */
#ifndef CORE_SCHED_SCHED_H
#define CORE_SCHED_SCHED_H

#include "shm/lock.h"

#include <stdatomic.h>
#include <stdint.h>

struct g;

struct schedt {
	struct sh_lock lock;			 /* global queue, idle lists, free Gs, allp size */
	_Atomic uint64_t grunq_head, grunq_tail; /* positions, modulo GRUNQ_SIZE */
	/*
	 * One bit a P or seat, where Go has lists and counts: each change is one atomic operation, so
	 * there is no moment at which a death leaves list and count apart. pidle and midle are hints:
	 * p->m says who has a P.
	 */
	_Atomic uint64_t pidle, midle, mspinning;
	_Atomic uint64_t mlocked; /* seats with a pinned goroutine */
	_Atomic uint32_t needspinning;
	_Atomic int32_t poller; /* seat that sleeps until the next timer, NOSEAT */
	_Atomic int64_t poll_until;
	_Atomic uint32_t procs;	     /* Ps in use: allp[0..procs) */
	_Atomic uint32_t procs_most; /* ever: those from here on were never anybody's. Raised before procs */
	_Atomic uint32_t gcwaiting;  /* the world is being stopped, or has been: see procs.c */
	_Atomic uint64_t procs_by, procs_failed; /* who asks for another number; who was told that it did not work */
	_Atomic uint64_t procs_done;		 /* whose turn is over, while procs_want is PROCS_OVER */
	_Atomic uint32_t procs_want, procs_asked;
	_Atomic uint32_t procs_custom; /* set by hand: it does not follow what the machine allows any more */
	int64_t stw_since, stw_kicked; /* the medic's */
	_Atomic uint64_t ngs;	       /* Gs made so far + 1 */
	struct g *gfree;
	_Atomic uint32_t sysmonwait;  /* sysmon sleeps until rung */
	_Atomic uint32_t want_worker; /* all are in system calls: the medic asks the supervisor for one more */
	_Atomic uint32_t crowded;     /* almost all workers are in system calls: see syscall_backoff. A hint */
	uint32_t sysmon_rounds, idle_looks, starved; /* sysmon's own */
	int64_t lastpoll;
	_Atomic uint32_t netpolled; /* some descriptor is in the epoll set */
	_Atomic uint32_t pollmore;  /* blocks of poll slots taken */
	_Atomic uint32_t fd_top;    /* above the highest descriptor that a task has had */
	_Atomic uint32_t draining;
	_Atomic uint64_t wake_asked; /* seats that the medic is to wake, for who cannot */
	_Atomic uint32_t tracing;    /* somebody traces: events look at the clock */
	_Atomic uint32_t
		gs_lost; /* goroutines lost with their worker, since who counts them has last taken the number to 0 */
	uint64_t deaths, tasks_done, tasks_crashed;
};

#endif
