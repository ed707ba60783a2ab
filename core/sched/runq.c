/*
 * runq.c - local and global run queues.
 *
 * The ring is Go's: 256 slots; the owner stores tail, thieves and owner move head by compare-and-swap. The
 * picture is in p.h. Only the owner writes runnext and batch (the next four of the ring, taken with one
 * compare-and-swap); a thief claims the G that they name and leaves the name. An entry is a hint (see
 * g.h), so an entry too many is harmless. Every operation puts a G into its new place before it leaves
 * the old one, or names it in the note.
 *
 * OWNER  the M of the P puts; every worker takes
 * LOCK   sched.lock guards the global queue
 * ORDER  a slot is written before tail passes it (release), and read before head passes it (acquire)
 * DEATH  runqput: note.ready names the G until it is in the ring, note.kicked the G pushed out of runnext.
 *        Steal: the stolen Gs lie in the thief's ring behind its tail, counted by note.grab_n. Batch: the Gs
 *        are in ring and batch until head moves. Global queue: a share is in the ring before the global
 *        head moves
 */
#include "core/sched/runq.h"
#include "core/g/g.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "core/sched/proc.h"
#include "shm/check.h"
#include "shm/kill.h"
#include "shm/lock.h"
#include "shm/segment.h"

#define RIPE_NS 3000
#define RING(i) ((i) % RUNQ_SIZE)
#define GRING(i) ((i) % GRUNQ_SIZE)
#define grunq ((_Atomic(struct g *) *)(SH_BASE + SH_OFF_RUNQ))

void globrunqput_locked(struct g *g)
{
	uint64_t t = atomic_load_explicit(&sched.grunq_tail, memory_order_relaxed);
	uint64_t h = atomic_load_explicit(&sched.grunq_head, memory_order_relaxed);

	sh_check(sh_lock_held(&sched.lock, (unsigned)getm->seat));
	sh_check(t - h < GRUNQ_SIZE);
	atomic_store_explicit(&grunq[GRING(t)], g, memory_order_relaxed);
	KILL_POINT("runq.global.slot");
	atomic_store_explicit(&sched.grunq_tail, t + 1, memory_order_release);
	KILL_POINT("runq.global.tail");
}

void globrunqput(struct g *g)
{
	unsigned seat = (unsigned)getm->seat;

	sh_check(g_plausible(g));
	sh_lock_take(&sched.lock, seat);
	globrunqput_locked(g);
	sh_lock_drop(&sched.lock, seat);
}

struct g *globrunqget(struct p *p, unsigned max)
{
	unsigned seat = (unsigned)getm->seat, procs = atomic_load_explicit(&sched.procs, memory_order_relaxed);
	struct g *g = NULL;
	uint64_t h, n;
	uint32_t t;

	sh_check(max > 0 && p->id < P_MAX);
	sh_lock_take(&sched.lock, seat);
	h = atomic_load_explicit(&sched.grunq_head, memory_order_relaxed);
	n = atomic_load_explicit(&sched.grunq_tail, memory_order_relaxed) - h;
	if (n > 0) {
		uint64_t share = n / procs + 1;

		if (n > share)
			n = share;
		if (n > max)
			n = max;
		g = atomic_load_explicit(&grunq[GRING(h)], memory_order_relaxed);
		t = atomic_load_explicit(&p->runqtail, memory_order_relaxed);
		for (uint64_t i = 1; i < n; i++) {
			struct g *more = atomic_load_explicit(&grunq[GRING(h + i)], memory_order_relaxed);

			if (t - atomic_load_explicit(&p->runqhead, memory_order_acquire) >= RUNQ_SIZE) {
				n = i;
				break;
			}
			atomic_store_explicit(&p->runq[RING(t)], more, memory_order_relaxed);
			KILL_POINT("runq.batch.slot");
			atomic_store_explicit(&p->runqtail, ++t, memory_order_release);
			KILL_POINT("runq.batch.tail");
		}
		getm->note.ready = g;
		KILL_POINT("runq.batch.noted");
		atomic_store_explicit(&sched.grunq_head, h + n, memory_order_release);
		KILL_POINT("runq.batch.head");
	}
	sh_lock_drop(&sched.lock, seat);
	return g;
}

