/*
 * signal_test.c - signals of a task: as POSIX has them for a process with threads.
 */
#include "tests/proc/proc.h"

#include <signal.h>

static void is_ok(const char *module, const char *arg)
{
	cr_expect_eq(sh("timeout 100 build/shoal run build/tests/modules/signal/%s.so %s 2>&1", module, arg), 0,
		     "%s: %s", arg, text);
	cr_expect_str_eq(text, "ok\n", "%s: %s", arg, text);
}

PROC_TEST(a_broken_pipe_sends_sigpipe_whichever_call_writes)
{
	is_ok("posix", "pipe");
	cr_expect_eq(sh("build/shoal run build/tests/modules/signal/posix.so pipe-default 2>&1"), 128 + SIGPIPE, "%s",
		     text);
	cr_expect(!strstr(text, "still here"), "%s", text);
}

PROC_TEST(handlers_run_with_the_masks_and_stacks_they_ask_for)
{
	static const char *const cases[] = {"mask", "stack", "historical"};

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		is_ok("posix", cases[i]);
}

PROC_TEST(signals_are_queued_and_reach_the_thread_they_are_for)
{
	static const char *const cases[] = {"queue", "thread", "child", "program"};

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		is_ok("posix", cases[i]);
}

PROC_TEST(a_handler_ends_a_blocked_call_unless_it_restarts)
{
	is_ok("posix", "restart");
	is_ok("posix", "alarm");
}

PROC_TEST(timers_completions_and_queues_notify_as_they_are_asked_to)
{
	static const char *const cases[] = {"timer", "itimer", "aio", "cancel", "queue"};

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		is_ok("notices", cases[i]);
}
