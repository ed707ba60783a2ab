/*
 * stop.c - T12: who does not give way is preempted; who is stopped, or hangs where it cannot be
 * preempted, is dead before what it had goes on elsewhere; who only gets no processor is left alone.
 */
#include "shm/procstat.h"
#include "tests/faults/faults.h"
#include "core/root.h"
#include "core/sched/m.h"
#include "shm/segment.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void loops(void)
{
	unsigned n = quick ? 10 : 100;
	struct samples s = {0};

	runtime_start("nodelay", "--procs 1 --spare 1");
	if (sh("timeout 60 build/shoal run build/tests/modules/faults/loop.so loops %u 2>&1", n))
		failed("faults_loop loops: %.200s", text);
	for (char *at = strtok(text, "\n"); at; at = strtok(NULL, "\n"))
		sample(&s, atof(at));
	if (s.n != n)
		failed("%u loops, and %u were preempted", n, s.n);
	row_times("T12", "endless loop in C -> preempted, another runs", &s, 0, 20e6, 5);
	runtime_stop();
}

struct hit {
	unsigned seat;
	uint32_t generation;
	int p, pid;
};

static bool busy(void *arg)
{
	struct hit *h = arg;

	for (unsigned i = 0; i < WORKERS_MAX; i++) {
		h->seat = h->seat % (WORKERS_MAX - 1) + 1;
		h->p = atomic_load(&allm(h->seat)->p);
		h->pid = atomic_load(&sh_root->seat[h->seat].pid);
		h->generation = sh_root->seat[h->seat].generation;
		if (atomic_load(&sh_root->seat[h->seat].state) == SEAT_LIVE && h->pid > 1 && h->p >= 0 &&
		    atomic_load(&allm(h->seat)->oncpu) && !sh_seat_dead(h->seat))
			return true;
	}
	return false;
}

static bool idle(void *arg)
{
	struct hit *h = arg;

	for (h->seat = 1; h->seat < WORKERS_MAX; h->seat++)
		if (atomic_load(&sh_root->seat[h->seat].state) == SEAT_LIVE && atomic_load(&allm(h->seat)->blocked) &&
		    (atomic_load(&sched.midle) >> h->seat & 1)) {
			h->pid = atomic_load(&sh_root->seat[h->seat].pid);
			h->generation = sh_root->seat[h->seat].generation;
			return true;
		}
	return false;
}

static bool replaced(void *arg)
{
	const struct hit *h = arg;

	return sh_root->seat[h->seat].generation != h->generation &&
	       atomic_load(&sh_root->seat[h->seat].state) == SEAT_LIVE;
}

/* It is stopped by now. */
static bool is_stopped(void *arg)
{
	const struct hit *h = arg;
	struct sh_procstat stat;

	return !sh_procstat_read(h->pid, &stat) || strchr("TZX", stat.state);
}

/*
 * Its goroutines run on other workers. The check whether it was known dead by then comes after that, so it misses no
 * death.
 */
static bool went_on(const struct hit *h)
{
	int m = atomic_load(&allp(h->p)->m);

	return m > 0 && m < SH_SEATS && (m != (int)h->seat || sh_root->seat[m].generation != h->generation) &&
	       atomic_load(&allm(m)->p) == h->p;
}

static void stopped_while_it_runs(void)
{
	struct samples s = {0};
	struct hit h = {1, 0, 0, 0};
	unsigned alive = 0;
	long id;

	runtime_start("nodelay", "--procs 2 --spare 2");
	id = submit("--attempts 1000 build/tests/modules/faults/busy.so 64 600 4");
	for (unsigned i = 0; i < (quick ? 5 : 60); i++) {
		int64_t began;

		if (!wait_for(busy, &h, 10)) {
			failed("no worker runs anything");
			break;
		}
		measuring(true);
		began = now_ns();
		kill(h.pid, SIGSTOP);
		wait_for(is_stopped, &h, 1);
		if (atomic_load(&allp(h.p)->m) != (int)h.seat) { /* it had put its P down before that */
			kill(h.pid, SIGCONT);
			continue;
		}
		while (!went_on(&h) && now_ns() - began < 5000000000)
			nap_us(20);
		measuring(false);
		sample(&s, (double)(now_ns() - began));
		alive += sh_root->seat[h.seat].generation == h.generation &&
			 atomic_load(&sh_root->seat[h.seat].state) == SEAT_LIVE && !sh_seat_dead(h.seat);
		if (getenv("FAULTS_STEPS"))
			note("pid %d: %ld us", h.pid, (now_ns() - began) / 1000);
		kill(h.pid, SIGCONT); /* it comes too late */
		wait_for(replaced, &h, 5);
		nap_us(20000);
	}
	row_times("T12", "SIGSTOP of a worker that runs something -> its P runs elsewhere", &s, 0, 100e6, 5);
	row_number("T12", "of these not known dead when its P ran elsewhere", alive, 0, "", true);
	sh("build/shoal cancel %ld; timeout 20 build/shoal wait %ld 2>&1", id, id);
	runtime_stop();
}

