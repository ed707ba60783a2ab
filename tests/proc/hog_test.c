/*
 * hog_test.c - a goroutine that computes in the C library, in the runtime or in code that it has written itself keeps
 * nobody from running, and is not ended for it.
 */
#include "tests/proc/proc.h"

#define HOG "build/tests/modules/see/hog.so"
#define LATE_MS \
	500 /* without preemption it is late by the whole time that the hogs compute; a busy machine costs tens of ms */

PROC_TEST(others_run_beside_a_goroutine_that_computes)
{
	char kinds[40][16];
	unsigned n = 0;

	cr_assert_eq(sh("build/shoal run " HOG " kinds"), 0, "%s", text);
	for (char *k = strtok(text, "\n"); k && n < 40; k = strtok(NULL, "\n"))
		snprintf(kinds[n++], sizeof *kinds, "%s", k);
	cr_assert_geq(n, 10);
	for (unsigned i = 0; i < n; i++) {
		long rounds = 0;
		double late = 1e9;

		cr_expect_eq(sh("timeout 50 build/shoal run " HOG " %s 400 2>&1", kinds[i]), 0, "%s: %s", kinds[i],
			     text);
		cr_expect_eq(sscanf(text, "%ld rounds, %lf ms late", &rounds, &late), 2, "%s: %s", kinds[i], text);
		cr_expect(rounds >= 2 && late < LATE_MS, "%s: %s", kinds[i], text);
	}
}

/* A reader asks the goroutine to stop, finds it without its P in the C library, and withdraws the request. */
PROC_TEST(stacks_are_read_while_goroutines_compute)
{
	cr_assert_eq(sh("build/shoal submit " HOG " strlen 4000"), 0, "%s", text);
	WAIT_FOR(with_status("running") + with_status("syscall") >= 2);
	for (int i = 0; i < 40; i++)
		cr_expect_eq(sh("build/shoal dump 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("timeout 40 build/shoal wait 1 2>&1"), 0, "%s", text);
	cr_expect_eq(number_in("stats", "worker_deaths"), 0);
}

/* It has no P, and stands in a call that takes minutes. */
PROC_TEST(a_long_call_of_the_c_library_ends_with_its_task)
{
	cr_expect_eq(sh("timeout 40 build/shoal run --timeout 1s " HOG " endless 100000 2>&1"), 124, "%s", text);
	cr_assert_eq(sh("build/shoal submit " HOG " endless 100000"), 0, "%s", text);
	WAIT_FOR(with_status("syscall") >= 1);
	cr_expect_eq(sh("build/shoal run " HOG " strlen 100 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal cancel 2 && timeout 40 build/shoal wait 2 2>&1"), 130, "%s", text);
}
