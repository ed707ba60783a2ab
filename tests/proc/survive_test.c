/*
 * survive_test.c - supervisor, zygote, standby, keeper and medic are killed, and nothing is lost.
 */
#include "tests/proc/proc.h"

#include <signal.h>
#include <time.h>

#define SURVIVE_TEST(name) Test(survive, name, .init = start, .fini = stop, .timeout = TEST_S)

/* Kills it and waits until it has ended. Returns its pid. */
static int kill_it(const char *whom)
{
	int pid = pid_of(whom);

	cr_assert_gt(pid, 1, "no pid of the %s: %s", whom, text);
	cr_expect_eq(kill(pid, SIGKILL), 0, "%s %d", whom, pid);
	WAIT_FOR(gone(pid));
	return pid;
}

/* True if another process has replaced it. */
static bool replaced(const char *whom, int old)
{
	int pid = pid_of(whom);

	return pid && pid != old;
}

/* Kills the supervisor and starts another after an outage. Returns how long the start took, in ms. */
static double replace_supervisor(unsigned outage_ms)
{
	double began;

	kill_it("pid");
	pass_ms(outage_ms);
	began = now_ms();
	cr_expect_eq(sh("timeout 20 build/shoal start 2>&1"), 0, "%s", text);
	return now_ms() - began;
}

static void expect_lines(const char *file, int n)
{
	char line[32], want[32];
	char path[128];
	FILE *f;
	int i = 0;

	snprintf(path, sizeof path, "%s/%s", dir, file);
	f = fopen(path, "r");
	cr_assert_not_null(f, "%s", path);
	for (; fgets(line, sizeof line, f); i++) {
		snprintf(want, sizeof want, "%d\n", i);
		cr_assert_str_eq(line, want, "%s, line %d", file, i);
	}
	fclose(f);
	cr_expect_eq(i, n, "%s has %d lines", file, i);
}

SURVIVE_TEST(commands_continue_when_the_supervisor_is_killed)
{
	double ms;

	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
	sh("(timeout 60 build/shoal run build/tests/modules/survive/ticks.so 700 1 >%s/run; echo $? >%s/run.code) "
	   ">/dev/null 2>&1 &",
	   dir, dir);
	until("[ -s %s/run ]", dir);
	sh("(timeout 60 build/shoal wait 2; echo $? >%s/wait.code) >/dev/null 2>&1 &", dir);
	sh("(timeout 60 build/shoal logs -f 2 >%s/logs; echo $? >%s/logs.code) >/dev/null 2>&1 &", dir, dir);
	until("[ -s %s/logs ]", dir);
	kill_it("pid");
	/* This one is submitted while no supervisor answers: it sleeps between two attempts to connect. */
	sh("(build/shoal run build/tests/modules/survive/ticks.so 3 >%s/later & echo $! >%s/pid; wait $!; echo $? >%s/later.code) "
	   ">/dev/null 2>&1 &",
	   dir, dir, dir);
	until("grep -q '^State:.S' /proc/$(cat %s/pid)/status", dir);
	ms = now_ms();
	cr_expect_eq(sh("timeout 20 build/shoal start 2>&1"), 0, "%s", text);
	ms = now_ms() - ms;
	cr_expect_geq(count_in("tasks -a", "tasks", "name", "ticks.so"), 2u, "%s", text); /* the third may have come */
	until("[ -s %s/run.code ] && [ -s %s/wait.code ] && [ -s %s/logs.code ] && [ -s %s/later.code ]", dir, dir, dir,
	      dir);
	cr_expect_eq(sh("cat %s/run.code %s/wait.code %s/logs.code %s/later.code", dir, dir, dir, dir), 0);
	cr_expect_str_eq(text, "7\n7\n0\n7\n");
	expect_lines("run", 700);
	expect_lines("logs", 700);
	expect_lines("later", 3);
	cr_expect_eq(sh("build/shoal logs 1"), 0); /* of a task that had ended before */
	cr_expect_str_eq(text, "4000 0\n");
	fprintf(stderr, "supervisor killed: the next takes tasks %.1f ms after its start\n", ms);
}

static int lines_in_codes(void)
{
	sh("cat %s/codes.* 2>/dev/null | wc -l", dir);
	return atoi(text);
}