/* The ring is full: moves half of it and g to the global queue. False: a thief was faster, try again. */
static __attribute__((noinline)) bool runqputslow(struct p *p, struct g *g, uint32_t h, uint32_t t)
{
	unsigned seat = (unsigned)getm->seat, n = (t - h) / 2;
	struct g *batch[RUNQ_SIZE / 2];

	sh_check(n == RUNQ_SIZE / 2);
	for (unsigned i = 0; i < n; i++)
		batch[i] = atomic_load_explicit(&p->runq[RING(h + i)], memory_order_relaxed);
	/* First into the global queue: a death after that leaves some Gs in both, which is harmless. */
	sh_lock_take(&sched.lock, seat);
	if (atomic_load_explicit(&p->runqhead, memory_order_acquire) != h) {
		sh_lock_drop(&sched.lock, seat);
		return false;
	}
	for (unsigned i = 0; i < n; i++)
		globrunqput_locked(batch[i]);
	if (atomic_compare_exchange_strong_explicit(&p->runqhead, &h, h + n, memory_order_release,
						    memory_order_relaxed)) {
		globrunqput_locked(g);
	} else { /* a thief took some of them: take the global tail back. Entries are read only under the lock */
		atomic_store_explicit(&sched.grunq_tail, atomic_load(&sched.grunq_tail) - n, memory_order_release);
		g = NULL;
	}
	KILL_POINT("runq.spill.done");
	sh_lock_drop(&sched.lock, seat);
	return g != NULL;
}

/* Holds: note.ready or note.kicked names g. Puts g into the ring; false: the ring is full. */
static inline bool put_ring(struct p *p, struct g *g)
{
	uint32_t h = atomic_load_explicit(&p->runqhead, memory_order_acquire); /* pairs with batch_fill, runqgrab */
	uint32_t t = atomic_load_explicit(&p->runqtail, memory_order_relaxed);

	if (__builtin_expect(t - h >= RUNQ_SIZE, 0))
		return false;
	atomic_store_explicit(&p->runq[RING(t)], g, memory_order_relaxed);
	KILL_POINT("runq.put.slot");
	atomic_store_explicit(&p->runqtail, t + 1, memory_order_release);
	KILL_POINT("runq.put.tail");
	return true;
}

static __attribute__((noinline)) void put_full(struct m *m, struct p *p, struct g *g)
{
	uint32_t h;

	sh_check(m == getm);
	do
		h = atomic_load_explicit(&p->runqhead, memory_order_acquire);
	while (!put_ring(p, g) && !runqputslow(p, g, h, atomic_load_explicit(&p->runqtail, memory_order_relaxed)));
	m->note.ready = m->note.kicked = NULL;
}

void runqput(struct p *p, struct g *g, bool next)
{
	struct m *m = getm;

	m->note.ready = g;
	KILL_POINT("runq.put.noted");
	if (next) {
		struct g *old = atomic_load_explicit(&p->runnext, memory_order_relaxed);

		if (old) {
			m->note.kicked = old;
			KILL_POINT("runq.next.noted");
		}
		atomic_store_explicit(&p->runnext, g, memory_order_release);
		KILL_POINT("runq.next.set");
		if (!old) {
			m->note.ready = NULL;
			return;
		}
		g = old;
	}
	if (__builtin_expect(!put_ring(p, g), 0))
		put_full(m, p, g);
	else
		m->note.ready = m->note.kicked = NULL;
}

/*
 * With many Gs in the ring their memory is not in the cache. Prefetch the Gs of the batch after next, and the
 * frames of the next batch, whose Gs have arrived by now.
 */
static inline void prefetch_gs(struct p *p, uint32_t h)
{
	for (unsigned i = 0; i < RUNQ_BATCH; i++) {
		uint32_t next = h + RUNQ_BATCH + i;
		const char *g =
			(const char *)atomic_load_explicit(&p->runq[RING(next + RUNQ_BATCH)], memory_order_relaxed);
		const char *image = atomic_load_explicit(&p->runq[RING(next)], memory_order_relaxed)->image;

		__builtin_prefetch(g, 1);
		__builtin_prefetch(g + 64, 1);
		__builtin_prefetch(g + 128, 1);
		__builtin_prefetch(image);
		__builtin_prefetch(image + 64);
		__builtin_prefetch(image + 128);
	}
}

