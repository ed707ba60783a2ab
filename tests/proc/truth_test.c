/*
 * truth_test.c - the reading verbs agree about how a goroutine ended, and show names, tasks and states as they are.
 */
#include "tests/proc/proc.h"

#include <signal.h>

#define FALLS "build/tests/modules/see/falls.so"
#define TRUTH_TEST(name) Test(truth, name, .init = start_nodelay, .fini = stop, .timeout = TEST_S)

/* The last transition of the goroutine has this reason, and leads from running to dead; no reason is in `not`. */
static void expect_end(long gid, const char *why, const char * not )
{
	json_t *events, *last, *e;
	size_t i;

	WAIT_FOR(see("life %ld", gid) &&
		 strcmp(json_string_value(json_object_get(see("life %ld", gid), "status")), "dead") == 0);
	events = json_object_get(see("life %ld", gid), "events");
	last = json_array_get(events, json_array_size(events) - 1);
	cr_assert_not_null(last, "goroutine %ld", gid);
	cr_expect_str_eq(json_string_value(json_object_get(last, "to")), "dead");
	cr_expect_str_eq(json_string_value(json_object_get(last, "from")), "running");
	cr_expect_str_eq(json_string_value(json_object_get(last, "why")), why);
	json_array_foreach(events, i, e) cr_expect_neq(strcmp(json_string_value(json_object_get(e, "why")), not ), 0,
						       "goroutine %ld: %s", gid, not );
}

TRUTH_TEST(life_of_a_goroutine_that_ended_its_task_says_how)
{
	cr_expect_eq(sh("timeout 60 build/shoal run " FALLS " crash 2>/dev/null"), 139, "%s", text);
	expect_end(atol(text), "crashed", "cancelled");
	cr_expect_eq(sh("timeout 60 build/shoal run --attempts 2 " FALLS " crash 2>/dev/null"), 139, "%s", text);
	expect_end(atol(text), "crashed", "cancelled");
	cr_expect_eq(sh("timeout 60 build/shoal run " FALLS " lost 2>/dev/null"), 137, "%s", text);
	expect_end(atol(text), "lost", "cancelled");
}

TRUTH_TEST(life_of_a_bystander_says_that_it_was_cancelled)
{
	long gid;

	cr_expect_eq(sh("timeout 60 build/shoal run " FALLS " bystand 2>/dev/null"), 139, "%s", text);
	gid = atol(text);
	expect_end(gid, "cancelled", "crashed");
}

TRUTH_TEST(run_prints_the_stack_of_a_crash_on_stderr)
{
	char *at;

	cr_expect_eq(sh("timeout 60 build/shoal run " FALLS " crash 2>&1 >/dev/null"), 139, "%s", text);
	cr_expect(strstr(text, "crashed: SIGSEGV") && strstr(text, "\"boom\" [running]:\n"), "%s", text);
	at = strstr(text, "innermost_call(...)\n\t");
	cr_assert_not_null(at, "%s", text);
	cr_expect_not_null(strstr(at, "falls.c:"), "%s", text);
	cr_expect_not_null(strstr(at, "middle_call(...)\n"), "%s", text);
	cr_expect_not_null(strstr(at, "\ncrash(...)\n"), "%s", text);
}

/* A supervisor that run starts for one task is gone afterwards, so no verb can show the stack later. */
Test(truth, run_with_a_private_supervisor_prints_at_most_16_frames, .timeout = TEST_S)
{
	unsigned frames = 0;

	make_dir();
	cr_expect_eq(sh("timeout 60 build/shoal run " FALLS " deep 2>&1"), 139, "%s", text);
	for (const char *at = text; (at = strstr(at, "(...)\n")); at++)
		frames++;
	cr_expect_eq(frames, 16u, "%s", text);
	cr_expect(strstr(text, "innermost_call(...)") && strstr(text, "more frames"), "%s", text);
	sh("rm -rf %s", dir);
}

TRUTH_TEST(run_prints_no_stack_when_nothing_crashed)
{
	cr_expect_eq(sh("timeout 60 build/shoal run " FALLS " lost 2>&1 >/dev/null"), 137, "%s", text);
	cr_expect_null(strstr(text, "[running]"), "%s", text);
}