/* T6: each task that was accepted while supervisors are killed ends exactly once. */
SURVIVE_TEST(no_task_is_lost_or_doubled_while_supervisors_are_killed)
{
	enum { CLIENTS = 4, TASKS = 25, KILLS = 20 };
	unsigned ended, kills = 0;
	double sum = 0;
	json_t *all;

	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/survive/ticks.so 1 2>&1"), 7, "%s", text);
	for (int c = 0; c < CLIENTS; c++)
		sh("(for i in $(seq %d); do timeout 60 build/shoal run --name c%d.$i build/tests/modules/survive/ticks.so "
		   "10 1 >%s/c%d.$i; echo $? >>%s/codes.%d; done; echo end >>%s/codes.%d) >/dev/null 2>&1 &",
		   TASKS, c, dir, c, dir, c, dir, c);
	for (int done = 0; kills < KILLS && done < CLIENTS * (TASKS + 1); kills++) {
		sum += replace_supervisor(30);
		WAIT_FOR(lines_in_codes() > done); /* a task has ended since the last kill */
		done = lines_in_codes();
	}
	WAIT_FOR(lines_in_codes() == CLIENTS * (TASKS + 1));
	cr_expect_eq(sh("cat %s/codes.* | grep -c '^7$'", dir), 0);
	ended = (unsigned)atoi(text);
	cr_expect_eq(ended, CLIENTS * TASKS, "%u of %u tasks ended with their own code", ended, CLIENTS * TASKS);
	for (int c = 0; c < CLIENTS; c++)
		for (int k = 1; k <= TASKS; k++) {
			char name[32];

			snprintf(name, sizeof name, "c%d.%d", c, k);
			expect_lines(name, 10);
		}
	ended = 0;
	all = json_object_get(see("tasks -a"), "tasks");
	for (size_t i = 0; i < json_array_size(all); i++)
		ended += *json_string_value(json_object_get(json_array_get(all, i), "name")) == 'c';
	cr_expect_eq(ended, CLIENTS * TASKS, "%u tasks are recorded for %u that were submitted", ended,
		     CLIENTS * TASKS);
	for (int c = 0; c < CLIENTS; c++) {
		char name[32];

		snprintf(name, sizeof name, "c%d.1", c);
		cr_expect_eq(count_in("tasks -a", "tasks", "name", name), 1, "%s", name);
	}
	fprintf(stderr, "%u supervisors killed: %u of %u tasks ended, %.1f ms from start to taking tasks on average\n",
		kills, ended, CLIENTS * TASKS, sum / kills);
	cr_expect_gt(kills, 3);
}

static int worker_pid(void)
{
	int pid = 0;

	WAIT_FOR(worker_pids(&pid, 1) == 1); /* not while one is being cloned */
	return pid;
}

SURVIVE_TEST(workers_and_medic_that_die_without_a_supervisor_are_replaced)
{
	int worker = worker_pid(), medic = pid_of("medic");

	cr_expect_eq(sh("build/shoal submit build/tests/modules/survive/ticks.so 6000 1 2>&1"), 0, "%s", text);
	WAIT_FOR(number_in("stats", "goroutines") > 1);
	kill_it("pid");
	kill(medic, SIGKILL);
	kill(worker, SIGKILL);
	WAIT_FOR(gone(medic) && gone(worker));
	cr_expect_eq(sh("timeout 20 build/shoal start 2>&1"), 0, "%s", text);
	WAIT_FOR(replaced("medic", medic));
	cr_expect_neq(worker_pid(), worker);
	sh("timeout 20 build/shoal wait 1 2>&1"); /* its root may have been on that worker */
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal restart 2>&1"), 0, "%s", text);
}

SURVIVE_TEST(the_standby_takes_the_place_of_a_killed_zygote)
{
	int before, worker;

	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
	for (int i = 0; i < 3; i++) {
		before = kill_it("zygote");
		WAIT_FOR(replaced("zygote", before));
		worker = worker_pid();
		kill(worker, SIGKILL);
		WAIT_FOR(gone(worker));
		WAIT_FOR(worker_pid() != worker);
		cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
		/* loaded by the standby */
		cr_expect_eq(sh("echo 'int shoal_main(int c, char **v) { return %d; }' >%s/n.c; "
				"timeout 20 build/shoal run %s/n.c 2>&1",
				i + 30, dir, dir),
			     i + 30, "%s", text);
		WAIT_FOR(pid_of("standby")); /* the next one runs */
	}
	before = kill_it("standby");
	WAIT_FOR(replaced("standby", before));
	before = kill_it("zygote");
	WAIT_FOR(replaced("zygote", before));
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
}