/* m->note.ready names the result until the caller has claimed it or found it stale. */
static inline struct g *batch_get(struct m *m, struct p *p)
{
	uint32_t at = atomic_load_explicit(&p->batch_at, memory_order_relaxed);
	struct g *g;

	if (at >= atomic_load_explicit(&p->batch_n, memory_order_relaxed))
		return NULL;
	g = atomic_load_explicit(&p->batch[at], memory_order_relaxed);
	m->note.ready = g;
	KILL_POINT("runq.take.noted");
	atomic_store_explicit(&p->batch_at, at + 1, memory_order_relaxed);
	KILL_POINT("runq.take.taken");
	return g;
}

/* Moves the next few Gs of the ring to the empty batch. False: the ring is empty. */
static bool batch_fill(struct p *p)
{
	for (;;) {
		uint32_t h = atomic_load_explicit(&p->runqhead, memory_order_acquire);
		uint32_t t = atomic_load_explicit(&p->runqtail, memory_order_relaxed);
		uint32_t n = t - h < RUNQ_BATCH ? t - h : RUNQ_BATCH;

		for (uint32_t i = 0; i < n; i++)
			atomic_store_explicit(&p->batch[i],
					      atomic_load_explicit(&p->runq[RING(h + i)], memory_order_relaxed),
					      memory_order_relaxed);
		KILL_POINT("runq.fill.slots");
		atomic_store_explicit(&p->batch_n, n, memory_order_relaxed);
		atomic_store_explicit(&p->batch_at, 0, memory_order_release);
		KILL_POINT("runq.fill.named");
		if (n == 0)
			return false;
		if (atomic_compare_exchange_strong_explicit(&p->runqhead, &h, h + n, memory_order_acq_rel,
							    memory_order_relaxed)) {
			KILL_POINT("runq.fill.taken");
			if (t - h > 16)
				prefetch_gs(p, h);
			return true;
		}
	}
}

struct g *runqget(struct p *p, bool *inherit)
{
	struct m *m = getm;
	struct g *g = atomic_load_explicit(&p->runnext, memory_order_relaxed);

	if (g) {
		m->note.ready = g;
		KILL_POINT("runq.get.next.noted");
		atomic_store_explicit(&p->runnext, NULL, memory_order_relaxed);
		KILL_POINT("runq.get.next.taken");
		*inherit = true;
		return g;
	}
	*inherit = false;
	if ((g = batch_get(m, p)))
		return g;
	if (batch_fill(p))
		return batch_get(m, p);
	m->note.ready = NULL;
	return NULL;
}

void runqdrain(struct p *p)
{
	struct m *m = getm;
	bool inherit;
	struct g *g;

	while ((g = runqget(p, &inherit))) {
		if (g_state(g) == G_RUNNABLE)
			globrunqput(g);
		m->note.ready = NULL;
	}
}

/* A G of the batch that a thief can claim, the last one first. Claimed ones stay named and do not count. */
static struct g *batch_find(struct p *p)
{
	uint32_t at = atomic_load(&p->batch_at);

	for (uint32_t i = atomic_load(&p->batch_n); i-- > at;) {
		struct g *g = i < RUNQ_BATCH ? atomic_load(&p->batch[i]) : NULL;

		if (g && g_state(g) == G_RUNNABLE)
			return g;
	}
	return NULL;
}

static struct g *runnext_find(struct p *p)
{
	struct g *next = atomic_load(&p->runnext);

	return next && g_state(next) == G_RUNNABLE ? next : NULL;
}

bool runqempty(struct p *p)
{
	for (;;) { /* tail is read twice: between our reads a G may move from runnext to the ring */
		uint32_t h = atomic_load(&p->runqhead), t = atomic_load(&p->runqtail);
		bool more = batch_find(p) || runnext_find(p); /* after the ring: from there Gs move to the batch */

		if (t == atomic_load(&p->runqtail))
			return h == t && !more;
	}
}

/* For people: trusts nothing in the queue. */
uint32_t runqlen(struct p *p)
{
	struct g *next = atomic_load(&p->runnext);
	uint32_t len = atomic_load(&p->runqtail) - atomic_load(&p->runqhead);
	uint32_t hand = atomic_load(&p->batch_n) - atomic_load(&p->batch_at);

	return (len <= RUNQ_SIZE ? len : 0) + (hand <= RUNQ_BATCH ? hand : 0) +
	       (g_plausible(next) && g_state(next) == G_RUNNABLE);
}

