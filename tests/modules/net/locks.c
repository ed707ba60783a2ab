/*
 * net/locks.c CASE - locks of pthreads and C11, and what a thread has of its own, on goroutines.
 */
#define _GNU_SOURCE
#include "tests/modules/net/net.h"

#include <pthread.h>
#include <semaphore.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static struct shoal_wg wg;
static _Atomic int in, most, writers, turns;
static long n;
static char *volatile nowhere = (char *)8;

static struct timespec after(clockid_t clock, int64_t ns)
{
	struct timespec t;

	clock_gettime(clock, &t);
	ns += t.tv_nsec;
	t.tv_sec += ns / 1000000000;
	t.tv_nsec = ns % 1000000000;
	return t;
}

/* Waiters neither poll nor block a worker: beside many of them a goroutine that does not wait is never late. */
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;

static void holds_long(void *arg)
{
	(void)arg;
	for (int i = 0; i < 5; i++) {
		MUST(pthread_mutex_lock(&mu) == 0);
		n++;
		shoal_sleep(MS);
		MUST(pthread_mutex_unlock(&mu) == 0);
	}
}

static void mutex_case(void)
{
	pthread_mutex_t *m = malloc(sizeof *m);
	pthread_mutexattr_t check;
	int64_t t0 = shoal_now(), longest = 0;
	struct timespec t;

	for (int i = 0; i < 20; i++)
		shoal_wg_go(&wg, holds_long, NULL, 0);
	while (shoal_now() - t0 < 80 * MS) {
		int64_t t1 = shoal_now();

		shoal_yield();
		longest = shoal_now() - t1 > longest ? shoal_now() - t1 : longest;
	}
	MUST(longest < 50 * MS);
	shoal_wg_wait(&wg);
	MUST(n == 100 && shoal_now() - t0 < 1000 * MS);
	pthread_mutexattr_init(&check);
	pthread_mutexattr_settype(&check, PTHREAD_MUTEX_ERRORCHECK);
	MUST(pthread_mutex_init(m, &check) == 0 && pthread_mutex_lock(m) == 0 && pthread_mutex_lock(m) == EDEADLK);
	MUST(pthread_mutex_destroy(m) == EBUSY && pthread_mutex_unlock(m) == 0 && pthread_mutex_unlock(m) == EPERM);
	MUST(pthread_mutex_destroy(m) == 0);
	MUST(pthread_mutex_lock(&mu) == 0);
	t0 = shoal_now();
	t = after(CLOCK_REALTIME, 20 * MS);
	MUST(pthread_mutex_timedlock(&mu, &t) == ETIMEDOUT);
	t = after(CLOCK_MONOTONIC, 20 * MS);
	MUST(pthread_mutex_clocklock(&mu, CLOCK_MONOTONIC, &t) == ETIMEDOUT && shoal_now() - t0 >= 40 * MS);
	t.tv_nsec = -1;
	MUST(pthread_mutex_timedlock(&mu, &t) == EINVAL && pthread_mutex_unlock(&mu) == 0);
}

/* ---- condition ---- */

static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

static void waits_turn(void *arg)
{
	int me = *(int *)arg;

	pthread_mutex_lock(&mu);
	in++;
	while (turns != me)
		MUST(pthread_cond_wait(&cond, &mu) == 0);
	turns++;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&mu);
}

static void waits_cancelled(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&mu);
	in++;
	MUST(pthread_cond_wait(&cond, &mu) == ECANCELED);
	MUST(pthread_mutex_trylock(&mu) == EBUSY && pthread_mutex_unlock(&mu) == 0);
}

