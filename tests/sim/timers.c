/*
 * timers.c - timer heaps: each change dies after each of its stores and the medic repairs its seat, and the
 * medic dies after each of its own and begins again. Then the heap is in order, the dirty word is clear,
 * each goroutine that waits with a wake time has its timer, and all of them wake in the order of their times.
 */
#include "core/repair/audit_timers.h"
#include "core/g/g.h"
#include "core/repair/repair.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "core/sched/timer.h"
#include "shm/lock.h"
#include "shm/segment.h"
#include "tests/sim/white.h"

#include <setjmp.h>
#include <string.h>

#define MOST 30u     /* three levels: the root, its 4 children, 16 below them and some below those */
#define NEWCOMER 31u /* the goroutine that a change adds */
#define LATE 1000000000000

enum op { ADD, RUN, COMPACT };

static jmp_buf cut;
static unsigned points; /* passed before the cut */

static void cut_short(const char *name)
{
	(void)name;
	if (points-- == 0)
		longjmp(cut, 1);
}

/* Goroutine i waits until a time that no order of insertion leaves sorted. */
static int64_t when_of(unsigned i, unsigned salt)
{
	return LATE + (int64_t)((i * 7919u + salt * 104729u) % 1009u);
}

static void wait_until(unsigned i, int64_t when)
{
	struct g *g = allg(i);

	g->waitreason = WAIT_SLEEP;
	g->wake_at = when;
	atomic_store(&g->status, G_MAKE(G_WAITING, G_SEQ(atomic_load(&g->status)) + 1));
}

/* The state of the runtime before each change: P 0 belongs to the M in seat 1, whose death is repaired. */
static struct {
	struct schedt schedt;
	struct p p;
	struct m m[2];
} fresh;

static void keep_fresh(void)
{
	white_begin(1, NEWCOMER);
	white_p(0, 1);
	fresh.schedt = sched;
	fresh.p = *allp(0);
	fresh.m[0] = *allm(0);
	fresh.m[1] = *allm(1);
}

static void start_fresh(void)
{
	sched = fresh.schedt;
	*allp(0) = fresh.p;
	*allm(0) = fresh.m[0];
	*allm(1) = fresh.m[1];
	for (unsigned seat = 0; seat < 2; seat++) {
		memset(sh_seat_held(seat), 0, sizeof(struct sh_held));
		atomic_store(&sh_root->seat[seat].state, SEAT_LIVE);
	}
	memset(p_timers(allp(0)), 0, (MOST + 4) * sizeof(struct timer_entry));
	for (unsigned i = 1; i <= NEWCOMER; i++) {
		allg(i)->wake_at = 0;
		atomic_store(&allg(i)->status, G_MAKE(G_DEAD, 1));
	}
	getm = allm(1);
}

/* P 0 has a timer for each of n goroutines. For COMPACT something else has woken each third of them. */
static struct p *build(enum op op, unsigned n, unsigned salt)
{
	struct p *p = allp(0);

	start_fresh();
	p->timers_compact = 10 * MOST;
	for (unsigned i = 1; i <= n; i++) {
		wait_until(i, when_of(i, salt));
		timer_add(p, when_of(i, salt), allg(i), G_SEQ(atomic_load(&allg(i)->status)));
	}
	if (op != COMPACT)
		return p;
	p->timers_compact = n;
	for (unsigned i = 3; i <= n; i += 3)
		atomic_store(&allg(i)->status, G_MAKE(G_DEAD, 3));
	return p;
}

/* False: the worker died after so many points. */
static bool change(struct p *p, enum op op, unsigned salt, unsigned after)
{
	int64_t when = LATE + salt % 3 * 500;

	points = after;
	sim_probe = cut_short;
	if (setjmp(cut) != 0) {
		sim_probe = NULL;
		return false;
	}
	if (op == RUN) {
		timers_run(p, atomic_load(&p->timer_when));
	} else {
		wait_until(NEWCOMER, when);
		timer_add(p, when, allg(NEWCOMER), G_SEQ(atomic_load(&allg(NEWCOMER)->status)));
	}
	sim_probe = NULL;
	return true;
}

