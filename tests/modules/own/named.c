/*
 * named.c - semaphores with a name.
 *
 *   named.so rules NAME       what sem_open, sem_close, sem_unlink and the waits answer
 *   named.so answer NAME N    N times: waits for NAME.ask, posts NAME.answer
 *   named.so ask NAME N       N times: posts NAME.ask, waits for NAME.answer
 */
#define _GNU_SOURCE
#include <shoal.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char name[200];
static sem_t *first;
static struct shoal_wg wg;
static int posts, alarms;

static void must(int ok, const char *what)
{
	if (ok)
		return;
	printf("wrong: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void same_address(void *arg)
{
	sem_t *s = sem_open(name, 0);

	(void)arg;
	must(s == first, "one address for all goroutines");
	for (int i = 0; i < 200; i++) {
		must(sem_wait(s) == 0, "sem_wait");
		__atomic_fetch_add(&posts, 1, __ATOMIC_SEQ_CST);
		must(sem_post(s) == 0, "sem_post");
		shoal_yield();
	}
	must(sem_close(s) == 0, "sem_close");
}

static void on_alarm(int sig)
{
	(void)sig;
	alarms++;
}

static void interrupted(void)
{
	struct sigaction a = {.sa_handler = on_alarm};
	struct timespec t;

	sigaction(SIGALRM, &a, NULL);
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += 30;
	alarm(1);
	must(sem_timedwait(first, &t) == -1 && errno == EINTR && alarms == 1,
	     "a handler ends sem_timedwait with EINTR");
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_nsec /= 2;
	must(sem_timedwait(first, &t) == -1 && errno == ETIMEDOUT, "sem_timedwait ends with ETIMEDOUT");
}

static int rules(void)
{
	char again[230];
	struct stat st;
	int value = -1;

	umask(0);
	must(sem_open(name, 0) == SEM_FAILED && errno == ENOENT, "ENOENT");
	must(sem_open("/a/b", O_CREAT, 0600, 0) == SEM_FAILED && errno == EINVAL, "a slash inside");
	must(sem_open("/", O_CREAT, 0600, 0) == SEM_FAILED && errno == EINVAL, "no name");
	must(sem_open(name, O_CREAT, 0600, (unsigned)SEM_VALUE_MAX + 1) == SEM_FAILED && errno == EINVAL, "value");
	first = sem_open(name, O_CREAT | O_EXCL, 0640, 1);
	must(first != SEM_FAILED, "sem_open");
	snprintf(again, sizeof again, "/dev/shm/sem.%s", name + 1);
	must(stat(again, &st) == 0 && (st.st_mode & 0777) == 0640, "mode of the file");
	must(sem_open(name, O_CREAT | O_EXCL, 0600, 1) == SEM_FAILED && errno == EEXIST, "EEXIST");
	must(sem_open(name, O_CREAT, 0600, 7) == first && sem_getvalue(first, &value) == 0 && value == 1, "O_CREAT");
	for (int i = 0; i < 4; i++)
		shoal_wg_go(&wg, same_address, NULL, 0);
	shoal_wg_wait(&wg);
	must(posts == 800, "posts");
	must(sem_wait(first) == 0 && sem_trywait(first) == -1 && errno == EAGAIN, "EAGAIN");
	interrupted();
	must(sem_unlink(name) == 0 && sem_unlink(name) == -1 && errno == ENOENT, "sem_unlink");
	must(sem_post(first) == 0 && sem_wait(first) == 0, "it works after sem_unlink");
	must(sem_close(first) == 0 && sem_post(first) == 0, "opened twice, closed once");
	must(sem_close(first) == 0 && sem_close(first) == -1 && errno == EINVAL, "closed");
	return 0;
}

int shoal_main(int argc, char **argv)
{
	char ask[210], answer[210];
	sem_t *a, *b;

	must(argc > 2, "arguments");
	snprintf(name, sizeof name, "%s", argv[2]);
	if (!strcmp(argv[1], "rules"))
		return rules();
	snprintf(ask, sizeof ask, "%s.ask", name);
	snprintf(answer, sizeof answer, "%s.answer", name);
	a = sem_open(ask, O_CREAT, 0600, 0);
	b = sem_open(answer, O_CREAT, 0600, 0);
	must(a != SEM_FAILED && b != SEM_FAILED, "sem_open");
	for (int i = 0; i < atoi(argv[3]); i++)
		if (!strcmp(argv[1], "ask"))
			must(sem_post(a) == 0 && sem_wait(b) == 0, "ask");
		else
			must(sem_wait(a) == 0 && sem_post(b) == 0, "answer");
	return 0;
}