static void cond_case(void)
{
	pthread_condattr_t attr;
	pthread_cond_t *c = malloc(sizeof *c);
	struct timespec t;
	int64_t t0;
	shoal_gid g;

	for (int i = 0; i < 50; i++)
		shoal_wg_go(&wg, waits_turn, &(int){49 - i}, sizeof i);
	MUST(shoal_wg_wait(&wg) == 0 && turns == 50);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	MUST(pthread_cond_init(c, &attr) == 0 && pthread_mutex_lock(&mu) == 0);
	t0 = shoal_now();
	t = after(CLOCK_MONOTONIC, 20 * MS);
	MUST(pthread_cond_timedwait(c, &mu, &t) == ETIMEDOUT && shoal_now() - t0 >= 20 * MS);
	t = after(CLOCK_REALTIME, 20 * MS);
	MUST(pthread_cond_clockwait(c, &mu, CLOCK_REALTIME, &t) == ETIMEDOUT && shoal_now() - t0 >= 40 * MS);
	MUST(pthread_cond_timedwait(c, &mu, &(struct timespec){0, 0}) == ETIMEDOUT);
	MUST(pthread_cond_timedwait(c, &mu, &(struct timespec){0, 1000000000}) == EINVAL);
	MUST(pthread_mutex_unlock(&mu) == 0 && pthread_cond_destroy(c) == 0);
	in = 0;
	g = shoal_wg_go(&wg, waits_cancelled, NULL, 0);
	while (!in)
		shoal_yield();
	shoal_sleep(MS);
	MUST(shoal_cancel(g) == 0 && shoal_wg_wait(&wg) == 0);
}

/* ---- reader/writer lock ---- */

static pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;

static void reads(void *arg)
{
	(void)arg;
	for (int i = 0; i < 30; i++) {
		MUST(pthread_rwlock_rdlock(&rw) == 0 && !writers);
		int k = ++in;

		most = k > most ? k : most;
		shoal_sleep(100000);
		MUST(!writers);
		in--;
		MUST(pthread_rwlock_unlock(&rw) == 0);
	}
}

static void writes(void *arg)
{
	(void)arg;
	for (int i = 0; i < 30; i++) {
		MUST(pthread_rwlock_wrlock(&rw) == 0 && !in && ++writers == 1);
		n++;
		shoal_sleep(50000); /* it may continue on another worker */
		shoal_yield();
		MUST(--writers == 0 && !in && pthread_rwlock_unlock(&rw) == 0);
		shoal_sleep(100000);
	}
}

static void rwlock_case(void)
{
	struct timespec t;

	n = 0;
	for (int i = 0; i < 8; i++) {
		shoal_wg_go(&wg, reads, NULL, 0);
		shoal_wg_go(&wg, writes, NULL, 0);
	}
	shoal_wg_wait(&wg);
	MUST(n == 240 && most > 1 && in == 0);
	MUST(pthread_rwlock_wrlock(&rw) == 0 && pthread_rwlock_wrlock(&rw) == EDEADLK &&
	     pthread_rwlock_rdlock(&rw) == EDEADLK);
	MUST(pthread_rwlock_tryrdlock(&rw) == EBUSY && pthread_rwlock_trywrlock(&rw) == EBUSY &&
	     pthread_rwlock_unlock(&rw) == 0);
	MUST(pthread_rwlock_rdlock(&rw) == 0 && pthread_rwlock_tryrdlock(&rw) == 0);
	t = after(CLOCK_REALTIME, 10 * MS);
	MUST(pthread_rwlock_timedwrlock(&rw, &t) == ETIMEDOUT);
	t = after(CLOCK_MONOTONIC, 10 * MS);
	MUST(pthread_rwlock_clockwrlock(&rw, CLOCK_MONOTONIC, &t) == ETIMEDOUT &&
	     pthread_rwlock_timedrdlock(&rw, &t) == 0);
	for (int i = 0; i < 3; i++)
		MUST(pthread_rwlock_unlock(&rw) == 0);
	MUST(pthread_rwlock_trywrlock(&rw) == 0 && pthread_rwlock_unlock(&rw) == 0 && pthread_rwlock_destroy(&rw) == 0);
}

/* ---- barrier, once, semaphore ---- */

static pthread_barrier_t barrier;
static pthread_once_t once = PTHREAD_ONCE_INIT, left = PTHREAD_ONCE_INIT;
static sem_t sem, units;

static void meets(void *arg)
{
	(void)arg;
	for (int i = 0; i < 200; i++) {
		int r;

		in++;
		r = pthread_barrier_wait(&barrier);
		MUST(r == 0 || r == PTHREAD_BARRIER_SERIAL_THREAD);
		MUST(in >= (i + 1) * 10);
		turns += r != 0;
		if (i % 10 == 0)
			shoal_sleep(10000);
	}
}

static void barrier_case(void)
{
	MUST(pthread_barrier_init(&barrier, NULL, 10) == 0);
	for (int i = 0; i < 10; i++)
		shoal_wg_go(&wg, meets, NULL, 0);
	shoal_wg_wait(&wg);
	MUST(turns == 200 && in == 2000 && pthread_barrier_destroy(&barrier) == 0);
}

