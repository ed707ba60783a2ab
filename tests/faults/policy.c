/*
 * policy.c - the delays before a restart, what a module that always crashes costs others, and the
 * death of the supervisor.
 */
#include "tests/faults/faults.h"
#include "shm/segment.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- restart policy ---- */

struct seat_at {
	unsigned seat;
	uint32_t generation;
};

static bool is_new(void *arg)
{
	const struct seat_at *a = arg;

	return sh_root->seat[a->seat].generation != a->generation &&
	       atomic_load(&sh_root->seat[a->seat].state) == SEAT_LIVE;
}

static double restart_after_kill(unsigned seat)
{
	struct seat_at a = {seat, 0};
	int64_t began;

	if (!wait_for(is_new, &a, 5)) {
		failed("worker %u does not start", seat);
		return 0;
	}
	a.generation = sh_root->seat[seat].generation;
	began = now_ns();
	kill(atomic_load(&sh_root->seat[seat].pid), SIGKILL);
	if (!wait_for(is_new, &a, 15))
		failed("worker %u was given up", seat);
	return (double)(now_ns() - began) / 1e6;
}

/* The first three at once, then 100 ms doubling to 10 s. */
void part_policy(void)
{
	unsigned n = quick ? 6 : 11;

	runtime_start("", "--procs 2 --spare 2");
	for (unsigned i = 0; i < n; i++) {
		double due = i < 3 ? 0 : 100.0 * (1 << (i - 3)), ms;
		char what[80];

		due = due > 10000 ? 10000 : due;
		ms = restart_after_kill(1);
		snprintf(what, sizeof what, "restart %u of a worker within 10 s: due after %.0f ms, late by", i + 1,
			 due);
		row_number("policy", what, ms - due, 100, " ms", false);
		if (ms < due - 5 || ms > due + 2000)
			failed("restart %u comes after %.1f ms, and not %.0f", i + 1, ms, due);
	}
	if (!quick) {
		sleep(31);
		row_number("policy", "after 30 s of health: due after 0 ms, late by", restart_after_kill(1), 100, " ms",
			   true);
	}
	runtime_stop();
}

/* ---- T11 ---- */

/* Runs tasks one after the other for this time. */
static unsigned throughput(double seconds)
{
	int64_t until = now_ns() + (int64_t)(seconds * 1e9);
	unsigned n = 0;

	for (; now_ns() < until; n++)
		if (sh("timeout 20 build/shoal run build/tests/modules/survive/ticks.so 5 1 2>&1") != 7)
			failed("survive_ticks: %.200s", text);
	return n;
}

/* A client submits it twenty times a second, and is refused once it is in quarantine. */
static pid_t crash_again_and_again(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		for (;;) {
			sh("build/shoal run --attempts 3 build/tests/modules/basic/crash.so null 2>&1");
			nap_us(50000);
		}
	}
	return pid;
}

static long attempts_of_first_task(void)
{
	json_t *all, *task;
	long n;

	sh("build/shoal tasks -a --json 2>&1");
	all = json_loads(text, 0, NULL);
	task = json_array_get(json_object_get(all, "tasks"), 0);
	n = task ? (long)json_integer_value(json_object_get(task, "attempts")) : -1;
	json_decref(all);
	return n;
}

void part_module(void)
{
	unsigned rounds = quick ? 3 : 9, refused = 0;
	struct samples ratio = {0};
	double span = quick ? 0.4 : 2;
	pid_t pid;

	runtime_start("nodelay", "--procs 2 --spare 2");
	if (sh("timeout 30 build/shoal run --attempts 3 build/tests/modules/basic/crash.so null 2>&1") != 139 ||
	    attempts_of_first_task() != 3)
		failed("a task with three attempts: %.300s", text);
	throughput(0.3);
	pid = crash_again_and_again();
	for (int i = 0; i < 200 && refused != 75; i++) {
		nap_us(50000);
		refused = (unsigned)sh("build/shoal run build/tests/modules/basic/crash.so exit 2>&1");
	}
	row_least("T11", "a module whose tasks crash ten times is refused with", refused, 75, "", 75);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	/* Alternates with and without it, so that other load on the machine affects both. */
	for (unsigned i = 0; i < rounds; i++) {
		double calm = throughput(span), disturbed;

		pid = crash_again_and_again();
		disturbed = throughput(span);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		sample(&ratio, disturbed / calm * 100);
	}
	row_least("T11", "throughput of others beside it (median of rounds)", percentile(&ratio, 50), 95, " %", 40);
	runtime_stop();
}

/* ---- T6 ---- */

void part_supervisor(void)
{
	unsigned n = quick ? 2 : 20, clients = 4, tasks = quick ? 12 : 60, lost = 0;
	struct samples s = {0};
	pid_t child[4];

	runtime_start("nodelay", "--procs 2 --spare 2");
	for (unsigned c = 0; c < clients; c++) {
		child[c] = fork();
		if (child[c] == 0) {
			unsigned bad = 0;

			for (unsigned i = 0; i < tasks; i++)
				bad += sh("timeout 60 build/shoal run build/tests/modules/survive/ticks.so 10 1 2>&1") !=
				       7;
			_exit((int)bad);
		}
	}
	for (unsigned i = 0; i < n; i++) {
		int64_t began;

		nap_us(100000);
		kill(atomic_load(&sh_root->supervisor), SIGKILL);
		nap_us(20000);
		began = now_ns();
		if (sh("timeout 20 build/shoal start 2>&1"))
			failed("the supervisor does not start again: %.200s", text);
		sample(&s, (double)(now_ns() - began));
	}
	for (unsigned c = 0; c < clients; c++) {
		int st;

		waitpid(child[c], &st, 0);
		lost += WIFEXITED(st) ? (unsigned)WEXITSTATUS(st) : tasks;
	}
	row_times("T6", "start of a supervisor after kill -9 under load -> adopted", &s, 0, 100e6, 10);
	row_number("T6", "tasks lost over these kills", lost, 0, "", true);
	runtime_stop();
}