SURVIVE_TEST(each_process_in_turn_is_killed_while_a_task_runs)
{
	static const char *const who[] = {"zygote", "medic", "pid", "keeper", "zygote", "pid", "medic", "pid"};

	sh("(timeout 100 build/shoal run build/tests/modules/survive/ticks.so 1500 1 >%s/run; echo $? >%s/run.code) "
	   ">/dev/null 2>&1 &",
	   dir, dir);
	until("[ -s %s/run ]", dir);
	for (size_t i = 0; i < sizeof who / sizeof *who; i++) {
		int old = kill_it(who[i]);

		if (strcmp(who[i], "pid") == 0)
			cr_expect_eq(sh("timeout 20 build/shoal start 2>&1"), 0, "%s", text);
		WAIT_FOR(replaced(who[i], old));
		WAIT_FOR(pid_of("standby") && pid_of("keeper"));
	}
	until("[ -s %s/run.code ]", dir);
	cr_expect_eq(sh("cat %s/run.code", dir), 0);
	cr_expect_str_eq(text, "7\n");
	expect_lines("run", 1500);
}

SURVIVE_TEST(a_second_supervisor_is_refused_and_a_service_managers_one_adopts)
{
	cr_expect_eq(sh("timeout 5 build/shoald 2>&1"), 1, "%s", text);
	cr_expect_not_null(strstr(text, "already"), "%s", text);
	cr_expect_eq(sh("build/shoal submit --name mine build/tests/modules/survive/ticks.so 1 2>&1"), 0, "%s", text);
	kill_it("pid");
	sh("timeout 40 build/shoald >%s/daemon.log 2>&1 &", dir);
	cr_expect_eq(sh("timeout 20 build/shoal wait 1 2>&1"), 7, "%s", text);
	cr_expect_eq(sh("timeout 5 build/shoald 2>&1"), 1, "%s", text);
	cr_expect_eq(sh("build/shoal tasks -a | grep -c mine"), 0);
}

/* Tasks of a `run` whose client does not reconnect are cancelled; tasks that were submitted continue. */
SURVIVE_TEST(no_process_is_left_after_the_runtime_ends)
{
	static const char *const rest[] = {"medic", "zygote", "standby", "keeper"};
	int pid[4], zygote;

	for (int i = 0; i < 4; i++)
		WAIT_FOR((pid[i] = pid_of(rest[i])));
	kill_it("pid");
	cr_expect_eq(sh("timeout 20 build/shoal start 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal stop --now 2>&1"), 0, "%s", text);
	for (int i = 0; i < 4; i++) /* at once: stop waits for them */
		cr_expect(gone(pid[i]), "%s %d is left", rest[i], pid[i]);
	cr_expect_eq(sh("ls %s", dir), 0);
	cr_expect_str_eq(text, "s.log\n", "%s", text);
	/* No supervisor can adopt it, so it ends by itself. */
	cr_expect_eq(sh("timeout 20 build/shoal start --procs 2 2>&1"), 0, "%s", text);
	WAIT_FOR((zygote = pid_of("zygote")));
	kill_it("pid");
	sh("rm %s/s.keeper", dir);
	WAIT_FOR(gone(zygote));
	cr_expect_eq(sh("timeout 20 build/shoal start --procs 2 2>&1"), 0, "%s", text);
}

/* ---- modules that always crash ---- */

static void start_short(void)
{
	setenv("SHOAL_DEBUG", "nodelay,quarantine=4", 1);
	start();
}

static int how_many(double seconds)
{
	sh("timeout 20 sh -c 'e=$(($(date +%%s%%N) / 1000000 + %d)); n=0; while [ $(($(date +%%s%%N) / 1000000)) -lt $e ]; do "
	   "build/shoal run build/tests/modules/survive/ticks.so 5 1 >%s/t || [ $? = 7 ] && n=$((n + 1)); done; echo $n'",
	   (int)(seconds * 1000), dir);
	return atoi(text);
}

Test(survive, a_module_that_always_crashes_is_refused_for_a_while, .init = start_short, .fini = stop, .timeout = TEST_S)
{
	for (int i = 0; i < 12; i++) /* of isolated goroutines: they do not count */
		cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so isolated 2>&1"), 0, "%s",
			     text);
	for (int i = 0; i < 10; i++)
		cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so null 2>&1"), 139,
			     "%d: %s", i, text);
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so null 2>&1"), 75, "%s", text);
	cr_expect_not_null(strstr(text, "crash.so is in quarantine"), "%s", text);
	/* By its content, whatever its name; and a supervisor that died does not forget. */
	cr_expect_eq(
		sh("cp build/tests/modules/basic/crash.so %s/other.so; timeout 20 build/shoal submit %s/other.so 2>&1",
		   dir, dir),
		75, "%s", text);
	replace_supervisor(0);
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so exit 2>&1"), 75, "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
	WAIT_FOR(sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so exit 2>&1") == 17);
}