static void begins(void)
{
	shoal_sleep(5 * MS);
	n++;
}

static void needs_it(void *arg)
{
	(void)arg;
	MUST(pthread_once(&once, begins) == 0 && n == 1);
}

/* The first goroutine in it never finishes; another one runs it, and the waiters learn of it. */
enum left_by { BY_CRASH, BY_EXIT, BY_CRASH_BEGUN_AGAIN };
static enum left_by way;
static uint64_t guard;

int __cxa_guard_acquire(void *);
void __cxa_guard_release(void *);

static void leaves(void)
{
	int turn = ++in;

	shoal_sleep(MS);
	if (turn == 1 && way == BY_EXIT)
		shoal_exit();
	if (turn == 1)
		*nowhere = 1;
	else /* no compiler counts it before that */
		n++;
}

static void needs_left(void *arg)
{
	(void)arg;
	MUST(pthread_once(&left, leaves) == 0 && in == 2 && n == 1);
}

static void needs_static(void *arg)
{
	(void)arg;
	if (__cxa_guard_acquire(&guard)) {
		leaves();
		__cxa_guard_release(&guard);
	}
	MUST(in == 2 && n == 1);
}

static void left_case(enum left_by by, void (*needs)(void *))
{
	struct shoal_go_opts o = {.flags = SHOAL_ISOLATED, .attempts = by == BY_CRASH_BEGUN_AGAIN ? 2 : 1};

	way = by;
	n = 0;
	in = 0;
	left = (pthread_once_t)PTHREAD_ONCE_INIT;
	guard = 0;
	for (int i = 0; i < 5; i++)
		shoal_wg_go_with(&wg, &o, needs, NULL, 0);
	shoal_wg_wait(&wg);
	MUST(in == 2 && n == 1);
}

static void once_case(void)
{
	n = 0;
	in = 0;
	for (int i = 0; i < 20; i++)
		shoal_wg_go(&wg, needs_it, NULL, 0);
	shoal_wg_wait(&wg);
	MUST(n == 1);
	for (int i = 0; i < 5; i++)
		for (enum left_by by = BY_CRASH; by <= BY_CRASH_BEGUN_AGAIN; by++) {
			left_case(by, needs_left);
			left_case(by, needs_static);
		}
}

static void eats(void *arg)
{
	(void)arg;
	for (int i = 0; i < 100; i++)
		MUST(sem_wait(&sem) == 0);
	turns++;
}

static void waits_for_none(void *arg)
{
	(void)arg;
	in++;
	MUST(sem_wait(&sem) < 0 && errno == ECANCELED);
}

static void sem_case(void)
{
	struct timespec t = after(CLOCK_MONOTONIC, 20 * MS);
	int64_t t0 = shoal_now();
	shoal_gid g;

	MUST(sem_init(&sem, 0, 0) == 0);
	MUST(sem_clockwait(&sem, CLOCK_MONOTONIC, &t) < 0 && errno == ETIMEDOUT && shoal_now() - t0 >= 20 * MS);
	MUST(sem_timedwait(&sem, &(struct timespec){0, -1}) < 0 && errno == EINVAL);
	for (int i = 0; i < 5; i++)
		shoal_wg_go(&wg, eats, NULL, 0);
	for (int i = 0; i < 500; i++) {
		MUST(sem_post(&sem) == 0);
		if (i % 30 == 0)
			shoal_sleep(100000);
	}
	MUST(shoal_wg_wait(&wg) == 0 && turns == 5);
	g = shoal_wg_go(&wg, waits_for_none, NULL, 0);
	while (!in)
		shoal_yield();
	shoal_sleep(MS);
	MUST(shoal_cancel(g) == 0 && shoal_wg_wait(&wg) == 0);
	MUST(sem_open("/shoal-net-locks", 0) == SEM_FAILED && errno == ENOENT);
}

/* ---- C11 ---- */

static mtx_t mtx;
static cnd_t cnd;
static once_flag flag = ONCE_FLAG_INIT;

static void begins_c11(void)
{
	thrd_sleep(&(struct timespec){0, 2 * MS}, NULL);
	MUST(mtx_init(&mtx, mtx_timed) == thrd_success && cnd_init(&cnd) == thrd_success);
}

