/*
 * audit.c - checks every invariant of the scheduler without stopping anybody.
 *
 * A fault may only be a change in progress, so the audit checks it again a little later, and reports it only if it
 * is still there.
 */
#include "core/repair/audit.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/g/tstack.h"
#include "core/host.h"
#include "core/repair/audit_timers.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "core/sched/netpoll.h"
#include "core/sched/p.h"
#include "core/sched/proc.h"
#include "core/sched/runq.h"
#include "core/sched/timer.h"
#include "core/shoal.h"
#include "core/sync/chan.h"
#include "core/sync/select.h"
#include "core/sync/waitq.h"
#include "core/task/filelock.h"
#include "core/task/maps.h"
#include "core/task/task.h"
#include "shm/heap.h"
#include "shm/kernel.h"
#include "shm/lock.h"
#include "shm/segment.h"

#include <string.h>
#include <time.h>

#define AUDIT_TRIES 20

struct report {
	char *msg;
	size_t n;
	int faults;
};

static void fault(struct report *r, const char *what, uint64_t which)
{
	if (r->faults++ == 0)
		sh_format(r->msg, r->n, "%s %lu", what, (unsigned long)which);
}

static bool in_ring(const struct p *p, const struct g *g)
{
	uint32_t h = atomic_load(&((struct p *)p)->runqhead), t = atomic_load(&((struct p *)p)->runqtail);

	if (atomic_load(&((struct p *)p)->runnext) == g)
		return true;
	for (uint32_t i = atomic_load(&((struct p *)p)->batch_at);
	     i < atomic_load(&((struct p *)p)->batch_n) && i < RUNQ_BATCH; i++)
		if (atomic_load(&((struct p *)p)->batch[i]) == g)
			return true;
	for (; h != t && t - h <= RUNQ_SIZE; h++)
		if (atomic_load(&((struct p *)p)->runq[h % RUNQ_SIZE]) == g)
			return true;
	return false;
}

static bool has_hint(const struct g *g)
{
	_Atomic(struct g *) *q = (_Atomic(struct g *) *)(SH_BASE + SH_OFF_RUNQ);

	for (unsigned i = 0; i < P_MAX; i++)
		if (in_ring(allp(i), g))
			return true;
	for (uint64_t h = atomic_load(&sched.grunq_head); h != atomic_load(&sched.grunq_tail); h++)
		if (atomic_load(&q[h % GRUNQ_SIZE]) == g)
			return true;
	for (unsigned i = 0; i < SH_SEATS; i++) {
		struct m *m = allm(i);

		if (m->note.ready == g || m->note.kicked == g || atomic_load(&m->curg) == g)
			return true;
	}
	return false;
}

struct waitq *queue_waited_in(const struct sudog *sg)
{
	struct sh_lock *l = sg->queue;

	switch (l->kind) {
	case SH_LOCK_CHAN: return chan_queue((struct shoal_chan *)l, sg);
	case SH_LOCK_RWMUTEX: return waitq_list(&((struct shoal_rwmutex *)l)->q);
	case SH_LOCK_WAITQ: return waitq_list((struct shoal_waitq_ *)l);
	default: /* joiners are a list of their own */ return NULL;
	}
}

/*
 * A queued sudog is linked in both directions. Not checked while the lock of the queue is held, also by a
 * dead worker.
 */
static const char *sudog_fault(const struct sudog *sg)
{
	struct sh_lock *l = sg->queue;
	struct waitq *q;
	bool known;

	if (!l || atomic_load(&sg->state) != SG_QUEUED)
		return NULL;
	if (!sh_shared(l))
		return "waits in no queue that is one: goroutine";
	q = queue_waited_in(sg);
	if (!q || atomic_load(&l->owner))
		return NULL;
	known = (q->first == sg ? !sg->prev : waitq_has(q, sg)) &&
		(sg->next ? sh_in_segment(sg->next) && sg->next->prev == sg : q->last == sg);
	return known || atomic_load(&l->owner) || atomic_load(&sg->state) != SG_QUEUED || sg->queue != l
		       ? NULL
		       : "waits in a queue that does not know it: goroutine";
}

static const char *wait_fault(struct g *g)
{
	const char *wrong = g->waitreason == WAIT_JOIN ? NULL : sudog_fault(&g->sudog);
	struct select_wait *w = g->waitreason == WAIT_SELECT ? select_wait_of(g) : NULL;

	for (uint32_t i = 0; w && !wrong && i < w->n; i++)
		wrong = sudog_fault(&w->sg[i]);
	return wrong;
}

/* What is wrong with one G, or NULL. */
static const char *g_fault(struct g *g)
{
	uint64_t s = atomic_load(&g->status);
	int res = atomic_load(&g->res), seat = G_OWNER_SEAT(s);
	const char *wrong;

	switch (s & G_STATE) {
	case G_IDLE: return "a G that was never made whole:";
	case G_RUNNABLE:
		if (!(s & G_SCAN) && !has_hint(g) && atomic_load(&g->status) == s)
			return "runnable, but on no queue: goroutine";
		break;
	case G_RUNNING:
	case G_COPYSTACK:
	case G_SYSCALL:
		if (seat < 0 || seat >= SH_SEATS)
			return "running, but on no worker: goroutine";
		if (atomic_load(&allm(seat)->curg) != g && atomic_load(&g->status) == s)
			return "running on a worker that runs another: goroutine";
		break;
	case G_WAITING:
		if (res == RES_IMAGE && !g->image && !win_of_thread(g->win))
			return "waiting, its stack is nowhere: goroutine";
		if ((wrong = wait_fault(g)) && atomic_load(&g->status) == s)
			return wrong;
		break;
	case G_DEAD: break;
	default: return "unknown status: goroutine";
	}
	if (res < RES_NONE || res >= SH_SEATS)
		return "its stack is in no worker: goroutine";
	return NULL;
}

