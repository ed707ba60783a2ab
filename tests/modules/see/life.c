/*
 * see/life.c - goroutines to be looked at in each state: life.so MODE [N] [MS], life.so all FILE
 *
 *   all      one that goes through everything, and computes in the end until FILE is there; prints its
 *            number
 *   reasons  one that waits for each reason there is, for MS milliseconds
 *   calls    N in system calls that block, for MS milliseconds, or until there is a file FILE
 *   crowd    N that end at once, M times over: Gs are used again
 */
#include <shoal.h>

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define MS 1000000l

static struct shoal_chan *full, *empty;
static struct shoal_mutex mutex;
static struct shoal_rwmutex reads, writes;
static struct shoal_cond cond;
static struct shoal_wg wg, never;
static struct shoal_sem sem;
static int pipes[2];
static shoal_gid root;
static atomic_int over, waiting, step;
static char path[] = "/tmp/shoal-see-life.XXXXXX";

static __attribute__((noinline)) int deep(int n)
{
	volatile char room[1024];

	room[0] = (char)n;
	if (n == 0)
		shoal_yield(); /* so deep that a larger block is needed */
	return n ? deep(n - 1) + room[0] : room[0];
}

static void in_call(void *arg)
{
	int fd = open(path, O_RDWR);

	(void)arg;
	waiting++;
	flock(fd, LOCK_EX);
	flock(fd, LOCK_UN);
	close(fd);
}

/* ---- all ---- */

#define WHILE 60 * MS /* a goroutine that announced its wait waits by then */

static void hero(void *arg)
{
	struct shoal_case c = {SHOAL_RECV, empty, NULL, 0};
	char byte;

	(void)arg;
	shoal_yield();
	shoal_sleep(2 * MS);
	step = 1;
	shoal_recv(empty, NULL);
	step = 2;
	shoal_select(&c, 1, SHOAL_FOREVER);
	step = 3;
	shoal_mutex_lock(&mutex);
	shoal_mutex_unlock(&mutex);
	step = 4;
	if (read(pipes[0], &byte, 1) != 1)
		abort();
	step = 5;
	in_call(NULL);
	deep(16);
	printf("computes\n");
	while (!over)
		;
}

static void await_step(int n)
{
	while (step < n)
		shoal_sleep(MS);
	shoal_sleep(WHILE);
}

static void rival(void *arg)
{
	(void)arg;
	while (!over)
		;
}

static int all(const char *file)
{
	int fd = open(path, O_RDWR);
	shoal_gid gid;

	shoal_mutex_lock(&mutex);
	flock(fd, LOCK_EX);
	gid = shoal_wg_go(&wg, hero, NULL, 0);
	printf("%llu\n", (unsigned long long)gid);
	await_step(1);
	shoal_send(empty, NULL);
	await_step(2);
	shoal_send(empty, NULL);
	await_step(3);
	shoal_mutex_unlock(&mutex);
	await_step(4);
	if (write(pipes[1], "", 1) != 1)
		return 1;
	await_step(5);
	flock(fd, LOCK_UN);
	close(fd);
	for (int i = 0; i < 2; i++)
		shoal_wg_go(&wg, rival, NULL, 0);
	while (access(file, F_OK) < 0)
		shoal_sleep(10 * MS);
	over = 1;
	shoal_wg_wait(&wg);
	return 0;
}

/* ---- reasons ---- */

static struct shoal_once once;
static pthread_mutex_t pmutex = PTHREAD_MUTEX_INITIALIZER, own = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t pcond = PTHREAD_COND_INITIALIZER;
static sem_t psem;

static atomic_int in_cond, locked; /* one waits for the condition; the root holds both mutexes */

static void await(atomic_int *flag)
{
	while (!*flag)
		shoal_sleep(MS);
}

static void never_ends(void)
{
	shoal_sleep(SHOAL_FOREVER);
}