static void c11(void *arg)
{
	(void)arg;
	call_once(&flag, begins_c11);
	MUST(mtx_lock(&mtx) == thrd_success);
	if (++in == 10)
		cnd_broadcast(&cnd);
	while (in < 10)
		MUST(cnd_wait(&cnd, &mtx) == thrd_success);
	thrd_yield();
	MUST(mtx_trylock(&mtx) == thrd_busy && mtx_unlock(&mtx) == thrd_success);
}

static void c11_case(void)
{
	struct timespec t;

	for (int i = 0; i < 10; i++)
		shoal_wg_go(&wg, c11, NULL, 0);
	shoal_wg_wait(&wg);
	MUST(mtx_lock(&mtx) == thrd_success);
	t = after(CLOCK_REALTIME, 5 * MS);
	MUST(cnd_timedwait(&cnd, &mtx, &t) == thrd_timedout && mtx_timedlock(&mtx, &t) == thrd_timedout);
	mtx_unlock(&mtx);
}

/* ---- state of a thread ---- */

static _Thread_local int own = 7, zero;
static _Thread_local char aligned[64] __attribute__((aligned(64)));
static pthread_key_t key, from_start;
static _Atomic long ended;

static void ends(void *v)
{
	ended += (long)v;
}

__attribute__((constructor)) static void start(void)
{
	pthread_key_create(&from_start, ends);
}

static void has_its_own(void *arg)
{
	int me = *(int *)arg;

	MUST(pthread_getspecific(key) == NULL && pthread_getspecific(from_start) == NULL);
	MUST(pthread_setspecific(key, (void *)(long)me) == 0 && pthread_setspecific(from_start, (void *)1000l) == 0);
	for (int i = 0; i < 20; i++) {
		shoal_sleep(100000);
		MUST(pthread_getspecific(key) == (void *)(long)me && pthread_getspecific(from_start) == (void *)1000l);
	}
}

/* One for each goroutine, in the same place wherever it runs. */
static void looks_at_its_own(void *arg)
{
	int me = *(int *)arg, *at = &own;

	MUST(own == 7 && zero == 0 && !aligned[5] && (uintptr_t)aligned % 64 == 0);
	own = me;
	zero = -own;
	aligned[5] = (char)own;
	for (int i = 0; i < 20; i++) {
		shoal_sleep(50000); /* on any worker */
		MUST(&own == at && own == me && zero == -me && aligned[5] == (char)me);
	}
}

static void own_case(void)
{
	long all = 0;
	tss_t t;

	MUST(own == 7 && zero == 0); /* whatever tasks there were before */
	for (int i = 0; i < 50; i++)
		shoal_wg_go(&wg, looks_at_its_own, &i, sizeof i);
	shoal_wg_wait(&wg);
	MUST(pthread_key_create(&key, ends) == 0);
	for (int round = 0; round < 20; round++) /* goroutines are used again */
		for (int i = 1; i <= 20; i++, all += i - 1 + 1000)
			shoal_wg_go(&wg, has_its_own, &i, sizeof i);
	shoal_wg_wait(&wg);
	MUST(ended == all);
	MUST(pthread_key_delete(key) == 0 && pthread_setspecific(key, "") == EINVAL &&
	     pthread_getspecific(key) == NULL);
	MUST(pthread_key_delete(key) == EINVAL);
	MUST(tss_create(&t, NULL) == thrd_success && tss_set(t, "x") == thrd_success && !strcmp(tss_get(t), "x"));
	tss_delete(t);
}

/* ---- a thread of the module's on the same locks ---- */

static void *thread(void *arg)
{
	(void)arg;
	for (int i = 0; i < 200; i++) {
		pthread_mutex_lock(&mu);
		n++;
		usleep(100);
		pthread_cond_signal(&cond);
		pthread_mutex_unlock(&mu);
		sem_post(&sem);
		if (pthread_rwlock_wrlock(&rw) != 0 || ++writers != 1)
			abort();
		writers--;
		pthread_rwlock_unlock(&rw);
	}
	pthread_mutex_lock(&mu);
	while (turns == 0)
		pthread_cond_wait(&cond, &mu);
	pthread_mutex_unlock(&mu);
	while (sem_wait(&units) != 0)
		;
	return "done";
}

