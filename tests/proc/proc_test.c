/*
 * proc_test.c - real supervisors, real workers, used through the command line as a person would.
 *
 * Each test has a supervisor of its own on a socket of its own.
 */
#include "tests/proc/proc.h"

#include <signal.h>

PROC_TEST(runs_and_gives_the_exit_code)
{
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
	cr_expect_str_eq(text, "4000 0\n");
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so exit 2>&1"), 17, "%s", text);
}

PROC_TEST(a_goroutine_keeps_its_stack_and_errno_over_3000_moves)
{
	cr_expect_eq(sh("timeout 200 build/shoal run build/tests/modules/basic/moves.so 3000 2>&1"), 0, "%s", text);
	cr_expect_str_eq(text, "3000 moves\n");
}

PROC_TEST(a_hundred_thousand_goroutines_on_few_windows)
{
	cr_expect_eq(sh("timeout 40 build/shoal run build/tests/modules/basic/many.so 100000 2>&1"), 0, "%s", text);
	cr_expect_str_eq(text, "100000\n");
}

PROC_TEST(globals_and_heap_are_one_for_all_workers)
{
	cr_expect_eq(sh("timeout 40 build/shoal run build/tests/modules/own/globals.so 2>&1"), 0, "%s", text);
	cr_expect_str_eq(text, "1605 1600 2\n", "%s", text); /* two workers took part */
}

PROC_TEST(two_tasks_of_one_module_have_their_own_globals)
{
	cr_expect_eq(sh("for i in 1 2 3; do build/shoal submit build/tests/modules/own/globals.so; done 2>&1"), 0, "%s",
		     text);
	cr_expect_eq(sh("timeout 40 build/shoal wait 1 2 3 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("timeout 40 build/shoal run build/tests/modules/own/globals.so 2>&1"), 0, "%s", text);
}

PROC_TEST(a_module_is_loaded_while_others_are_parked_and_run)
{
	cr_expect_eq(
		sh("mkfifo %s/go && build/shoal submit build/tests/modules/basic/many.so 100000 %s/go 2>&1", dir, dir),
		0, "%s", text);
	cr_expect_eq(sh("build/shoal submit build/tests/modules/own/globals.so 2>&1"), 0, "%s", text);
	WAIT_FOR(number_in("stats", "goroutines") > 10000);
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
	sh("echo >%s/go", dir);
	cr_expect_eq(sh("timeout 40 build/shoal wait 1 2 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal logs 1"), 0);
	cr_expect_str_eq(text, "100000\n");
}

PROC_TEST(crashes_end_as_the_interface_says)
{
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so null 2>&1"), 139, "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so overflow 2>&1"), 139, "%s",
		     text);
	cr_expect(sh("build/shoal crash 2>&1") == 0 && strstr(text, "overflow"), "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so abort 2>&1"), 134, "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so kill 2>&1"), 137, "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so isolated 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so fork 2>&1"), 0, "%s", text);
}

PROC_TEST(a_task_ends_although_a_goroutine_loops)
{
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/crash.so loop 2>&1"), 4, "%s", text);
}

PROC_TEST(work_continues_while_workers_are_killed)
{
	int pid[128];
	unsigned kills = 0;

	cr_expect_eq(
		sh("mkfifo %s/go && build/shoal submit build/tests/modules/basic/many.so 50000 %s/go 2>&1", dir, dir),
		0, "%s", text);
	WAIT_FOR(all_parked(50001)); /* a worker that dies in this state runs no goroutine */
	for (int i = 0; i < 5; i++) {
		unsigned n = worker_pids(pid, 128);

		for (unsigned k = 0; k < n && k < 2; k++)
			kills += kill(pid[k], SIGKILL) == 0;
		WAIT_FOR(number_in("stats", "worker_deaths") >= (long)kills);
	}
	sh("echo >%s/go", dir);
	cr_expect_eq(sh("timeout 40 build/shoal wait 1 2>&1"), 0, "%s", text);
	cr_expect_geq(kills, 5);
}

PROC_TEST(a_module_that_cannot_be_loaded_is_refused_with_the_reason)
{
	cr_expect_eq(sh("build/shoal run /nowhere/x.so 2>&1"), 127, "%s", text);
	cr_expect_eq(sh("build/shoal run /etc/passwd 2>&1"), 126, "%s", text);
	cr_expect_eq(sh("build/shoal run /tmp 2>&1"), 126, "%s", text);
	cr_expect_eq(sh("build/shoal run build/tests/modules/basic/work.so:nobody 2>&1"), 127, "%s", text);
	cr_expect_eq(sh("echo 'int shoal_main(int c, char **v) { return x; }' >%s/bad.c; build/shoal run %s/bad.c 2>&1",
			dir, dir),
		     126, "%s", text);
	cr_expect_not_null(strstr(text, "bad.c:1"), "%s", text);
	cr_expect_eq(
		sh("echo 'int nope(void); int shoal_main(int c, char **v) { return nope(); }' >%s/u.c; build/shoal run %s/u.c 2>&1",
		   dir, dir),
		126, "%s", text);
	cr_expect_eq(
		sh("echo '__attribute__((constructor)) static void f(void) { __builtin_trap(); } int shoal_main(int c, char **v) { return 0; }' >%s/c.c; build/shoal run %s/c.c 2>&1",
		   dir, dir),
		126, "%s", text);
	cr_expect_eq(sh("build/shoal start 2>&1"), 1, "%s", text); /* one runs already */
	cr_expect_eq(sh("build/shoal wait 999 2>&1"), 5, "%s", text);
	cr_expect_eq(sh("build/shoal nonsense 2>&1"), 2, "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/basic/work.so 2>&1"), 0, "%s", text);
}