static unsigned gcd(unsigned a, unsigned b)
{
	while (b) {
		unsigned r = a % b;

		a = b;
		b = r;
	}
	return a;
}

void stealorder(uint32_t r, unsigned n, unsigned *at, unsigned *step)
{
	sh_check(n > 0);
	*at = r % n;
	*step = n > 1 ? 1 + (r >> 8) % (n - 1) : 1;
	while (gcd(*step, n) != 1)
		++*step;
}

static unsigned runqgrab(struct p *p, struct p *victim, uint32_t at)
{
	struct m *m = getm;

	for (;;) {
		uint32_t h = atomic_load_explicit(&victim->runqhead, memory_order_acquire);
		uint32_t t = atomic_load_explicit(&victim->runqtail, memory_order_acquire);
		uint32_t n = t - h;

		n = n - n / 2;
		if (n == 0)
			return 0;
		if (n > RUNQ_SIZE / 2) /* head and tail were read at different times */
			continue;
		for (uint32_t i = 0; i < n; i++)
			atomic_store_explicit(&p->runq[RING(at + i)],
					      atomic_load_explicit(&victim->runq[RING(h + i)], memory_order_relaxed),
					      memory_order_relaxed);
		m->note.grab_at = at;
		sh_noted();
		m->note.grab_n = n;
		KILL_POINT("runq.steal.noted");
		if (atomic_compare_exchange_strong_explicit(&victim->runqhead, &h, h + n, memory_order_acq_rel,
							    memory_order_relaxed)) {
			KILL_POINT("runq.steal.taken");
			return n;
		}
		m->note.grab_n = 0;
	}
}

/*
 * A worker that made a G ready usually parks soon and then runs it, with the memory of both in its cache. So
 * runnext is stolen only if it has stood there for RIPE_NS, or if its P has no worker. (Go sleeps 3 us in
 * runqgrab.) A thief watches one runnext at a time.
 */
bool runnext_ripe(struct m *m, struct p *victim, int64_t now)
{
	struct g *next = runnext_find(victim);
	uint64_t status;

	sh_check(m == getm);
	if (!next) {
		if (m->watched_p == victim->id)
			m->watched = NULL;
		return false;
	}
	if (atomic_load(&victim->status) != P_RUNNING)
		return true;
	status = atomic_load(&next->status);
	if (m->watched && m->watched_p == victim->id && m->watched == next && m->watched_status == status &&
	    now - m->watched_ns >= RIPE_NS)
		return true;
	m->watched_fresh = 1;
	if (!m->watched || (m->watched_p == victim->id && (m->watched != next || m->watched_status != status))) {
		m->watched = next;
		m->watched_status = status;
		m->watched_p = victim->id;
		m->watched_ns = now;
	}
	return false;
}

/*
 * Steals half of victim's ring into p's, which is empty enough. *out is the last of them, to run at once,
 * named in note.ready. If that ring is empty: a G of victim's batch or, with steal_next, its runnext.
 */
unsigned runqsteal(struct p *p, struct p *victim, bool steal_next, struct g **out)
{
	uint32_t t = atomic_load_explicit(&p->runqtail, memory_order_relaxed);
	unsigned n;

	sh_check(p != victim);
	n = runqgrab(p, victim, t);
	if (n == 0) {
		if (!(*out = batch_find(victim)) && (!steal_next || !(*out = runnext_find(victim))))
			return 0;
		getm->note.ready = *out;
		KILL_POINT("runq.steal.next");
		p->steals++;
		return 1;
	}
	*out = atomic_load_explicit(&p->runq[RING(t + n - 1)], memory_order_relaxed);
	getm->note.ready = *out;
	KILL_POINT("runq.steal.first");
	if (n > 1) {
		sh_check(t - atomic_load(&p->runqhead) + n - 1 < RUNQ_SIZE);
		atomic_store_explicit(&p->runqtail, t + n - 1, memory_order_release);
		KILL_POINT("runq.steal.tail");
	}
	getm->note.grab_n = 0;
	p->steals += n;
	return n;
}
