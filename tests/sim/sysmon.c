/*
 * sysmon.c - what sysmon does when: the retake of Ps from system calls, the signal to who runs too long,
 * and its own rhythm. Time is ours: sysmon is called again when it said it would look again.
 */
#include "tests/sim/white.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/idle.h"
#include "core/sched/m.h"
#include "core/sched/p.h"
#include "core/sched/proc.h"
#include "core/sched/runq.h"
#include "core/sched/syscall.h"
#include "core/sched/sysmon.h"
#include "core/sched/timer.h"

#include <string.h>

#define US 1000l
#define MS (1000 * US)

static unsigned kicks, bells;

static void count(const char *point)
{
	kicks += !strcmp(point, "host.kick");
	bells += !strcmp(point, "host.bell");
}

/* procs Ps, the first with us, whose G 1 runs; the others, if busy, with seats 2 and on, whose G runs as well. */
static void set_up(unsigned procs, bool busy)
{
	white_begin(procs, 16);
	kicks = bells = 0;
	sim_probe = count;
	sched.lastpoll = host_now();
	for (unsigned i = 0; i < (busy ? procs : 1); i++) {
		white_p(i, (int)i + 1);
		getm = allm(i + 1);
		runqput(getp(), allg(i + 1), false);
		schedule();
	}
	getm = allm(1);
}

/* Looks as sysmon asks for it, from t on, until the P is no longer ours or `until` is past. When that was. */
static int64_t retaken_after(int64_t t, int64_t until, unsigned *looks)
{
	int64_t from = t;

	getm = allm(0);
	for (*looks = 1; t - from <= until; ++*looks) {
		int64_t ns = sysmon(t);

		if (atomic_load(&allm(1)->p) < 0)
			break;
		t += ns ? ns : until + 1;
	}
	getm = allm(1);
	return t - from;
}

/* Work waits in the queue of the P. The first look sees the call, the next one, 20 us later, takes the P. */
static bool a_p_whose_queue_waits_is_taken_after_one_tick(void)
{
	unsigned looks;
	int64_t ns;

	set_up(2, true);
	runqput(allp(0), allg(5), false);
	entersyscall();
	ns = retaken_after(host_now(), 20 * MS, &looks);
	MUST(looks == 2);
	MUST(ns >= 20 * US && ns <= 10 * MS);
	MUST(ns == 20 * US); /* sysmon is awake and fast */
	MUST(atomic_load(&allp(0)->m) == NOSEAT && (atomic_load(&sched.pidle) & 1));
	MUST(g_state(allg(1)) == G_SYSCALL && !(atomic_load(&allg(1)->status) & G_SCAN));
	MUST(getm->p == -1);
	return true;
}

/* The same when sysmon had fallen asleep to 10 ms between its looks: never more than one of them. */
static bool and_never_later_than_its_longest_tick(void)
{
	unsigned looks;

	set_up(2, true);
	runqput(allp(0), allg(5), false);
	sched.sysmon_rounds = 1000;
	entersyscall();
	MUST(retaken_after(host_now(), 20 * MS, &looks) <= 10 * MS && looks == 2);
	return true;
}

/* It goes to a worker that sleeps, which is woken for it. */
static bool the_p_is_handed_to_another_worker(void)
{
	set_up(1, false);
	atomic_store(&allm(2)->blocked, 1);
	atomic_store(&sched.midle, MBIT(2));
	runqput(allp(0), allg(5), false);
	entersyscall();
	getm = allm(0);
	MUST(retake(allp(0)));
	MUST(atomic_load(&allp(0)->m) == P_GIVEN + 2);
	getm = allm(2);
	MUST(take_given_p(getm) == allp(0));
	acquirep(allp(0));
	MUST(schedule() == allg(5));
	/* A goroutine whose call returns meanwhile finds no P; made runnable it would go to the global queue. */
	getm = allm(1);
	MUST(!pidleget(1));
	return true;
}

/* Another worker is free for new work, so the P stays for 10 ms. */
static bool a_p_that_nobody_wants_is_left_10_ms(void)
{
	unsigned looks;
	int64_t ns;

	set_up(2, false); /* the other P is idle */
	entersyscall();
	ns = retaken_after(host_now(), 100 * MS, &looks);
	MUST(ns >= 10 * MS && ns <= 20 * MS);
	set_up(2, true);
	atomic_fetch_or(&sched.mspinning, MBIT(2)); /* or a worker is spinning */
	entersyscall();
	ns = retaken_after(host_now(), 100 * MS, &looks);
	MUST(ns >= 10 * MS && ns <= 20 * MS);
	return true;
}

/* All other workers are busy and a goroutine sleeps on a timer, which only this P would notice: 1 ms. */
static bool a_lone_p_is_left_1_ms_when_timers_are_there(void)
{
	unsigned looks;
	int64_t ns;

	set_up(1, false);
	white_wait(allg(6), WAIT_SLEEP);
	timer_add(allp(0), host_now() + 1000 * MS, allg(6), 1);
	entersyscall();
	ns = retaken_after(host_now(), 100 * MS, &looks);
	MUST(ns >= 1 * MS && ns <= 2 * MS);
	return true;
}

