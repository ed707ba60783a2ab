/*
 * lock_test.c - locks on files, between tasks and with processes outside. The module is tests/modules/files/locks.c.
 */
#include "tests/proc/proc.h"

#include <fcntl.h>

#define LOCK_TEST(name) Test(lock, name, .init = start, .fini = stop, .timeout = 60)
#define MODULE "build/tests/modules/files/locks.so"

/* This test is a process outside: whether it could have the lock. */
static int outside(int type)
{
	struct flock l = {.l_type = (short)type, .l_whence = SEEK_SET};
	char path[100];
	int fd;

	snprintf(path, sizeof path, "%s/f", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert(fd >= 0 && fcntl(fd, F_GETLK, &l) == 0);
	close(fd);
	return l.l_type == F_UNLCK;
}

static void hold(const char *type)
{
	cr_assert_eq(sh("rm -f %s/f.*; build/shoal submit " MODULE
			" hold %s/f %s && until [ -e %s/f.held ]; do sleep 0.01; done",
			dir, dir, type, dir),
		     0, "%s", text);
}

static void let_go(void)
{
	cr_assert_eq(sh("touch %s/f.end; until ! build/shoal tasks | grep -q running; do sleep 0.01; done", dir), 0,
		     "%s", text);
}

LOCK_TEST(record_locks_within_a_task_are_as_in_a_process)
{
	cr_expect_eq(sh("timeout 20 build/shoal run " MODULE " rules %s/f 2>&1", dir), 0, "%s", text);
	cr_expect_str_eq(text, "ok\n");
}

LOCK_TEST(record_locks_exclude_tasks_and_processes_outside)
{
	hold("write");
	cr_expect_eq(sh("timeout 20 build/shoal run " MODULE " try %s/f read", dir), 10, "%s", text);
	cr_expect_not(outside(F_RDLCK));
	cr_expect_eq(sh("timeout 20 build/shoal run " MODULE " tell %s/f", dir), 0);
	cr_expect_str_eq(text, "write 0 0 by a process\n");
	let_go();
	cr_expect(outside(F_WRLCK));
	hold("read");
	cr_expect_eq(sh("timeout 20 build/shoal run " MODULE " try %s/f read", dir), 0, "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal run " MODULE " try %s/f write", dir), 10, "%s", text);
	cr_expect(outside(F_RDLCK) && !outside(F_WRLCK));
	let_go();
	cr_expect_eq(sh("timeout 20 build/shoal run " MODULE " try %s/f write", dir), 0, "%s", text);
	cr_expect_eq(sh("timeout 20 build/shoal run " MODULE " tell %s/f", dir), 0);
	cr_expect_str_eq(text, "none\n");
}

LOCK_TEST(tasks_that_wait_for_each_others_locks_get_edeadlk)
{
	cr_expect_eq(sh("for i in 0 1 2; do timeout 30 build/shoal run " MODULE
			" cross %s/c$i %s/c$(((i + 1) %% 3)) 3 & p=\"$p $!\"; done; "
			"for i in $p; do wait $i; echo $?; done >%s/ends; sort -n %s/ends | tr '\\n' ' '",
			dir, dir, dir, dir),
		     0);
	cr_expect_str_eq(text, "0 0 35 ");
}

LOCK_TEST(a_wait_for_a_lock_is_cancelled)
{
	hold("write");
	cr_expect_eq(sh("timeout 20 build/shoal run " MODULE " cancel %s/f 2>&1", dir), 0, "%s", text);
	let_go();
}

LOCK_TEST(the_next_attempt_does_not_wait_for_locks_of_the_last)
{
	cr_expect_eq(sh("timeout 30 build/shoal run " MODULE " again %s/f 2>&1", dir), 0, "%s", text);
	cr_expect_eq(sh("timeout 30 build/shoal run --attempts 2 " MODULE " root %s/f 2>&1", dir), 0, "%s", text);
	cr_expect(outside(F_WRLCK));
}
