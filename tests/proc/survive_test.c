/*
 * survive_test.c - supervisor, zygote, standby, keeper and medic are killed, and nothing is lost.
 */
#include "tests/proc/proc.h"

#include <signal.h>
#include <time.h>

#define SURVIVE_TEST(name) Test(survive, name, .init = start, .fini = stop, .timeout = 60)

static int pid_of(const char *whom)
{
	char key[32], *at;

	if (sh("build/shoal info --json 2>/dev/null") != 0)
		return 0;
	snprintf(key, sizeof key, "\"%s\": ", whom);
	at = strstr(text, key);
	return at ? atoi(at + strlen(key)) : 0;
}

static void kill_it(const char *whom)
{
	int pid = pid_of(whom);

	cr_assert_gt(pid, 1, "no pid of the %s: %s", whom, text);
	cr_expect_eq(kill(pid, SIGKILL), 0, "%s %d", whom, pid);
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* The supervisor is killed, and another started after a while; returns how long that took, in ms. */
static double replace_supervisor(unsigned pause_ms)
{
	double began;

	kill_it("pid");
	usleep(pause_ms * 1000);
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

SURVIVE_TEST(commands_do_not_notice_that_the_supervisor_died)
{
	double ms;

	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
	sh("(timeout 30 build/shoal run build/tests/modules/survive/ticks.so 700 1 >%s/run; echo $? >%s/run.code) "
	   ">/dev/null 2>&1 &",
	   dir, dir);
	usleep(200000);
	sh("(timeout 30 build/shoal wait 2; echo $? >%s/wait.code) >/dev/null 2>&1 &", dir);
	sh("(timeout 30 build/shoal logs -f 2 >%s/logs; echo $? >%s/logs.code) >/dev/null 2>&1 &", dir, dir);
	usleep(100000);
	kill_it("pid");
	/* Asked while there is nobody to answer. */
	sh("(timeout 30 build/shoal run build/tests/modules/survive/ticks.so 3 >%s/later; echo $? >%s/later.code) "
	   ">/dev/null 2>&1 &",
	   dir, dir);
	usleep(300000);
	ms = now_ms();
	cr_expect_eq(sh("timeout 20 build/shoal start 2>&1"), 0, "%s", text);
	ms = now_ms() - ms;
	cr_expect_eq(sh("build/shoal tasks --json"), 0);
	cr_expect_not_null(strstr(text, "ticks.so"), "%s", text);
	sh("for i in $(seq 200); do [ -s %s/run.code ] && [ -s %s/wait.code ] && [ -s %s/logs.code ] && "
	   "[ -s %s/later.code ] && break; sleep 0.05; done",
	   dir, dir, dir, dir);
	cr_expect_eq(sh("cat %s/run.code %s/wait.code %s/logs.code %s/later.code", dir, dir, dir, dir), 0);
	cr_expect_str_eq(text, "7\n7\n0\n7\n");
	expect_lines("run", 700);
	expect_lines("logs", 700);
	expect_lines("later", 3);
	cr_expect_eq(sh("build/shoal logs 1"), 0); /* of a task that had ended before */
	cr_expect_str_eq(text, "4000 0\n");
	fprintf(stderr, "supervisor killed: the next takes tasks %.1f ms after its start\n", ms);
	cr_expect_lt(ms, 1000.0);
}

/* T6: accepted under fire, each exactly once. */
SURVIVE_TEST(no_task_is_lost_or_doubled_while_supervisors_are_killed)
{
	enum { CLIENTS = 4, TASKS = 25 };
	char want[32];
	double sum = 0, ms;
	int kills = 0;

	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/survive/ticks.so 1 2>&1"), 7, "%s", text);
	for (int c = 0; c < CLIENTS; c++)
		sh("(for i in $(seq %d); do timeout 30 build/shoal run --name c%d.$i build/tests/modules/survive/ticks.so "
		   "10 1 >%s/c%d.$i; echo $? >>%s/codes.%d; done; echo end >>%s/codes.%d) >/dev/null 2>&1 &",
		   TASKS, c, dir, c, dir, c, dir, c);
	do {
		ms = replace_supervisor(30);
		sum += ms;
		kills++;
		usleep(100000);
	} while (sh("[ $(cat %s/codes.* | grep -c end) = %d ]", dir, CLIENTS) != 0 && kills < 100);
	cr_expect_eq(sh("sort %s/codes.* | uniq -c | tr -s ' ' | sort", dir), 0);
	snprintf(want, sizeof want, " %d 7\n %d end\n", CLIENTS * TASKS, CLIENTS);
	cr_expect_str_eq(text, want);
	for (int c = 0; c < CLIENTS; c++)
		for (int i = 1; i <= TASKS; i++) {
			char file[32];

			snprintf(file, sizeof file, "c%d.%d", c, i);
			expect_lines(file, 10);
		}
	cr_expect_eq(
		sh("build/shoal tasks -a --json | tr '{' '\\n' | grep -o '\"name\": \"c[^\"]*\"' | sort | uniq -d"), 0);
	cr_expect_str_empty(text, "doubled: %s", text);
	cr_expect_eq(sh("build/shoal tasks -a --json | tr '{' '\\n' | grep -c '\"name\": \"c[0-9]'"), 0);
	cr_expect_eq(atoi(text), CLIENTS * TASKS);
	fprintf(stderr, "supervisors killed: %d, tasks lost: 0, adopted and serving after %.1f ms on average\n", kills,
		sum / kills);
	cr_expect_gt(kills, 3);
}

static int worker_pid(void)
{
	int pid = 0;

	for (int i = 0; i < 500 && pid <= 1; i++) { /* 0 while one is being cloned */
		cr_assert_eq(sh("build/shoal workers --json"), 0);
		pid = atoi(strstr(text, "\"pid\": ") + 7);
		usleep(pid > 1 ? 0 : 10000);
	}
	cr_assert_gt(pid, 1);
	return pid;
}

SURVIVE_TEST(who_dies_without_a_supervisor_is_replaced_all_the_same)
{
	int worker = worker_pid(), medic = pid_of("medic");

	cr_expect_eq(sh("build/shoal submit build/tests/modules/survive/ticks.so 600 1 2>&1"), 0, "%s", text);
	usleep(100000);
	kill_it("pid");
	usleep(50000);
	kill(medic, SIGKILL);
	kill(worker, SIGKILL);
	usleep(250000);
	cr_expect_eq(sh("timeout 20 build/shoal start 2>&1"), 0, "%s", text);
	cr_expect_neq(pid_of("medic"), medic);
	cr_expect_neq(worker_pid(), worker);
	sh("timeout 20 build/shoal wait 1 2>&1"); /* its root may have been on that worker */
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal restart 2>&1"), 0, "%s", text);
}

SURVIVE_TEST(a_standby_takes_the_place_of_the_zygote)
{
	int before, worker;

	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
	for (int i = 0; i < 3; i++) {
		before = pid_of("zygote");
		kill_it("zygote");
		usleep(100000);
		cr_expect_neq(pid_of("zygote"), before);
		worker = worker_pid();
		kill(worker, SIGKILL);
		usleep(200000);
		cr_expect_neq(worker_pid(), worker);
		cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
		/* loaded by the standby */
		cr_expect_eq(sh("echo 'int shoal_main(int c, char **v) { return %d; }' >%s/n.c; "
				"timeout 20 build/shoal run %s/n.c 2>&1",
				i + 30, dir, dir),
			     i + 30, "%s", text);
	}
	kill_it("standby");
	usleep(1500000); /* the supervisor looks once a second */
	kill_it("zygote");
	usleep(100000);
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
}

SURVIVE_TEST(each_of_them_in_turn_under_load)
{
	static const char *const who[] = {"zygote", "medic", "pid", "keeper", "zygote", "pid", "medic", "pid"};

	sh("(timeout 50 build/shoal run build/tests/modules/survive/ticks.so 1500 1 >%s/run; echo $? >%s/run.code) "
	   ">/dev/null 2>&1 &",
	   dir, dir);
	usleep(200000);
	for (size_t i = 0; i < sizeof who / sizeof *who; i++) {
		kill_it(who[i]);
		usleep(60000);
		if (strcmp(who[i], "pid") == 0)
			cr_expect_eq(sh("timeout 20 build/shoal start 2>&1"), 0, "%s", text);
		usleep(60000);
	}
	sh("for i in $(seq 400); do [ -s %s/run.code ] && break; sleep 0.05; done; cat %s/run.code", dir, dir);
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

/* What ran is cancelled when the one who ran it does not come back; who only submitted need not. */
SURVIVE_TEST(no_process_is_left_when_all_is_gone)
{
	char pids[512];

	cr_expect_eq(
		sh("build/shoal info --json | tr ',' '\\n' | sed -n 's/.*\"\\(pid\\|medic\\|zygote\\|standby\\|keeper\\)\": //p' "
		   "| tr '\\n' ' '"),
		0);
	snprintf(pids, sizeof pids, "%.400s", text);
	kill_it("pid");
	usleep(50000);
	cr_expect_eq(sh("timeout 5 build/shoal start 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("timeout 10 build/shoal stop --now 2>&1"), 0, "%s", text);
	/* At once: stop waits for them. Nobody is left to end by himself when he sees that he is alone. */
	sh("for p in %s; do sed 's/.*) //' /proc/$p/stat 2>/dev/null | grep -q '^[^ZX]' && echo $p is left: $(cat /proc/$p/comm); "
	   "done",
	   pids);
	cr_expect_null(strstr(text, "is left"), "%s", text);
	cr_expect_eq(sh("ls %s", dir), 0);
	cr_expect_str_eq(text, "s.log\n", "%s", text);
	/* Nobody can find it again: it ends by itself. */
	cr_expect_eq(sh("timeout 5 build/shoal start --procs 2 2>&1"), 0, "%s", text);
	int zygote = pid_of("zygote");
	kill_it("pid");
	sh("rm %s/s.keeper", dir);
	usleep(2500000);
	cr_expect_neq(sh("sed 's/.*) //' /proc/%d/stat 2>/dev/null | grep -v '^Z'", zygote), 0, "%s", text);
	cr_expect_eq(sh("timeout 5 build/shoal start --procs 2 2>&1"), 0, "%s", text);
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

Test(survive, a_module_that_always_crashes_is_refused_for_a_while, .init = start_short, .fini = stop, .timeout = 60)
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
	usleep(4500000);
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so exit 2>&1"), 17, "%s", text);
}

/* T11: what others get done while somebody submits such a module again and again, against what they get done without. */
Test(survive, a_module_that_always_crashes_does_not_hold_up_others, .init = start_short, .fini = stop, .timeout = 60)
{
	int calm, disturbed;

	how_many(0.3);
	calm = how_many(2.5);
	sh("(while [ ! -e %s/enough ]; do build/shoal run build/tests/modules/basic/crash.so null; sleep 0.05; done) >/dev/null 2>&1 &",
	   dir);
	disturbed = how_many(2.5);
	sh("touch %s/enough; sleep 0.2", dir);
	fprintf(stderr, "with a module that always crashes: %d tasks, without: %d (%.0f %%)\n", disturbed, calm,
		disturbed * 100.0 / calm);
	cr_expect_gt(calm, 20);
	cr_expect_gt(disturbed, calm / 4); /* the figure is told above; this is for machines with other work */
}

/* ---- what is left ---- */

static int lines_of(const char *command)
{
	sh("%s", command);
	return atoi(text);
}

/* T8: what workers and tasks had is back, however they ended. */
Test(survive, nothing_is_left_of_those_who_were_killed, .init = start_short, .fini = stop, .timeout = 60)
{
	static const char *const how[] = {"null", "overflow", "abort", "kill", "exit", "loop", "isolated"};
	char fds[128], memory[] = "build/shoal stats --json | tr ',' '\\n' | sed -n 's/ \"memory_used\": //p'";
	int before, used, after = 0;

	setenv("SHOAL_DEBUG", "nodelay", 1);
	cr_expect_eq(sh("build/shoal stop --now && build/shoal start --procs 2 2>&1"), 0, "%s", text);
	sh("build/shoal run build/tests/modules/basic/crash.so exit; build/shoal run build/tests/modules/basic/work.so");
	usleep(200000);
	snprintf(fds, sizeof fds, "ls /proc/%d/fd | wc -l", pid_of("zygote"));
	before = lines_of(fds) - FDS_OF_A_WORKER * count_workers();
	used = lines_of(memory);
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < sizeof how / sizeof *how; i++)
			if (round < 2 || i > 3)
				sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so %s 2>&1", how[i]);
		for (int k = 0; k < 20; k++) {
			kill(worker_pid(), SIGKILL);
			usleep(10000);
		}
		cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/survive/ticks.so 20 1 2>&1"), 7, "%s",
			     text);
	}
	for (int i = 0; i < 100 && (after = lines_of(fds) - FDS_OF_A_WORKER * count_workers()) != before; i++)
		usleep(20000);
	cr_expect_eq(after, before, "descriptors: %d before, %d after", before, after);
	cr_expect_eq(lines_of(memory), used);
	cr_expect_leq(count_workers(), 8);
}

/* ---- several at once ---- */

static const char *const whom[4] = {"pid", "zygote", "medic", "worker"};

/* Of a process that lives right now; a medic or worker may be on its way. */
static int pid_for_sure(const char *name)
{
	for (int i = 0; i < 100; i++) {
		int pid = 0;

		if (strcmp(name, "worker") != 0)
			pid = pid_of(name);
		else if (
			sh("build/shoal workers --json 2>/dev/null | tr '{' '\\n' | sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p' | head -n 1") ==
			0)
			pid = atoi(text);
		if (pid > 1 && kill(pid, 0) == 0)
			return pid;
		usleep(10000);
	}
	return 0;
}

/* All four within 50 ms, in that order. Who is gone by himself, another has taken his place. */
static void kill_in_order(const int *order, unsigned gap_us)
{
	int pid[4];

	for (int i = 0; i < 4; i++)
		cr_assert_gt(pid[i] = pid_for_sure(whom[i]), 1, "no pid of the %s: %s", whom[i], text);
	for (int i = 0; i < 4; i++) {
		kill(pid[order[i]], SIGKILL);
		usleep(gap_us);
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
		kill_in_order(order, n % 2 ? 12000 : 0);
		for (int i = 0; i < 4; i++)
			cr_expect_eq(
				sh("timeout 30 build/shoal wait %ld 2>&1 || { e=$?; build/shoal logs %ld 2>&1; exit $e; }",
				   id[i], id[i]),
				i % 2 ? 0 : 7, "%s %s %s %s, task %d: %s", whom[order[0]], whom[order[1]],
				whom[order[2]], whom[order[3]], i, text);
		cr_expect_eq(sh("build/shoal check 2>&1"), 0, "%s %s %s %s: %s", whom[order[0]], whom[order[1]],
			     whom[order[2]], whom[order[3]], text);
	}
}

SURVIVE_TEST(whatever_the_order_in_which_all_kinds_die)
{
	every_order(1);
}

/* Who is cloned by one and found by the next may not have come yet: it sits down, or another, and never both. */
SURVIVE_TEST(whatever_the_order_and_clones_come_late)
{
	setenv("SHOAL_DEBUG", "nodelay,late=30", 1);
	cr_expect_eq(sh("build/shoal stop --now && build/shoal start --procs 2 2>&1"), 0, "%s", text);
	every_order(2);
	cr_expect_eq(sh("grep 'check failed' %s/s.log", dir), 1, "%s", text);
}

/* Some of those who are there, in any order, with pauses; who is killed twice is gone by then. */
static unsigned kill_some(unsigned seed)
{
	unsigned n = 1 + (unsigned)rand() % 4;
	int pid[4];

	for (int i = 0; i < 4; i++)
		pid[i] = pid_for_sure(whom[i]);
	for (unsigned i = 0; i < n; i++) {
		int victim = pid[rand() % 4];

		if (victim > 1)
			kill(victim, SIGKILL);
		usleep((useconds_t)(rand() % 4) * 10000);
	}
	cr_expect(sh("timeout 20 build/shoal start 2>&1") == 0 || strstr(text, "runs already"), "seed %u: %s", seed,
		  text);
	return n;
}

SURVIVE_TEST(whoever_and_whenever)
{
	unsigned seed = (unsigned)time(NULL), kills = 0;

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
		}
		for (int again = rand() % 4; again >= 0; again--)
			kills += kill_some(seed);
		for (int i = 0; i < 3; i++)
			cr_expect_eq(sh("timeout 30 build/shoal wait %ld 2>&1", id[i]), 0,
				     "seed %u, round %d, task %d: %s", seed, round, i, text);
		cr_expect_eq(sh("timeout 20 build/shoal check 2>&1"), 0, "seed %u, round %d: %s", seed, round, text);
	}
	fprintf(stderr, "seed %u: %u kills, 45 tasks, none lost\n", seed, kills);
}
