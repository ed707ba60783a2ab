/*
 * programs_test.c - programs that a task starts end with it, in whatever way it ends.
 *
 * When `run` or `wait` returns, none of them is left, so the tests do not wait for that.
 */
#include "tests/proc/proc.h"

#define STARTS "build/tests/modules/programs/starts.so"
/* A program; one whose shell has ended; one in its own group, session, environment; a tree of programs. */
#define SIX(n) \
	"'exec sleep " n "1' 'sleep " n "2 &' 'timeout 9999 sleep " n "3' 'setsid sleep " n "4 & exit' " \
	"'env -i sleep " n "5 &' '(sh -c \"sleep " n "6; true\"; true) & wait'"

static int left(const char *mark)
{
	char pattern[40];

	/* The brackets keep the pattern from finding the shell that looks for it. */
	snprintf(pattern, sizeof pattern, "[s]leep %s", mark);
	sh("ps -eo stat=,args= | grep '%s' | grep -vc '^Z'", pattern);
	return atoi(text);
}

static void wait_for(const char *mark, int n)
{
	WAIT_FOR(left(mark) >= n);
}

#define PROGRAMS_TEST(name) Test(programs, name, .init = start, .fini = stop, .timeout = 60)

PROGRAMS_TEST(end_with_a_task_that_ends_by_itself)
{
	cr_expect_eq(sh("build/shoal run " STARTS " done " SIX("70011")), 0);
	cr_expect_eq(left("70011"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal run " STARTS " exit " SIX("70012")), 3);
	cr_expect_eq(left("70012"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal run " STARTS " crash " SIX("70013") " 2>&1"), 134);
	cr_expect_eq(left("70013"), 0, "%s", text);
}

PROGRAMS_TEST(end_with_a_task_that_is_ended)
{
	sh("build/shoal submit " STARTS " stay " SIX("70021"));
	wait_for("70021", 6);
	cr_expect_eq(sh("build/shoal cancel 1; build/shoal wait 1"), 130);
	cr_expect_eq(left("70021"), 0, "cancel: %s", text);
	cr_expect_eq(sh("build/shoal run --timeout 2s " STARTS " wait 'sleep 700221; true'"), 124);
	cr_expect_eq(left("70022"), 0, "timeout: %s", text);
}

/* The second attempt starts without programs of the first. */
PROGRAMS_TEST(end_with_each_attempt)
{
	cr_expect_eq(sh("build/shoal run --attempts 3 " STARTS " crash 'sleep 700311 & echo once' 2>/dev/null"), 134);
	cr_expect_str_eq(text, "once\nonce\nonce\n");
	cr_expect_eq(left("70031"), 0, "%s", text);
}

PROGRAMS_TEST(of_another_task_continue)
{
	sh("build/shoal submit " STARTS " stay 'sleep 700411'");
	wait_for("70041", 1);
	cr_expect_eq(sh("build/shoal run " STARTS " done 'sleep 700421 &'"), 0);
	cr_expect_eq(left("70042"), 0);
	cr_expect_geq(left("70041"), 1);
}

/* A program is detached if it has its own session and the mark in its environment; either alone is not enough. */
PROGRAMS_TEST(that_detach_themselves_stay)
{
	cr_expect_eq(sh("build/shoal run " STARTS " done 'SHOAL_KEEP_CHILDREN=1 setsid sleep 700511 &' "
			"'SHOAL_KEEP_CHILDREN=1 sleep 700521 &' 'setsid sleep 700531 &'"),
		     0);
	cr_expect_eq(left("70051"), 1, "the detached program has ended");
	cr_expect_eq(left("70052"), 0);
	cr_expect_eq(left("70053"), 0);
	sh("kill $(ps -eo pid=,args= | awk '$2 == \"sleep\" && $3 == 700511 { print $1 }')");
}

static void start_and_leave(void)
{
	start();
}

static void remove_folder(void)
{
	sh("rm -rf %s", dir);
}

Test(programs, end_when_the_supervisor_is_stopped, .init = start_and_leave, .fini = remove_folder, .timeout = 60)
{
	sh("build/shoal submit " STARTS " stay " SIX("70061"));
	wait_for("70061", 6);
	cr_expect_eq(sh("build/shoal stop --now 2>&1"), 0, "%s", text);
	cr_expect_eq(left("70061"), 0, "%s", text);
}

/* No supervisor follows a private one, so its tasks end with it. The medic ends their programs a moment later. */
Test(programs, end_when_a_private_supervisor_is_killed, .timeout = 60)
{
	int run;

	setenv("SHOAL_SOCKET", "/nowhere/shoal-programs", 1);
	sh("build/shoal run " STARTS " stay " SIX("70071") " >/dev/null 2>&1 & echo $!");
	run = atoi(text);
	wait_for("70071", 6);
	cr_expect_eq(sh("kill -9 $(ps -eo pid=,ppid=,args= | awk '$2 == %d && /one-shot/ { print $1 }')", run), 0);
	WAIT_FOR(left("70071") == 0);
}
