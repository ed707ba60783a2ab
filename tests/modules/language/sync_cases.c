/*
 * sync_cases.c [killed] - mutex, rwmutex, cond, wait group, once, semaphore: what Go's own tests ask
 * of them, and what they owe to a goroutine whose partner died.
 */
#include "tests/modules/language/cases.h"

static struct shoal_mutex mu;
static struct shoal_rwmutex rw;
static struct shoal_cond cond;
static struct shoal_wg wg;
static struct shoal_sem sem;
static int inside, waiting, order[16];
static long counter;
static atomic_int readers, writers, done, awake, count;

static void fresh(void)
{
	memset(&mu, 0, sizeof mu);
	memset(&rw, 0, sizeof rw);
	memset(&cond, 0, sizeof cond);
	memset(&wg, 0, sizeof wg);
	memset(&sem, 0, sizeof sem);
	inside = waiting = 0;
	counter = 0;
	atomic_store(&readers, 0);
	atomic_store(&writers, 0);
	atomic_store(&done, 0);
	atomic_store(&awake, 0);
	atomic_store(&count, 0);
}

/* Taken, whatever became of its last holder. */
static int taken(int r)
{
	MUST(r == 0 || (r == -EOWNERDEAD && cases_killed));
	return r;
}

static void until(atomic_int *v, int n)
{
	for (int i = 0; i < (cases_killed ? 50 : 2000) && atomic_load(v) < n; i++)
		shoal_sleep(MS);
}

/* ---- mutex ---- */

static void hammer(void *arg)
{
	(void)arg;
	for (int i = 0; i < 1000; i++) {
		if (i % 3 == 0 && shoal_mutex_trylock(&mu) == 0) {
			shoal_mutex_unlock(&mu);
			continue;
		}
		if (taken(shoal_mutex_lock(&mu)) == -EOWNERDEAD)
			inside = 0;
		MUST(inside == 0);
		inside = 1;
		counter++;
		if (i % 100 == 0)
			shoal_yield();
		inside = 0;
		shoal_mutex_unlock(&mu);
		atomic_fetch_add(&count, 1);
	}
}

static void mutex_hammer(void)
{
	fresh();
	MUST(shoal_mutex_lock(&mu) == 0 && shoal_mutex_trylock(&mu) == -EBUSY && shoal_mutex_unlock(&mu) == 0);
	MUST(shoal_mutex_trylock(&mu) == 0 && shoal_mutex_unlock(&mu) == 0);
	spawn_n(hammer, 10);
	finish();
	WANT(counter == atomic_load(&count));
	MUST(shoal_mutex_trylock(&mu) != -EBUSY); /* whoever died, it is free in the end */
	shoal_mutex_unlock(&mu);
}

/* Go's TestMutexFairness: one that needs it briefly gets it although another hardly lets it go. */
static void hogs(void *arg)
{
	(void)arg;
	while (!atomic_load(&done)) {
		taken(shoal_mutex_lock(&mu));
		if (shoal_sleep(MS / 10) == -ECANCELED)
			atomic_store(&done, 1);
		shoal_mutex_unlock(&mu);
	}
}

static void needs_it(void *arg)
{
	(void)arg;
	for (int i = 0; i < 10; i++) {
		shoal_sleep(MS / 10);
		taken(shoal_mutex_lock(&mu));
		shoal_mutex_unlock(&mu);
	}
	atomic_store(&done, 1);
}

static void mutex_fairness(void)
{
	int starved;

	fresh();
	spawn(hogs, NULL, 0);
	spawn(needs_it, NULL, 0);
	for (int i = 0; i < (cases_killed ? 200 : 3000) && !atomic_load(&done); i++)
		shoal_sleep(MS);
	starved = !atomic_load(&done);
	atomic_store(&done, 1);
	finish();
	WANT(!starved);
}

static void ends_with_it(void *arg)
{
	switch (*(int *)arg) {
	case 0: taken(shoal_mutex_lock(&mu)); break;
	case 1: taken(shoal_rwmutex_lock(&rw)); break;
	case 2: taken(shoal_rwmutex_rlock(&rw)); break;
	}
}

