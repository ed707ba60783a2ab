/* sched.h - schedt: what all workers share. Global queue, idle Ps and Ms, free Gs. */
#ifndef CORE_SCHED_SCHED_H
#define CORE_SCHED_SCHED_H

#include "shm/lock.h"

#include <stdatomic.h>
#include <stdint.h>

struct g;

/*
 * The scheduler: what all workers share.
 * OWNER  nobody: single words that any process changes atomically, and those that lock guards
 * LOCK   lock: grunq_head, grunq_tail and the entries between them, gfree
 * ORDER  pidle, midle, mspinning and the queues: see idle.c; procs_*: see procs.c; gcwaiting is stored
 *        before the medic takes Ps and loaded before a worker takes one
 * DEATH  lock held: the queue counts up to its tail and the free list is whole after each store
 *        (repair_sched). Masks: each bit is one atomic operation, and repair_seat corrects the dead
 *        worker's own
 */
struct schedt {
	struct sh_lock lock; /* guards the global queue and the global list of free Gs */
	/*
	 * Positions, modulo GRUNQ_SIZE. Entries are read under the lock; the positions are released for those that look
	 * without it: pairs with from_global, work_in_sight
	 */
	_Atomic uint64_t grunq_head, grunq_tail;
	/*
	 * One bit for each P or seat, where Go has lists and counters: each change is one atomic operation,
	 * so no death leaves a list and its counter apart. pidle and midle are hints: p->m says who has a P.
	 */
	_Atomic uint64_t pidle, midle, mspinning;
	_Atomic uint64_t mlocked; /* seats to which a goroutine is pinned */
	_Atomic uint32_t needspinning;
	/* the seat that sleeps until the next timer for all, or NOSEAT; pairs with wake_poller */
	_Atomic int32_t poller;
	_Atomic int64_t poll_until;
	_Atomic uint32_t procs; /* number of Ps in use: allp[0..procs) */
	/* the highest procs so far: Ps from here on never had an owner. Raised before procs; pairs with timers_next */
	_Atomic uint32_t procs_most;
	_Atomic uint32_t gcwaiting;		 /* the world is being stopped, or is stopped: see procs.c */
	_Atomic uint64_t procs_by, procs_failed; /* who asks for another number of Ps; who was refused */
	_Atomic uint64_t procs_done;		 /* the request that is complete, while procs_want is PROCS_OVER */
	_Atomic uint32_t procs_want, procs_asked;
	_Atomic uint32_t procs_custom; /* set by hand, so the number no longer follows the machine's */
	int64_t stw_since, stw_kicked; /* only the medic uses these */
	_Atomic uint64_t ngs;	       /* Gs made so far, plus 1; pairs with make_g */
	struct g *gfree;
	_Atomic uint32_t sysmonwait; /* sysmon sleeps until it is rung; pairs with acquirep, entersyscall */
	/* all workers are in system calls: the medic asks the supervisor for one more */
	_Atomic uint32_t no_delay; /* for tests that crash often: no restart delay of tasks */
	_Atomic uint32_t want_worker;
	_Atomic uint32_t crowded; /* almost all workers are in system calls: see syscall_backoff. A hint */
	uint32_t sysmon_rounds, idle_looks, starved; /* only sysmon uses these */
	int64_t lastpoll;
	_Atomic uint32_t netpolled; /* the epoll set is not empty */
	_Atomic uint32_t pollmore;  /* blocks of poll slots handed out */
	_Atomic uint32_t fd_top;    /* above the highest descriptor that any task had */
	_Atomic uint32_t draining;
	_Atomic uint64_t wake_asked; /* seats that the medic wakes for processes that cannot */
	_Atomic uint32_t tracing;    /* a reader traces: events carry the exact time */
	/* goroutines lost since the supervisor last reset this: each may have left a descriptor open */
	_Atomic uint32_t gs_lost;
	uint64_t deaths, tasks_done, tasks_crashed;
};

#endif
