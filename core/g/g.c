/*
 * g.c - status words, free lists and the end of goroutines. See g.h.
 *
 * LOCK   sched.lock guards the global free list; a P's free list belongs to the worker that has the P
 * DEATH  a G off all lists is in note.g, with its gid in note.gid: repair returns it to the global list.
 *        A G that is being made for the first time is in note.making, one that is ending in note.ending
 */
#include "core/g/g.h"
#include "core/g/life.h"
#include "core/g/tstack.h"
#include "core/g/names.h"
#include "core/g/stack.h"
#include "core/host.h"
#include "core/repair/note.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "core/sched/pin.h"
#include "core/sched/proc.h"
#include "core/sched/stuck.h"
#include "core/shoal.h"
#include "core/sync/mutex.h"
#include "core/sync/rwmutex.h"
#include "core/sync/wg.h"
#include "core/task/filelock.h"
#include "core/task/task.h"
#include "shm/check.h"
#include "shm/heap.h"
#include "shm/kill.h"
#include "shm/lock.h"
#include "shm/segment.h"

#include <string.h>

/*
 * Waits a moment while the scan bit is up. If its holder is dead, the medic clears the bit: here, or in
 * repair_scan.
 */
static void scan_wait(struct g *g, uint64_t s)
{
	int seat = G_OWNER_SEAT(s);

	sh_check((s & G_SCAN) != 0);
	sh_pause(1);
	if (getm->seat == SH_SEAT_MEDIC)
		stuck_check_waited(seat);
	if (getm->seat == SH_SEAT_MEDIC && seat > 0 && seat < SH_SEATS && sh_seat_dead((unsigned)seat))
		atomic_compare_exchange_strong(&g->status, &s, s & ~(G_SCAN | G_OWNER_MASK));
	KILL_POINT("g.scan.wait");
}

void casgstatus_shared(struct g *g, unsigned from, unsigned to)
{
	uint64_t s = atomic_load_explicit(&g->status, memory_order_relaxed), n, gid = g->gid;
	unsigned order = ++g->life_order, stack = g->life_stack;

	sh_check(g_legal[from] & G_BIT(to));
	for (;;) {
		if (s & G_SCAN) {
			scan_wait(g, s);
			s = atomic_load_explicit(&g->status, memory_order_relaxed);
			continue;
		}
		sh_check((s & G_STATE) == from);
		n = (s & G_SEQ_MASK) | g_owner_bits(to) | to;
		if (atomic_compare_exchange_weak_explicit(&g->status, &s, n, memory_order_acq_rel,
							  memory_order_relaxed))
			break;
	}
	life_record(getm, gid, from, to, 0, order, stack);
	KILL_POINT("g.status.changed");
}

/* The slow paths of g_claim and g_rouse: the word was not what it usually is. */
static __attribute__((noinline)) bool claim_word(struct g *g)
{
	uint64_t s = atomic_load_explicit(&g->status, memory_order_relaxed), n;

	for (;;) {
		if ((s & G_STATE) != G_RUNNABLE) {
			atomic_store_explicit(&getm->curg, NULL, memory_order_relaxed);
			return false;
		}
		if (s & G_SCAN) {
			scan_wait(g, s);
			s = atomic_load_explicit(&g->status, memory_order_relaxed);
			continue;
		}
		n = (s & G_SEQ_MASK) | G_OWNER(getm->seat) | G_RUNNING;
		if (atomic_compare_exchange_weak_explicit(&g->status, &s, n, memory_order_acq_rel,
							  memory_order_relaxed))
			return true;
	}
}

static __attribute__((noinline)) bool rouse_word(struct g *g, uint32_t seq)
{
	uint64_t s = atomic_load_explicit(&g->status, memory_order_relaxed);

	sh_check(g_plausible(g));
	for (;;) {
		if ((s & G_STATE) != G_WAITING || G_SEQ(s) != seq)
			return false;
		if (s & G_SCAN) {
			scan_wait(g, s);
			s = atomic_load_explicit(&g->status, memory_order_relaxed);
			continue;
		}
		if (atomic_compare_exchange_weak_explicit(&g->status, &s, G_MAKE(G_RUNNABLE, seq), memory_order_acq_rel,
							  memory_order_relaxed))
			return true;
	}
}

