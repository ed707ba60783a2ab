/*
 * timer.c - the timer heaps of the Ps.
 *
 * A 4-ary heap of (when, G, park sequence), as in Go's time.go. An entry is a hint: firing it
 * wakes the G only if it still is in the wait that the entry was made for. So nothing is ever
 * taken out of the middle; entries that wake nobody are thrown out when they have become many.
 *
 * LOCK   p->timers_lock
 * DEATH  timers_dirty is set while entries are on the move. One that comes in or goes leaves at each
 *        moment all others in the heap, in order but for the first and the last, one of them twice
 *        perhaps: these two are put right (TIMERS_STEP). The one that came in is the medic's to bring
 *        again, for its G has not parked; a G is roused before its entry goes. While those that wake
 *        nobody are thrown out the order is of no use, and the one that has no place is kept aside
 *        (TIMERS_ALL). So what repair does is a matter of the one heap that the dead had in hand.
 */
#include "core/sched/timer.h"
#include "core/g/g.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "core/sched/proc.h"
#include "shm/check.h"
#include "shm/kill.h"
#include "shm/lock.h"

#if defined(SHOAL_SIM)
#define COMPACT_MIN 6u
#else
#define COMPACT_MIN 256u
#endif

static void sift_up(struct timer_entry *t, uint32_t i)
{
	struct timer_entry e = t[i];

	while (i > 0) {
		uint32_t up = (i - 1) / 4;

		if (t[up].when <= e.when)
			break;
		t[i] = t[up];
		KILL_POINT("timer.sift.up");
		i = up;
	}
	t[i] = e;
}

static void sift_down(struct timer_entry *t, uint32_t n, uint32_t i)
{
	struct timer_entry e = t[i];

	for (;;) {
		uint32_t first = i * 4 + 1, least = first;

		if (first >= n)
			break;
		for (uint32_t c = first + 1; c < n && c < first + 4; c++)
			if (t[c].when < t[least].when)
				least = c;
		if (e.when <= t[least].when)
			break;
		t[i] = t[least];
		KILL_POINT("timer.sift.down");
		i = least;
	}
	t[i] = e;
}

static void timers_publish(struct p *p, const struct timer_entry *t, uint32_t n)
{
	atomic_store_explicit(&p->ntimers, n, memory_order_relaxed);
	KILL_POINT("timer.publish.count");
	atomic_store_explicit(&p->timer_when, n ? t[0].when : 0, memory_order_release);
}

static bool timer_is_live(const struct timer_entry *e)
{
	uint64_t s = atomic_load_explicit(&e->g->status, memory_order_relaxed);

	return G_SEQ(s) == e->seq && (s & G_STATE) == G_WAITING;
}

static uint32_t drop_dead_timers(struct timer_entry *t, uint32_t n)
{
	uint32_t k = 0;

	for (uint32_t i = 0; i < n; i++)
		if (timer_is_live(&t[i]))
			t[k++] = t[i];
	return k;
}

/* Any order becomes that of a heap. */
static void heapify(struct p *p, struct timer_entry *t, uint32_t n)
{
	for (uint32_t i = n / 4 + 1; i-- > 0;) {
		if (i >= n)
			continue;
		p->timer_aside = t[i];
		sh_noted();
		KILL_POINT("timer.heapify.aside");
		sift_down(t, n, i);
	}
	KILL_POINT("timer.heapify.done");
}

/* Room is made, or the next time comes later. Holds: timers_lock, dirty. */
static __attribute__((noinline)) uint32_t timers_compact_heap(struct p *p, struct timer_entry *t, uint32_t n)
{
	p->timer_aside = t[0];
	sh_noted();
	KILL_POINT("timer.compact.aside");
	p->timers_dirty = TIMERS_ALL;
	sh_noted();
	KILL_POINT("timer.compact.dirty");
	n = drop_dead_timers(t, n);
	heapify(p, t, n);
	timers_publish(p, t, n);
	p->timers_compact = 2 * n;
	p->timers_dirty = TIMERS_STEP;
	sh_noted();
	KILL_POINT("timer.compact.done");
	return n;
}

/* The wait is over for those who sleep in a loop until a later time. */
static void wake_poller(int64_t when)
{
	int seat;

	atomic_thread_fence(memory_order_seq_cst); /* pairs with stopm: timer_when, then until when it sleeps */
	seat = atomic_load(&sched.poller);
	if (seat != NOSEAT && when < atomic_load(&sched.poll_until))
		host_wake((unsigned)seat);
}

