/*
 * thread_test.c - threads are goroutines, and what a thread has in C and C++, a goroutine has: thread-local
 * variables, values of keys.
 */
#include "tests/proc/proc.h"

static void run_ok(const char *module, const char *arg)
{
	cr_expect_eq(sh("timeout 50 build/shoal run build/tests/modules/thread/%s.so %s 2>&1", module, arg), 0,
		     "%s %s: %s", module, arg, text);
}

PROC_TEST(thread_local_variables_are_the_goroutines)
{
	static const char *const cases[] = {"values", "keys", "coroutine", "root", "values"};

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		run_ok("tls", cases[i]);
	cr_expect_eq(sh("for i in 1 2 3 4; do build/shoal submit build/tests/modules/thread/tls.so values; done 2>&1"),
		     0, "%s", text);
	cr_expect_eq(
		sh("timeout 50 build/shoal wait $(build/shoal tasks -a --json | grep -o '\"id\": [0-9]*' | cut -c7-) 2>&1"),
		0, "%s", text);
}

PROC_TEST(thread_local_objects_end_with_their_goroutine)
{
	if (sh("command -v g++"))
		return;
	cr_assert_eq(sh("g++ -shared -fPIC -O2 -idirafter core -o %s/m.so tests/modules/thread/variables.cc 2>&1", dir),
		     0, "%s", text);
	for (int i = 0; i < 5; i++) {
		cr_expect_eq(sh("timeout 20 build/shoal run %s/m.so 2>&1", dir), 0, "%s", text);
		cr_expect_str_eq(
			text,
			"600 made, 600 gone, 2 tries, ended\nthe object of the root goroutine\nthe static object\n");
	}
}

PROC_TEST(threads_are_goroutines)
{
	static const char *const cases[] = {"create", "attributes", "c11", "leave", "many 2000"};

	for (unsigned i = 0; i < 3 * sizeof cases / sizeof *cases; i++)
		run_ok("threads", cases[i % (sizeof cases / sizeof *cases)]);
	cr_expect_eq(sh("build/shoal stats --json"), 0);
	cr_expect_not_null(strstr(text, "\"worker_deaths\": 0"), "%s", text);
}

PROC_TEST(the_task_lives_until_its_last_thread_has_ended)
{
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/thread/threads.so exit 2>&1"), 0, "%s", text);
	cr_expect_str_eq(text, "the other thread\nhandlers of exit\n");
}

PROC_TEST(a_thread_that_crashes_ends_the_task)
{
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/thread/threads.so crash 2>&1"), 139, "%s",
		     text);
}

PROC_TEST(a_pointer_into_another_threads_stack_is_good_on_all_workers)
{
	static const char *const cases[] = {"results", "objects", "exchange", "sizes"};

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		run_ok("stacks", cases[i]);
	run_ok("stacks", "held 2000");
}

PROC_TEST(a_thread_that_overflows_its_stack_ends_the_task)
{
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/thread/stacks.so overflow 2>&1"), 139, "%s",
		     text);
	cr_expect(strstr(text, "stack overflow: goroutine stack exceeds 8388608-byte limit"), "%s", text);
	for (int mib = 9; mib < 16; mib += 2) {
		cr_expect_eq(
			sh("timeout 20 build/shoal run build/tests/modules/thread/stacks.so huge %d 2>&1", mib << 20),
			139, "%s", text);
		cr_expect(strstr(text, "stack overflow"), "%s", text);
	}
}

PROC_TEST(threads_of_cplusplus_are_goroutines)
{
	if (sh("command -v g++"))
		return;
	cr_assert_eq(sh("g++ -std=c++20 -shared -fPIC -O2 -o %s/m.so tests/modules/thread/threads.cc 2>&1", dir), 0,
		     "%s", text);
	for (int i = 0; i < 5; i++) {
		cr_expect_eq(sh("timeout 20 build/shoal run %s/m.so 2>&1", dir), 0, "%s", text);
		cr_expect_str_eq(text, "ok\n");
	}
}