bool g_claim(struct g *g)
{
	struct m *m = getm;
	uint64_t s = atomic_load_explicit(&g->status, memory_order_relaxed);

	/*
	 * The note comes first: after a death the medic reads the status word to see whether the claim was
	 * made.
	 */
	atomic_store_explicit(&m->curg, g, memory_order_relaxed);
	KILL_POINT("g.claim.noted");
	if (__builtin_expect((s & (G_STATE | G_SCAN)) != G_RUNNABLE ||
				     !atomic_compare_exchange_strong_explicit(
					     &g->status, &s, (s & G_SEQ_MASK) | G_OWNER(m->seat) | G_RUNNING,
					     memory_order_acq_rel, memory_order_relaxed),
			     0) &&
	    !claim_word(g))
		return false;
	g->life_order += 2; /* one for g_rouse, which may not write this field, and one for the claim */
	life_record(m, g->gid, G_RUNNABLE, G_RUNNING, 0, g->life_order, g->life_stack);
	KILL_POINT("g.claim.made");
	return true;
}

bool g_rouse(struct g *g, uint32_t seq)
{
	uint64_t s = atomic_load_explicit(&g->status, memory_order_relaxed), gid = g->gid;
	/* read before the change: after it another worker may run the G */
	unsigned order = g->life_order + 1u, stack = g->life_stack;

	if (__builtin_expect(s != G_MAKE(G_WAITING, seq) || !atomic_compare_exchange_strong_explicit(
								    &g->status, &s, G_MAKE(G_RUNNABLE, seq),
								    memory_order_acq_rel, memory_order_relaxed),
			     0) &&
	    !rouse_word(g, seq))
		return false;
	if (life_traced())
		life_record(getm, gid, G_WAITING, G_RUNNABLE, 0, order, stack);
	KILL_POINT("g.rouse.made");
	return true;
}

bool casfrom_preempted(struct g *g)
{
	uint64_t s = atomic_load_explicit(&g->status, memory_order_relaxed), gid = g->gid;
	unsigned order = g->life_order + 1u, stack = g->life_stack;

	sh_check(g_plausible(g));
	do
		if ((s & G_STATE) != G_PREEMPTED)
			return false;
	while (!atomic_compare_exchange_weak_explicit(&g->status, &s, G_MAKE(G_WAITING, G_SEQ(s) + 1),
						      memory_order_acq_rel, memory_order_relaxed));
	life_record(getm, gid, G_PREEMPTED, G_WAITING, WAIT_PREEMPTED, order, stack);
	KILL_POINT("g.preempted.taken");
	return true;
}

bool g_scan_lock(struct g *g)
{
	uint64_t s = atomic_load_explicit(&g->status, memory_order_relaxed);
	unsigned state;

	sh_check(g_plausible(g));
	sh_check(!getm->note.scan);
	getm->note.scan = g;
	KILL_POINT("g.scan.noted");
	for (;;) {
		state = s & G_STATE;
		if (state != G_WAITING && state != G_RUNNABLE) {
			getm->note.scan = NULL;
			return false;
		}
		if (s & G_SCAN) {
			scan_wait(g, s);
			s = atomic_load_explicit(&g->status, memory_order_relaxed);
			continue;
		}
		if (atomic_compare_exchange_weak_explicit(&g->status, &s, s | G_SCAN | G_OWNER(getm->seat),
							  memory_order_acq_rel, memory_order_relaxed))
			break;
	}
	KILL_POINT("g.scan.locked");
	return true;
}

void g_scan_unlock(struct g *g)
{
	uint64_t s = atomic_load_explicit(&g->status, memory_order_relaxed);

	/* Nobody else changes the word while the bit is up. */
	sh_check((s & G_SCAN) && G_OWNER_SEAT(s) == getm->seat);
	atomic_store_explicit(&g->status, s & ~(G_SCAN | G_OWNER_MASK), memory_order_release);
	KILL_POINT("g.scan.freed");
	getm->note.scan = NULL;
}

static bool g_never_ran(const struct g *g)
{
	unsigned state = g_state(g);

	return state == G_DEAD || state == G_IDLE;
}

struct g *g_find(uint64_t gid, bool *ended)
{
	uint64_t i = gid & (GID_STEP - 1);
	struct g *g;
	uint64_t now;
	bool never;