/* A goroutine that ends with a lock marks it: the next holder learns that, once. */
static void owner_dead(void)
{
	fresh();
	spawn_n(ends_with_it, 2);
	finish();
	if (cases_lost)
		return;
	MUST(shoal_mutex_lock(&mu) == -EOWNERDEAD && shoal_mutex_unlock(&mu) == 0);
	MUST(shoal_mutex_lock(&mu) == 0 && shoal_mutex_unlock(&mu) == 0);
	MUST(shoal_rwmutex_rlock(&rw) == -EOWNERDEAD && shoal_rwmutex_runlock(&rw) == 0);
	MUST(shoal_rwmutex_lock(&rw) == 0 && shoal_rwmutex_unlock(&rw) == 0);
	spawn(ends_with_it, &(int){2}, sizeof(int));
	finish();
	MUST(cases_lost || (shoal_rwmutex_lock(&rw) == 0 && shoal_rwmutex_unlock(&rw) == 0));
}

/* ---- rwmutex ---- */

static void reads(void *arg)
{
	(void)arg;
	for (int i = 0; i < 200; i++) {
		int n;

		taken(shoal_rwmutex_rlock(&rw));
		n = atomic_fetch_add(&readers, 1) + 1;
		WANT(n >= 1 && atomic_load(&writers) == 0);
		if (i % 10 == 0)
			shoal_yield();
		WANT(atomic_load(&writers) == 0);
		atomic_fetch_sub(&readers, 1);
		shoal_rwmutex_runlock(&rw);
	}
}

static void writes(void *arg)
{
	(void)arg;
	for (int i = 0; i < 200; i++) {
		taken(shoal_rwmutex_lock(&rw));
		WANT(atomic_fetch_add(&writers, 1) == 0 && atomic_load(&readers) == 0);
		counter++;
		if (i % 10 == 0)
			shoal_yield();
		atomic_fetch_sub(&writers, 1);
		shoal_rwmutex_unlock(&rw);
	}
}

static void rwmutex_hammer(void)
{
	static const int mix[][2] = {{1, 1}, {1, 3}, {1, 10}, {4, 4}, {10, 2}};

	for (unsigned i = 0; i < sizeof mix / sizeof *mix; i++) {
		fresh();
		for (int k = 0; k < 10; k++) {
			if (k < mix[i][0])
				spawn(writes, NULL, 0);
			if (k < mix[i][1])
				spawn(reads, NULL, 0);
		}
		finish();
		WANT(counter == 200 * mix[i][0]);
		taken(shoal_rwmutex_lock(&rw)); /* whoever died, it is free in the end */
		shoal_rwmutex_unlock(&rw);
	}
}

/* Readers are in together. */
static void meets_readers(void *arg)
{
	(void)arg;
	taken(shoal_rwmutex_rlock(&rw));
	atomic_fetch_add(&readers, 1);
	for (int i = 0; i < 500 && atomic_load(&readers) < 5; i++)
		shoal_sleep(MS / 5);
	WANT(atomic_load(&readers) == 5);
	shoal_rwmutex_runlock(&rw);
}

static void parallel_readers(void)
{
	fresh();
	spawn_n(meets_readers, 5);
	finish();
}

/* A writer that waits keeps new readers out, and is next. */
static void waits_to_write(void *arg)
{
	(void)arg;
	taken(shoal_rwmutex_lock(&rw));
	atomic_store(&writers, 1);
	shoal_rwmutex_unlock(&rw);
}

static void reads_after(void *arg)
{
	(void)arg;
	taken(shoal_rwmutex_rlock(&rw));
	WANT(atomic_load(&writers) == 1);
	shoal_rwmutex_runlock(&rw);
}

static void writer_first(void)
{
	fresh();
	taken(shoal_rwmutex_rlock(&rw));
	spawn(waits_to_write, NULL, 0);
	shoal_sleep(3 * MS);
	spawn(reads_after, NULL, 0);
	shoal_sleep(3 * MS);
	shoal_rwmutex_runlock(&rw);
	finish();
}

/* ---- cond ---- */

static void waits_in_turn(void *arg)
{
	taken(shoal_mutex_lock(&mu));
	order[waiting++] = *(int *)arg;
	while (!atomic_load(&done)) {
		int r = shoal_cond_wait(&cond, &mu);

		if (r == -ECANCELED) {
			shoal_mutex_unlock(&mu);
			return;
		}
		taken(r);
		break;
	}
	WANT(order[atomic_fetch_add(&awake, 1)] == *(int *)arg);
	shoal_mutex_unlock(&mu);
}

