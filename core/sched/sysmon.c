/*
 * sysmon.c - supervision of the workers that have Ps (proc.go, sysmon and retake): preempts long time
 * slices, takes Ps from system calls, polls when nobody does.
 *
 * The medic runs it, without a P. What it remembers between two rounds is in the segment (sysmon_* of P and
 * schedt), belongs to it alone, and is inherited by a new medic.
 */
#include "core/sched/sysmon.h"
#include "core/g/life.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/idle.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "core/sched/runq.h"
#include "core/sched/stuck.h"
#include "core/sched/syscall.h"
#include "core/sched/timer.h"
#include "shm/segment.h"

#define TICK_MIN_NS 20000
#define TICK_MAX_NS 10000000
#define IDLE_ROUNDS 50 /* after so many rounds without work the interval doubles */
#define PREEMPT_NS 10000000
#define WAITED_FOR_NS 2500000 /* interval for a P that others wait for */
#define SYSCALL_NS 10000000   /* a P without work stays this long in a system call */
#define LONELY_NS 1000000     /* the same if no other P watches timers and descriptors */
#define NETPOLL_NS 10000000
#define STARVED_LOOKS 10
#define ASLEEP_ROUNDS 10 /* after so many rounds with all Ps idle it sleeps until it is rung */

bool others_wait(struct p *p, int64_t now)
{
	int64_t when = atomic_load(&p->timer_when);

	return !runqempty(p) || atomic_load(&sched.grunq_head) != atomic_load(&sched.grunq_tail) ||
	       (when && when <= now);
}

/*
 * How long a P may stay in a system call while nothing waits for it. Go takes it at once if no other P is
 * active. We wait a little: otherwise a call that the kernel merely preempted would cost its P each time.
 */
static int64_t syscall_grace_ns(void)
{
	if (atomic_load(&sched.mspinning) || npidle())
		return SYSCALL_NS;
	return atomic_load(&sched.netpolled) || timers_next() ? LONELY_NS : SYSCALL_NS;
}

/* Checks one P that has a worker. True: it was taken from a worker in a system call. */
static bool sysmon_check(struct p *p, struct m *m, int64_t now, int64_t *next)
{
	struct sh_seat *s = &sh_root->seat[m->seat];
	uint32_t tick = atomic_load(&p->schedtick);
	bool late = false;
	int64_t grace;

	if (tick != p->sysmon_tick || p->sysmon_when == 0) {
		p->sysmon_tick = tick;
		p->sysmon_when = now;
	} else if (now - p->sysmon_when >= PREEMPT_NS) {
		late = true;
	}
	if (p->sysmon_when + PREEMPT_NS > now && p->sysmon_when + PREEMPT_NS - now < *next)
		*next = p->sysmon_when + PREEMPT_NS - now;
	/* Notice the end of a time slice soon: a goroutine that waits should not wait two intervals more. */
	if (*next > WAITED_FOR_NS && (others_wait(p, now) || atomic_load(&p->timer_when)))
		*next = WAITED_FOR_NS;
	if (in_syscall(m)) {
		tick = atomic_load(&p->syscalltick);
		if (tick != p->sysmon_systick || p->sysmon_syswhen == 0) {
			p->sysmon_systick = tick;
			p->sysmon_syswhen = now;
			if (!late) {
				grace = others_wait(p, now) ? TICK_MIN_NS : syscall_grace_ns();
				*next = grace < *next ? grace : *next;
				return false;
			}
		}
		if (!others_wait(p, now) && now - p->sysmon_syswhen < syscall_grace_ns())
			return false;
		return retake(p);
	}
	if (late && atomic_load(&m->oncpu) &&
	    (others_wait(p, now) || atomic_load(&s->leave) || s->load_gen < atomic_load(&sh_root->load_gen))) {
		p->sysmon_when = now;
		host_kick((unsigned)m->seat);
	}
	return false;
}

/*
 * There is work and a P for it, but all workers are in system calls. Asks for a worker only after several
 * rounds in a row: one may be on its way.
 */
static void want_worker(void)
{
	bool starved = npidle() && !atomic_load(&sched.midle) && !atomic_load(&sched.mspinning) && work_in_sight();

	sched.starved = starved ? sched.starved + 1 : 0;
	if (sched.starved >= STARVED_LOOKS)
		atomic_store(&sched.want_worker, 1);
}

int64_t sysmon(int64_t now)
{
	unsigned procs = atomic_load(&sched.procs);
	bool took = false;
	int64_t ns, next = TICK_MAX_NS;

	atomic_store(&sched.sysmonwait, 0);
	for (unsigned i = 0; i < procs; i++) {
		struct p *p = allp(i);
		int seat = atomic_load(&p->m);

		if (seat > 0 && seat < SH_SEATS) {
			life_clock(allm(seat), now);
			took |= sysmon_check(p, allm(seat), now, &next);
		}
	}
	if (now - sched.lastpoll >= NETPOLL_NS) { /* all Ps may be busy, so that no worker polls */
		sched.lastpoll = now;
		if (host_poll())
			wakep();
	}
	/* A timer is due, or there is work, and no worker is awake to see it. */
	if (npidle() && atomic_load(&sched.midle) && work_in_sight())
		wakep();
	want_worker();
	if (stuck_scan(now)) /* a worker is stopped: decide about it soon */
		sched.idle_looks = 0;
	if (npidle() < procs) {
		sched.idle_looks = 0;
	} else if (++sched.idle_looks >= ASLEEP_ROUNDS && !took) {
		/* the flag first, then the Ps: pairs with acquirep and entersyscall */
		atomic_store(&sched.sysmonwait, 1);
		sched.sysmon_rounds = 0;
		if (npidle() == procs && !work_in_sight())
			return 0;
		atomic_store(&sched.sysmonwait, 0);
	}
	if (took || sched.starved)
		sched.sysmon_rounds = 0;
	ns = TICK_MIN_NS;
	for (uint32_t n = sched.sysmon_rounds; n > IDLE_ROUNDS && ns < TICK_MAX_NS; n--)
		ns *= 2;
	sched.sysmon_rounds++;
	return ns < next ? ns : next;
}
