/*
 * p.h - P: a place to run Gs, with its local queue, runnext, free Gs and timers. At most one M has it.
 */
#ifndef CORE_SCHED_P_H
#define CORE_SCHED_P_H

#include "core/sched/timer.h"
#include "shm/lock.h"

#include <stdatomic.h>
#include <stdint.h>

#define P_MAX 64
#define RUNQ_SIZE 256
#define RUNQ_BATCH 4
#define P_HANDED 1000 /* in p->m, added to the seat of a pinned worker: on its way there */
#define P_GIVEN 2000  /* the same for an idle one: whoever changes it does so by compare-and-swap */

struct g;

enum p_status { P_IDLE, P_RUNNING, P_GCSTOP = 3, P_DEAD };

/*
 * OWNER  the M that has it (p->m); thieves take from runq by CAS on head. runnext and hand only
 *        its M writes: a thief claims the G that they name and leaves the name where it is
 * LOCK   timers_lock: the timer heap
 * ORDER  runqtail is stored with release by the owner, runqhead moved by CAS with release
 * DEATH  an entry of the ring is there once tail is past it; what a thief has in hand is in its
 *        seat's note. p->m names the dead M: the P is taken from it and given to another
 */
struct p {
	_Atomic uint32_t status;
	_Atomic int32_t m; /* seat, NOSEAT; P_HANDED, P_GIVEN + seat: on its way there */
	uint32_t id;
	_Atomic uint32_t schedtick, syscalltick;
	_Atomic(struct g *) runnext;
	struct g *gfree;
	uint32_t ngfree;
	uint64_t created, migrations, grows, steals, preemptions, syscalls; /* counters of this P */
	_Alignas(64) _Atomic uint32_t runqhead;
	_Alignas(64) _Atomic uint32_t runqtail;
	_Atomic uint32_t batch_at, batch_n; /* hand[at..n): taken off the ring in one go, still to run */
	_Atomic(struct g *) batch[RUNQ_BATCH];
	_Atomic(struct g *) runq[RUNQ_SIZE];
	_Alignas(64) struct sh_lock timers_lock;
	_Atomic uint32_t ntimers;
	uint32_t timers_dirty; /* enum timers_dirty: a change of the heap is under way, after a death it is put right */
	_Atomic int64_t timer_when; /* of the earliest, 0 if none */
	uint32_t timers_compact;    /* at this many entries those that wake nobody are thrown out */
	uint32_t sysmon_tick, sysmon_systick;
	int64_t sysmon_when, sysmon_syswhen;
	struct timer_entry timer_aside; /* TIMERS_ALL: the one that is between two places */
} __attribute__((aligned(128)));

#endif
