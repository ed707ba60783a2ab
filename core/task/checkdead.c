/*
 * checkdead.c - finds tasks in which all goroutines are asleep for good.
 *
 * A goroutine that waits for a channel, a sync object or an end, without a timer, can only be woken by another
 * goroutine of its task. So if at one moment all goroutines of a task wait like that, and no process is just
 * waking one of them, they wait for ever. That moment is found without stopping anybody:
 *
 *      time -->
 *      1 scan all Gs         2 look at all workers        3 scan all Gs again
 *      |---------------|     |-------------------|        |------------------|
 *                      ^ the moment
 *
 *   1. Every G waits. The scan sums up the status words. A word contains the park sequence, so a G with the
 *      same word in step 3 has waited all the time in between.
 *   2. No worker has a goroutine of the task in hand. A waker runs (then step 1 finds it running), or is
 *      being ended, parked or repaired: then curg or a note of its worker names it until that is done.
 *   3. The same Gs with the same words, and none was made since before step 1.
 *
 * A wake in progress at the end of 1 is seen in 2, or was complete before 2 and is seen in 3. A G that 1 did not
 * see was made by one that ran then and had been counted: it is alive in 3, or its end changes the count.
 *
 * Not asleep for good: a G with a timer, one that waits for a descriptor, is in a system call, is held for a
 * dump, or waits for a goroutine of another task.
 *
 * OWNER  the medic, which also does all repair, so it overlooks nothing in its own hands
 * LOCK   none
 * ORDER  three steps as above
 * DEATH  only the witness is stored, which is a hint
 */
#include "core/task/checkdead.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/repair/repair.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "core/sched/proc.h"
#include "core/task/task.h"
#include "shm/check.h"
#include "shm/kill.h"
#include "shm/segment.h"

#define SCAN_BATCH 4096

static bool same_task(const struct task *t, const struct g *g)
{
	return g_plausible(g) && g->task == t;
}

static bool asleep_for_good(const struct task *t, struct g *g, uint64_t s)
{
	if ((s & G_STATE) != G_WAITING || g->wake_at)
		return false;
	switch (g->waitreason) {
	case WAIT_SLEEP:
	case WAIT_RECV_NIL:
	case WAIT_SEND_NIL:
	case WAIT_SELECT_EMPTY:
	case WAIT_SELECT:
	case WAIT_RECV:
	case WAIT_SEND:
	case WAIT_COND:
	case WAIT_MUTEX:
	case WAIT_RW_RLOCK:
	case WAIT_RW_LOCK:
	case WAIT_WG:
	case WAIT_SEM:
	case WAIT_PTHREAD_LOCK:
	case WAIT_PTHREAD_COND:
	case WAIT_PTHREAD_SEM:
	case WAIT_PTHREAD_JOIN:
	case WAIT_FUTEX: return true;
	case WAIT_JOIN: return same_task(t, g->sudog.queue);
	default: /* a reason that is not known here may be ended by anybody */ return false;
	}
}

struct count {
	uint64_t n, sum;
};

/* False: a G is not asleep for good; it becomes the witness. */
static bool scan_task(struct task *t, struct count *c)
{
	uint64_t ngs = atomic_load(&sched.ngs);

	*c = (struct count){0, 0};
	for (uint64_t i = 1; i < ngs && i < G_MAX; i++) {
		struct g *g = allg(i);
		uint64_t s;

		if (i % SCAN_BATCH == 0 && repair_pending())
			return false; /* first the repair */
		if (atomic_load_explicit(&gtask_slot[i], memory_order_relaxed) != t->slot + 1 || g->task != t)
			continue;
		s = atomic_load(&g->status);
		if ((s & G_STATE) == G_DEAD || (s & G_STATE) == G_IDLE)
			continue;
		KILL_POINT("checkdead.look");
		if (!asleep_for_good(t, g, s) || atomic_load(&g->status) != s) {
			t->witness = (uint32_t)i;
			return false;
		}
		c->n++;
		c->sum += (s ^ i * 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
	}
	return c->n > 0;
}

static bool held_by_worker(const struct task *t)
{
	for (unsigned i = 0; i < SH_SEATS; i++) {
		struct m *m = allm(i);

		if (atomic_load(&sh_root->seat[i].state) == SEAT_EMPTY)
			continue; /* the seat was never used */
		KILL_POINT("checkdead.hand");
		if (same_task(t, atomic_load(&m->curg)) || same_task(t, m->note.ending) ||
		    same_task(t, m->note.ready) || same_task(t, m->note.kicked) || same_task(t, m->note.g) ||
		    same_task(t, m->note.suspend) || same_task(t, m->note.scan) || m->note.sg)
			return true;
		if (atomic_load(&sh_root->seat[i].state) == SEAT_DEAD)
			return true;
	}
	return false;
}

static uint64_t births(const struct task *t)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < P_MAX; i++)
		n += *(volatile const uint64_t *)&t->per_p[i].created;
	return n;
}

static bool witness_awake(struct task *t)
{
	uint32_t i = t->witness;
	struct g *g;
	uint64_t s;

	if (i == 0 || i >= atomic_load(&sched.ngs) || i >= G_MAX)
		return false;
	g = allg(i);
	s = atomic_load(&g->status);
	return g->task == t && (s & G_STATE) != G_DEAD && (s & G_STATE) != G_IDLE && !asleep_for_good(t, g, s);
}

bool checkdead(struct task *t)
{
	struct count before, after;
	uint64_t born;

	sh_check(getm->seat == SH_SEAT_MEDIC);
	if (atomic_load(&t->state) != TASK_RUNNING || !t->root || atomic_load(&t->cancel) || atomic_load(&t->verdict) ||
	    witness_awake(t) || held_by_worker(t))
		return false;
	born = births(t);
	if (!scan_task(t, &before) || held_by_worker(t) || !scan_task(t, &after))
		return false;
	return before.n == after.n && before.sum == after.sum && born == births(t) &&
	       atomic_load(&t->state) == TASK_RUNNING;
}
