/*
 * view.c - what this process has mapped of its current task's address space. See core/task/maps.h.
 *
 * A worker has the mappings of one task at a time, the one that it last ran and that had any. A task
 * without mappings costs nothing: the mappings of the task before stay, at addresses that are nobody
 * else's. The process agrees with the table as of change number view.gen. It applies later ones
 *
 *	- before it runs a goroutine of the task (sh_view_turn_to: the task's state number has changed),
 *	- in the signal that a worker sends which has changed the table and waits (sh_view_signal),
 *	- when a fault or EFAULT shows that something is missing (sh_view_fault, sh_view_refresh).
 *
 * Addresses outside the area (MAP_FIXED, memory of the heap or of variables with another protection) are
 * listed, because only what this process has mapped itself may be unmapped there.
 *
 * All state is private to the process. While busy, the handler of the signal leaves the work to the code that it
 * interrupted; so it never waits for a lock that this process has.
 */
#include "worker/view.h"
#include "core/g/g.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/syscall.h"
#include "shm/check.h"
#include "shm/heap.h"
#include "shm/kill.h"
#include "worker/posix/posix.h"
#include "worker/stacks.h"
#include "worker/worker.h"

#include <errno.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#define FAULTS_MAX 3 /* in a row at one address, none of them due to a change: then it is the program's */
#define SPIN_NS 30000
#define NAP_NS 50000
#define AGAIN_NS 200000 /* between two signals to a worker that has not answered */

/* A range outside the area that this process has mapped, or whose protection it has changed. */
struct outside {
	uintptr_t start, end;
	bool lent;
};

static struct {
	struct task *task;	 /* that this worker runs or ran last */
	struct map_space *space; /* whose mappings this process has */
	uint64_t gen;		 /* of the changes applied */
	volatile sig_atomic_t busy, again;
	struct outside *outside;
	size_t n, room;
	uintptr_t fault_at;
	uint64_t fault_gen;
	unsigned faults;
} view;

/* ---- one range ---- */

static bool note_outside(const struct map_entry *e)
{
	if (view.n == view.room) {
		size_t room = view.room ? 2 * view.room : 4096 / sizeof *view.outside;
		void *p = (void *)syscall(SYS_mmap, NULL, room * sizeof *view.outside, PROT_READ | PROT_WRITE,
					  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0l);

		if (p == MAP_FAILED)
			return false;
		memcpy(p, view.outside, view.n * sizeof *view.outside);
		if (view.room)
			syscall(SYS_munmap, view.outside, view.room * sizeof *view.outside);
		view.outside = p;
		view.room = room;
	}
	view.outside[view.n++] = (struct outside){e->start, e->end, e->kind == MAPS_LENT};
	return true;
}

static void unmap(uintptr_t start, uintptr_t end, bool lent)
{
	if (start >= end)
		return;
	if (lent)
		syscall(SYS_mprotect, start, end - start, PROT_READ | PROT_WRITE);
	else
		syscall(SYS_munmap, start, end - start);
}

static uintptr_t later(uintptr_t a, uintptr_t b)
{
	return a > b ? a : b;
}

static uintptr_t earlier(uintptr_t a, uintptr_t b)
{
	return a < b ? a : b;
}

/* Only what is listed. What remains of a range at its end keeps its place in the list; a second part is a new one. */
static void drop_outside(uintptr_t start, uintptr_t end)
{
	for (size_t i = view.n; i-- > 0;) {
		struct outside *o = &view.outside[i], was = *o;

		if (was.end <= start || was.start >= end)
			continue;
		unmap(later(start, was.start), earlier(end, was.end), was.lent);
		if (was.start < start)
			o->end = start;
		else if (was.end > end)
			o->start = end;
		else
			*o = view.outside[--view.n];
		if (was.start < start && was.end > end)
			note_outside(&(struct map_entry){
				.start = end, .end = was.end, .kind = was.lent ? MAPS_LENT : MAPS_MEMORY});
	}
}

