/*
 * stuck.c - workers that cannot go on although they live: stopped by somebody (SIGSTOP), or hanging
 * where they cannot be preempted.
 *
 * What such a worker has is nobody else's while it lives: its goroutine, its P, a lock, a scan bit.
 * So it is ended first (SIGKILL), the robust futex tells that it is dead, and then it is repaired
 * like anybody: no goroutine is ever alive twice.
 *
 * Stopped: at once when somebody waits for what it has, or when it runs nothing; else a little later,
 * for its goroutine's task waits as well. (Who is held by a debugger is not stopped.) Hanging: by the processor time
 * that it has had, never by the clock, for a worker that gets no processor is no worse than the
 * machine; only who sleeps all the while in a call that does not return is judged by the clock.
 *
 * OWNER  the medic; what it remembers is its own, a new medic begins anew
 * DEATH  m->stuck is for the log only
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
#include "shm/lock.h"
#include "shm/segment.h"

#define LOOK_NS 10000000      /* between two looks at all, and without a change between them it is worth a question */
#define WAITS_NS 1000000      /* between two questions about one whom the medic itself waits for */
#define CALM_NS 100000000     /* between two questions about who holds nobody up */
#define STOPPED_NS 50000000   /* with a P and a goroutine that runs there, */
#define AWAY_NS 1000000000    /* or without a P, in a system call */
#define CROWDED_NS 1000000000 /* so long some wait at the other Ps before its P is missed */
#define RUNTIME_NS 1000000000 /* of processor time on the scheduler's stack or with a lock: it never takes that long */

int64_t stuck_call_ns = 30000000000; /* of processor time in a library, or asleep in a call that we know nothing of */

/* A worker, as it was at the last look. */
struct watch {
	int32_t p;
	uint32_t tick;
	struct g *g;
	void *held;
	int64_t since, asked, stopped; /* unchanged, asked about, seen stopped since */
	int64_t crowded;	       /* somebody has waited for any P at each look since, 0: not at the last */
	int64_t cpu;		       /* processor time at `since`, -1 unknown */
};
static struct watch watch[WORKERS_MAX];
static int64_t last_scan;

static void stuck_kill(unsigned seat, enum stuck_why why)
{
	allm(seat)->stuck = why;
	host_kill(seat);
}

/* A lock or a scan bit that is its own right now. */
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

/* The P that it has or that somebody has brought for it. */
static struct p *p_of(unsigned seat)
{
	for (unsigned i = 0; i < P_MAX; i++) {
		int m = atomic_load(&allp(i)->m);

		if (m == (int)seat || m == P_HANDED + (int)seat)
			return allp(i);
	}
	return NULL;
}

/* Somebody waits for something that it has, or for it to go. */
static bool stuck_wanted(unsigned seat, const struct p *p, struct g *g, int64_t now)
{
	struct sh_seat *s = &sh_root->seat[seat];

	if (atomic_load(&s->leave) || s->load_gen < atomic_load(&sh_root->load_gen) || held_by(seat))
		return true;
	if (p && (atomic_load(&sched.gcwaiting) || !atomic_load(&allm(seat)->oncpu) || others_wait((struct p *)p, now)))
		return true;
	return g && (atomic_load(&g->preempt) == PREEMPT_STOP || atomic_load(&g->task->state) != TASK_RUNNING ||
		     atomic_load(&g->task->cancel));
}

/*
 * No P is free, and some wait at the others: those would run if this one came back. Nobody is in its own queue,
 * for that was stolen. Who is alone in a queue does not count: two that wake each other by turns are never without.
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

/* Its P is missed by those at the other Ps, and not just for a moment. */
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

/* Has it had all the time in the world, and came to no point at which it gives way? */
static bool hangs(const struct watch *w, unsigned seat, enum host_doing doing, int64_t cpu, int64_t now)
{
	struct m *m = allm(seat);
	bool runtime = !atomic_load(&m->oncpu) || m->locks || w->held;

	if (w->p < 0 || atomic_load(&m->p) != w->p || in_syscall(m) || waits_for_lock(seat))
		return false;
	if (cpu - w->cpu >= (runtime && RUNTIME_NS < stuck_call_ns ? RUNTIME_NS : stuck_call_ns))
		return true;
	return doing == HOST_SLEEPS && now - w->since >= stuck_call_ns && cpu - w->cpu < stuck_call_ns / 10;
}

/* Nothing that we see of it has changed for a look: what does the kernel say? */
static void stuck_ask(struct watch *w, unsigned seat, struct p *p, int64_t now)
{
	bool want = missed(w, now) || stuck_wanted(seat, p, w->g, now); /* the first keeps a clock: always asked */
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

	if (w->p == id && w->tick == tick && w->g == g && w->held == held) {
		stuck_ask(w, seat, p, now);
		return;
	}
	*w = (struct watch){.p = id, .tick = tick, .g = g, .held = held, .since = now, .cpu = -1};
}

/* True: somebody is stopped and watched, look again soon. */
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

/* The medic itself waits for what the worker has. Called at each turn of that wait. */
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