	if (i == 0 || i >= atomic_load(&sched.ngs) || i >= G_MAX)
		return NULL;
	g = allg(i);
	never = g_never_ran(g);
	/* read once, after the status: g_end raises gid before the G is dead */
	now = *(volatile uint64_t *)&g->gid;
	if (gid > now || (gid == now && never))
		return NULL; /* this number was not issued yet */
	*ended = gid < now;
	return g;
}

#define G_BATCH (256u << 10) /* bytes of Gs that are faulted in at once */

void g_lay_out(struct g *g)
{
	sh_check(g_plausible(g));
	g->idx = (int32_t)g_index(g);
	g->gid = g_index(g);
	g->win = WIN_NONE;
	atomic_store_explicit(&g->res, RES_NONE, memory_order_relaxed);
	g->join_lock.kind = SH_LOCK_JOIN;
	g->sudog.g = g;
	KILL_POINT("g.make.whole");
}

/*
 * Takes a G that was never used. Claims it by a compare-and-swap of its status, then raises sched.ngs.
 * DEATH  in between: note.making and the owner in the status say whose it is; repair finishes it as a dead G
 */
static struct g *make_g(void)
{
	struct note *note = &getm->note;
	struct g *g;
	size_t at;

	sh_check(note->making == 0);
	for (;;) {
		uint64_t i = atomic_load(&sched.ngs), none = 0;
		bool mine;

		if (i >= G_MAX)
			return NULL;
		g = allg(i);
		at = (uintptr_t)g & (G_BATCH - 1);
		if (at < sizeof *g || i == 1)
			sh_populate((void *)((uintptr_t)g & ~(uintptr_t)(G_BATCH - 1)),
				    G_BATCH + (i == 1 ? 0 : sizeof *g));
		note->making = i;
		KILL_POINT("g.make.noted");
		mine = atomic_compare_exchange_strong(&g->status, &none, G_OWNER(getm->seat) | G_IDLE);
		KILL_POINT("g.make.claimed");
		/* Raise it for any claimer: that one may be dead, and we want the next G. */
		atomic_compare_exchange_strong(&sched.ngs, &i, i + 1);
		KILL_POINT("g.make.counted");
		if (mine)
			break;
	}
	g_lay_out(g);
	note->gid = g->gid;
	sh_noted();
	note->g = g;
	sh_noted();
	KILL_POINT("g.make.taken");
	atomic_store_explicit(&g->status, G_MAKE(G_DEAD, 0), memory_order_release);
	KILL_POINT("g.make.dead");
	sh_noted();
	note->making = 0;
	return g;
}

/* Moves up to n Gs from the global list to p's. False: the global list is empty. */
static bool gfree_refill(struct p *p, unsigned n)
{
	struct m *m = getm;
	struct g *g;

	sh_check(p == getp());
	sh_check(n > 0);
	sh_lock_take(&sched.lock, (unsigned)m->seat);
	while (n-- > 0 && (g = sched.gfree)) {
		m->note.gid = g->gid;
		sh_noted();
		m->note.g = g;
		sh_noted();
		KILL_POINT("g.refill.noted");
		sched.gfree = g->schedlink;
		KILL_POINT("g.refill.taken");
		g->schedlink = p->gfree;
		p->gfree = g;
		KILL_POINT("g.refill.put");
		p->ngfree++;
	}
	m->note.g = NULL;
	sh_lock_drop(&sched.lock, (unsigned)m->seat);
	return p->gfree != NULL;
}

/* Takes one G off the global list; for a process without a P. */
static struct g *take_global(void)
{
	struct m *m = getm;
	struct g *g;

	sh_check(!getp());
	sh_lock_take(&sched.lock, (unsigned)m->seat);
	g = sched.gfree;
	if (g) {
		m->note.gid = g->gid;
		sh_noted();
		m->note.g = g;
		sh_noted();
		sched.gfree = g->schedlink;
		KILL_POINT("g.take.global");
	}
	sh_lock_drop(&sched.lock, (unsigned)m->seat);
	return g;
}

struct g *gfget(void)
{
	struct p *p = getp();
	struct g *g;

