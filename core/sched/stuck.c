/*
 * stuck.c - workers that are alive and cannot go on: stopped (SIGSTOP), or hanging where they cannot be preempted.
 *
 * While such a worker is alive, nobody else may take what it has: its goroutine, its P, a lock, a scan bit.
 * So the medic kills it first (SIGKILL), waits for the robust futex to say that it is dead, and then repairs
 * it like any dead worker. So no goroutine is ever alive twice.
 *
 * A stopped worker is killed at once if a process waits for something that it has, or if it runs no
 * goroutine; otherwise a little later, because its task waits as well. (A worker that a debugger holds does
 * not count as stopped.) A worker hangs by the processor time that it used, not by the clock: one that gets
 * no processor is as good as the machine. Only a worker that sleeps all the time in one call is judged by
 * the clock.
 *
 * OWNER  the medic; its memory is private to the process, a new medic starts afresh
 * LOCK   none
 * ORDER  none
 * DEATH  m->stuck is only for the log
 */
#include "core/sched/stuck.h"
#include "core/g/g.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/idle.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "core/sched/runq.h"
#include "core/sched/syscall.h"
#include "core/sched/sysmon.h"
#include "core/task/task.h"
#include "shm/check.h"
#include "shm/lock.h"
#include "shm/segment.h"

#define LOOK_NS 10000000      /* interval of the scan; a worker that did not change in between is looked at closer */
#define WAITS_NS 1000000      /* interval for a worker for which the medic itself waits */
#define CALM_NS 100000000     /* interval for a worker that holds nobody up */
#define STOPPED_NS 50000000   /* limit for a stopped worker with a P and a goroutine */
#define AWAY_NS 1000000000    /* limit for a stopped worker in a system call, without a P */
#define CROWDED_NS 1000000000 /* others must wait this long at the other Ps before its P counts as missed */
#define RUNTIME_NS 1000000000 /* limit of processor time on g0 or with a lock: the runtime never needs that long */

int64_t stuck_call_ns = 30000000000; /* limit of processor time in a library, or of sleep in an unknown call */

/* A worker as the last scan saw it. */
struct watch {
	int32_t p;
	uint32_t tick;
	struct g *g;
	void *held;
	/* when: last change, last question to the kernel, first seen stopped (0: not stopped) */
	int64_t since, asked, stopped;
	int64_t crowded; /* since when each scan found goroutines waiting at every P; 0: the last one did not */
	int64_t cpu;	 /* processor time at `since`; -1: unknown */
};
static struct watch watch[WORKERS_MAX];
static int64_t last_scan;

static void stuck_kill(unsigned seat, enum stuck_why why)
{
	sh_check(seat > 0 && seat < WORKERS_MAX);
	sh_check(why != STUCK_NOT);
	allm(seat)->stuck = why;
	host_kill(seat);
}

/* A lock or a scan bit that the worker holds, or NULL. */
static void *held_by(unsigned seat)
{
	const struct sh_held *h = sh_seat_held(seat);
	struct g *g = allm(seat)->note.scan;

	for (unsigned i = 0; i < SH_HELD_MAX; i++) {
		struct sh_lock *l = h->lock[i];

		if (l && sh_shared(l) && atomic_load(&l->owner) == seat + 1)
			return l;
	}
	if (g >= allg(1) && g < allg(G_MAX) && (atomic_load(&g->status) & G_SCAN) &&
	    G_OWNER_SEAT(atomic_load(&g->status)) == (int)seat)
		return g;
	return NULL;
}

static bool waits_for_lock(unsigned seat)
{
	const struct sh_held *h = sh_seat_held(seat);

	for (unsigned i = 0; i < SH_HELD_MAX; i++) {
		struct sh_lock *l = h->lock[i];
		uint32_t owner = l && sh_shared(l) ? atomic_load(&l->owner) : 0;

		if (owner && owner != seat + 1)
			return true;
	}
	return false;
}

/* The P that it has or that was handed to it. */
static struct p *p_of(unsigned seat)
{
	for (unsigned i = 0; i < P_MAX; i++) {
		int m = atomic_load(&allp(i)->m);

		if (m == (int)seat || m == P_HANDED + (int)seat)
			return allp(i);
	}
	return NULL;
}

static bool task_is_over(const struct task *t)
{
	return atomic_load(&t->state) != TASK_RUNNING || atomic_load(&t->cancel);
}

/* True if somebody waits for something that it has, or for its process to leave. */
static bool stuck_wanted(unsigned seat, const struct p *p, struct g *g, int64_t now)
{
	struct sh_seat *s = &sh_root->seat[seat];

	if (atomic_load(&s->leave) || s->load_gen < atomic_load(&sh_root->load_gen) || held_by(seat))
		return true;
	if (p && (atomic_load(&sched.gcwaiting) || !atomic_load(&allm(seat)->oncpu) || others_wait((struct p *)p, now)))
		return true;
	return g && ((atomic_load(&g->preempt) & PREEMPT_STOP) || task_is_over(g->task));
}

/*
 * True if no P is idle and goroutines wait at the others: they would run if this worker continued. Its own queue
 * does not count (it was stolen), nor does a queue of one: two goroutines that wake each other always have one.
 */
