/*
 * audit_timers.c - the audit of the timer heaps: order, count, the dirty word, and an entry for each
 * goroutine that waits with a wake time.
 *
 * A worker that holds a heap's lock may be off the CPU for as long as the machine likes, so a heap whose
 * lock is taken is never called wrong. Its entries are all there, except that of a goroutine that is
 * parking (timer.c, DEATH).
 */
#include "core/repair/audit_timers.h"
#include "core/g/g.h"
#include "core/root.h"
#include "core/sched/p.h"
#include "core/sched/timer.h"
#include "shm/segment.h"

#include <string.h>

static bool heap_is_busy(struct p *p)
{
	return atomic_load(&p->timers_lock.owner) != 0;
}

/* The medic moves the timers of a P that goes out of use while the world is stopped, without its lock. */
static bool heap_is_moved(void)
{
	return atomic_load(&sched.gcwaiting) != 0;
}

const char *audit_heap_fault(struct p *p)
{
	uint32_t n = atomic_load(&p->ntimers);
	const char *wrong = NULL;

	if (heap_is_busy(p))
		return NULL;
	if (n >= TIMERS_MAX)
		return "more timers than its heap has room for: P";
	if (p->timers_dirty)
		wrong = "a change of its timer heap was left half done: P";
	else if (atomic_load(&p->timer_when) != (n ? p_timers(p)[0].when : 0))
		wrong = "its next wake time is not that of its first timer: P";
	return heap_is_busy(p) || heap_is_moved() ? NULL : wrong;
}

const char *audit_entry_fault(struct p *p, uint32_t i)
{
	struct timer_entry *t = p_timers(p);
	const char *wrong = NULL;

	if (heap_is_busy(p) || i >= atomic_load(&p->ntimers))
		return NULL;
	if (!g_plausible(t[i].g) || g_index(t[i].g) >= atomic_load(&sched.ngs) || t[i].when <= 0)
		wrong = "a timer that wakes no goroutine that ever was, of P";
	else if (i && t[(i - 1) / 4].when > t[i].when)
		wrong = "a timer stands before an earlier one in the heap of P";
	return heap_is_busy(p) || i >= atomic_load(&p->ntimers) ? NULL : wrong;
}

static bool wakes(const struct timer_entry *e, const struct g *g, uint64_t status)
{
	return e->g == g && e->seq == G_SEQ(status) && e->when == g->wake_at;
}

/* While the heap changes, the entry behind the last and the one kept aside count as well. */
static bool heap_has(struct p *p, const struct g *g, uint64_t status)
{
	struct timer_entry *t = p_timers(p);
	bool busy = heap_is_busy(p);
	uint32_t n = atomic_load(&p->ntimers);

	if (busy && wakes(&p->timer_aside, g, status))
		return true;
	for (uint32_t i = 0; i < n + busy && i < TIMERS_MAX; i++)
		if (wakes(&t[i], g, status))
			return true;
	return false;
}

/* A worker is parking it and adds its timer next, or has died there and is not repaired yet. */
static bool is_parking(const struct g *g)
{
	for (unsigned i = 0; i < SH_SEATS; i++)
		if (atomic_load(&allm(i)->curg) == g)
			return true;
	return false;
}

const char *audit_wake_fault(struct g *g)
{
	uint64_t s = atomic_load(&g->status);

	if ((s & G_STATE) != G_WAITING || !g->wake_at || is_parking(g))
		return NULL;
	for (unsigned i = 0; i < atomic_load(&sched.procs_most); i++)
		if (heap_has(allp(i), g, s))
			return NULL;
	return atomic_load(&g->status) == s && !is_parking(g) ? "waits with a wake time, and no timer has it: goroutine"
							      : NULL;
}

/* One pass over all heaps instead of one for each goroutine. */
static uint64_t seen[AUDIT_BLOCK / 64], block;

void audit_entries_begin(uint64_t from)
{
	block = from;
	memset(seen, 0, sizeof seen);
	for (unsigned k = 0; k < atomic_load(&sched.procs_most); k++) {
		struct timer_entry *t = p_timers(allp(k));
		uint32_t n = atomic_load(&allp(k)->ntimers);

		for (uint32_t i = 0; i < n && i < TIMERS_MAX; i++) {
			struct g *g = t[i].g;
			uint64_t at = g_plausible(g) ? g_index(g) - from : AUDIT_BLOCK;

			if (at < AUDIT_BLOCK && wakes(&t[i], g, atomic_load(&g->status)))
				seen[at / 64] |= 1ull << at % 64;
		}
	}
}

bool audit_entry_seen(uint64_t i)
{
	uint64_t at = i - block;

	return seen[at / 64] >> at % 64 & 1;
}
