/*
 * pin.c - goroutines that stay on their worker: Go's LockOSThread.
 *
 * A pinned G has a worker to itself: m->lockedg and g->lockedm name each other, and the worker runs nothing
 * else. While its G waits, the worker releases its P and sleeps (stoplockedm). Another worker that takes the
 * G off a queue makes it runnable again and hands its own P over (startlockedm). The worker is the seat: if
 * its process dies or is renewed while the G waits, the next process in the seat gets the G. A G that ends
 * while it is pinned takes the process along. g->locked counts pins; GF_PINNED asks for one at the first run.
 *
 * Handing a P over:
 *
 *      giver                                     pinned worker
 *   a  p->m = P_HANDED + seat
 *   b  m->handed = P, by compare-and-swap
 *   c  wakes the worker                       d  takes P out of m->handed, notes it
 *                                             e  p->m = seat; runs its G
 *   f  the worker has another P by now?
 *      takes P out of m->handed
 *
 * A G that has changed its process (its user, its limits) keeps it: m->kept. The process is not renewed while the G
 * is pinned; at unpin it gets the mark to leave, and the G goes on in another process before shoal_unpin returns.
 *
 * d and f are compare-and-swaps of the same word, so exactly one of them has the P.
 *
 * DEATH  giver: note.ready names the G, note.handed the P; repair_handed makes the P idle unless it has
 *        arrived. Pinned worker: repair frees its Ps, and the next process in the seat queues its G
 *        (pin_begin). The giver reads the seat's state after the G is runnable; the new process reads the
 *        G after it has set that state; so one of them sees the other. A G whose process is kept ends as lost
 *        when the next process in the seat claims it: m->kept names another generation then
 */
#include "core/sched/pin.h"
#include "core/g/api.h"
#include "core/g/g.h"
#include "core/g/life.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/idle.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "core/sched/proc.h"
#include "shm/check.h"
#include "shm/kill.h"
#include "shm/segment.h"

#define KEPT_CHANGED 1u
#define KEPT_STEP 2u

/* The process in the seat, as m->kept names it. */
static uint32_t kept_by_this(const struct m *m)
{
	return (sh_root->seat[m->seat].generation + 1) * KEPT_STEP;
}

void pin_keep(bool change)
{
	struct m *m = getm;

	m->kept = kept_by_this(m) | (m->kept & KEPT_CHANGED) | (change ? KEPT_CHANGED : 0);
	KILL_POINT("pin.kept");
}

bool pin_keeps(const struct m *m)
{
	return m->lockedg && m->kept;
}

/* True if the process must be replaced, because the G that was pinned here has changed it. */
static bool keep_no_more(struct m *m)
{
	bool change = m->kept & KEPT_CHANGED;

	if (change) {
		atomic_store(&sh_root->seat[m->seat].leave, 1);
		KILL_POINT("pin.leave");
	}
	m->kept = 0;
	KILL_POINT("pin.unkept");
	return change;
}

void pin(struct g *g)
{
	struct m *m = getm;

	if (g->locked) {
		g->locked++;
		return;
	}
	g->lockedm = (uint8_t)m->seat;
	atomic_signal_fence(memory_order_seq_cst);
	KILL_POINT("pin.named");
	g->locked = 1; /* from here on it is pinned: repair does the rest (repair_pinned) */
	KILL_POINT("pin.g");
	m->lockedg = g;
	KILL_POINT("pin.m.named");
	atomic_fetch_or(&sched.mlocked, 1ull << (unsigned)m->seat);
	KILL_POINT("pin.m");
}

/* True if the caller must go on in another process. */
bool unpin(struct g *g)
{
	struct m *m = getm;
	bool change = m->lockedg == g && m->kept && keep_no_more(m);

	sh_check(g->lockedm);
	g->locked = 0;
	KILL_POINT("pin.unlocked");
	if (m->lockedg != g) { /* the medic ends it: its worker sleeps and must see that */
		int seat = g->lockedm;

		g->lockedm = 0;
		KILL_POINT("pin.lost");
		host_wake((unsigned)seat);
		return false;
	}
	g->lockedm = 0;
	KILL_POINT("pin.unnamed");
	m->lockedg = NULL;
	KILL_POINT("pin.freed");
	if (m->seat < WORKERS_MAX)
		atomic_fetch_and(&sched.mlocked, ~(1ull << (unsigned)m->seat));
	KILL_POINT("pin.counted");
	return change;
}

/*
 * Each pinned goroutine has a worker of its own, and some must be left for others: Go's "program exceeds
 * N-thread limit".
 */
