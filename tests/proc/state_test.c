/*
 * state_test.c - state that libc keeps for a process is the task's.
 */
#include "tests/proc/proc.h"

Test(state, hidden_state_of_libc_is_the_tasks_on_every_worker, .init = start, .fini = stop, .timeout = 120)
{
	for (int i = 0; i < 4; i++)
		cr_expect_eq(sh("timeout 25 build/shoal run build/tests/modules/state/hidden.so 2>&1"), 0,
			     "round %d: %s", i, text);
}

/* ---- what a task may change about its process ---- */

#define IDENTITY "timeout 30 build/shoal run build/tests/modules/own/identity.so "

Test(state, changes_of_the_process_are_refused_and_say_so, .init = start, .fini = stop, .timeout = 120)
{
	unsigned lines = 0;

	cr_expect_eq(sh(IDENTITY "try 2>&1 >%s/out", dir), 0, "%s", text);
	for (char *at = text; (at = strstr(at, "is refused: ")); at++)
		lines++;
	cr_expect_eq(lines, 19, "one line for each call: %s", text);
	cr_expect_not_null(strstr(text, "shoal: setgroups is refused: it would change a worker"), "%s", text);
	cr_expect_not_null(strstr(text, "pin the goroutine first (shoal_pin)"), "%s", text);
	cr_expect_eq(number_in("stats", "worker_deaths"), 0);
}

/* Changes that anybody may make, and those that need root. */
static const char *const changes[] = {"nice", "priority", "policy", "affinity", "core",
				      "size", "dumpable", "slack",  "persona",	"session",
				      "euid", "uid",	  "gid",    "groups",	"root"};

Test(state, a_pinned_goroutine_changes_its_worker_which_is_replaced, .init = start, .fini = stop, .timeout = 200)
{
	static char first[sizeof text];
	size_t n = sizeof changes / sizeof *changes - (geteuid() == 0 ? 0 : 5);

	cr_assert_eq(sh(IDENTITY "show 2>&1"), 0, "%s", text);
	memcpy(first, text, sizeof first);
	for (size_t i = 0; i < n; i++) {
		const char *how = i % 2 ? "pinned" : "ends";

		cr_expect_eq(sh(IDENTITY "%s %s 2>&1", how, changes[i]), 0, "%s %s: %s", how, changes[i], text);
		cr_expect_str_eq(text, first, "%s %s: %s", how, changes[i], text);
		cr_expect_eq(sh(IDENTITY "show 2>&1"), 0, "%s", text);
		cr_expect_str_eq(text, first, "after %s: %s", changes[i], text);
	}
	cr_expect_eq(number_in("stats", "worker_deaths"), 0);
}

/* A module that is loaded meanwhile has all other workers replaced. */
Test(state, a_changed_worker_stays_while_its_goroutine_waits, .init = start, .fini = stop, .timeout = 120)
{
	cr_assert_eq(sh("build/shoal submit build/tests/modules/own/identity.so waits core %s/go", dir), 0, "%s", text);
	until("build/shoal logs 1 | grep -q '^[0-9]'");
	for (int i = 0; i < 3; i++)
		cr_expect_eq(
			sh("cp build/tests/modules/basic/work.so %s/%d.so; timeout 30 build/shoal run %s/%d.so 2>&1",
			   dir, i, dir, i),
			0, "%s", text);
	cr_expect_eq(sh("touch %s/go; timeout 30 build/shoal wait 1", dir), 0);
	cr_expect_eq(sh("build/shoal logs 1 | grep -c 'core 4096'"), 0);
	cr_expect_str_eq(text, "1\n", "it has its limit after the others have loaded modules: %s", text);
}

Test(state, a_goroutine_is_lost_with_the_worker_that_it_changed, .init = start, .fini = stop, .timeout = 120)
{
	cr_assert_eq(sh("build/shoal submit build/tests/modules/own/identity.so waits core %s/go", dir), 0, "%s", text);
	until("build/shoal logs 1 | grep -q '^[0-9]'");
	cr_expect_eq(sh("kill -9 $(build/shoal logs 1 | head -1)"), 0, "%s", text);
	cr_expect_eq(sh("touch %s/go; timeout 30 build/shoal wait 1", dir), 137, "%s", text);
	cr_expect_neq(sh("build/shoal logs 1 | grep 'core '"), 0, "it went on in a worker without its limit: %s", text);
}

PROC_TEST(system_calls_by_number_act_for_the_task)
{
	cr_expect_eq(sh("timeout 50 build/shoal run build/tests/modules/state/raw.so 2>%s/err", dir), 0, "%s", text);
	cr_expect_str_eq(text, "1 2 3\nok\n");
	cr_expect_eq(sh("cat %s/err", dir), 0);
	cr_expect(strstr(text, "syscall(SYS_fork) is refused") && strstr(text, "syscall(SYS_clone) is refused"), "%s",
		  text);
	cr_expect_eq(sh("timeout 50 build/shoal run build/tests/modules/state/raw.so exit"), 7, "%s", text);
}