	if (!p) {
		g = take_global();
		return g ? g : make_g();
	}
	g = p->gfree;
	if (__builtin_expect(!g, 0)) {
		p->ngfree = 0; /* a death between the list and this counter may have left it wrong */
		if (!*(struct g *volatile *)&sched.gfree || !gfree_refill(p, GFREE_LOW))
			return make_g();
		g = p->gfree;
	}
	getm->note.gid = g->gid;
	sh_noted();
	getm->note.g = g;
	sh_noted();
	KILL_POINT("g.get.noted");
	p->gfree = g->schedlink;
	KILL_POINT("g.get.taken");
	p->ngfree--;
	return g;
}

/* Holds: sched.lock. *note names g. */
static void put_global(struct g *g, struct g **note)
{
	sh_check(*note == g);
	sh_check(sh_lock_held(&sched.lock, (unsigned)getm->seat));
	g->schedlink = sched.gfree;
	sched.gfree = g;
	KILL_POINT("g.put.global");
	sh_noted();
	/* under the lock: if the lock of a dead worker was free, what its note names is not on the list */
	*note = NULL;
	KILL_POINT("g.put.global.clear");
}

void gfreturn(struct g *g, struct g **note)
{
	sh_check(g_state(g) == G_DEAD);
	sh_lock_take(&sched.lock, (unsigned)getm->seat);
	put_global(g, note);
	sh_lock_drop(&sched.lock, (unsigned)getm->seat);
}

/* The P's list has reached GFREE_MAX: moves half of it to the global one. */
static __attribute__((noinline)) void gfree_spill(struct p *p)
{
	struct m *m = getm;
	struct g *g;

	sh_check(p == getp());
	sh_check(p->ngfree >= GFREE_MAX);
	sh_lock_take(&sched.lock, (unsigned)m->seat);
	while (p->ngfree > GFREE_LOW && (g = p->gfree)) {
		m->note.gid = g->gid;
		sh_noted();
		m->note.g = g;
		sh_noted();
		p->gfree = g->schedlink;
		KILL_POINT("g.put.spill");
		p->ngfree--;
		put_global(g, &m->note.g);
	}
	sh_lock_drop(&sched.lock, (unsigned)m->seat);
}

void gfpurge(struct p *p)
{
	struct m *m = getm;
	struct g *g;

	sh_check(p->id < P_MAX);
	sh_lock_take(&sched.lock, (unsigned)m->seat);
	while ((g = p->gfree)) {
		m->note.gid = g->gid;
		sh_noted();
		m->note.g = g;
		sh_noted();
		p->gfree = g->schedlink;
		KILL_POINT("g.purge.taken");
		put_global(g, &m->note.g);
	}
	p->ngfree = 0;
	sh_lock_drop(&sched.lock, (unsigned)m->seat);
}

void gfput(struct g *g)
{
	struct p *p = getp();
	struct m *m = getm;

	sh_check(g_state(g) == G_DEAD);
	m->note.gid = g->gid;
	sh_noted();
	m->note.g = g;
	sh_noted();
	KILL_POINT("g.put.noted");
	if (!p) {
		gfreturn(g, &m->note.g);
		return;
	}
	g->schedlink = p->gfree;
	p->gfree = g;
	KILL_POINT("g.put.done");
	sh_noted();
	m->note.g = NULL;
	if (++p->ngfree >= GFREE_MAX)
		gfree_spill(p);
}

void g_end_publish(struct g *g, const struct note *n)
{
	unsigned seat = (unsigned)getm->seat;
	struct sudog *sg;

	if (atomic_load(&g->joined)) {
		sh_lock_take(&g->join_lock, seat);
		while ((sg = g->joiners)) {
			getm->note.sg_seq = sg->seq;
			sh_noted();
			getm->note.sg = sg;
			sh_noted();
			/* unlink first: after the store of state the joiner may reuse its sudog */
			g->joiners = sg->next;
			KILL_POINT("g.end.unlisted");
			atomic_store_explicit(&sg->state, SG_DELIVERED, memory_order_release);
			KILL_POINT("g.end.delivered");
			goready(sg->g, getm->note.sg_seq);
			getm->note.sg = NULL;
		}
		atomic_store(&g->joined, 0);
		sh_lock_drop(&g->join_lock, seat);
	}
	*n->ended_counter = n->ended_value; /* an assignment and not an increment, so it may be done twice */
	KILL_POINT("g.end.counted");
}

static void free_block(void *b)
{
	if (b && sh_heap_usable(sh_root->arena, b))
		sh_heap_free(sh_root->arena, (unsigned)getm->seat, getp() ? getp()->id : SH_HEAP_NOCPU, b);
}

