/*
 * threads.c - threads of pthreads and C11 are goroutines.
 *
 *   thread/threads.so create	made, joined in all ways, detached; values, records that mean nothing any more
 *   thread/threads.so attributes	stack, name, scheduling, affinity, numbers
 *   thread/threads.so c11	the same by C11's names
 *   thread/threads.so leave	pthread_exit and cancellation in all states, with handlers
 *   thread/threads.so exit	the main thread leaves, the others come to their ends
 *   thread/threads.so crash	a thread crashes: so does the task
 *   thread/threads.so many N	N threads at once wait for one condition
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <shoal.h>

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define MUST(x) must(x, #x, __LINE__)

static void must(int ok, const char *what, int line)
{
	if (ok)
		return;
	printf("wrong in line %d: %s\n", line, what);
	fflush(stdout);
	_exit(1);
}

static struct timespec after(clockid_t clock, long ms)
{
	struct timespec t;

	clock_gettime(clock, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += ms % 1000 * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	return t;
}

static sem_t go, gone;
static pthread_t selves[2];

static void *returns(void *arg)
{
	return arg;
}

static void *waits(void *arg)
{
	sem_wait(&go);
	sem_post(&gone);
	return arg;
}

static void *joins_main(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)pthread_join(selves[0], NULL);
}

static void *joins_itself(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)pthread_join(pthread_self(), NULL);
}

static int create(void)
{
	struct timespec past = {1, 0}, soon;
	pthread_t t, other;
	void *r;

	for (intptr_t i = 0; i < 1000; i++) {
		MUST(pthread_create(&t, NULL, returns, (void *)i) == 0);
		MUST(pthread_join(t, &r) == 0 && r == (void *)i);
	}
	MUST(pthread_join(t, NULL) == ESRCH && pthread_detach(t) == ESRCH && pthread_join(12345, NULL) == ESRCH);

	MUST(pthread_create(&t, NULL, waits, (void *)7) == 0);
	MUST(pthread_tryjoin_np(t, &r) == EBUSY);
	MUST(pthread_timedjoin_np(t, &r, &past) == ETIMEDOUT);
	soon = after(CLOCK_MONOTONIC, 3);
	MUST(pthread_clockjoin_np(t, &r, CLOCK_MONOTONIC, &soon) == ETIMEDOUT);
	soon.tv_nsec = -1;
	MUST(pthread_clockjoin_np(t, &r, CLOCK_MONOTONIC, &soon) == EINVAL);
	sem_post(&go);
	sem_wait(&gone);
	soon = after(CLOCK_REALTIME, 20000);
	MUST(pthread_timedjoin_np(t, &r, &soon) == 0 && r == (void *)7);

	MUST(pthread_create(&t, NULL, waits, NULL) == 0 && pthread_detach(t) == 0);
	MUST(pthread_join(t, NULL) == EINVAL && pthread_detach(t) == EINVAL);
	sem_post(&go);
	sem_wait(&gone);

	selves[0] = pthread_self();
	MUST(pthread_equal(selves[0], pthread_self()) && pthread_join(pthread_self(), NULL) == EDEADLK);
	MUST(pthread_create(&t, NULL, joins_itself, NULL) == 0 && pthread_join(t, &r) == 0 && r == (void *)EDEADLK);
	MUST(pthread_create(&other, NULL, joins_main, NULL) == 0 && pthread_join(other, &r) == 0 &&
	     r == (void *)EDEADLK);
	return 0;
}

/* ---- what a thread says of itself ---- */

static void *looks_at_itself(void *arg)
{
	pthread_attr_t attr;
	struct sched_param p;
	char name[16], *low;
	size_t size, guard;
	int policy, state;
	char here;

	MUST(pthread_setname_np(pthread_self(), "looker") == 0);
	MUST(pthread_setname_np(pthread_self(), "a name of sixteen") == ERANGE);
	MUST(pthread_getname_np(pthread_self(), name, sizeof name) == 0 && !strcmp(name, "looker"));
	shoal_sleep(1000000);
	MUST(pthread_getattr_np(pthread_self(), &attr) == 0);
	MUST(pthread_attr_getstack(&attr, (void **)&low, &size) == 0);
	MUST(&here >= low && &here < low + size);
	MUST(!arg || (size >= *(size_t *)arg - 8192 && size <= *(size_t *)arg + 65536));
	MUST(pthread_attr_getdetachstate(&attr, &state) == 0 && state == PTHREAD_CREATE_JOINABLE);
	MUST(pthread_attr_getguardsize(&attr, &guard) == 0 && guard > 0);
	low[guard] = 1; /* the lowest part of it can be used */
	MUST(pthread_getschedparam(pthread_self(), &policy, &p) == 0 && policy == SCHED_OTHER && p.sched_priority == 0);
	p.sched_priority = 200;
	MUST(pthread_setschedparam(pthread_self(), SCHED_FIFO, &p) == EINVAL);
	pthread_attr_destroy(&attr);
	return (void *)(intptr_t)gettid();
}