bool pin_room(void)
{
	return __builtin_popcountll(atomic_load(&sched.mlocked)) < PINNED_MAX;
}

void shoal_pin(void)
{
	struct g *g = api_enter("shoal_pin");

	if (!g->locked && !pin_room())
		host_misuse("shoal_pin: thread exhaustion: too many pinned goroutines");
	if (g->locked == UINT8_MAX)
		host_misuse("shoal_pin: pinned too often");
	pin(g);
}

void shoal_unpin(void)
{
	struct g *g = api_enter("shoal_unpin");

	if (g->locked > 1)
		g->locked--;
	else if (g->locked && unpin(g))
		goyield(); /* this process is asked to leave: another one goes on here */
}

/* ---- on g0 ---- */

static bool still_pinned(const struct m *m, struct g *g)
{
	return g->locked && g->lockedm == m->seat && g_state(g) != G_DEAD;
}

static struct p *take_handed(struct m *m)
{
	int32_t id = atomic_load(&m->handed), on_its_way = P_HANDED + m->seat;

	sh_check(m == getm);
	if (id < 0)
		return NULL;
	m->note.handed = (uint32_t)id + 1;
	KILL_POINT("pin.handed.noted");
	if (!atomic_compare_exchange_strong(&m->handed, &id, -1)) {
		__atomic_store_n(&m->note.handed, 0, __ATOMIC_SEQ_CST); /* before stoplockedm looks at the G */
		return NULL;
	}
	KILL_POINT("pin.handed.taken");
	/*
	 * It may have been for the process before us in this seat; then the medic has given it to another
	 * worker.
	 */
	if (!atomic_compare_exchange_strong(&allp(id)->m, &on_its_way, m->seat)) {
		__atomic_store_n(&m->note.handed, 0, __ATOMIC_SEQ_CST);
		return NULL;
	}
	KILL_POINT("pin.handed.named");
	return allp(id);
}

/* The G ended while it was pinned: this process ends too, with all that the G changed in it. */
_Noreturn void pin_retire(struct m *m)
{
	sh_check(m == getm);
	m->lockedg = NULL;
	m->kept = 0;
	atomic_fetch_and(&sched.mlocked, ~(1ull << (unsigned)m->seat));
	KILL_POINT("pin.retired");
	if (getp())
		handoffp(releasep());
	host_leave();
}

/* The process that the claimed G depends on has died: this one dies as if it had run the G, so repair ends the G. */
static _Noreturn void lose_kept(struct m *m)
{
	atomic_store(&m->oncpu, 1);
	KILL_POINT("pin.lose");
	host_die(); /* repair_pin clears m->kept */
}

/*
 * Returns the G that is pinned here, claimed. Sleeps without a P until the G is runnable and a P was brought.
 */
struct g *stoplockedm(struct m *m)
{
	struct g *g = m->lockedg;

	sh_check(m == getm && g);
	for (;;) {
		struct p *p;

		/* given: before it was pinned it was an idle worker */
		if (!getp() && ((p = take_handed(m)) || (p = take_given_p(m)))) {
			acquirep(p);
			atomic_signal_fence(memory_order_seq_cst);
			m->note.handed = 0; /* after m->p; pairs with waits_for_p */
			give_back_others(m, p);
		}
		if (!still_pinned(m, g))
			pin_retire(m);
		if (getp() && !atomic_load(&sched.gcwaiting) && g_claim(g)) {
			if (__builtin_expect(m->kept && (m->kept & ~KEPT_CHANGED) != kept_by_this(m), 0))
				lose_kept(m);
			return g;
		}
		if (getp()) {
			handoffp(releasep());
			continue;
		}
		atomic_store(&m->blocked, 1);
		KILL_POINT("pin.stop.blocked");
		/*
		 * A giver may have seen that we had a P, or were taking one, and gone away: queue the G
		 * again.
		 */
		if (atomic_load(&m->handed) < 0 && g_state(g) == G_RUNNABLE)
			ready_hint(g);
		if (atomic_load(&m->handed) < 0 && !take_given_p(m) && still_pinned(m, g)) {
			if (host_must_leave() && !pin_keeps(m))
				host_leave();
			host_idle(0);
		}
		atomic_store(&m->blocked, 0);
		KILL_POINT("pin.stop.unblocked");
		life_look(m);
	}
}

/*
 * True if the worker has no P and takes none but a handed one, and does that before anything else. A worker
 * that has or takes another P either has claimed the G or looks at it again after that P is gone.
 */