/* Work that comes while it is looked at does not wait for the 10 ms. */
static bool work_that_comes_later_ends_the_patience(void)
{
	unsigned looks;
	int64_t t, ns;

	set_up(2, false);
	entersyscall();
	t = host_now();
	ns = retaken_after(t, 3 * MS, &looks);
	MUST(ns > 3 * MS && atomic_load(&allm(1)->p) == 0);
	globrunqput(allg(5));
	MUST(retaken_after(t + ns, 20 * MS, &looks) == 0 && looks == 1); /* the call is known by now: at once */
	return true;
}

/* Each look finds another call: none of them has lasted a tick. */
static bool short_calls_keep_their_p(void)
{
	int64_t t;

	set_up(2, true);
	runqput(allp(0), allg(5), false);
	t = host_now();
	for (unsigned i = 0; i < 300; i++) {
		int64_t ns;

		entersyscall();
		getm = allm(0);
		ns = sysmon(t);
		getm = allm(1);
		MUST(atomic_load(&getm->p) == 0);
		exitsyscall();
		MUST(g_state(allg(1)) == G_RUNNING);
		t += ns ? ns : 20 * US;
		atomic_fetch_add(&allp(0)->schedtick, 1); /* nor does anybody run too long */
	}
	MUST(allp(0)->syscalls == 300);
	return true;
}

/* A call returns whose P was taken; another P is idle. */
static bool who_comes_back_takes_an_idle_p(void)
{
	unsigned looks;

	set_up(3, false);
	runqput(allp(0), allg(5), false);
	entersyscall();
	retaken_after(host_now(), 20 * MS, &looks);
	MUST(atomic_load(&getm->p) == -1);
	exitsyscall();
	MUST(atomic_load(&getm->p) >= 0 && atomic_load(&getp()->m) == 1 && g_state(allg(1)) == G_RUNNING);
	return true;
}

/* ---- goroutines that run too long ---- */

static bool who_runs_too_long_is_told_after_10_ms(void)
{
	int64_t t, from;

	set_up(1, false);
	runqput(allp(0), allg(5), false);
	from = t = host_now();
	getm = allm(0);
	while (!kicks && t - from < 100 * MS)
		t += sysmon(t);
	MUST(t - from >= 10 * MS && t - from <= 13 * MS); /* it looks every 2.5 ms while a goroutine waits */
	MUST(kicks == 1);
	return true;
}

static bool who_runs_alone_is_left_alone(void)
{
	int64_t t, from;

	set_up(1, false);
	from = t = host_now();
	getm = allm(0);
	while (t - from < 200 * MS)
		t += sysmon(t);
	MUST(kicks == 0);
	return true;
}

/* ---- its rhythm ---- */

static bool it_looks_more_and_more_rarely(void)
{
	unsigned fast = 0, slow = 0;
	int64_t t, ns, last = 0;

	set_up(1, false);
	t = host_now();
	getm = allm(0);
	for (unsigned i = 0; i < 200; i++, last = ns) {
		ns = sysmon(t);
		MUST(ns >= 20 * US && ns <= 10 * MS);
		fast += ns == 20 * US;
		slow += ns > 20 * US;
		/* Doubling, but where it wants to look at a moment that it knows. */
		MUST(fast + slow < 52 || ns >= 20 * US);
		MUST(last == 0 || ns <= 2 * last || ns <= 10 * MS);
		t += ns;
		atomic_fetch_add(&allp(0)->schedtick, 1);
	}
	MUST(fast >= 50 && fast <= 52);
	MUST(last == 10 * MS);
	return true;
}

static bool it_sleeps_when_all_is_idle_and_a_p_rings_it(void)
{
	int64_t t, ns = 1;
	unsigned looks;

	white_begin(2, 8);
	sim_probe = count;
	bells = 0;
	t = host_now();
	sched.lastpoll = t;
	getm = allm(0);
	for (looks = 0; looks < 100 && ns; looks++, t += ns)
		ns = sysmon(t);
	MUST(ns == 0 && looks <= 60);
	MUST(atomic_load(&sched.sysmonwait) == 1 && bells == 0);
	white_p(0, 1);
	MUST(bells == 1);
	return true;
}

unsigned sysmon_tests(void)
{
	return WHITE_RUN("sysmon", a_p_whose_queue_waits_is_taken_after_one_tick, and_never_later_than_its_longest_tick,
			 the_p_is_handed_to_another_worker, a_p_that_nobody_wants_is_left_10_ms,
			 a_lone_p_is_left_1_ms_when_timers_are_there, work_that_comes_later_ends_the_patience,
			 short_calls_keep_their_p, who_comes_back_takes_an_idle_p,
			 who_runs_too_long_is_told_after_10_ms, who_runs_alone_is_left_alone,
			 it_looks_more_and_more_rarely, it_sleeps_when_all_is_idle_and_a_p_rings_it);
}
