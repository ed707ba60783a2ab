/*
 * kill/pin.c - pinned goroutines that change their worker, and are killed at any point of that. For the kill driver,
 * as kill/work.c. Once a program kills the worker of one that waits: the goroutine is lost with it and starts again.
 */
#define _GNU_SOURCE
#include <shoal.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define CHANGERS 3

static const struct shoal_go_opts stubborn = {.name = "pinned", .attempts = 100, .flags = SHOAL_ISOLATED};
static struct shoal_wg all;
static int changed, waits, runs;

static void must(int ok)
{
	if (!ok)
		abort();
}

static void change(void *arg)
{
	struct rlimit was, now;
	pid_t pid;

	(void)arg;
	must(nice(2) == -1 && errno == EPERM);
	for (int i = 0; i < 3; i++) {
		must(getrlimit(RLIMIT_CPU, &was) == 0 && was.rlim_cur == RLIM_INFINITY);
		shoal_pin();
		pid = getpid();
		now = (struct rlimit){1000 + (rlim_t)i, was.rlim_max};
		must(setrlimit(RLIMIT_CPU, &now) == 0);
		shoal_sleep(1000000);
		must(getpid() == pid && getrlimit(RLIMIT_CPU, &now) == 0 && now.rlim_cur == 1000 + (rlim_t)i);
		shoal_unpin();
	}
	__atomic_fetch_add(&changed, 1, __ATOMIC_SEQ_CST);
}

static void wait_for_death(void *arg)
{
	struct rlimit now;

	(void)arg;
	if (__atomic_add_fetch(&runs, 1, __ATOMIC_SEQ_CST) > 1)
		return;
	shoal_pin();
	must(getrlimit(RLIMIT_CPU, &now) == 0);
	now.rlim_cur = 2000;
	must(setrlimit(RLIMIT_CPU, &now) == 0);
	__atomic_store_n(&waits, getpid(), __ATOMIC_SEQ_CST);
	for (;;) /* if its worker were another one after that, it would go on without the limit */
		shoal_sleep(1000000);
}

int shoal_main(int argc, char **argv)
{
	char command[64];

	(void)argc, (void)argv;
	for (int i = 0; i < CHANGERS; i++)
		must(shoal_wg_go_with(&all, &stubborn, change, NULL, 0) != 0);
	must(shoal_wg_go_with(&all, &stubborn, wait_for_death, NULL, 0) != 0);
	while (!__atomic_load_n(&waits, __ATOMIC_SEQ_CST) && __atomic_load_n(&runs, __ATOMIC_SEQ_CST) < 2)
		shoal_sleep(1000000);
	snprintf(command, sizeof command, "kill -9 %d 2>/dev/null", waits);
	while (__atomic_load_n(&runs, __ATOMIC_SEQ_CST) < 2) {
		if (waits)
			system(command);
		shoal_sleep(5000000);
	}
	shoal_wg_wait(&all);
	return __atomic_load_n(&changed, __ATOMIC_SEQ_CST) < CHANGERS;
}