static void wait_for_waiters(int n)
{
	for (int i = 0; i < 1000; i++) {
		int now;

		taken(shoal_mutex_lock(&mu));
		now = waiting;
		shoal_mutex_unlock(&mu);
		if (now >= n)
			return;
		shoal_sleep(MS / 5);
	}
	WANT(!"all came to wait");
}

/* Go's TestCondSignal and TestCondSignalGenerations: one signal wakes one, in order. */
static void cond_in_order(void)
{
	fresh();
	spawn_n(waits_in_turn, 10);
	wait_for_waiters(10);
	for (int i = 1; i <= 10; i++) {
		taken(shoal_mutex_lock(&mu));
		shoal_cond_signal(&cond);
		shoal_mutex_unlock(&mu);
		for (int k = 0; k < 200 && atomic_load(&awake) < i; k++)
			shoal_sleep(MS / 5);
		WANT(atomic_load(&awake) == i);
	}
	finish();
	MUST(shoal_cond_signal(&cond) == 0); /* nobody waits: nothing */
}

static void waits_for_all(void *arg)
{
	(void)arg;
	taken(shoal_mutex_lock(&mu));
	waiting++;
	if (shoal_cond_wait(&cond, &mu) != -ECANCELED)
		atomic_fetch_add(&awake, 1);
	shoal_mutex_unlock(&mu);
}

static void cond_broadcast(void)
{
	fresh();
	spawn_n(waits_for_all, 50);
	wait_for_waiters(50);
	taken(shoal_mutex_lock(&mu));
	WANT(atomic_load(&awake) == 0);
	shoal_cond_broadcast(&cond);
	shoal_mutex_unlock(&mu);
	finish();
	WANT(atomic_load(&awake) == 50);
}

/* A queue under a mutex, with a condition: no signal is lost. */
static void puts_in(void *arg)
{
	(void)arg;
	for (int i = 0; i < 500; i++) {
		taken(shoal_mutex_lock(&mu));
		inside++;
		shoal_cond_signal(&cond);
		shoal_mutex_unlock(&mu);
	}
}

static void takes_out(void *arg)
{
	(void)arg;
	for (int i = 0; i < 500; i++) {
		taken(shoal_mutex_lock(&mu));
		while (inside == 0)
			if (shoal_cond_wait(&cond, &mu) == -ECANCELED) {
				shoal_mutex_unlock(&mu);
				return;
			}
		inside--;
		counter++;
		shoal_mutex_unlock(&mu);
	}
}

static void cond_queue(void)
{
	fresh();
	spawn_n(takes_out, 4);
	spawn_n(puts_in, 4);
	finish();
	WANT(counter == 2000 && inside == 0);
}

/* A cancelled waiter comes back with the mutex. */
static void cancelled_waiter(void *arg)
{
	(void)arg;
	taken(shoal_mutex_lock(&mu));
	waiting++;
	MUST(shoal_cond_wait(&cond, &mu) == -ECANCELED);
	MUST(shoal_mutex_trylock(&mu) == -EBUSY);
	shoal_mutex_unlock(&mu);
	MUST(shoal_sem_acquire(&sem, 1) == -ECANCELED);
	shoal_wg_add(&wg, 1);
	MUST(shoal_wg_wait(&wg) == -ECANCELED);
	shoal_wg_done(&wg);
	MUST(shoal_mutex_lock(&mu) == 0); /* not a call that can be cancelled */
	shoal_mutex_unlock(&mu);
	atomic_fetch_add(&count, 1);
}

static void cancelled_waits(void)
{
	fresh();
	spawn(cancelled_waiter, NULL, 0);
	wait_for_waiters(1);
	MUST(shoal_cancel(group[0]) == 0);
	shoal_join(group[0], NULL);
	MUST(atomic_load(&count) == 1 || cases_killed);
	group_n = 0;
	atomic_store(&group_left, 0);
}

/* ---- wait group ---- */

static void member(void *arg)
{
	(void)arg;
	shoal_yield();
	atomic_fetch_add(&count, 1);
}

static char *volatile nowhere = (char *)8;

static void crashes(void *arg)
{
	(void)arg;
	*nowhere = 1;
}

static void wait_group(void)
{
	struct shoal_go_opts alone = {.flags = SHOAL_ISOLATED, .attempts = 1};

	for (int n = 0; n < 100; n++) {
		fresh();
		MUST(shoal_wg_wait(&wg) == 0);
		for (int i = 0; i < 16; i++)
			MUST(shoal_wg_go_with(&wg, &alone, member, NULL, 0));
		MUST(shoal_wg_wait(&wg) == 0);
		MUST(atomic_load(&count) == 16 || cases_killed);
	}
	MUST(shoal_wg_go_with(&wg, &alone, crashes, NULL, 0)); /* it is counted out however it ends */
	MUST(shoal_wg_wait(&wg) == 0);
}

