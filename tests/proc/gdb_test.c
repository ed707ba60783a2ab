/*
 * gdb_test.c - tools/gdb/shoal.py: goroutines and their frames in a debugger.
 */
#include "tests/proc/proc.h"

#define GDB \
	"timeout 100 gdb -nx -batch -p $(build/shoal workers | awk '$3 == \"idle\" { print $2; exit }') -x tools/gdb/shoal.py"

/* Waits until the task has a goroutine that waits for that reason; returns its number. */
static long goroutine_that_waits_for(const char *reason)
{
	WAIT_FOR(sh("build/shoal ps | grep -F '%s' | awk '{ print $1; exit }'", reason) == 0 && atol(text) > 0);
	return atol(text);
}

Test(gdb, a_parked_goroutine_shows_its_frames_with_lines_of_the_module, .init = start, .fini = stop, .timeout = 240)
{
	long gid;

	if (sh("command -v gdb"))
		cr_skip_test("gdb is not installed");
	cr_assert_eq(sh("build/shoal submit build/tests/modules/see/life.so reasons 1 60000 2>&1"), 0, "%s", text);
	gid = goroutine_that_waits_for("chan receive (nil chan)");
	cr_assert_eq(sh(GDB " -ex 'info goroutines' -ex 'goroutine %ld bt' 2>&1", gid), 0, "%s", text);
	cr_expect_not_null(strstr(text, "chan receive (nil chan)"), "the list has the wait reason:\n%s", text);
	cr_expect_not_null(strstr(text, "shoal_recv"), "the frames begin in the runtime:\n%s", text);
	cr_expect_not_null(strstr(text, "modules/see/life.c:"), "a frame of the module has its line:\n%s", text);
	sh(GDB " -ex 'goroutine 4000000 bt' 2>&1");
	cr_expect_not_null(strstr(text, "no goroutine 4000000"), "%s", text);
}