void timer_add(struct p *p, int64_t when, struct g *g, uint32_t seq)
{
	struct timer_entry *t = p_timers(p);
	unsigned seat = (unsigned)getm->seat;
	int64_t first;
	uint32_t n;

	sh_check(when > 0);
	sh_lock_take(&p->timers_lock, seat);
	n = atomic_load_explicit(&p->ntimers, memory_order_relaxed);
	first = atomic_load_explicit(&p->timer_when, memory_order_relaxed);
	p->timers_dirty = TIMERS_STEP;
	sh_noted();
	KILL_POINT("timer.add.dirty");
	if (n >= (p->timers_compact > COMPACT_MIN ? p->timers_compact : COMPACT_MIN))
		n = timers_compact_heap(p, t, n);
	sh_check(n < TIMERS_MAX);
	t[n] = (struct timer_entry){when, g, seq, 0};
	KILL_POINT("timer.add.slot");
	sift_up(t, n);
	timers_publish(p, t, n + 1);
	sh_noted();
	p->timers_dirty = 0;
	KILL_POINT("timer.add.clean");
	sh_lock_drop(&p->timers_lock, seat);
	if (first == 0 || when < first)
		wake_poller(when);
}

unsigned timers_run(struct p *p, int64_t now)
{
	struct timer_entry *t = p_timers(p);
	unsigned seat = (unsigned)getm->seat, woken = 0;
	int64_t when = atomic_load_explicit(&p->timer_when, memory_order_acquire);

	if (when == 0 || when > now || !sh_lock_try(&p->timers_lock, seat))
		return 0;
	for (;;) {
		uint32_t n = atomic_load_explicit(&p->ntimers, memory_order_relaxed);

		if (n == 0 || t[0].when > now)
			break;
		woken += injectg(t[0].g, t[0].seq);
		p->timers_dirty = TIMERS_STEP;
		sh_noted();
		KILL_POINT("timer.run.dirty");
		t[0] = t[n - 1];
		KILL_POINT("timer.run.last");
		if (n > 2)
			sift_down(t, n - 1, 0);
		timers_publish(p, t, n - 1);
		sh_noted();
		p->timers_dirty = 0;
		KILL_POINT("timer.run.clean");
	}
	sh_lock_drop(&p->timers_lock, seat);
	return woken;
}

int64_t timers_next(void)
{
	unsigned procs = atomic_load_explicit(&sched.procs_most,
					      memory_order_acquire); /* also those of Ps that are out of use */
	int64_t least = 0;

	for (unsigned i = 0; i < procs; i++) {
		int64_t when = atomic_load_explicit(&allp(i)->timer_when, memory_order_acquire);

		if (when && (!least || when < least))
			least = when;
	}
	return least;
}

void timers_rebuild(struct p *p)
{
	struct timer_entry *t = p_timers(p), aside = p->timer_aside;
	uint32_t n = atomic_load(&p->ntimers);

	sh_check(n < TIMERS_MAX);
	if (p->timers_dirty == TIMERS_ALL) {
		t[n++] = aside;		      /* it may be in there as well */
		atomic_store(&p->ntimers, n); /* if we die over it, another one is aside */
		KILL_POINT("timer.rebuild.aside");
		heapify(p, t, n);
	} else {
		if (t[n].g) { /* came in, or made room for who did, and is not counted yet; or it is a hint of old */
			sift_up(t, n);
			n++;
		}
		if (n > 1)
			sift_down(t, n, 0);
	}
	KILL_POINT("timer.rebuild.ordered");
	timers_publish(p, t, n);
	sh_noted();
	p->timers_dirty = 0;
	KILL_POINT("timer.rebuild.clean");
}

void timers_move(struct p *from, struct p *to)
{
	uint32_t n = atomic_load(&from->ntimers);

	for (uint32_t i = 0; i < n; i++) { /* dead here, some are in both, which is harmless */
		struct timer_entry *e = &p_timers(from)[i];

		if (timer_is_live(e))
			timer_add(to, e->when, e->g, e->seq);
		KILL_POINT("timer.move.added");
	}
	if (n || atomic_load(&from->timer_when)) /* or a medic has died half-way through this */
		timers_publish(from, p_timers(from), 0);
}