static bool crowded(void)
{
	if (npidle())
		return false;
	if (atomic_load(&sched.grunq_head) != atomic_load(&sched.grunq_tail))
		return true;
	for (unsigned i = 0; i < atomic_load(&sched.procs); i++)
		if (runqlen(allp(i)) > 1)
			return true;
	return false;
}

/* True if its P was missed for some time. */
static bool missed(struct watch *w, int64_t now)
{
	if (w->p < 0 || !crowded()) {
		w->crowded = 0;
		return false;
	}
	if (!w->crowded)
		w->crowded = now;
	return now - w->crowded >= (CROWDED_NS < stuck_call_ns ? CROWDED_NS : stuck_call_ns);
}

/* True if it had much processor time and reached no point where it gives way. */
static bool hangs(const struct watch *w, unsigned seat, enum host_doing doing, int64_t cpu, int64_t now)
{
	struct m *m = allm(seat);
	bool runtime = !atomic_load(&m->oncpu) || m->locks || w->held;

	if (atomic_load(&m->computes)) /* nobody waits for it but its task, which is to end */
		return in_syscall(m) && w->g && task_is_over(w->g->task) && cpu - w->cpu >= RUNTIME_NS;
	if (w->p < 0 || atomic_load(&m->p) != w->p || in_syscall(m) || waits_for_lock(seat))
		return false;
	if (cpu - w->cpu >= (runtime && RUNTIME_NS < stuck_call_ns ? RUNTIME_NS : stuck_call_ns))
		return true;
	return doing == HOST_SLEEPS && now - w->since >= stuck_call_ns && cpu - w->cpu < stuck_call_ns / 10;
}

/* Nothing about it changed since the last scan: ask the kernel. */
static void stuck_ask(struct watch *w, unsigned seat, struct p *p, int64_t now)
{
	/* missed() keeps a clock, so call it first */
	bool want = missed(w, now) || stuck_wanted(seat, p, w->g, now);
	enum host_doing doing;
	int64_t cpu = 0;

	if (!want && !w->stopped && !atomic_load(&sh_root->seat[seat].stopped) && now - w->asked < CALM_NS)
		return;
	w->asked = now;
	doing = host_doing(seat, &cpu);
	if (doing != HOST_STOPPED) {
		w->stopped = 0;
		atomic_store(&sh_root->seat[seat].stopped, 0);
		if (w->cpu < 0)
			w->cpu = cpu;
		else if (want && doing != HOST_GONE && hangs(w, seat, doing, cpu, now))
			stuck_kill(seat, STUCK_HANGS);
		return;
	}
	if (!w->stopped)
		w->stopped = now;
	if (want || !w->g || now - w->stopped >= (w->p >= 0 ? STOPPED_NS : AWAY_NS))
		stuck_kill(seat, STUCK_STOPPED);
}

static void stuck_check(unsigned seat, int64_t now)
{
	struct watch *w = &watch[seat];
	struct p *p = p_of(seat);
	struct g *g = atomic_load(&allm(seat)->curg);
	void *held = held_by(seat);
	int32_t id = p ? (int32_t)p->id : -1;
	uint32_t tick = p ? atomic_load(&p->schedtick) : 0;

	sh_check(seat < WORKERS_MAX);
	if (w->p == id && w->tick == tick && w->g == g && w->held == held) {
		stuck_ask(w, seat, p, now);
		return;
	}
	*w = (struct watch){.p = id, .tick = tick, .g = g, .held = held, .since = now, .cpu = -1};
}

/* True: a worker is stopped and under observation, scan again soon. */
bool stuck_scan(int64_t now)
{
	bool some = false, told = false;
	uint32_t state;

	for (unsigned i = 1; i < WORKERS_MAX; i++)
		told |= atomic_load_explicit(&sh_root->seat[i].stopped, memory_order_relaxed) != 0;
	if (now - last_scan < LOOK_NS)
		return told;
	last_scan = now;
	for (unsigned i = 1; i < WORKERS_MAX; i++)
		if (((state = atomic_load(&sh_root->seat[i].state)) == SEAT_LIVE || state == SEAT_STARTING) &&
		    !sh_seat_dead(i)) {
			stuck_check(i, now);
			some |= watch[i].stopped != 0;
		}
	return some || told;
}

/* The medic itself waits for something that this worker holds. Called in each round of that wait. */
void stuck_check_waited(int seat)
{
	static int last = NOSEAT;
	static int64_t since, cpu0;
	int64_t now = host_now(), cpu = 0;
	enum host_doing doing;

	if (seat <= 0 || seat >= WORKERS_MAX)
		return;
	if (seat != last || now - since > 100 * LOOK_NS) {
		last = seat;
		since = now;
		cpu0 = -1;
		return;
	}
	if (now - since < WAITS_NS)
		return;
	since = now;
	doing = host_doing((unsigned)seat, &cpu);
	if (doing == HOST_STOPPED)
		stuck_kill((unsigned)seat, STUCK_STOPPED);
	else if (cpu0 < 0)
		cpu0 = cpu;
	else if (doing == HOST_RUNS && cpu - cpu0 > RUNTIME_NS)
		stuck_kill((unsigned)seat, STUCK_HANGS);
}