TRUTH_TEST(names_beyond_ascii_are_shown_and_never_cut_inside_a_letter)
{
	cr_assert_eq(sh("build/shoal submit --name fußgänger " FALLS " names"), 0, "%s", text);
	WAIT_FOR(count_in("ps", "goroutines", "name", "möwe-été") == 1);
	cr_expect_eq(count_in("ps", "goroutines", "name", "日本語のとても長い名"), 1u, "%s", text);
	cr_expect_eq(count_in("ps", "goroutines", "name", "plain"), 1u, "%s", text);
	cr_expect_eq(sh("build/shoal dump 2>&1"), 0, "%s", text);
	cr_expect(strstr(text, "\"möwe-été\" [sleep") && strstr(text, "\nin task 1\n"), "%s", text);
}

TRUTH_TEST(a_worker_in_a_system_call_is_not_idle)
{
	sh("mkfifo %s/fifo", dir);
	cr_assert_eq(sh("build/shoal submit " FALLS " fifo %s/fifo", dir), 0, "%s", text);
	WAIT_FOR(count_in("workers", "workers", "status", "syscall") == 2);
	cr_expect_eq(sh("build/shoal cancel 1 2>&1"), 0, "%s", text);
}

TRUTH_TEST(procs_says_when_it_sets_fewer)
{
	cr_expect_eq(sh("build/shoal procs 1000 2>&1 >/dev/null"), 0, "%s", text);
	cr_expect(strstr(text, "there cannot be 1000"), "%s", text);
	cr_expect_eq(sh("build/shoal procs 3 2>&1"), 0, "%s", text);
	cr_expect_str_eq(text, "3\n");
	cr_expect_eq(sh("SHOAL_SOCKET=%s/t build/shoal start --procs 1000 2>&1", dir), 0, "%s", text);
	cr_expect(strstr(text, "there cannot be 1000"), "%s", text);
	cr_expect_eq(sh("SHOAL_SOCKET=%s/t build/shoal stop 2>&1", dir), 0, "%s", text);
}

/* No slice of a goroutine that crashed lasts longer than it lived: the next bomb starts 20 ms later. */
TRUTH_TEST(a_trace_ends_the_slice_of_a_goroutine_that_crashed)
{
	unsigned dead = 0, marks = 0;
	json_t *trace, *e;
	char path[100];
	size_t i;

	cr_assert_eq(sh("build/shoal submit " FALLS " bombs"), 0, "%s", text);
	snprintf(path, sizeof path, "%s/trace", dir);
	cr_expect_eq(sh("timeout 60 build/shoal trace --seconds 2 -o %s 2>&1", path), 0, "%s", text);
	cr_expect_eq(sh("build/shoal cancel 1 2>&1"), 0, "%s", text);
	trace = json_load_file(path, 0, NULL);
	cr_assert_not_null(trace);
	json_array_foreach(json_object_get(trace, "traceEvents"), i, e)
	{
		const char *name = json_string_value(json_object_get(e, "name")),
			   *ph = json_string_value(json_object_get(e, "ph"));
		json_t *args = json_object_get(e, "args");
		const char *then = json_string_value(json_object_get(args, "then"));

		marks += strcmp(ph, "i") == 0 && strcmp(name, "crashed") == 0;
		if (strcmp(ph, "X") != 0 || !then)
			continue;
		cr_expect_neq(strcmp(then, "?"), 0, "%s has no end", name);
		dead += strcmp(then, "dead") == 0 &&
			strcmp(json_string_value(json_object_get(args, "why")), "crashed") == 0;
	}
	cr_expect_gt(dead, 3u);
	cr_expect_eq(marks, dead);
	json_decref(trace);
}

/* ---- top ---- */

static bool has_script(void)
{
	return sh("command -v script") == 0;
}

/* Shows top in a terminal of that size for a moment; what it drew is in text. */
static void show_top(int rows, int columns)
{
	sh("(sleep 1.5; printf q) | LC_ALL=C.UTF-8 TERM=xterm timeout 60 script -qec "
	   "'stty rows %d cols %d; build/shoal top' /dev/null",
	   rows, columns);
}

TRUTH_TEST(top_says_how_many_rows_do_not_fit)
{
	if (!has_script())
		cr_skip_test("no program 'script' to have a terminal with");
	for (int i = 0; i < 15; i++)
		cr_assert_eq(sh("build/shoal submit --name fußgänger-%d " FALLS " names", i), 0, "%s", text);
	show_top(24, 80);
	cr_expect(strstr(text, "more of 15 tasks"), "%s", text);
	cr_expect(strstr(text, "fußgänger-0"), "%s", text);
	show_top(60, 80);
	cr_expect_null(strstr(text, "more of 15 tasks"), "%s", text);
	cr_expect(strstr(text, "fußgänger-14"), "%s", text);
}
