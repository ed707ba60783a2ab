/*
 * invariants.c - what must hold of wait queues and timer heaps between any two steps of the workers. A queue whose
 * lock is held is skipped: its holder changes it, or is dead and not repaired yet.
 */
#include "core/repair/audit_timers.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/repair/audit.h"
#include "core/root.h"
#include "core/sched/p.h"
#include "core/sync/select.h"
#include "core/sync/waitq.h"
#include "shm/lock.h"
#include "tests/sim/sim.h"

/* The links of its queue are whole in both directions, and it is in it. */
static bool queue_whole(const struct sudog *sg)
{
	struct waitq *q = queue_waited_in(sg);
	struct sudog *prev = NULL;
	bool found = false;

	for (struct sudog *s = q ? q->first : NULL; s; s = s->next) {
		found |= s == sg;
		if (s->prev != prev)
			return false;
		prev = s;
	}
	return !q || (found && q->last == prev);
}

/* Called after a repair: no queue without a lock holder is half changed. */
void sim_check_queues(void)
{
	uint64_t ngs = atomic_load(&sched.ngs);

	for (uint64_t i = 1; i < ngs; i++) {
		struct g *g = allg(i);
		struct select_wait *w =
			g_state(g) == G_WAITING && g->waitreason == WAIT_SELECT ? select_wait_of(g) : NULL;

		if (g_state(g) != G_WAITING || g->waitreason == WAIT_JOIN)
			continue;
		for (uint32_t k = 0; k < (w ? w->n : 1); k++) {
			struct sudog *sg = w ? &w->sg[k] : &g->sudog;
			struct sh_lock *l = sg->queue;

			if (l && atomic_load(&sg->state) == SG_QUEUED && !atomic_load(&l->owner) && !queue_whole(sg))
				sim_fail("after a repair G %lu (%s) waits in a queue that is not whole",
					 (unsigned long)i, waitreason_name[g->waitreason]);
		}
	}
}

void sim_check_timers(void)
{
	const char *wrong = NULL;

	for (unsigned k = 0; k < atomic_load(&sched.procs_most) && !wrong; k++) {
		struct p *p = allp(k);

		wrong = audit_heap_fault(p);
		for (uint32_t i = 0; i < atomic_load(&p->ntimers) && !wrong; i++)
			wrong = audit_entry_fault(p, i);
		if (wrong)
			sim_fail("%s %u", wrong, k);
	}
	for (uint64_t i = 1; i < atomic_load(&sched.ngs); i++)
		if ((wrong = audit_wake_fault(allg(i))))
			sim_fail("%s %lu", wrong, (unsigned long)i);
}