/* True if the P is on its way to a worker, which may take long on a busy machine. */
static bool on_its_way(const struct p *p, int m)
{
	int given = m - P_GIVEN, handed = m - P_HANDED;

	if (given > 0 && given < SH_SEATS)
		return atomic_load(&allm(given)->blocked) != 0;
	return handed > 0 && handed < SH_SEATS && atomic_load(&allm(handed)->handed) == (int32_t)p->id;
}

static const char *p_fault(struct p *p)
{
	int m = atomic_load(&p->m);

	if (on_its_way(p, m))
		return NULL;

	if (m == NOSEAT && !(atomic_load(&sched.pidle) & (1ull << p->id)))
		return "has no worker and is not idle: P";
	if (m != NOSEAT && (m < 0 || m >= SH_SEATS || atomic_load(&sh_root->seat[m].state) == SEAT_EMPTY ||
			    atomic_load(&sh_root->seat[m].state) == SEAT_VACANT))
		return "belongs to an empty seat: P";
	if (m > 0 && m < SH_SEATS && atomic_load(&allm(m)->p) >= 0 && atomic_load(&allm(m)->p) != (int)p->id)
		return "belongs to a worker that has another: P";
	if (atomic_load(&p->runqtail) - atomic_load(&p->runqhead) > RUNQ_SIZE)
		return "its queue is longer than its ring: P";
	return NULL;
}

/* A descriptor listed for a task is closed with it. So it must really be that task's. */
static const char *fd_fault(uint32_t fd)
{
	uint32_t owner = atomic_load(&poll_owner[fd]) & ~POLL_CLOSING;

	if (!owner || owner == POLL_RUNTIME || owner == POLL_HELD)
		return NULL;
	if ((owner & ~POLL_INNER) > TASK_SLOTS)
		return "belongs to no task: descriptor";
	if (!host_file_open((int)fd) && (atomic_load(&poll_owner[fd]) & ~POLL_CLOSING) == owner)
		return "closed, but a task's: descriptor";
	return NULL;
}

#define AUDIT(what, expr, which) \
	do { \
		const char *wrong_ = NULL; \
		for (int i_ = 0; i_ < AUDIT_TRIES && (wrong_ = (expr)); i_++) \
			kernel_nanosleep(&(struct timespec){0, 2000000}, NULL); \
		if (wrong_) \
			fault(what, wrong_, which); \
	} while (0)

static void audit_free_list(struct report *r)
{
	unsigned seat = (unsigned)getm->seat;
	uint64_t n = 0, max = atomic_load(&sched.ngs);

	sh_lock_take(&sched.lock, seat);
	for (struct g *g = sched.gfree; g; g = g->schedlink) {
		if (g < allg(1) || g >= allg(max) || g_state(g) != G_DEAD) {
			fault(r, "on the free list, but not dead: G", g_index(g));
			break;
		}
		if (++n > max) {
			fault(r, "the free list of Gs is a ring, length", n);
			break;
		}
	}
	sh_lock_drop(&sched.lock, seat);
}

static void audit_timers(struct report *r)
{
	uint64_t ngs = atomic_load(&sched.ngs);

	for (unsigned k = 0; k < atomic_load(&sched.procs_most); k++) {
		struct p *p = allp(k);

		AUDIT(r, audit_heap_fault(p), k);
		for (uint32_t i = 0; i < atomic_load(&p->ntimers) && i < TIMERS_MAX && r->faults < 10; i++)
			AUDIT(r, audit_entry_fault(p, i), k);
	}
	for (uint64_t from = 0; from < ngs; from += AUDIT_BLOCK) {
		audit_entries_begin(from);
		for (uint64_t i = from; i < ngs && i < from + AUDIT_BLOCK && r->faults < 10; i++)
			if (i && !audit_entry_seen(i))
				AUDIT(r, audit_wake_fault(allg(i)), allg(i)->gid);
	}
}

int audit(char *msg, size_t n)
{
	struct report r = {msg, n, 0};
	uint64_t ngs = atomic_load(&sched.ngs);

	msg[0] = 0;
	for (uint64_t i = 1; i < ngs && i < G_MAX && r.faults < 10; i++)
		AUDIT(&r, g_fault(allg(i)), allg(i)->gid);
	for (unsigned i = 0; i < atomic_load(&sched.procs); i++)
		AUDIT(&r, p_fault(allp(i)), i);
	for (uint32_t fd = 0; fd < atomic_load(&sched.fd_top) && r.faults < 10; fd++)
		AUDIT(&r, fd_fault(fd), fd);
	for (unsigned i = 1; i < SH_SEATS; i++)
		AUDIT(&r, host_seat_fault(i), i);
	for (unsigned i = 0; i < TASK_SLOTS && r.faults < 10; i++)
		if (task_at(i)->file_locks || atomic_load(&task_at(i)->maps)) {
			AUDIT(&r, sh_filelock_fault(task_at(i)), task_at(i)->id);
			AUDIT(&r, sh_maps_fault(task_at(i)), task_at(i)->id);
		}
	for (unsigned k = 0; k < TSTACK_CLASSES && r.faults < 10; k++)
		for (uint32_t i = 0; i < tstack_top(k); i++)
			AUDIT(&r, tstack_fault(tstack_class[k].first + i), tstack_class[k].first + i);
	audit_free_list(&r);
	audit_timers(&r);
	if (!r.faults && sh_heap_audit(sh_root->arena, (unsigned)getm->seat, msg, n) != 0)
		r.faults++;
	if (!r.faults)
		sh_format(msg, n, "clean");
	return r.faults;
}
