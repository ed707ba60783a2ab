/*
 * life.h - the life of goroutines, recorded as it happens.
 *
 * Each change of a status word leaves an event of 16 bytes in the ring of the process that makes it
 * (one ring a seat, in the segment, with the last LIFE_RING events). An event costs three stores, about
 * 2 ns, so recording is always on. Two changes leave no event because the next one implies them:
 * waiting -> runnable and a yield both come before running. While a reader traces (sched.tracing) they are
 * recorded as well.
 *
 * Reading the clock would cost ten times as much. So an event carries the worker's last look at the
 * clock (at least one look for each 61 goroutines, each idling, each round of sysmon), and the order of one goroutine's
 * events comes from its own count. While a reader traces, each event reads the clock.
 *
 *      63                          18 17         8 7      0
 *   a  +-----------------------------+------------+--------+
 *      |     time in units of 64 ns  | stack size |   P    |    P 255: none
 *      +-----------------------------+------------+--------+
 *      63                  24 23  20 19  16 15     10 9     0
 *   b  +---------------------+------+------+---------+-------+
 *      |  gid, low 40 bits   | from |  to  |   why   | order |
 *      +---------------------+------+------+---------+-------+
 *
 * why: enum waitreason of a G that becomes waiting; shoal_end.how of one that becomes dead;
 * WAIT_PREEMPTED of one that was made to give way.
 */
#ifndef CORE_G_LIFE_H
#define CORE_G_LIFE_H

#include "core/g/g.h"
#include "core/root.h"
#include "shm/check.h"
#include "shm/kill.h"

#define LIFE_RING (1u << 15)
#define LIFE_ORDERS 1024u

struct life_event {
	uint64_t a, b;
};

/*
 * The last events of one seat.
 * OWNER  the process in the seat
 * LOCK   none
 * ORDER  the event, then n with release; a reader reads n, events, n and drops what may have been overwritten
 * DEATH  an event without its change: the change did not happen. Nothing depends on it
 */
struct life_ring {
	_Atomic uint64_t n; /* events so far; the next one goes to e[n % LIFE_RING]. Pairs with life_read */
	_Alignas(64) struct life_event e[LIFE_RING];
};
_Static_assert(sizeof(struct life_ring) <= SH_LIFE_SIZE, "a ring fits its place");

#define life_ring_of(seat) ((struct life_ring *)(SH_BASE + SH_OFF_LIFE + (uint64_t)(seat)*SH_LIFE_SIZE))

/* One event, decoded. */
struct life {
	int64_t ns; /* monotonic time */
	uint64_t gid;
	unsigned from, to, why, order;
	int worker, p; /* p is -1 if the worker had none */
	uint32_t stack;
};
void life_decode(const struct life_event *, unsigned seat, int64_t now, struct life *);
/*
 * Copies up to max events from number *at on (moved to the oldest that is left, if that is newer) and
 * advances *at past them. Returns how many. *lost grows by the events that were overwritten before.
 */
unsigned life_read(unsigned seat, uint64_t *at, struct life_event *, unsigned max, uint64_t *lost);

uint16_t life_size(uint32_t bytes); /* floating point in 10 bits, about 6 % exact */

/* The worker has read the clock: events from now on carry this time. */
static inline int64_t life_clock(struct m *m, int64_t now)
{
	m->life_now = (uint64_t)now >> 6 << 18 | (uint8_t)atomic_load_explicit(&m->p, memory_order_relaxed);
	return now;
}

/* The worker has acquired another P, or released its own. */
static inline void life_p(struct m *m)
{
	life_clock(m, (int64_t)(m->life_now >> 18 << 6));
}

static inline bool life_traced(void)
{
	return __builtin_expect(atomic_load_explicit(&sched.tracing, memory_order_relaxed) != 0, 0);
}

void life_look(struct m *m); /* reads the clock */

void life_record_traced(struct m *, uint64_t gid, uint64_t what, unsigned stack); /* reads the clock first */

static inline void life_write(struct m *m, uint64_t gid, uint64_t what, unsigned stack)
{
	struct life_ring *r = life_ring_of(m->seat);
	uint64_t n = atomic_load_explicit(&r->n, memory_order_relaxed);
	struct life_event *e = &r->e[n % LIFE_RING];

	e->a = m->life_now | (uint64_t)stack << 8;
	e->b = gid << 24 | what;
	atomic_store_explicit(&r->n, n + 1, memory_order_release); /* pairs with life_read */
}

static inline void life_record(struct m *m, uint64_t gid, unsigned from, unsigned to, unsigned why, unsigned order,
			       unsigned stack)
{
	uint64_t what = from << 20 | to << 16 | why << 10 | order % LIFE_ORDERS;

	if (life_traced())
		life_record_traced(m, gid, what, stack);
	else
		life_write(m, gid, what, stack);
}

/* The status word names the worker while it runs the G. */
static inline uint64_t g_owner_bits(unsigned state)
{
	return state == G_RUNNING || state == G_COPYSTACK || state == G_SYSCALL ? G_OWNER(getm->seat) : 0;
}

/*
 * The owner of a G changes its status and records it. Begins a new park sequence when the G begins to
 * wait. Checks that the change is legal.
 */
static inline __attribute__((always_inline)) void casgstatus(struct g *g, unsigned from, unsigned to)
{
	struct m *m = getm;
	uint64_t s, gid = g->gid;
	unsigned why = 0;

	if (from != G_RUNNING && from != G_COPYSTACK && from != G_DEAD && from != G_IDLE) {
		casgstatus_shared(g, from, to);
		return;
	}
	s = atomic_load_explicit(&g->status, memory_order_relaxed);
	sh_check((g_legal[from] & G_BIT(to)) && (s & (G_STATE | G_SCAN)) == from);
	s = (s & G_SEQ_MASK) | g_owner_bits(to) | to;
	if (to == G_WAITING) {
		s += 1ull << 32;
		g->wait_since = (int64_t)(m->life_now >> 18 << 6);
	}
	if (to == G_WAITING || (from == G_RUNNING && to == G_RUNNABLE)) {
		why = g->waitreason;
	} else if (to == G_DEAD && from != G_IDLE) {
		why = (unsigned)m->note.ending_how & 3;
		gid -= GID_STEP; /* g_end has raised it already */
	}
	g->life_order++;
	if (from != G_RUNNING || to != G_RUNNABLE || why || life_traced())
		/* before the store: after it the G may belong to another worker */
		life_record(m, gid, from, to, why, g->life_order, g->life_stack);
	atomic_store_explicit(&g->status, s, memory_order_release);
	KILL_POINT("g.status.stored");
}

#endif