static void drop(uintptr_t start, uintptr_t end)
{
	uintptr_t from = later(start, SH_AREA), to = earlier(end, SH_AREA + SH_AREA_SIZE);

	if (from < to)
		syscall(SYS_munmap, from, to - from);
	if (view.n && (start < SH_AREA || end > SH_AREA + SH_AREA_SIZE))
		drop_outside(start, end);
}

static void drop_all(void)
{
	if (!view.space)
		return;
	drop(0, UINTPTR_MAX);
	atomic_store(&getm->maps, NULL);
	KILL_POINT("view.dropped");
	view.space = NULL;
	view.gen = 0;
}

/* The addresses are this task's to use, and nothing of the process is there. */
static bool take_outside(const struct map_entry *e)
{
	long at;

	if (e->kind == MAPS_LENT)
		return note_outside(e);
	drop_outside(e->start, e->end);
	at = syscall(SYS_mmap, e->start, e->end - e->start, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0l);
	if (at == (long)e->start && note_outside(e))
		return true;
	if (at != -1)
		syscall(SYS_munmap, at, e->end - e->start);
	return false;
}

static bool map_in(const struct map_entry *e)
{
	size_t size = e->end - e->start;
	bool outside = !sh_in_area(e->start);
	int type = e->flags & MAPF_SHARED ? MAP_SHARED : MAP_PRIVATE;
	bool done = true;

	if (e->state != MAPS_USED || (outside && !take_outside(e)))
		return false;
	if (e->prot == PROT_NONE && !outside)
		return true; /* nothing is there, and that is the same */
	switch (e->kind) {
	case MAPS_MEMORY:
		done = e->prot == PROT_NONE || sh_area_show(e->off, size, (void *)e->start, e->prot) == 0;
		break;
	case MAPS_FILE:
		done = syscall(SYS_mmap, e->start, size, e->prot, type | MAP_FIXED, e->fd, e->off) == (long)e->start;
		break;
	case MAPS_LENT: done = syscall(SYS_mprotect, e->start, size, e->prot) == 0; break;
	default: break;
	}
	if (e->flags & MAPF_LOCKED)
		syscall(SYS_mlock, e->start, size);
	return done;
}

/* Holds: space->lock. */
static void map_in_range(struct map_space *s, uintptr_t start, uintptr_t end)
{
	struct map_table *t = atomic_load(&s->table);

	for (uint32_t i = sh_maps_seek(t, start); t && i < t->n && t->e[i].start < end; i++) {
		struct map_entry e = sh_maps_cut(t->e[i], start, end);

		map_in(&e);
	}
}

/* ---- changes ---- */

/*
 * Holds: space->lock. All of the range is memory of the area that is about to be mapped, which replaces what is there
 * in one system call.
 */
static bool replaces(struct map_space *s, const struct map_change *c)
{
	struct map_table *t = atomic_load(&s->table);
	uint32_t i = t ? sh_maps_seek(t, c->start) : 0;

	return t && i < t->n && t->e[i].start <= c->start && t->e[i].end >= c->end && t->e[i].state == MAPS_USED &&
	       t->e[i].kind == MAPS_MEMORY && t->e[i].prot != PROT_NONE && sh_in_area(c->start) &&
	       sh_in_area(c->end - 1);
}

/* Holds: space->lock. */
static void apply(struct map_space *s)
{
	uint64_t gen = atomic_load(&s->gen);

	if (gen - view.gen > MAP_CHANGES) {
		drop(0, UINTPTR_MAX);
		map_in_range(s, 0, UINTPTR_MAX);
		view.gen = gen;
	}
	while (view.gen < gen) {
		struct map_change change;

		view.gen++;
		change = s->change[view.gen % MAP_CHANGES];
		if (!replaces(s, &change))
			drop(change.start, change.end);
		map_in_range(s, change.start, change.end);
	}
	view.gen = gen;
	atomic_store(&getm->map_gen, gen);
	KILL_POINT("view.applied");
}

