/*
 * cli_test.c - what the command line says when something went wrong, and when it is asked wrongly.
 */
#include "tests/proc/proc.h"

#include <sys/stat.h>

#define CLI_TEST(name) Test(cli, name, .init = start, .fini = stop, .timeout = 60)

static void expect_text(const char *what)
{
	cr_expect_not_null(strstr(text, what), "no '%s' in: %s", what, text);
}

/* ---- crash records ---- */

CLI_TEST(a_crash_is_told_with_function_file_and_line)
{
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/survive_crash.so deep 2>&1"), 139, "%s", text);
	cr_expect_eq(sh("build/shoal crash 1 2>&1"), 0, "%s", text);
	expect_text("[signal SIGSEGV code=1 addr=0x14 pc=0x");
	expect_text("\"digger\"");
	expect_text("third(...)");
	expect_text("second(...)");
	expect_text("first(...)");
	expect_text("tests/modules/survive_crash.c:15 ");
	expect_text(" rip 0x");
	cr_expect_eq(sh("build/shoal crash --json"), 0);
	expect_text("\"function\": \"third\"");
	expect_text("survive_crash.c\", \"line\": 15");
	cr_expect_eq(sh("build/shoal crash 999"), 0);
	cr_expect_str_empty(text);
	sh("cat %s/s.log", dir);
	expect_text("crash: task 1 goroutine 2 worker ");
	/* Its worker is long gone, and so is the supervisor that saw it. */
	sh("kill -9 $(build/shoal info --json | tr ',' '\\n' | sed -n 's/ \"pid\": //p')");
	cr_expect_eq(sh("build/shoal start 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal crash 1"), 0, "%s", text);
	expect_text("tests/modules/survive_crash.c:15 ");
}

/* No frame pointer to follow: the tables that the compiler left, and the copy of the stack. */
CLI_TEST(a_crash_is_unwound_without_frame_pointers)
{
	sh("cc -shared -fPIC -O2 -g -fomit-frame-pointer -Icore -o %s/bare.so tests/modules/survive_crash.c", dir);
	cr_expect_eq(sh("timeout 20 build/shoal run %s/bare.so deep 2>&1", dir), 139, "%s", text);
	cr_expect_eq(sh("build/shoal crash 1 2>&1"), 0, "%s", text);
	expect_text("third(...)");
	expect_text("second(...)");
	expect_text("first(...)");
	expect_text("deep(...)");
	cr_expect_eq(sh("timeout 20 build/shoal run %s/bare.so jump 2>&1", dir), 139, "%s", text);
	cr_expect_eq(sh("build/shoal crash 2 2>&1"), 0, "%s", text);
	expect_text("pc=0x18");
	expect_text("shoal_main(...)");
}

CLI_TEST(a_stack_overflow_says_so_whatever_the_size_of_the_frame)
{
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/crash.so overflow 2>&1"), 139, "%s", text);
	expect_text("stack overflow: goroutine stack exceeds 1048576-byte limit");
	sh("cc -shared -fPIC -O2 -Icore -fno-stack-clash-protection -o %s/o.so tests/modules/crash.c", dir);
	cr_expect_eq(sh("timeout 20 build/shoal run %s/o.so overflow 2>&1", dir), 139, "%s", text);
	expect_text("stack overflow: goroutine stack exceeds 1048576-byte limit");
}

static int by_size(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return x < y ? -1 : x > y;
}

/* T3: from the store that faults to the record that is complete. Also: the last 1,000 are kept. */
CLI_TEST(a_crash_is_recorded_in_microseconds_and_a_thousand_are_kept)
{
	static long ns[1200];
	int n = 0;

	cr_expect_eq(sh("build/shoal stop --now && SHOAL_DEBUG=nodelay build/shoal start --procs 2 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("timeout 40 build/shoal run build/tests/modules/survive_crash.so timed 1010 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal crash --json | tr ',' '\\n' | grep -E '\"(address|time_ns)\"' | sed 's/.*: //;s/\"//g'"), 0);
	for (char *at = strtok(text, "\n"), *when; at && n < 1200; at = strtok(NULL, "\n"), n++) {
		when = strtok(NULL, "\n");
		cr_assert_not_null(when);
		ns[n] = (atol(when) & 0xffffffffff) - (strtol(at, NULL, 16) & 0xffffffffff);
		cr_assert_gt(ns[n], 0);
	}
	cr_assert_eq(n, 1000, "%d", n);
	qsort(ns, (size_t)n, sizeof *ns, by_size);
	fprintf(stderr, "SIGSEGV to crash record: p50 %.1f us, p99 %.1f us, of %d\n", (double)ns[n / 2] / 1e3,
		(double)ns[n * 99 / 100] / 1e3, n);
	cr_expect_lt(ns[n / 2], 1000000);
}