/* False: the medic died after so many points. A new medic repairs the seat of the dead one as well. */
static bool repair(bool again, unsigned after)
{
	getm = allm(SH_SEAT_MEDIC);
	atomic_store(&sh_root->seat[1].state, SEAT_DEAD);
	points = after;
	sim_probe = cut_short;
	if (setjmp(cut) != 0) {
		sim_probe = NULL;
		return false;
	}
	repair_begin();
	if (again)
		repair_seat(SH_SEAT_MEDIC);
	repair_seat(1);
	sim_probe = NULL;
	return true;
}

/* The repair adds the timer of a goroutine that was parking (sim.c has those deaths), so here it may be missing. */
static bool in_order(struct p *p, bool newcomer)
{
	MUST(!atomic_load(&p->timers_lock.owner) && !p->timers_dirty);
	MUST(!audit_heap_fault(p));
	for (uint32_t i = 0; i < atomic_load(&p->ntimers); i++)
		MUST(!audit_entry_fault(p, i));
	for (unsigned i = 1; i <= MOST; i++)
		MUST(!audit_wake_fault(allg(i)));
	MUST(!newcomer || !audit_wake_fault(allg(NEWCOMER)));
	return true;
}

/* The earliest time for which one of the first n goroutines waits, 0 if none does. */
static int64_t earliest(unsigned n)
{
	int64_t least = 0;

	for (unsigned i = 1; i <= n; i++)
		if (g_state(allg(i)) == G_WAITING && (!least || allg(i)->wake_at < least))
			least = allg(i)->wake_at;
	return least;
}

/* Each goroutine that has a timer is woken when its time has come, and not before. */
static bool wake_in_order(struct p *p, bool newcomer)
{
	unsigned n = newcomer ? NEWCOMER : MOST;
	int64_t now;

	getm = allm(1);
	while ((now = earliest(n))) {
		MUST(atomic_load(&p->timer_when) && atomic_load(&p->timer_when) <= now);
		timers_run(p, now - 1);
		MUST(earliest(n) == now);
		timers_run(p, now);
		MUST(!earliest(n) || earliest(n) > now);
	}
	timers_run(p, INT64_MAX);
	MUST(!atomic_load(&p->ntimers) && !atomic_load(&p->timer_when));
	return true;
}

static bool all_cuts(enum op op, unsigned n, unsigned salt)
{
	bool done = false;

	for (unsigned k = 0; !done; k++) {
		bool repaired = false;

		for (unsigned m = 0; !repaired; m++) {
			struct p *p = build(op, n, salt);

			done = change(p, op, salt, k);
			repaired = repair(false, m);
			if (!repaired)
				MUST(repair(true, UINT32_MAX));
			MUST(in_order(p, done && op != RUN));
			MUST(wake_in_order(p, done && op != RUN));
		}
	}
	return true;
}

static bool sizes(enum op op, unsigned least)
{
	static const unsigned n[] = {0, 1, 2, 3, 4, 5, 6, 9, 17, 21, 22, MOST};

	keep_fresh();
	for (unsigned i = 0; i < sizeof n / sizeof *n; i++)
		for (unsigned salt = 0; salt < 3 && n[i] >= least; salt++)
			MUST(all_cuts(op, n[i], salt));
	return true;
}

static bool a_timer_is_added(void)
{
	return sizes(ADD, 0);
}

static bool the_first_timer_wakes_its_goroutine(void)
{
	return sizes(RUN, 1);
}

static bool timers_of_goroutines_that_do_not_wait_are_thrown_out(void)
{
	return sizes(COMPACT, 6);
}

/* Undisturbed, with many heaps of each size up to MOST. */
static bool goroutines_wake_in_the_order_of_their_times(void)
{
	keep_fresh();
	for (unsigned n = 1; n <= MOST; n++)
		for (unsigned salt = 0; salt < 40; salt++) {
			struct p *p = build(ADD, n, salt);

			MUST(in_order(p, false));
			MUST(wake_in_order(p, false));
		}
	return true;
}

unsigned timers_tests(void)
{
	return WHITE_RUN("timers", goroutines_wake_in_the_order_of_their_times, a_timer_is_added,
			 the_first_timer_wakes_its_goroutine, timers_of_goroutines_that_do_not_wait_are_thrown_out);
}
