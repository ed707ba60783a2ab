/*
 * map_test.c - the address space of a task, on all its workers. The module is tests/modules/files/maps.c.
 */
#include "tests/proc/proc.h"

#define MAP_TEST(name) Test(map, name, .init = start, .fini = stop, .timeout = 120)
#define MODULE "build/tests/modules/files/maps.so"

static void runs(const char *what)
{
	cr_expect_eq(sh("timeout 60 build/shoal run " MODULE " %s %s/f 2>&1", what, dir), 0, "%s: %s", what, text);
	cr_expect_str_eq(text, "ok\n");
}

static void uses_nothing(void)
{
	cr_expect_eq(number_in("stats", "memory_used"), 0, "%s", text);
	cr_expect_eq(number_in("stats", "worker_deaths"), 0, "%s", text);
}

MAP_TEST(a_mapping_made_on_one_worker_is_there_on_all)
{
	static const char *const cases[] = {"seen", "refused", "exec", "protect", "unmap", "fixed", "remap"};

	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		runs(cases[i]);
	uses_nothing();
}

MAP_TEST(mappings_of_files_are_coherent)
{
	runs("private");
	runs("shared");
	runs("calls");
	uses_nothing();
}

MAP_TEST(madvise_mlock_and_brk_act_on_all_workers)
{
	runs("advise");
	runs("locked");
	uses_nothing();
}

MAP_TEST(many_mappings_of_many_goroutines)
{
	runs("crowd");
	runs("many");
	uses_nothing();
}

/* Tasks by turns on the same workers, each with mappings, some at the same address. */
MAP_TEST(tasks_do_not_see_each_others_mappings)
{
	cr_expect_eq(
		sh("for i in 1 2 3; do for c in fixed unmap leave crowd protect seen; do "
		   "build/shoal submit " MODULE " $c %s/f$i || exit; done; done >%s/ids; "
		   "for i in $(cat %s/ids); do timeout 60 build/shoal wait $i || { build/shoal logs $i; exit 1; }; done",
		   dir, dir, dir),
		0, "%s", text);
	uses_nothing();
}

MAP_TEST(what_a_task_has_mapped_ends_with_it)
{
	for (int i = 0; i < 20; i++)
		runs("leave");
	uses_nothing();
}

Test(map, mapped_memory_counts_against_the_limit, .timeout = 120)
{
	start_options("--procs 2 --memory 96M");
	runs("limit");
	runs("limit");
	uses_nothing();
	stop();
}
