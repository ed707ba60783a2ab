/*
 * go_test.c - cases of Go's own tests of crashes, dumps, deadlocks and counts, in modules/go/more.c.
 */
#include "tests/proc/proc.h"

#include <signal.h>

#define MORE "build/tests/modules/go/more.so"
#define GO_TEST(name) Test(go, name, .init = start, .fini = stop, .timeout = TEST_S)

static void is_a_deadlock(const char *mode)
{
	static const char says[] = "fatal error: all goroutines are asleep - deadlock!\n";

	cr_expect_eq(sh("timeout 20 build/shoal run " MORE " %s 2>&1", mode), 2, "%s: %s", mode, text);
	cr_expect_eq(strncmp(text, says, sizeof says - 1), 0, "%s: %s", mode, text); /* it begins with that */
}

/* TestLockedDeadlock, TestLockedDeadlock2. */
GO_TEST(a_deadlock_is_found_although_a_goroutine_is_pinned)
{
	is_a_deadlock("pinned_deadlock");
	is_a_deadlock("pinned_deadlock2");
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
}

/* TestNetpollDeadlock. */
GO_TEST(a_wait_for_the_network_is_not_a_deadlock)
{
	cr_expect_eq(sh("build/shoal submit " MORE " net_wait 2>&1"), 0, "%s", text);
	WAIT_FOR(waiting_for("IO wait") == 1);
	/* A deadlock that begins later is reported: this one would have been by then. */
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/see/run.so dead 1 0 2>&1"), 2, "%s", text);
	cr_expect_eq(sh("build/shoal logs 1 2>&1"), 0);
	cr_expect_str_eq(text, "waits\n");
	cr_expect_eq(count_in("tasks", "tasks", "status", "running"), 1, "%s", text);
	cr_expect_eq(sh("build/shoal cancel 1 2>&1; timeout 20 build/shoal wait 1 2>&1"), 130, "%s", text);
}

/* TestCrashHandler: four times, in the root and in goroutines that are pinned and new. */
GO_TEST(a_handler_catches_faults_wherever_they_are)
{
	cr_expect_eq(sh("timeout 20 build/shoal run " MORE " faults 2>&1"), 0, "%s", text);
	cr_expect_str_eq(text, "4\n");
}

static int access_in_dir(const char *name)
{
	char path[96];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	return access(path, F_OK);
}

/* TestSpuriousWakeupsNeverHangSemasleep: all workers get a signal each millisecond. */
GO_TEST(signals_do_not_keep_a_sleeper_asleep)
{
	unsigned workers, sent = 0;
	int pid[128];

	WAIT_FOR(count_workers() == number_in("info", "workers"));
	workers = worker_pids(pid, 128);
	sh("(timeout 30 build/shoal run " MORE " naps >%s/naps 2>&1; echo $? >%s/code) >/dev/null 2>&1 &", dir, dir);
	for (double end = now_ms() + WAIT_S * 1e3; access_in_dir("code") && now_ms() < end; pass_ms(1))
		for (unsigned i = 0; i < workers; i++)
			sent += kill(pid[i], SIGURG) == 0;
	until("[ -s %s/code ]", dir);
	cr_expect_eq(sh("cat %s/naps; exit $(cat %s/code)", dir, dir), 0, "%s", text);
	cr_expect_lt(atoi(text), 2000, "%s", text);
	cr_expect_geq(sent, workers, "only %u signals were sent", sent);
}

/* TestTracebackParentChildGoroutines, TestMainGoroutineID. */
GO_TEST(a_dump_names_the_goroutine_and_who_made_it)
{
	cr_expect_eq(sh("build/shoal submit " MORE " child 2>&1"), 0, "%s", text);
	WAIT_FOR(waiting_for("sleep") == 2);
	cr_expect_eq(sh("build/shoal dump 1 2>&1"), 0, "%s", text);
	cr_expect_eq(strncmp(text, "goroutine 1 \"main\" [sleep", 25), 0, "%s", text);
	cr_expect_eq(sh("build/shoal dump 2 2>&1"), 0, "%s", text);
	cr_expect_eq(strncmp(text, "goroutine 2 [sleep", 18), 0, "%s", text);
	cr_expect_not_null(strstr(text, "in goroutine 1\n"), "%s", text);
}

static long ticks(void)
{
	unsigned n = 0;
	int pid[128];
	long sum = 0;

	n = worker_pids(pid, 128);
	for (unsigned i = 0; i < n; i++) {
		sh("awk '{print $14 + $15}' /proc/%d/stat", pid[i]);
		sum += atol(text);
	}
	return sum;
}

/* TestReadMetricsSched, TestCPUMetricsSleep: a hundred that sleep are counted, and use no processor. */
GO_TEST(sleepers_are_counted_and_idle)
{
	long before;

	cr_expect_eq(sh("build/shoal submit " MORE " asleep 2>&1"), 0, "%s", text);
	WAIT_FOR(with_status("waiting") == 101);
	cr_expect_eq(number_in("stats", "goroutines"), 101, "%s", text);
	cr_expect_eq(number_in("stats", "goroutines_created"), 101, "%s", text);
	WAIT_FOR(all_parked(101));
	before = ticks();
	pass_ms(2000);
	cr_expect_leq(ticks() - before, 2, "they sleep, and use the processor");
}