static void wait_for(void *arg)
{
	sigset_t signals;
	char byte;
	int sig;

	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	waiting++;
	switch (*(int *)arg) {
	case 0: shoal_recv(NULL, NULL); break;
	case 1: shoal_send(NULL, ""); break;
	case 2: shoal_select(NULL, 0, SHOAL_FOREVER); break;
	case 3: shoal_select(&(struct shoal_case){SHOAL_RECV, empty, NULL, 0}, 1, SHOAL_FOREVER); break;
	case 4: shoal_recv(empty, NULL); break;
	case 5: shoal_send(full, ""); break;
	case 6:
		shoal_mutex_lock(&mutex);
		in_cond = 1;
		shoal_cond_wait(&cond, &mutex);
		break;
	case 7: await(&locked), shoal_mutex_lock(&mutex); break;
	case 8: shoal_rwmutex_rlock(&reads); break;
	case 9: shoal_rwmutex_lock(&writes); break;
	case 10: shoal_wg_wait(&never); break;
	case 11: shoal_sem_acquire(&sem, 1); break;
	case 12: shoal_join(root, NULL); break;
	case 13: shoal_sleep(SHOAL_FOREVER); break;
	case 14:
		if (read(pipes[0], &byte, 1) < 0)
			return;
		break;
	case 15:
	case 16: shoal_once_do(&once, never_ends); break; /* one does it, one waits for its mutex */
	case 17: await(&locked), pthread_mutex_lock(&pmutex); break;
	case 18: pthread_mutex_lock(&own), pthread_cond_wait(&pcond, &own); break;
	case 19: sem_wait(&psem); break;
	case 20: sigwait(&signals, &sig); break;
	default: in_call(NULL);
	}
}

static int reasons(int ms)
{
	int fd = open(path, O_RDWR);

	flock(fd, LOCK_EX);
	shoal_rwmutex_lock(&reads);
	shoal_rwmutex_rlock(&writes);
	shoal_wg_add(&never, 1);
	shoal_send(full, "");
	sem_init(&psem, 0, 0);
	for (int i = 0; i <= 21; i++)
		shoal_go(wait_for, &i, sizeof i);
	await(&in_cond);
	shoal_mutex_lock(&mutex);
	pthread_mutex_lock(&pmutex);
	locked = 1;
	shoal_sleep(ms * MS);
	flock(fd, LOCK_UN);
	return 0;
}

/* ---- calls, crowd ---- */

static int calls(int n, int ms, const char *until)
{
	int fd = open(path, O_RDWR);
	int64_t over_at;

	flock(fd, LOCK_EX);
	for (int i = 0; i < n; i++)
		shoal_wg_go(&wg, in_call, NULL, 0);
	while (waiting < n)
		shoal_sleep(MS);
	printf("%d wait\n", n);
	fflush(stdout);
	for (over_at = shoal_now() + ms * MS; shoal_now() < over_at && (!until || access(until, F_OK) < 0);)
		shoal_sleep(10 * MS);
	flock(fd, LOCK_UN);
	shoal_wg_wait(&wg);
	return 0;
}

static void end_at_once(void *arg)
{
	(void)arg;
	over++;
}

static int crowd(int n, int times)
{
	for (int i = 0; i < times; i++) {
		for (int k = 0; k < n; k++)
			shoal_wg_go(&wg, end_at_once, NULL, 0);
		shoal_wg_wait(&wg);
	}
	return over != n * times;
}

int shoal_main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	int n = argc > 2 ? atoi(argv[2]) : 1, ms = argc > 3 ? atoi(argv[3]) : 1000, fd = mkstemp(path), r = 2;

	full = shoal_chan_new(1, 1);
	empty = shoal_chan_new(0, 0);
	root = shoal_self();
	if (fd < 0 || pipe(pipes) < 0)
		return 3;
	if (strcmp(mode, "all") == 0)
		r = all(argc > 2 ? argv[2] : "/");
	else if (strcmp(mode, "reasons") == 0)
		r = reasons(ms);
	else if (strcmp(mode, "calls") == 0)
		r = calls(n, ms, argc > 4 ? argv[4] : NULL);
	else if (strcmp(mode, "crowd") == 0)
		r = crowd(n, ms);
	unlink(path);
	return r;
}