static int attributes(void)
{
	static size_t sizes[] = {128 << 10, 512 << 10, 1 << 20, 4 << 20};
	intptr_t number = gettid();
	pthread_attr_t attr;
	char name[16];
	cpu_set_t set;
	pthread_t t;
	void *r;

	pthread_attr_init(&attr);
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		MUST(pthread_attr_setstacksize(&attr, sizes[i]) == 0);
		MUST(pthread_create(&t, &attr, looks_at_itself, &sizes[i]) == 0 && pthread_join(t, &r) == 0);
		MUST((intptr_t)r > 0 && (intptr_t)r != number);
	}
	MUST(pthread_create(&t, NULL, looks_at_itself, NULL) == 0 && pthread_join(t, NULL) == 0);
	MUST(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0);
	MUST(pthread_create(&t, &attr, waits, NULL) == 0 && pthread_join(t, NULL) == EINVAL);
	MUST(pthread_setname_np(t, "waiter") == 0 && pthread_getname_np(t, name, sizeof name) == 0 &&
	     !strcmp(name, "waiter"));
	sem_post(&go);
	sem_wait(&gone);
	MUST(pthread_getaffinity_np(pthread_self(), sizeof set, &set) == 0 && CPU_COUNT(&set) > 0);
	MUST(pthread_setaffinity_np(pthread_self(), sizeof set, &set) == 0);
	CPU_ZERO(&set);
	MUST(pthread_setaffinity_np(pthread_self(), sizeof set, &set) == EINVAL);
	MUST(pthread_atfork(NULL, NULL, NULL) == 0);
	return 0;
}

/* ---- C11 ---- */

static mtx_t mutex;
static cnd_t condition;
static int count;

static int c11_thread(void *arg)
{
	mtx_lock(&mutex);
	count++;
	cnd_signal(&condition);
	mtx_unlock(&mutex);
	if (arg)
		thrd_exit(-5);
	return -4;
}

static int c11(void)
{
	struct timespec soon = after(CLOCK_REALTIME, 2);
	thrd_t t[10];
	int r;

	MUST(mtx_init(&mutex, mtx_timed | mtx_recursive) == thrd_success && cnd_init(&condition) == thrd_success);
	MUST(mtx_lock(&mutex) == thrd_success && mtx_trylock(&mutex) == thrd_success &&
	     mtx_unlock(&mutex) == thrd_success);
	MUST(cnd_timedwait(&condition, &mutex, &soon) == thrd_timedout);
	for (int i = 0; i < 10; i++)
		MUST(thrd_create(&t[i], c11_thread, i % 2 ? &count : NULL) == thrd_success);
	while (count < 10)
		MUST(cnd_wait(&condition, &mutex) == thrd_success);
	mtx_unlock(&mutex);
	for (int i = 0; i < 10; i++)
		MUST(thrd_join(t[i], &r) == thrd_success && r == (i % 2 ? -5 : -4));
	MUST(thrd_equal(thrd_current(), thrd_current()));
	mtx_destroy(&mutex);
	cnd_destroy(&condition);
	return 0;
}

/* ---- leaving ---- */

static int cleaned;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

static void clean(void *arg)
{
	cleaned = cleaned * 10 + (int)(intptr_t)arg;
}

static void unlock(void *m)
{
	MUST(pthread_mutex_trylock(m) == EBUSY); /* it is held again when handlers run */
	pthread_mutex_unlock(m);
}

static void *exits(void *arg)
{
	pthread_cleanup_push(clean, (void *)1);
	pthread_cleanup_push(clean, (void *)2);
	if (arg)
		pthread_exit((void *)9);
	pthread_cleanup_pop(0);
	pthread_cleanup_pop(1);
	return NULL;
}

static void *sleeps(void *arg)
{
	(void)arg;
	pthread_cleanup_push(clean, (void *)3);
	for (;;)
		sleep(100);
	pthread_cleanup_pop(0);
	return NULL;
}

static void *waits_for_condition(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&held);
	pthread_cleanup_push(unlock, &held);
	sem_post(&gone);
	for (;;)
		pthread_cond_wait(&never, &held);
	pthread_cleanup_pop(0);
	return NULL;
}

static void *reads(void *arg)
{
	char c;

	pthread_cleanup_push(clean, (void *)4);
	sem_post(&gone);
	MUST(read(*(int *)arg, &c, 1) == 1);
	pthread_cleanup_pop(0);
	return NULL;
}

static void *cannot_be_cancelled(void *arg)
{
	int old;

	(void)arg;
	MUST(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old) == 0 && old == PTHREAD_CANCEL_ENABLE);
	sem_post(&gone);
	sem_wait(&go);
	MUST(usleep(1000) == 0);
	pthread_testcancel();
	MUST(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old) == 0 && old == PTHREAD_CANCEL_DISABLE);
	pthread_testcancel();
	return NULL;
}

static volatile unsigned long work;

