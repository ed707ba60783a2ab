/*
 * kill/rest.c - what the others seldom come by: a mutex that is handed over, memory of large alignment,
 * an empty environment, descriptors that libraries open and lose. For the kill driver, as kill/work.c.
 */
#define _GNU_SOURCE
#include "tests/modules/kernel_call.h"

#include <shoal.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define N 4

static struct shoal_go_opts stubborn = {.name = "rest", .attempts = 100, .flags = SHOAL_ISOLATED};
static struct shoal_wg wg;
static struct shoal_mutex mu;
static struct shoal_sem sem;
static struct shoal_once once;
static _Atomic int done;
static int first_runs;
static sem_t one, none;
static pthread_once_t ponce = PTHREAD_ONCE_INIT;

/* Each holds it for longer than another may wait. */
static void holds_long(void *arg)
{
	(void)arg;
	for (int i = 0; i < 2; i++) {
		int r = shoal_mutex_lock(&mu);

		if (r != 0 && r != -EOWNERDEAD)
			abort();
		shoal_sleep(600000);
		if (shoal_mutex_unlock(&mu) != 0)
			abort();
	}
	done++;
}

static void memory(void *arg)
{
	void *p[4];

	(void)arg;
	for (int i = 0; i < 4; i++)
		if (posix_memalign(&p[i], 1u << 16, 20000 + 30000 * (size_t)i) != 0)
			abort();
	for (int i = 0; i < 4; i++)
		free(p[i]);
	done++;
}

static void environment(void *arg)
{
	(void)arg;
	if (clearenv() != 0 || getenv("PATH") || setenv("REST", "1", 1) != 0)
		abort();
	done++;
}

static void files(void *arg)
{
	int fd = (int)kernel_call(SYS_open, (long)"/dev/zero", O_RDONLY | O_CLOEXEC); /* as a library would */
	FILE *f = tmpfile();
	char b[4];

	(void)arg;
	if (fd < 0 || !f || read(fd, b, sizeof b) != sizeof b)
		abort();
	close(fd);
	fd = open("/dev/null", O_WRONLY | O_CLOEXEC); /* what the task writes goes to no file from here on */
	if (fd < 0 || dup2(fd, 1) != 1 || write(1, "away\n", 5) != 5)
		abort();
	close(fd);
	if (freopen("/nowhere/at/all", "r", f))
		abort();
	done++;
}

static void first(void)
{
	__atomic_fetch_add(&first_runs, 1, __ATOMIC_SEQ_CST);
}

static void units(void *arg)
{
	struct timespec soon;

	(void)arg;
	shoal_once_do(&once, first);
	shoal_sem_release(&sem, 2); /* nobody waits: the next one takes them at once */
	if (shoal_sem_acquire(&sem, 2) != 0 || !first_runs)
		abort();
	if (sem_post(&one) != 0 || sem_wait(&one) != 0 || pthread_once(&ponce, first) != 0)
		abort();
	clock_gettime(CLOCK_REALTIME, &soon);
	soon.tv_nsec = (soon.tv_nsec + 500000) % 1000000000; /* or at once */
	if (sem_timedwait(&none, &soon) == 0 || errno != ETIMEDOUT)
		abort();
	done++;
}

int shoal_main(int argc, char **argv)
{
	static void (*const what[])(void *) = {memory, environment, files, units};

	(void)argc;
	(void)argv;
	shoal_sem_release(&sem, 2 * N * 10);
	for (int i = 0; i < N; i++)
		shoal_wg_go_with(&wg, &stubborn, holds_long, NULL, 0);
	for (int i = 0; i < N; i++)
		shoal_wg_go_with(&wg, &stubborn, what[i], NULL, 0);
	shoal_wg_wait(&wg);
	return done >= 2 * N ? 0 : 3;
}
