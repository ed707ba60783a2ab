/*
 * memory_test.c - the limit, what tasks leave behind, and libraries that keep memory of their own.
 */
#include "tests/proc/proc.h"

static void start_small(void)
{
	make_dir();
	cr_assert_eq(sh("build/shoal start --procs 2 --memory 64M 2>&1"), 0, "%s", text);
}

#define MEMORY_TEST(name) Test(memory, name, .init = start_small, .fini = stop, .timeout = TEST_S)
#define MiB (1024 * 1024)

/* Memory that is free goes back to the machine a little later. */
static void comes_down(const char *key, long to)
{
	WAIT_FOR(number_in("stats", key) <= to);
}

static long memory_of_first_task(void)
{
	json_t *task = json_array_get(json_object_get(see("tasks"), "tasks"), 0);

	return (long)json_integer_value(json_object_get(task, "memory_used"));
}

MEMORY_TEST(the_limit_is_met_with_enomem_and_nothing_else)
{
	long before = number_in("stats", "memory_used");

	cr_expect_eq(sh("build/shoal submit build/tests/modules/memory/hungry.so steady 1500 2>&1"), 0, "%s", text);
	WAIT_FOR(memory_of_first_task() > 0);
	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/memory/hungry.so eat 2>&1"), 0, "%s", text);
	cr_expect_str_eq(text, "much\n");
	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/memory/hungry.so keep 2>&1"), 0, "%s", text);
	cr_expect_str_eq(text, "kept\n");
	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/memory/hungry.so isolated 2>&1"), 0, "%s",
		     text);
	cr_expect_str_eq(text, "told\n");
	cr_expect_eq(sh("timeout 30 build/shoal wait 1 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal logs 1"), 0);
	cr_expect_str_eq(text, "steady\n");
	comes_down("memory_used", before);
	comes_down("memory_committed", 40 * MiB);
}

/*
 * A stack that does not fit into the reserve either ends its goroutine and its task; the runtime and other tasks
 * continue.
 */
MEMORY_TEST(a_stack_without_memory_is_a_crash_of_its_goroutine)
{
	long before = number_in("stats", "memory_used");

	cr_expect_eq(sh("build/shoal submit build/tests/modules/memory/hungry.so steady 1500 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/memory/hungry.so park 2>&1"), 134, "%s", text);
	cr_expect(strstr(text, "crashed: out of memory") && !strstr(text, "all of them"), "%s", text);
	cr_expect_eq(sh("timeout 30 build/shoal wait 1 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/memory/hungry.so eat 2>&1"), 0, "%s", text);
	comes_down("memory_used", before);
}

/*
 * Libraries in a worker may cache blocks of ended tasks. These blocks are not used again before the worker is
 * replaced, which happens when they are many.
 */
MEMORY_TEST(cached_state_of_libraries_is_not_reused)
{
	long most = 0, left;
	int before[128], after[128];

	cr_expect_eq(sh("timeout 30 build/shoal run build/tests/modules/memory/caches.so 2 %s/file 2>&1", dir), 0, "%s",
		     text);
	cr_expect_eq(sh("cat %s/file", dir), 0);
	cr_expect_str_eq(text, "written\n");
	cr_assert_gt(worker_pids(before, 128), 0);
	for (int i = 0; i < 25; i++) {
		cr_assert_eq(sh("timeout 30 build/shoal run build/tests/modules/memory/caches.so 2 2>&1"), 0, "%s",
			     text);
		cr_assert_str_eq(text, "ok\n");
		left = number_in("stats", "memory_left");
		most = left > most ? left : most;
	}
	cr_expect_gt(most, 0);
	comes_down("memory_left", 4 * MiB); /* a 16th of the limit */
	cr_expect_eq(number_in("stats", "worker_deaths"), 0);
	cr_assert_gt(worker_pids(after, 128), 0);
	cr_expect_neq(before[0], after[0], "no worker was renewed");
}

MEMORY_TEST(zlib_works_on_goroutines_that_move)
{
	cr_expect_eq(sh("timeout 50 build/shoal run build/tests/modules/memory/deflate.so 40 200000 2>&1"), 0, "%s",
		     text);
	cr_expect_str_eq(text, "40 moved\n");
}

/*
 * Goroutines that ran on the killed worker start again; the streams of the others continue. The root stays parked.
 */
MEMORY_TEST(zlib_works_while_workers_are_killed)
{
	unsigned kills = 0;

	cr_expect_eq(sh("build/shoal submit build/tests/modules/memory/deflate.so 60 300000 2>&1"), 0, "%s", text);
	WAIT_FOR(number_in("stats", "goroutines") == 61);
	while (kills < 5) {
		kills += kill_worker(kills);
		WAIT_FOR(number_in("stats", "worker_deaths") >= (long)kills);
	}
	cr_expect_eq(sh("timeout 50 build/shoal wait 1 2>&1"), 0, "%s", text);
	cr_expect_eq(sh("build/shoal logs 1"), 0);
	cr_expect_str_eq(text, "60 moved\n");
}

MEMORY_TEST(mappings_are_in_every_worker)
{
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/memory/mapped.so 2>&1"), 0, "%s", text);
	cr_expect_str_eq(text, "ok\n");
}

MEMORY_TEST(threads_of_a_library_allocate_beside_the_goroutine)
{
	for (int i = 0; i < 5; i++) {
		cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/memory/thread.so 2>&1"), 0, "%s", text);
		cr_expect_str_eq(text, "ok\n");
	}
}
