/*
 * m.h - M: a worker, a seat and the process in it. struct m is the core's half of the seat.
 */
#ifndef CORE_SCHED_M_H
#define CORE_SCHED_M_H

#include "core/g/stack.h"
#include "core/repair/crash.h"
#include "core/repair/note.h"
#include "core/sched/netpoll.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define WORKERS_MAX 64			      /* seats 1..63: one bit each in the masks of sched */
#define MBIT(seat) (1ull << (unsigned)(seat)) /* in the masks of sched */

#define M_OUTPUT_SIZE 8224u /* worker/output.h lays it out */

struct g;
struct sh_lock;

/*
 * OWNER  the process in the seat
 * DEATH  the medic reads all of it, trusts none of it, and clears it
 */
struct m {
	int32_t seat;
	_Atomic int32_t p;	   /* id of its P, -1 */
	_Atomic(struct g *) curg;  /* claimed by this M */
	_Atomic uint32_t oncpu;	   /* 1: has jumped to curg, whose frames are being changed */
	_Atomic uint32_t blocked;  /* idle: sleeps or is about to */
	uint32_t parking;	   /* curg is on its way to waiting: the medic finishes that */
	struct sh_lock *park_lock; /* dropped once it waits */
	bool (*park_unlockf)(struct g *, void *);
	void *park_arg;
	uint32_t park_seq;			   /* of the wait that park_unlockf commits */
	int64_t park_when;			   /* it is woken at this time; 0: no timer */
	void *gopc;				   /* who calls newproc */
	uintptr_t syscallpc, syscallsp, syscallbp; /* the frame that curg entered its system call from */
	struct g *lockedg;			   /* pinned here: it runs nothing else */
	_Atomic int32_t handed;			   /* P brought for lockedg, -1 */
	uint32_t locks;				   /* acquirem depth */
	uint32_t stuck;				   /* enum stuck_why: the medic has ended it */
	uint32_t nwfree; /* free windows, the last freed on top; rebuilt from occ by a new process */
	uint16_t wfree[1040];
	uint32_t whand; /* next window to displace */
	uint64_t rng;
	struct g *watched; /* runnext of the P eyed_p, as of eyed_ns; NULL: none. See runnext_ripe */
	uint64_t watched_status;
	int64_t watched_ns;
	uint32_t watched_p;
	uint32_t watched_fresh; /* since the last nap: somebody made one ready that he is about to run himself */
	uint64_t life_now;	/* its last look at the clock, as life.h writes it */
	struct note note;
	struct g *occ[WIN_ALL]; /* whose frames are in each window, if that G says so too (g->res, g->win) */
	struct net_event events[POLL_BATCH]; /* taken out of the set and not yet delivered; 0 in events: none */
	struct crash crash;
	_Alignas(16) char output[M_OUTPUT_SIZE]; /* what curg has written and not yet given to the file */
} __attribute__((aligned(128)));

extern struct m *getm; /* the M this process is; the medic is one without a P */
#define getg() (atomic_load_explicit(&getm->curg, memory_order_relaxed))

#endif