static void adopt(struct map_space *s)
{
	view.space = s;
	atomic_store(&getm->map_gen, 0);
	KILL_POINT("view.adopting");
	atomic_store(&getm->maps, s);
	KILL_POINT("view.adopted");
	view.gen = (uint64_t)-1 - MAP_CHANGES; /* all is to be mapped, not only the last changes */
}

static bool has_lent(void)
{
	for (size_t i = 0; i < view.n; i++)
		if (view.outside[i].lent)
			return true;
	return false;
}

/*
 * What the process has mapped is the table of the current task. True: something has changed.
 * in_handler: the interrupted code may hold a lock that the owner of ours waits for, so this does not wait.
 */
static bool bring_up_to_date(bool in_handler)
{
	struct map_space *s = view.task ? atomic_load(&view.task->maps) : NULL;

	if (view.space && view.space != s && (s || atomic_load(&view.space->over) || has_lent()))
		drop_all();
	if (view.space && atomic_load(&view.space->over)) {
		drop_all();
		return false;
	}
	if (!s || atomic_load(&s->over) || (view.space == s && view.gen == atomic_load(&s->gen)))
		return false;
	if (!in_handler)
		sh_lock_take(&s->lock, (unsigned)getm->seat);
	else if (!sh_lock_try(&s->lock, (unsigned)getm->seat))
		return false; /* who waits for us sends the signal again */
	if (view.space != s)
		adopt(s);
	apply(s);
	sh_lock_drop(&s->lock, (unsigned)getm->seat);
	return true;
}

static bool work(bool in_handler)
{
	bool changed = false;

	if (view.busy++ == 0) {
		do {
			view.again = 0;
			atomic_signal_fence(memory_order_seq_cst);
			changed |= bring_up_to_date(in_handler);
		} while (view.again);
	}
	view.busy--;
	if (view.again && !view.busy)
		return work(in_handler) || changed;
	return changed;
}

void sh_view_turn_to(struct task *t)
{
	view.task = t;
	if (__builtin_expect(view.space || atomic_load(&t->maps), 0))
		work(false);
}

bool sh_view_refresh(void)
{
	return view.task && atomic_load(&view.task->maps) && work(false);
}

void sh_view_signal(void)
{
	if (!view.space && (!view.task || !atomic_load(&view.task->maps)))
		return;
	if (view.busy)
		view.again = 1;
	else
		work(true);
}

/* ---- faults ---- */

static bool allows(int prot, unsigned long error)
{
	if (error & 2)
		return prot & PROT_WRITE;
	if (error & 16)
		return prot & PROT_EXEC;
	return prot != PROT_NONE;
}

/* A mapping may be there and fault all the same, because the kernel refuses it. */
static bool goes_in_circles(uintptr_t at)
{
	if (at != view.fault_at || view.gen != view.fault_gen)
		view.faults = 0;
	view.fault_at = at;
	view.fault_gen = view.gen;
	return ++view.faults > FAULTS_MAX;
}

static bool map_fault(struct map_space *s, uintptr_t at, unsigned long error)
{
	struct map_entry *e;
	bool done = false;

	sh_lock_take(&s->lock, (unsigned)getm->seat);
	e = sh_maps_find(s, at);
	if (e && allows(e->prot, error) && !goes_in_circles(at)) {
		if (view.space != s)
			adopt(s);
		drop(e->start, e->end);
		done = map_in(e);
	}
	sh_lock_drop(&s->lock, (unsigned)getm->seat);
	return done;
}

