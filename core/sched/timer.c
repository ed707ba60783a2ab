/*
 * timer.c - the timer heaps of the Ps.
 *
 * A 4-ary heap of (when, G, park sequence), as in Go's time.go. An entry is a hint: firing it wakes the G only
 * if the G is still in the wait that the entry was made for. So no entry is ever removed from the middle;
 * dead entries are dropped when they have become many.
 *
 * OWNER  the worker that holds timers_lock: its own P's, or when it steals another's
 * LOCK   p->timers_lock
 * ORDER  timer_when is stored with release after the heap changed; others read it without the lock
 * DEATH  timers_dirty says that entries are being moved. TIMERS_STEP, insert and remove: only the first and
 *        the last entry can be misplaced, and one entry may exist twice. Repair sifts both. (The inserter
 *        had not parked: the medic inserts its timer again. A due G is made ready before its entry goes.)
 *        TIMERS_ALL, dropping dead entries: the order is lost, and the entry that has no place at the
 *        moment is in timer_aside. Repair builds the heap anew. So the cost is that of one heap
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

/* Makes a heap from any order. */
static void heapify(struct p *p, struct timer_entry *t, uint32_t n)
{
	sh_check(n <= TIMERS_MAX);
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

/* Drops dead entries, which makes room or moves the next time back. Holds: timers_lock, dirty. */
static __attribute__((noinline)) uint32_t timers_compact_heap(struct p *p, struct timer_entry *t, uint32_t n)
{
	sh_check(p->timers_dirty == TIMERS_STEP);
	sh_check(n <= TIMERS_MAX);
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

/* Wakes the poller if it sleeps longer than `when`. */
static void wake_poller(int64_t when)
{
	int seat;

	atomic_thread_fence(memory_order_seq_cst); /* pairs with stopm: timer_when here, poll_until there */
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
	/* also Ps that are out of use */
	unsigned procs = atomic_load_explicit(&sched.procs_most, memory_order_acquire);
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
		t[n++] = aside;		      /* it may be in the heap as well */
		atomic_store(&p->ntimers, n); /* if we die in what follows, another entry is aside */
		KILL_POINT("timer.rebuild.aside");
		heapify(p, t, n);
	} else {
		/*
		 * First the root: a removal that died has put the last entry there. The other way round, an entry that
		 * rises past it would leave it below, above smaller ones. Then the slot behind the heap: an entry that
		 * was being inserted or removed and is not counted, or an old one, which is a harmless hint.
		 */
		if (n > 1)
			sift_down(t, n, 0);
		if (t[n].g) {
			sift_up(t, n);
			n++;
		}
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

	sh_check(from != to);
	for (uint32_t i = 0; i < n; i++) { /* a death in here leaves some in both heaps, which is harmless */
		struct timer_entry *e = &p_timers(from)[i];

		if (timer_is_live(e))
			timer_add(to, e->when, e->g, e->seq);
		KILL_POINT("timer.move.added");
	}
	if (n || atomic_load(&from->timer_when)) /* or an earlier medic died in the middle of this */
		timers_publish(from, p_timers(from), 0);
}