void g_end_note(struct g *g, int how, int signal, void *address)
{
	struct note *n = &getm->note;
	struct p *p = getp();

	n->ended_counter = &g->task->per_p[p ? p->id : P_MAX - 1].ended;
	n->ended_value = *n->ended_counter + 1;
	n->ending_gid = g->gid;
	n->ending_how = how;
	n->ending_signal = signal;
	n->ending_address = address;
	sh_noted();
	n->ending = g;
	sh_noted();
}

void g_end(struct g *g, int how, int signal, void *address)
{
	struct m *m = getm;
	struct task *t = g->task;
	void *block;

	if (m->note.ending != g)
		g_end_note(g, how, signal, address);
	KILL_POINT("g.end.noted");
	if ((g->flags & GF_ROOT) &&
	    (how == SHOAL_DONE || how == SHOAL_CANCELLED || atomic_load(&t->state) == TASK_ENDING)) {
		/* before the G is dead: a task with neither a root nor this flag gets a new root */
		atomic_store(&t->root_exited, 1);
		KILL_POINT("g.end.root");
	}
	/* Locks that it holds pass to others, and its wait group counts it out. */
	if (g->mutexes || m->note.chan)
		mutexes_abandon(g);
	if (g->rwheld)
		rw_abandon(g);
	if (g->wg)
		wg_leave(g);
	if (how != SHOAL_DONE)
		task_tombstone(t, g->gid, how, signal, address, g->attempt);
	/* Its memory: stack, argument, name, output. Each block is unlinked before it is freed. */
	stack_free(g);
	if (__builtin_expect(g->win != WIN_NONE, 0))
		tstack_unbind(g);
	if (g->arg_size > G_ARG_INLINE && (block = g->arg)) {
		g->arg_size = 0;
		g->arg = NULL;
		KILL_POINT("g.end.arg");
		free_block(block);
	}
	if (g->flags & GF_NAMED && (block = g->name)) {
		g->name = NULL;
		KILL_POINT("g.end.name");
		free_block(block);
	}
	if (__builtin_expect(g->part != NULL, 0))
		host_part_end(g);
	if (g->lockedm)
		unpin(g);
	g->wake_at = 0;
	atomic_store_explicit(&g->preempt, 0, memory_order_relaxed);
	if (__builtin_expect(atomic_load_explicit(&g->cancelled, memory_order_relaxed), 0))
		atomic_store_explicit(&g->cancelled, 0, memory_order_relaxed);
	g->gid += GID_STEP; /* from here on g_find says that the old number has ended */
	KILL_POINT("g.end.gid");
	casgstatus(g, G_RUNNING, G_DEAD);
	atomic_thread_fence(memory_order_seq_cst); /* pairs with shoal_join: it stores joined, then reads gid */
	g_end_publish(g, &m->note);
	gfput(g);
	m->note.ending = NULL;
	/*
	 * If it was perhaps the last one, the medic checks. note.ending is clear by now, so it no longer
	 * keeps the task from being reaped.
	 */
	if (atomic_load_explicit(&t->root_exited, memory_order_relaxed) && task_goroutines(t) == 0)
		host_bell();
}

void g_restart(struct g *g)
{
	struct note *n = &getm->note;

	if (n->ending != g) /* otherwise a medic died in here, and this one continues */
		g_end_note(g, END_AGAIN, g->attempt + 1, NULL);
	KILL_POINT("g.restart.noted");
	if (g->mutexes)
		mutexes_abandon(g);
	if (g->rwheld)
		rw_abandon(g);
	sh_filelock_restart(g);
	stack_free(g);
	if (g->part)
		host_part_end(g);
	g->attempt = (uint16_t)n->ending_signal;
	g->own = NULL;
	/* after attempt: pairs with run_gone, which reads flags first */
	__atomic_store_n(&g->flags, (uint8_t)(g->flags & ~(GF_GONE | GF_ONCE | GF_OWN)), __ATOMIC_RELEASE);
	if (g->lockedm)
		unpin(g);
	g->wake_at = 0;
	g->err = 0;
	KILL_POINT("g.restart.fresh");
	casgstatus(g, G_RUNNING, G_RUNNABLE);
	ready(g, READY_WAKE);
	n->ending = NULL;
	KILL_POINT("g.restart.done");
}