/*
 * T11: the throughput of other tasks while a client submits such a module again and again, against that without it.
 */
Test(survive, a_module_that_always_crashes_does_not_hold_up_others, .init = start_short, .fini = stop,
     .timeout = TEST_S)
{
	int calm, disturbed;

	how_many(0.3);
	calm = how_many(2.5);
	sh("(while [ -e %s ]; do build/shoal run build/tests/modules/basic/crash.so null; sleep 0.05; done; ) >/dev/null 2>&1 & "
	   "echo $! >%s/loop",
	   dir, dir);
	disturbed = how_many(2.5);
	cr_expect_eq(sh("kill $(cat %s/loop)", dir), 0);
	fprintf(stderr, "with a module that always crashes: %d tasks, without: %d (%.0f %%)\n", disturbed, calm,
		disturbed * 100.0 / calm);
	cr_expect_gt(calm, 20);
	cr_expect_gt(disturbed, calm / 4); /* the figure is printed above; this limit is for machines under load */
}

/* ---- what remains ---- */

static int lines_of(const char *command)
{
	sh("%s", command);
	return atoi(text);
}

/* T8: all resources of workers and tasks are released, however they ended. */
Test(survive, nothing_is_left_of_killed_processes, .init = start_short, .fini = stop, .timeout = TEST_S)
{
	static const char *const how[] = {"null", "overflow", "abort", "kill", "exit", "loop", "isolated"};
	char fds[128];
	int before, used, deaths = 0;

	setenv("SHOAL_DEBUG", "nodelay", 1);
	cr_expect_eq(sh("build/shoal stop --now && build/shoal start --procs 2 2>&1"), 0, "%s", text);
	sh("build/shoal run build/tests/modules/basic/crash.so exit; build/shoal run build/tests/modules/basic/work.so");
	WAIT_FOR(count_workers() == number_in("info", "workers"));
	snprintf(fds, sizeof fds, "ls /proc/%d/fd | wc -l", pid_of("zygote"));
	before = lines_of(fds) - FDS_OF_A_WORKER * count_workers();
	used = (int)number_in("stats", "memory_used");
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < sizeof how / sizeof *how; i++)
			if (round < 2 || i > 3)
				sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so %s 2>&1", how[i]);
		for (int k = 0; k < 20; k++) {
			int pid = worker_pid();

			deaths += kill(pid, SIGKILL) == 0;
			WAIT_FOR(gone(pid));
		}
		cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/survive/ticks.so 20 1 2>&1"), 7, "%s",
			     text);
	}
	WAIT_FOR(lines_of(fds) - FDS_OF_A_WORKER * count_workers() == before);
	WAIT_FOR(number_in("stats", "memory_used") == used);
	cr_expect_leq(count_workers(), 8);
	cr_expect_gt(deaths, 30);
}

/* ---- several at once ---- */

static const char *const whom[4] = {"pid", "zygote", "medic", "worker"};

static int pid_right_now(const char *name)
{
	int pid = 0;

	if (strcmp(name, "worker") != 0)
		pid = pid_of(name);
	else
		worker_pids(&pid, 1);
	return pid > 1 && kill(pid, 0) == 0 ? pid : 0;
}

/* A clone of a medic or worker may be in progress. */
static int pid_for_sure(const char *name)
{
	int pid = 0;

	WAIT_FOR((pid = pid_right_now(name)));
	return pid;
}

/* Kills all four within 50 ms, in that order. One that has ended meanwhile was replaced already. */
static void kill_in_order(const int *order, unsigned gap_ms)
{
	int pid[4];

	for (int i = 0; i < 4; i++)
		cr_assert_gt(pid[i] = pid_for_sure(whom[i]), 1, "no pid of the %s: %s", whom[i], text);
	for (int i = 0; i < 4; i++) {
		kill(pid[order[i]], SIGKILL);
		pass_ms(gap_ms);
	}
	cr_expect_eq(sh("timeout 20 build/shoal start 2>&1"), 0, "%s", text);
}