static bool waits_for_p(struct m *m, struct g *g)
{
	return !__atomic_load_n(&m->note.handed, __ATOMIC_SEQ_CST) && atomic_load(&m->p) == -1 &&
	       __atomic_load_n(&m->lockedg, __ATOMIC_SEQ_CST) == g;
}

static bool seat_lives(const struct m *m)
{
	return atomic_load(&sh_root->seat[m->seat].state) == SEAT_LIVE;
}

/* Hands our P to the worker to which g is pinned. We have claimed g. */
void startlockedm(struct m *m, struct g *g)
{
	struct m *to = allm(g->lockedm);
	int32_t none = -1, id, on_its_way = P_HANDED + to->seat;
	struct p *p;

	sh_check(m == getm && getp());
	sh_check(g->lockedm);
	m->note.ready = g;
	casgstatus(g, G_RUNNING, G_RUNNABLE);
	dropg(m);
	atomic_thread_fence(memory_order_seq_cst); /* pairs with pin_begin */
	if (!seat_lives(to)) {
		m->note.ready = NULL;
		return;
	}
	p = getp();
	id = (int32_t)p->id;
	m->note.handed = p->id + 1;
	releasep();
	atomic_store(&p->status, P_IDLE);
	atomic_store(&p->m, on_its_way);
	KILL_POINT("pin.hand.named");
	if (atomic_compare_exchange_strong(&to->handed, &none, id)) {
		KILL_POINT("pin.hand.given");
		host_wake((unsigned)to->seat);
		/*
		 * If the worker has died since, it will not take the P, and repair may have looked too early.
		 */
		if ((seat_lives(to) && waits_for_p(to, g)) || !atomic_compare_exchange_strong(&to->handed, &id, -1))
			p = NULL;
	} /* otherwise another worker has brought a P */
	if (p && atomic_compare_exchange_strong(&p->m, &on_its_way, m->seat)) {
		KILL_POINT("pin.hand.back");
		acquirep(p);
	} else {
		atomic_fetch_and(&sched.mspinning, ~(1ull << (unsigned)m->seat));
	}
	m->note.handed = 0;
	m->note.ready = NULL;
}

/* A new process in the seat: the G may have become runnable while the seat was vacant. */
void pin_begin(struct m *m)
{
	sh_check(m == getm);
	if (m->lockedg && g_state(m->lockedg) == G_RUNNABLE)
		ready_hint(m->lockedg);
}

/* ---- the medic ---- */

/*
 * The goroutine that the dead worker ran, before it runs again: it becomes pinned completely or not at all.
 */
void repair_pinned(struct m *m, struct g *g)
{
	if (!g->lockedm || g->lockedm != m->seat || g_state(g) == G_DEAD)
		return;
	if (g->locked)
		m->lockedg = g;
	else
		g->lockedm = 0;
	KILL_POINT("repair.pinned");
}

/* What the next process in the seat inherits from the dead one. */
void repair_pin(struct m *m, struct g *g)
{
	sh_check(getm->seat == SH_SEAT_MEDIC);
	m->lockedg = g && still_pinned(m, g) ? g : NULL;
	if (m->lockedg)
		atomic_fetch_or(&sched.mlocked, 1ull << (unsigned)m->seat);
	else if (m->seat < WORKERS_MAX)
		atomic_fetch_and(&sched.mlocked, ~(1ull << (unsigned)m->seat));
	if (!m->lockedg)
		m->kept = 0;
	atomic_store(&m->handed, -1);
	KILL_POINT("repair.pin");
}

/* The dead worker was handing a P over, or taking one: it has arrived, or it becomes idle. */
void repair_handed(struct m *m)
{
	uint32_t id = m->note.handed - 1;
	int32_t has = (int32_t)id;
	struct p *p = allp(id);
	struct m *to;
	int seat;

	sh_check(getm->seat == SH_SEAT_MEDIC);
	if (id >= P_MAX)
		return;
	seat = atomic_load(&p->m) - P_HANDED;
	if (seat <= 0 || seat >= SH_SEATS || seat == m->seat)
		return;
	to = allm(seat);
	if (to->note.handed == m->note.handed)
		return; /* it is just being taken */
	if (atomic_load(&to->handed) == has &&
	    ((to->lockedg && waits_for_p(to, to->lockedg)) || !atomic_compare_exchange_strong(&to->handed, &has, -1))) {
		host_wake((unsigned)seat);
		return;
	}
	pidleput(p);
	KILL_POINT("repair.handed");
}