static void *computes(void *arg)
{
	int old;

	(void)arg;
	pthread_cleanup_push(clean, (void *)5);
	MUST(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old) == 0 && old == PTHREAD_CANCEL_DEFERRED);
	sem_post(&gone);
	for (;;)
		work++;
	pthread_cleanup_pop(0);
	return NULL;
}

static void *cancels_itself(void *arg)
{
	(void)arg;
	MUST(pthread_cancel(pthread_self()) == 0);
	pthread_testcancel();
	return NULL;
}

static void *is_over(pthread_t t)
{
	void *r = NULL;

	MUST(pthread_join(t, &r) == 0);
	return r;
}

static int leave(void)
{
	static int pipes[2];
	pthread_t t;

	MUST(pthread_create(&t, NULL, exits, &cleaned) == 0 && is_over(t) == (void *)9 && cleaned == 21);
	MUST(pthread_create(&t, NULL, exits, NULL) == 0 && is_over(t) == NULL && cleaned == 211);
	for (int i = 0; i < 20; i++) {
		cleaned = 0;
		MUST(pthread_create(&t, NULL, sleeps, NULL) == 0);
		if (i % 2)
			usleep(500 * (unsigned)i);
		MUST(pthread_cancel(t) == 0 && pthread_cancel(t) == 0);
		MUST(is_over(t) == PTHREAD_CANCELED && (cleaned == 3 || (i % 2 == 0 && cleaned == 0)));
	}
	MUST(pthread_create(&t, NULL, waits_for_condition, NULL) == 0);
	sem_wait(&gone);
	MUST(pthread_cancel(t) == 0 && is_over(t) == PTHREAD_CANCELED);
	MUST(pthread_mutex_trylock(&held) == 0 && pthread_mutex_unlock(&held) == 0);
	cleaned = 0;
	MUST(pipe(pipes) == 0 && pthread_create(&t, NULL, reads, &pipes[0]) == 0);
	sem_wait(&gone);
	MUST(pthread_cancel(t) == 0 && is_over(t) == PTHREAD_CANCELED && cleaned == 4);
	MUST(pthread_create(&t, NULL, cannot_be_cancelled, NULL) == 0);
	sem_wait(&gone);
	MUST(pthread_cancel(t) == 0);
	sem_post(&go);
	MUST(is_over(t) == PTHREAD_CANCELED);
	cleaned = 0;
	MUST(pthread_create(&t, NULL, computes, NULL) == 0);
	sem_wait(&gone);
	MUST(pthread_cancel(t) == 0 && is_over(t) == PTHREAD_CANCELED && cleaned == 5);
	MUST(pthread_create(&t, NULL, cancels_itself, NULL) == 0 && is_over(t) == PTHREAD_CANCELED);
	return 0;
}

/* ---- ends ---- */

static void at_exit(void)
{
	puts("handlers of exit");
}

static void *outlives(void *arg)
{
	usleep(20000);
	MUST(pthread_join(*(pthread_t *)arg, NULL) == 0);
	puts("the other thread");
	return NULL;
}

static int exit_main(void)
{
	static pthread_t main_thread;
	pthread_t t;

	main_thread = pthread_self();
	atexit(at_exit);
	MUST(pthread_create(&t, NULL, outlives, &main_thread) == 0);
	pthread_exit(NULL);
}

static void *crashes(void *arg)
{
	*(volatile int *)arg = 1;
	return NULL;
}

static int crash(void)
{
	pthread_t t;

	MUST(pthread_create(&t, NULL, crashes, NULL) == 0);
	pthread_join(t, NULL);
	return 0;
}

static int arrived, released;
static pthread_cond_t all_here = PTHREAD_COND_INITIALIZER;

static void *parks(void *arg)
{
	pthread_mutex_lock(&held);
	if (++arrived == *(int *)arg)
		pthread_cond_signal(&all_here);
	while (!released)
		pthread_cond_wait(&never, &held);
	pthread_mutex_unlock(&held);
	return NULL;
}

static int many(int n)
{
	static int wanted;
	pthread_t *t = malloc((size_t)n * sizeof *t);

	wanted = n;
	for (int i = 0; i < n; i++)
		MUST(pthread_create(&t[i], NULL, parks, &wanted) == 0);
	pthread_mutex_lock(&held);
	while (arrived < n)
		pthread_cond_wait(&all_here, &held);
	released = 1;
	pthread_cond_broadcast(&never);
	pthread_mutex_unlock(&held);
	for (int i = 0; i < n; i++)
		MUST(pthread_join(t[i], NULL) == 0);
	free(t);
	return 0;
}

int shoal_main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} cases[] = {{"create", create}, {"attributes", attributes}, {"c11", c11},
		     {"leave", leave},	 {"exit", exit_main},	     {"crash", crash}};

	sem_init(&go, 0, 0);
	sem_init(&gone, 0, 0);
	if (argc > 2 && !strcmp(argv[1], "many"))
		return many(atoi(argv[2]));
	for (unsigned i = 0; argc > 1 && i < sizeof cases / sizeof *cases; i++)
		if (!strcmp(argv[1], cases[i].name))
			return cases[i].run();
	return 2;
}