static void every_order(unsigned step)
{
	for (unsigned n = 0; n < 24; n += step) {
		int order[4] = {(int)n / 6, -1, -1, -1}, left[4], k = 0, rest = (int)n % 6;
		long id[4];

		for (int i = 0; i < 4; i++)
			if (i != order[0])
				left[k++] = i;
		order[1] = left[rest / 2];
		order[2] = left[(rest / 2 + 1 + rest % 2) % 3];
		order[3] = left[(rest / 2 + 2 - rest % 2) % 3];
		for (int i = 0; i < 4; i++) {
			cr_assert_eq(
				i % 2 ? sh("build/shoal submit --attempts 50 build/tests/modules/kill/work.so")
				      : sh("build/shoal submit --attempts 50 build/tests/modules/survive/ticks.so 30 5"),
				0, "%s", text);
			id[i] = atol(text);
		}
		kill_in_order(order, n % 2 ? 12 : 0);
		for (int i = 0; i < 4; i++)
			cr_expect_eq(
				sh("timeout 60 build/shoal wait %ld 2>&1 || { e=$?; build/shoal logs %ld 2>&1; exit $e; }",
				   id[i], id[i]),
				i % 2 ? 0 : 7, "%s %s %s %s, task %d: %s", whom[order[0]], whom[order[1]],
				whom[order[2]], whom[order[3]], i, text);
		cr_expect_eq(sh("build/shoal check 2>&1"), 0, "%s %s %s %s: %s", whom[order[0]], whom[order[1]],
			     whom[order[2]], whom[order[3]], text);
	}
}

SURVIVE_TEST(tasks_survive_the_deaths_of_all_four_kinds_of_process_in_any_order)
{
	every_order(1);
}

/* A worker that the last zygote has cloned may come late: it takes its seat, or another worker does, never both. */
SURVIVE_TEST(tasks_survive_deaths_in_any_order_when_new_workers_come_late)
{
	setenv("SHOAL_DEBUG", "nodelay,late=30", 1);
	cr_expect_eq(sh("build/shoal stop --now && build/shoal start --procs 2 2>&1"), 0, "%s", text);
	every_order(2);
	cr_expect_eq(sh("grep 'check failed' %s/s.log", dir), 1, "%s", text);
}

/* Kills one to four of the processes, in random order, with pauses. Returns how many it killed. */
static unsigned kill_some(unsigned seed)
{
	unsigned n = 1 + (unsigned)rand() % 4, killed = 0;
	int pid[4];

	for (int i = 0; i < 4; i++)
		pid[i] = pid_for_sure(whom[i]);
	for (unsigned i = 0; i < n; i++) {
		int victim = pid[rand() % 4];

		killed += victim > 1 && !gone(victim) && kill(victim, SIGKILL) == 0;
		pass_ms((unsigned)rand() % 4 * 10);
	}
	cr_expect(sh("timeout 20 build/shoal start 2>&1") == 0 || strstr(text, "is already running"), "seed %u: %s",
		  seed, text);
	return killed;
}

SURVIVE_TEST(tasks_survive_random_deaths_at_random_times)
{
	unsigned seed = (unsigned)time(NULL), kills = 0, ended = 0, tasks = 0;

	setenv("SHOAL_DEBUG", "nodelay,late=5", 1);
	cr_expect_eq(sh("build/shoal stop --now && build/shoal start --procs 2 2>&1"), 0, "%s", text);
	srand(seed);
	for (int round = 0; round < 15; round++) {
		long id[3];

		for (int i = 0; i < 3; i++) {
			cr_assert_eq(
				sh("timeout 20 build/shoal submit --attempts 200 build/tests/modules/kill/work.so 2>&1"),
				0, "%s", text);
			id[i] = atol(text);
			tasks++;
		}
		for (int again = rand() % 4; again >= 0; again--)
			kills += kill_some(seed);
		for (int i = 0; i < 3; i++) {
			int code = sh("timeout 60 build/shoal wait %ld 2>&1", id[i]);

			ended += code == 0;
			cr_expect_eq(code, 0, "seed %u, round %d, task %d: %s", seed, round, i, text);
		}
		cr_expect_eq(sh("timeout 20 build/shoal check 2>&1"), 0, "seed %u, round %d: %s", seed, round, text);
	}
	fprintf(stderr, "seed %u: %u kills, %u of %u tasks ended well\n", seed, kills, ended, tasks);
	cr_expect_gt(kills, 15);
}

/* The worker is replaced at once, however often the goroutines of one task crash; what that task starts is held back. */
PROC_TEST(the_restart_delay_belongs_to_the_task_that_crashes)
{
	cr_assert_eq(sh("build/shoal submit build/tests/modules/survive/bombs.so 40"), 0, "%s", text);
	WAIT_FOR(waiting_for("restart delay") == 1);
	WAIT_FOR(count_in("workers", "workers", "status", "vacant") == 0);
	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/basic/many.so 100 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("timeout 60 build/shoal wait 1 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal logs 1"), 0);
	cr_expect_str_eq(text, "40 crashed\n");
}