static void stopped_while_it_sleeps(void)
{
	struct samples s = {0};
	struct hit h = {1, 0, 0, 0};

	runtime_start("nodelay", "--procs 2 --spare 2");
	for (unsigned i = 0; i < (quick ? 5 : 30); i++) {
		int64_t began = now_ns();

		if (!wait_for(idle, &h, 10)) {
			failed("no worker sleeps");
			break;
		}
		kill(h.pid, SIGSTOP);
		if (!wait_for(replaced, &h, 5))
			failed("a stopped worker that slept stays where it is");
		sample(&s, (double)(now_ns() - began));
		nap_us(20000);
	}
	row_times("T12", "SIGSTOP of a worker that sleeps -> replaced", &s, 0, 100e6, 10);
	if (sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"))
		failed("work.so: %.200s", text);
	runtime_stop();
}

static bool medic_works(void *arg)
{
	struct hit *h = arg;

	h->pid = atomic_load(&sh_root->seat[SH_SEAT_MEDIC].pid);
	h->generation = sh_root->seat[SH_SEAT_MEDIC].generation;
	return atomic_load(&sh_root->seat[SH_SEAT_MEDIC].state) == SEAT_LIVE && h->pid > 1 &&
	       !sh_seat_dead(SH_SEAT_MEDIC);
}

static void the_medic_is_stopped(void)
{
	struct samples s = {0};
	struct hit h = {SH_SEAT_MEDIC, 0, 0, 0};

	runtime_start("nodelay", "--procs 2 --spare 2");
	for (unsigned i = 0; i < (quick ? 2 : 20); i++) {
		int64_t began = now_ns();

		if (!wait_for(medic_works, &h, 5)) {
			failed("no medic");
			break;
		}
		kill(h.pid, SIGSTOP);
		if (!wait_for(replaced, &h, 5))
			failed("a stopped medic stays where it is");
		sample(&s, (double)(now_ns() - began));
		nap_us(50000);
	}
	row_times("T12", "SIGSTOP of the medic -> replaced", &s, 0, 100e6, 10);
	runtime_stop();
}

/*
 * Eight processes for each processor, with a higher priority than the workers: these wait long, and none may be
 * ended for it.
 */
static void no_processor(void)
{
	unsigned n = 8 * (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	pid_t child[512];
	uint64_t deaths;
	long id;

	if (n > sizeof child / sizeof *child)
		n = sizeof child / sizeof *child;
	runtime_start("nodelay,hung=500", "--procs 2 --spare 2");
	id = submit("build/tests/modules/faults/loop.so count %d", quick ? 2 : 8);
	nap_us(200000);
	deaths = sched.deaths;
	for (unsigned i = 0; i < n; i++) {
		child[i] = fork();
		if (child[i] == 0) {
			alarm(60);
			for (;;)
				;
		}
	}
	sleep(quick ? 2 : 8);
	for (unsigned i = 0; i < n; i++) {
		kill(child[i], SIGKILL);
		waitpid(child[i], NULL, 0);
	}
	row_number("T12", "workers ended while 16 others want their processor", (double)(sched.deaths - deaths), 0, "",
		   true);
	if (sh("timeout 60 build/shoal wait %ld 2>&1", id))
		failed("count: %.200s", text);
	runtime_stop();
}

/* Computing ends nobody: the others have their turns beside it, and it ends with its task. */
static void computes(unsigned procs, const char *what)
{
	struct samples s = {0};
	long late = 0;

	runtime_start("nodelay", procs == 1 ? "--procs 1 --spare 2" : "--procs 2 --spare 2");
	if (sh("timeout 60 build/shoal run build/tests/modules/faults/loop.so libc 2 2>&1") ||
	    sscanf(text, "%ld", &late) != 1)
		failed("faults_loop libc: %.200s", text);
	sample(&s, (double)late * 1e6);
	row_times("T12", what, &s, 0, 1.5e9, 5);
	runtime_stop();
}

void part_stop(void)
{
	loops();
	stopped_while_it_runs();
	stopped_while_it_sleeps();
	the_medic_is_stopped();
	no_processor();
	computes(1, "endless loop in libc: the others end on time, late by");
	computes(2, "the same on two Ps");
}
