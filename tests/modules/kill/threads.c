/*
 * kill/threads.c - threads, for the kill driver, as kill/work.c: stacks of all sizes, results in the frame of the
 * creator, cancellation that is held back and delivered, and a root that leaves before its threads.
 */
#define _GNU_SOURCE
#include <shoal.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREADS 40
#define ROUNDS 6

struct part {
	int i, reached;
	long result;
};

static int get(const int *n)
{
	return __atomic_load_n(n, __ATOMIC_SEQ_CST);
}

static void put(int *n, int v)
{
	__atomic_store_n(n, v, __ATOMIC_SEQ_CST);
}

static __attribute__((noinline)) long deep(int n)
{
	volatile char b[3000];

	memset((void *)b, n, sizeof b);
	return n > 0 ? deep(n - 1) + b[n] - n + 1 : 0;
}

/* A thread that dies with its worker does all of it again. */
static void *work(void *arg)
{
	struct part *p = arg;
	long sum = 0;

	for (int k = 0; k < 4; k++) {
		sum += deep(p->i % 8 ? 2 : 15);
		if (k % 2)
			sched_yield();
		else
			usleep(50);
	}
	__atomic_store_n(&p->result, sum + p->i, __ATOMIC_SEQ_CST);
	return NULL;
}

static void frames(void)
{
	static const size_t sizes[] = {0, 65536, 1 << 20, 8 << 20, 32 << 20, 100 << 20};
	struct part part[THREADS];
	pthread_t t[THREADS];
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	for (int i = 0; i < THREADS; i++) {
		size_t size = sizes[(size_t)i % (sizeof sizes / sizeof *sizes)];

		part[i] = (struct part){.i = i};
		if (size)
			pthread_attr_setstacksize(&attr, size);
		if (pthread_create(&t[i], size ? &attr : NULL, work, &part[i]) != 0)
			abort();
	}
	for (int i = 0; i < THREADS; i++)
		if (pthread_join(t[i], NULL) != 0 ||
		    __atomic_load_n(&part[i].result, __ATOMIC_SEQ_CST) != 4 * (i % 8 ? 2 : 15) + i)
			abort();
	pthread_attr_destroy(&attr);
}

static void *until_cancelled(void *arg)
{
	struct part *p = arg;

	for (int k = 0; k < 20000 && get(&p->reached) < 100; k++) {
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
		usleep(100);
		sched_yield();
		pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
		usleep(100);
	}
	return NULL;
}

/* A thread that starts again has lost the request to end: it is asked again. */
static void cancels(void)
{
	struct part part[8];
	pthread_t t[8];

	for (int i = 0; i < 8; i++) {
		part[i] = (struct part){.i = i};
		if (pthread_create(&t[i], NULL, until_cancelled, &part[i]) != 0)
			abort();
	}
	for (int i = 0; i < 8; i++)
		for (int tries = 0;; tries++) {
			struct timespec until;
			int r;

			pthread_cancel(t[i]);
			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_sec += (until.tv_nsec + 20000000) / 1000000000;
			until.tv_nsec = (until.tv_nsec + 20000000) % 1000000000;
			if ((r = pthread_timedjoin_np(t[i], NULL, &until)) == 0)
				break;
			if (r != ETIMEDOUT)
				abort();
			if (tries > 20)
				put(&part[i].reached, 100);
		}
}

static void *last(void *arg)
{
	usleep(2000);
	deep(3);
	return arg;
}

static void at_exit(void)
{
	puts("threads done");
}

int shoal_main(int argc, char **argv)
{
	pthread_t t;

	(void)argc;
	(void)argv;
	atexit(at_exit);
	for (int round = 0; round < ROUNDS; round++) {
		frames();
		usleep(60000); /* longer than the medic waits with the sweep of free stacks, in all */
	}
	cancels();
	if (pthread_create(&t, NULL, last, NULL) != 0)
		abort();
	pthread_detach(t);
	pthread_exit(NULL);
}
