/* p.h - P: the right to run Gs, with a local queue, runnext, free Gs and timers. At most one M has it. */
#ifndef CORE_SCHED_P_H
#define CORE_SCHED_P_H

#include "core/sched/timer.h"
#include "shm/lock.h"

#include <stdatomic.h>
#include <stdint.h>

#define P_MAX 64
#define RUNQ_SIZE 256
#define RUNQ_BATCH 4
#define P_HANDED 1000 /* p->m of a P on its way to the pinned worker in seat p->m - P_HANDED */
/* p->m of a P on its way to the idle worker in seat p->m - P_GIVEN; changed only by compare-and-swap */
#define P_GIVEN 2000

struct g;

enum p_status { P_IDLE, P_RUNNING, P_GCSTOP = 3, P_DEAD };

/*
 * The ring and the two places beside it, which the owner writes alone:
 *
 *   runnext     batch[batch_at .. batch_n)      runq[head .. tail)
 *   +---+       +---+---+---+---+               +---+---+---+-- ... --+---+
 *   | G |       | G | G | G | G | <-- 4 at once | G | G | G |         | G | <-- tail: the owner puts
 *   +---+       +---+---+---+---+               +---+---+---+-- ... --+---+
 *   runs first  runs next                         ^ head: owner and thieves take by compare-and-swap
 *
 * OWNER  the M that has it (p->m). Thieves move runqhead by compare-and-swap. Only the owner writes
 *        runnext and batch: a thief claims a G that they name and leaves the name where it is
 * LOCK   timers_lock guards the timer heap; sysmon_* belong to the medic
 * ORDER  runqtail is stored with release by the owner and loaded with acquire by thieves; runqhead is
 *        moved by compare-and-swap with release
 * DEATH  an entry of the ring counts once runqtail is past it; what a thief was copying is named by its
 *        note (grab_at, grab_n). p->m names the dead M: free_p() makes the P idle
 */
struct p {
	_Atomic uint32_t status;
	/* the seat that has it, or NOSEAT; P_HANDED or P_GIVEN + seat: on its way there. Pairs with take_given_p */
	_Atomic int32_t m;
	uint32_t id;
	_Atomic uint32_t schedtick, syscalltick;
	_Atomic(struct g *) runnext; /* a hint: the claim of the G decides. Pairs with runnext_find */
	struct g *gfree;
	uint32_t ngfree;
	uint64_t created, migrations, grows, steals, preemptions, syscalls; /* statistics of this P */
	_Alignas(64) _Atomic uint32_t runqhead; /* moved by thieves too: pairs with put_ring, runqgrab */
	_Alignas(64) _Atomic uint32_t runqtail; /* moved by the owner: pairs with runqgrab */
	/*
	 * batch[batch_at .. batch_n) was taken off the ring at once and is still to run; pairs with
	 * batch_find
	 */
	_Atomic uint32_t batch_at, batch_n;
	_Atomic(struct g *) batch[RUNQ_BATCH];
	_Atomic(struct g *) runq[RUNQ_SIZE];
	_Alignas(64) struct sh_lock timers_lock;
	_Atomic uint32_t ntimers;
	uint32_t timers_dirty;	    /* enum timers_dirty: a change of the heap is under way; see timers_rebuild */
	_Atomic int64_t timer_when; /* time of the earliest timer, 0: none; pairs with timers_next */
	uint32_t timers_compact;    /* at this many entries, entries that wake nobody are dropped */
	uint32_t sysmon_tick, sysmon_systick;
	int64_t sysmon_when, sysmon_syswhen;
	struct timer_entry timer_aside; /* TIMERS_ALL: the entry that is between two places */
} __attribute__((aligned(128)));

#endif