bool sh_view_fault(const siginfo_t *si, const void *ucontext)
{
	struct map_space *s = view.task ? atomic_load(&view.task->maps) : NULL;
	uintptr_t at = (uintptr_t)si->si_addr;
	unsigned long error = (unsigned long)((const ucontext_t *)ucontext)->uc_mcontext.gregs[REG_ERR];

	if (!s || si->si_code <= 0 || view.busy || sh_lock_held(&s->lock, (unsigned)getm->seat) ||
	    !on_worker_thread() || atomic_load(&s->over))
		return false;
	if (view.space && view.space != s)
		drop_all();
	return map_fault(s, at, error);
}

bool sh_view_runs(uintptr_t pc)
{
	struct map_space *s = view.task ? atomic_load(&view.task->maps) : NULL;
	struct map_entry *e;
	bool runs;

	/* Only in these ranges is the interrupted code certainly not the runtime, which may be about to take the lock. */
	if (!s || (pc - SH_AREA >= SH_AREA_SIZE && !sh_shared((void *)pc)) || view.busy ||
	    sh_lock_held(&s->lock, (unsigned)getm->seat) || atomic_load(&s->over))
		return false;
	sh_lock_take(&s->lock, (unsigned)getm->seat);
	e = sh_maps_find(s, pc);
	runs = e && (e->prot & PROT_EXEC);
	sh_lock_drop(&s->lock, (unsigned)getm->seat);
	return runs;
}

/* ---- changing the table ---- */

struct map_space *sh_view_begin(struct g *g)
{
	struct map_space *s;

	acquirem();
	s = sh_maps_of(g->task);
	releasem();
	if (!s) {
		errno = ENOMEM;
		return NULL;
	}
	process_state_begin();
	view.busy++;
	sh_lock_take(&s->lock, (unsigned)getm->seat);
	return s;
}

void sh_view_end(struct map_space *s)
{
	sh_lock_drop(&s->lock, (unsigned)getm->seat);
	view.task = s->task;
	bring_up_to_date(false);
	view.busy--;
	process_state_mapped(s->task);
	if (view.again)
		work(false);
}

/* The worker runs a goroutine of the task, or is about to, and has not applied the change. */
static bool lags(unsigned seat, const struct map_space *s, uint64_t gen)
{
	struct m *m = allm(seat);
	struct g *g = atomic_load(&m->curg);

	if (seat == (unsigned)getm->seat || !g || g->task != s->task || sh_seat_dead(seat))
		return false;
	return atomic_load(&m->maps) != s || atomic_load(&m->map_gen) < gen;
}

/* Workers whose process has ever run the task, but for this one. */
static uint64_t other_seats(const struct map_space *s)
{
	return sh_heap_seats(s->task->heap) & ~(1ull << getm->seat);
}

static bool any_lags(const struct map_space *s, uint64_t gen, bool ask)
{
	bool some = false;

	for (uint64_t seats = other_seats(s); seats; seats &= seats - 1) {
		unsigned seat = (unsigned)__builtin_ctzll(seats);

		if (!lags(seat, s, gen))
			continue;
		if (ask)
			host_kick(seat);
		some = true;
	}
	return some;
}

/* The worker that lags does not run, perhaps because it was stopped: this worker's P is free for others meanwhile. */
static void wait_long(struct map_space *s, uint64_t gen)
{
	int64_t asked = host_now();

	entersyscall();
	while (any_lags(s, gen, host_now() - asked > AGAIN_NS)) {
		if (host_now() - asked > AGAIN_NS)
			asked = host_now();
		syscall(SYS_nanosleep, &(struct timespec){0, NAP_NS}, NULL);
	}
	exitsyscall();
}

void sh_view_wait(struct map_space *s)
{
	uint64_t gen = atomic_load(&s->gen);
	int64_t until = 0;

	if (!other_seats(s))
		return;
	host_barrier(); /* each worker has either shown whom it runs, or sees the new state number before it runs it */
	if (!any_lags(s, gen, true))
		return;
	until = host_now() + SPIN_NS;
	while (any_lags(s, gen, false)) {
		if (host_now() > until) {
			wait_long(s, gen);
			return;
		}
		sh_pause(20);
	}
}
