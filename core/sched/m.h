/* m.h - M: a worker, that is a seat and the process in it. struct m is the core's part of the seat. */
#ifndef CORE_SCHED_M_H
#define CORE_SCHED_M_H

#include "core/g/stack.h"
#include "core/repair/crash.h"
#include "core/repair/note.h"
#include "core/sched/netpoll.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define WORKERS_MAX 64			      /* seats 1..63: each has one bit in the masks of sched */
#define MBIT(seat) (1ull << (unsigned)(seat)) /* bit of a seat in the masks of sched */

#define M_OUTPUT_SIZE 8224u /* worker/output.h lays it out */

struct g;
struct map_space;
struct sh_lock;

/*
 * A worker.
 * OWNER  the process in the seat
 * LOCK   none: others read single words
 * ORDER  blocked is stored before the masks are read, and p after p->m: see idle.c. oncpu, parking and
 *        the note are plain stores in program order, which is all that a death needs
 * DEATH  repair_seat() reads all of it, trusts none of it, and clears it
 */
struct m {
	int32_t seat;
	_Atomic int32_t p; /* id of its P, -1: none; pairs with retake, which reads it under the scan bit */
	/* the G that it has claimed or is about to claim; pairs with held_by_worker in checkdead.c */
	_Atomic(struct g *) curg;
	_Atomic uint32_t oncpu;	   /* 1: it has jumped to curg, whose frames are changing */
	_Atomic uint32_t blocked;  /* 1: it sleeps or is about to; pairs with wake_idle_worker */
	uint32_t parking;	   /* curg is becoming waiting: after a death the medic completes that */
	struct sh_lock *park_lock; /* dropped once curg waits */
	bool (*park_unlockf)(struct g *, void *);
	void *park_arg;
	uint32_t park_seq;			   /* park sequence of the wait that park_unlockf commits */
	int64_t park_when;			   /* a timer wakes it at this time; 0: none */
	void *gopc;				   /* caller of newproc */
	uintptr_t syscallpc, syscallsp, syscallbp; /* the frame from which curg entered its system call */
	struct g *lockedg;			   /* the G that is pinned here: the worker runs nothing else */
	uint32_t kept; /* lockedg depends on this process: KEPT_* and the generation of the process; 0: it does not */
	_Atomic int32_t handed;	    /* id of the P that was brought for lockedg, -1: none; pairs with startlockedm */
	_Atomic uint32_t call_fd;   /* descriptor + 1 on which curg's system call may block, 0: none known */
	_Atomic uint32_t comes_out; /* that call is ended once its P is taken: curg waits by netpoll */
	_Atomic uint32_t computes;  /* curg is in state syscall and computes in the C library: see worker/libcall.c */
	uint32_t locks;		    /* how many acquirem are open */
	_Atomic uint32_t
		blamed;	 /* the last process ended by a crash of the goroutine that it ran; the medic writes it */
	uint32_t stuck;	 /* enum stuck_why: why the medic has killed it */
	uint32_t nwfree; /* free windows, the last freed on top; a new process computes them from occ */
	uint16_t wfree[WIN_ALL];
	uint32_t whand; /* the next window to displace */
	uint64_t rng;
	/* stealing: the runnext of P watched_p that it found at watched_ns; NULL: none. See runnext_ripe */
	struct g *watched;
	uint64_t watched_status;
	int64_t watched_ns;
	uint32_t watched_p;
	uint32_t watched_fresh; /* since its last nap it saw a G in a runnext that will soon run there */
	uint64_t life_now;	/* its last look at the clock, in the form of life.h */
	struct note note;
	/* the G whose frames were last put into each window; valid if that G agrees (g->res, g->win) */
	struct g *occ[WIN_ALL];
	struct net_event events[POLL_BATCH]; /* taken from the epoll set and not yet delivered; 0 in events: none */
	_Atomic(struct map_space *) maps;    /* mappings of this task are in its process: worker/view.c */
	_Atomic uint64_t map_gen;	     /* the last change of them that it has applied; pairs with lags */
	struct crash crash;
	_Alignas(16) char output[M_OUTPUT_SIZE]; /* what curg has written and the file does not have yet */
} __attribute__((aligned(128)));

extern struct m *getm; /* the M of this process; the medic has one as well, without a P */
#define getg() (atomic_load_explicit(&getm->curg, memory_order_relaxed))

/* Marsaglia's xorshift, of this worker alone. */
static inline uint32_t m_random(struct m *m)
{
	m->rng ^= m->rng << 13;
	m->rng ^= m->rng >> 7;
	m->rng ^= m->rng << 17;
	return (uint32_t)(m->rng >> 16);
}

#endif
