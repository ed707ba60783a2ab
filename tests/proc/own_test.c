/*
 * own_test.c - state that POSIX keeps per process belongs to the task: the same on both workers, and not visible to
 * the next task.
 */
#include "tests/proc/proc.h"

#include <fcntl.h>
#include <semaphore.h>
#include <time.h>

PROC_TEST(process_state_belongs_to_the_task)
{
	for (int i = 0; i < 4; i++) {
		cr_expect_eq(sh("TZ=UTC timeout 20 build/shoal run build/tests/modules/own/own.so set 2>&1"), 0, "%s",
			     text);
		cr_expect_str_eq(text, "a line, whole\nthe first handler\nthe last handler\n");
		cr_expect_eq(sh("TZ=UTC timeout 20 build/shoal run build/tests/modules/own/own.so fresh 2>&1"), 0, "%s",
			     text);
		cr_expect_str_eq(text, "fresh\n");
	}
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/own/own.so exit %s/kept 2>&1", dir), 3, "%s",
		     text);
	cr_expect_str_eq(text, "the last handler\n");
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/own/own.so quick 2>&1"), 4, "%s", text);
	cr_expect_str_eq(text, "a quick handler\na quick handler\n");
	cr_expect_eq(sh("cat %s/kept", dir), 0);
	cr_expect_str_eq(text, "kept\n");
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/own/own.so redirect %s/out 2>&1", dir), 0, "%s",
		     text);
	cr_expect_str_eq(text, "before\nafter\n");
	cr_expect_eq(sh("cat %s/out", dir), 0);
	cr_expect_str_eq(text, "in the file\n");
}

/* Tasks that share workers set the same things in libc, at the same time. */
PROC_TEST(tasks_at_once_do_not_meet_in_libc)
{
	cr_expect_eq(
		sh("TZ=UTC; export TZ; for i in 1 2 3 4; do for m in 'memory/caches.so 2' 'own/own.so set' 'memory/caches.so 3'; do "
		   "build/shoal submit build/tests/modules/$m || exit; done; done 2>&1"),
		0, "%s", text);
	cr_expect_eq(
		sh("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do timeout 40 build/shoal wait $i || { build/shoal logs $i; exit 1; }; "
		   "done 2>&1"),
		0, "%s", text);
	cr_expect_eq(number_in("stats", "worker_deaths"), 0);
}

#define NAMED "timeout 30 build/shoal run build/tests/modules/own/named.so "

PROC_TEST(a_named_semaphore_is_one_for_tasks_and_other_processes)
{
	char name[64], path[80];
	sem_t *ask, *answer;
	struct timespec t;

	snprintf(name, sizeof name, "/shoal.test.%d", (int)getpid());
	cr_expect_eq(sh(NAMED "rules %s 2>&1", name), 0, "%s", text);
	cr_expect_eq(sh("build/shoal submit build/tests/modules/own/named.so answer %s 400 && " NAMED
			"ask %s 200 2>&1 && " NAMED "ask %s 100 2>&1",
			name, name, name),
		     0, "%s", text);
	snprintf(path, sizeof path, "%s.ask", name);
	ask = sem_open(path, 0);
	sem_unlink(path);
	snprintf(path, sizeof path, "%s.answer", name);
	answer = sem_open(path, 0);
	sem_unlink(path);
	cr_assert(ask != SEM_FAILED && answer != SEM_FAILED, "what a task has made is a semaphore to this process");
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += WAIT_S;
	for (int i = 0; i < 100; i++) {
		cr_assert_eq(sem_post(ask), 0);
		cr_assert_eq(sem_timedwait(answer, &t), 0, "turn %d", i);
	}
	cr_expect_eq(sh("timeout 30 build/shoal wait 2"), 0);
}

PROC_TEST(a_robust_mutex_of_a_thread_that_ended_is_recovered_or_given_up)
{
	cr_expect_eq(sh("timeout 20 build/shoal run build/tests/modules/thread/robust.so 2>&1"), 0, "%s", text);
}