static void with_thread(void *arg)
{
	(void)arg;
	for (int i = 0; i < 100; i++) {
		pthread_mutex_lock(&mu);
		n++;
		pthread_mutex_unlock(&mu);
		MUST(sem_wait(&sem) == 0);
		MUST(pthread_rwlock_rdlock(&rw) == 0 && !writers);
		shoal_yield();
		MUST(!writers && pthread_rwlock_unlock(&rw) == 0);
	}
	pthread_mutex_lock(&mu);
	if (++in == 3)
		turns = 1;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&mu);
	sem_post(&units);
}

static void waits_for_thread(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&mu);
	in = 1;
	while (n < 100)
		pthread_cond_wait(&cond, &mu);
	pthread_mutex_unlock(&mu);
}

static void thread_case(void)
{
	pthread_t t;
	void *r;

	n = 0;
	in = 0;
	MUST(sem_init(&sem, 0, 0) == 0);
	shoal_wg_go(&wg, waits_for_thread, NULL, 0); /* before there is one */
	while (!in)
		shoal_yield();
	shoal_pin();
	MUST(pthread_create(&t, NULL, thread, NULL) == 0);
	for (int i = 0; i < 2; i++)
		shoal_wg_go(&wg, with_thread, NULL, 0);
	MUST(pthread_join(t, &r) == 0 && !strcmp(r, "done"));
	shoal_unpin();
	shoal_wg_wait(&wg);
	MUST(n == 400);
}

static void exits(void *arg)
{
	(void)arg;
	pthread_exit(NULL);
	turns++;
}

static void exit_case(void)
{
	shoal_wg_go(&wg, exits, NULL, 0);
	MUST(shoal_wg_wait(&wg) == 0 && turns == 0);
}

/* ---- a deadlock on a lock is found ---- */

static void asleep(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&mu);
	pthread_mutex_lock(&mu);
}

static void never(void *arg)
{
	(void)arg;
	sem_wait(&sem);
}

static void deadlock_case(void)
{
	shoal_go(asleep, NULL, 0);
	shoal_go(never, NULL, 0);
	pthread_rwlock_rdlock(&rw);
	pthread_rwlock_wrlock(&rw);
}

/* ---- statics of C++: a goroutine that dies during the initialization is not taken for its successor ---- */

static uint64_t of_crashed, of_again;
static _Atomic int runs;

static void crashes_there(void *arg)
{
	(void)arg;
	MUST(__cxa_guard_acquire(&of_crashed) == 1);
	*nowhere = 1;
}

static void begins_again(void *arg)
{
	(void)arg;
	runs++;
	MUST(__cxa_guard_acquire(&of_again) == 1);
	if (runs == 1)
		*nowhere = 1;
	__cxa_guard_release(&of_again);
}

static void waits_here(void *arg)
{
	shoal_recv(*(struct shoal_chan **)arg, NULL);
}

static void statics_case(void)
{
	struct shoal_chan *end = shoal_chan_new(0, 0);
	struct shoal_end end_of;

	MUST(shoal_join(shoal_go_with(&(struct shoal_go_opts){.flags = SHOAL_ISOLATED}, crashes_there, NULL, 0),
			&end_of) == 0 &&
	     end_of.how == SHOAL_CRASHED);
	for (int i = 0; i < 200; i++) /* one of them in its place */
		MUST(shoal_wg_go(&wg, waits_here, &end, sizeof end));
	MUST(__cxa_guard_acquire(&of_crashed) == 1);
	__cxa_guard_release(&of_crashed);
	MUST(__cxa_guard_acquire(&of_crashed) == 0);
	shoal_close(end);
	shoal_wg_wait(&wg);
	MUST(shoal_join(shoal_go_with(&(struct shoal_go_opts){.flags = SHOAL_ISOLATED, .attempts = 2}, begins_again,
				      NULL, 0),
			&end_of) == 0 &&
	     end_of.how == SHOAL_DONE && runs == 2 && __cxa_guard_acquire(&of_again) == 0);
}

int shoal_main(int argc, char **argv)
{
	static const struct net_case cases[] = {
		{"statics", statics_case}, {"mutex", mutex_case},   {"cond", cond_case}, {"rwlock", rwlock_case},
		{"barrier", barrier_case}, {"once", once_case},	    {"sem", sem_case},	 {"c11", c11_case},
		{"own", own_case},	   {"thread", thread_case}, {"exit", exit_case}, {"deadlock", deadlock_case}};

	return NET_RUN(argc, argv, cases);
}
