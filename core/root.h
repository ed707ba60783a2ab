/* root.h - the root of the segment: where schedt, Ps, Ms and tasks lie. */
#ifndef CORE_ROOT_H
#define CORE_ROOT_H

#include "core/repair/crash.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "core/sched/sched.h"
#include "core/task/task.h"
#include "shm/segment.h"

#define ROOT_POSIX_SIZE 320u /* worker/posix/own.h lays it out */

/*
 * All that lies at the start of the segment.
 * OWNER  each part its own; crash and ncrashes the medic; audit the medic, asked by the supervisor
 * LOCK   none
 * ORDER  crash[n], then ncrashes; audit, then audit_done
 * DEATH  a medic that dies before ncrashes grows writes the record again
 */
struct shoal_root {
	struct sh_segment sh;
	struct schedt schedt;
	struct p ps[P_MAX];
	struct m ms[SH_SEATS];
	struct task_table tasks;
	_Atomic uint64_t ncrashes; /* crashes so far; number n is crash[n % CRASH_KEPT] */
	struct crash crash[CRASH_KEPT];
	char audit[4096]; /* what the last audit found */
	_Atomic uint32_t audit_asked, audit_done;
	_Alignas(64) char posix[ROOT_POSIX_SIZE]; /* shared by the stand-ins for the C library */
};
#define rt ((struct shoal_root *)SH_BASE)
#define sched (rt->schedt)
#define allp(i) (&rt->ps[i])
#define allm(i) (&rt->ms[i])
#define task_at(slot_) (&rt->tasks.slot[slot_])

static inline struct p *getp(void)
{
	int id = atomic_load_explicit(&getm->p, memory_order_relaxed);
	return id < 0 ? NULL : allp(id);
}

#endif