/* ---- once ---- */

static struct shoal_once once;

static void only_once(void)
{
	shoal_yield();
	atomic_fetch_add(&count, 1);
}

static void runs_once(void *arg)
{
	(void)arg;
	MUST(shoal_once_do(&once, only_once) == 0);
	MUST(atomic_load(&count) >= 1);
}

static void once_for_all(void)
{
	for (int i = 0; i < 20; i++) {
		fresh();
		memset(&once, 0, sizeof once);
		spawn_n(runs_once, 10);
		finish();
		WANT(atomic_load(&count) == 1);
		cases_lost = 0;
	}
}

static void dies_first(void)
{
	if (atomic_fetch_add(&count, 1) == 0)
		crashes(NULL);
}

static void tries_once(void *arg)
{
	(void)arg;
	shoal_once_do(&once, dies_first);
	atomic_fetch_add(&awake, 1);
}

/* Go's TestOncePanic is other: here one that dies has not done it, and another does. */
static void once_dies(void)
{
	struct shoal_go_opts alone = {.flags = SHOAL_ISOLATED, .attempts = 1};

	fresh();
	memset(&once, 0, sizeof once);
	for (int i = 0; i < 5; i++)
		MUST(shoal_wg_go_with(&wg, &alone, tries_once, NULL, 0));
	MUST(shoal_wg_wait(&wg) == 0);
	if (atomic_load(&count) != 2 || atomic_load(&awake) != 4)
		printf("%d ran it, %d came out of it\n", atomic_load(&count), atomic_load(&awake));
	MUST((atomic_load(&count) == 2 && atomic_load(&awake) == 4) || cases_killed);
}

/* ---- semaphore ---- */

static void uses_units(void *arg)
{
	int n = 1 + *(int *)arg % 3;

	for (int i = 0; i < 200; i++) {
		int r = shoal_sem_acquire(&sem, n);

		if (r) {
			MUST(r == -ECANCELED);
			return;
		}
		WANT(atomic_fetch_add(&count, n) + n <= 4);
		if (i % 8 == 0)
			shoal_yield();
		atomic_fetch_sub(&count, n);
		shoal_sem_release(&sem, n);
	}
}

static void semaphore(void)
{
	fresh();
	MUST(shoal_sem_acquire(&sem, 0) == 0 && shoal_sem_release(&sem, 4) == 0);
	spawn_n(uses_units, 8);
	finish();
	WANT(sem.units == 4);
}

static void takes_in_turn(void *arg)
{
	atomic_fetch_add(&awake, 1);
	if (shoal_sem_acquire(&sem, 1 + *(int *)arg % 2) == 0)
		order[atomic_fetch_add(&count, 1)] = *(int *)arg;
}

/* In order: a request for two units is not overtaken by a request for one. */
static void semaphore_in_order(void)
{
	fresh();
	for (int i = 0; i < 8; i++) {
		spawn(takes_in_turn, &i, sizeof i);
		until(&awake, i + 1);
		shoal_sleep(5 * MS); /* it has nothing left to do but wait */
	}
	for (int i = 0; i < 8; i++) {
		shoal_sem_release(&sem, 1);
		if (i % 2) {
			shoal_sleep(MS);
			WANT(atomic_load(&count) == i);
			shoal_sem_release(&sem, 1);
		}
		until(&count, i + 1);
	}
	finish();
	for (int i = 0; i < 8; i++)
		WANT(order[i] == i);
	WANT(atomic_load(&count) == 8 && sem.units == 0);
}

int shoal_main(int argc, char **argv)
{
	cases_begin(argc, argv);
	RUN(mutex_hammer);
	RUN(mutex_fairness);
	RUN(owner_dead);
	RUN(rwmutex_hammer);
	RUN(parallel_readers);
	RUN(writer_first);
	RUN(cond_in_order);
	RUN(cond_broadcast);
	RUN(cond_queue);
	RUN(cancelled_waits);
	RUN(wait_group);
	RUN(once_for_all);
	RUN(once_dies);
	RUN(semaphore);
	RUN(semaphore_in_order);
	return cases_failed;
}
