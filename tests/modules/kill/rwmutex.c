/*
 * kill/rwmutex.c - rwmutexes alone, for the kill driver, as kill/work.c: so that who dies as it takes
 * one out of a queue does so here. One ends with a lock in its hands first, then many wait and hold
 * several at once, some of them twice.
 */
#include <shoal.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define N 10
#define LOCKS 6
#define ROUNDS 4

static struct shoal_go_opts stubborn = {.name = "rwmutex", .attempts = 100, .flags = SHOAL_ISOLATED};
static struct shoal_wg wg;
static struct shoal_rwmutex left, rw[LOCKS], many[9];
static int ready, told, value[LOCKS], ended[N];

static int get(const int *n)
{
	return __atomic_load_n(n, __ATOMIC_SEQ_CST);
}

/* Ends and keeps it: the next one is told. */
static void keeps(void *arg)
{
	(void)arg;
	shoal_rwmutex_lock(&left);
	for (int i = 0; i < 100 && get(&ready) < 2; i++)
		shoal_sleep(20000);
}

static void is_told(void *arg)
{
	int writes = *(int *)arg, r;

	__atomic_fetch_add(&ready, 1, __ATOMIC_SEQ_CST);
	r = writes ? shoal_rwmutex_lock(&left) : shoal_rwmutex_rlock(&left);
	if (r == -EOWNERDEAD)
		__atomic_fetch_add(&told, 1, __ATOMIC_SEQ_CST);
	else if (r != 0)
		abort();
	if (writes ? shoal_rwmutex_unlock(&left) : shoal_rwmutex_runlock(&left))
		abort();
}

static void must(int r)
{
	if (r != 0 && r != -EOWNERDEAD)
		abort();
}

/* Readers see no value while a writer changes it. */
static void one(int me, int i)
{
	int before;

	if (me % 3) {
		must(shoal_rwmutex_rlock(&rw[i]));
		before = get(&value[i]);
		shoal_yield();
		if (get(&value[i]) != before)
			abort();
		must(shoal_rwmutex_runlock(&rw[i]));
	} else {
		must(shoal_rwmutex_lock(&rw[i]));
		__atomic_fetch_add(&value[i], 1, __ATOMIC_SEQ_CST);
		shoal_yield();
		__atomic_fetch_add(&value[i], 1, __ATOMIC_SEQ_CST);
		must(shoal_rwmutex_unlock(&rw[i]));
	}
}

static void member(void *arg)
{
	int me = *(int *)arg, n = (int)(sizeof many / sizeof *many);

	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < LOCKS; i++)
			one(me, (i + me) % LOCKS);
	/* Nobody writes to these. */
	for (int i = 0; i < n; i++)
		must(shoal_rwmutex_rlock(&many[i]));
	must(shoal_rwmutex_rlock(&many[2]));
	shoal_yield();
	must(shoal_rwmutex_runlock(&many[2]));
	for (int i = 0; i < n; i++)
		must(shoal_rwmutex_runlock(&many[i]));
	ended[me] = 1;
}

int shoal_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	shoal_wg_go_with(&wg, &stubborn, keeps, NULL, 0);
	shoal_sleep(50000);
	for (int i = 0; i < 2; i++)
		shoal_wg_go_with(&wg, &stubborn, is_told, &i, sizeof i);
	shoal_wg_wait(&wg);
	for (int i = 0; i < N; i++)
		shoal_wg_go_with(&wg, &stubborn, member, &i, sizeof i);
	shoal_wg_wait(&wg);
	for (int i = 0; i < N; i++)
		if (!ended[i])
			return fprintf(stderr, "rwmutex: %d did not end\n", i), 3;
	for (int i = 0; i < LOCKS; i++) { /* nobody holds any of them */
		must(shoal_rwmutex_lock(&rw[i]));
		if (value[i] % 2) /* who died between its two steps has begun again */
			value[i]++;
		must(shoal_rwmutex_unlock(&rw[i]));
	}
	return 0;
}
