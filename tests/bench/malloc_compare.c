/*
 * malloc_compare.c - the malloc mix of mix.h under Shoal, glibc and jemalloc, in one run.
 *
 *   malloc_compare		runs each in turn, several times, and prints medians and ratios
 *   malloc_compare threads	the mix in two threads, once, with whatever malloc there is
 *
 * jemalloc is put before libc's malloc with LD_PRELOAD. Exit code 0; 1 if one of them gave no figure.
 */
#include "tests/bench/mix.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TIMES 5

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void *one(void *who)
{
	atomic_fetch_add(&mix.arrived, 1);
	while (atomic_load(&mix.arrived) < 2)
		;
	mix_run((unsigned)(uintptr_t)who, MIX_OPS);
	return NULL;
}

static double round_ns(void)
{
	double start = now();
	pthread_t other;

	if (pthread_create(&other, NULL, one, (void *)1) != 0)
		abort();
	one((void *)0);
	pthread_join(other, NULL);
	start = (now() - start) / MIX_OPS;
	mix_clear();
	return start;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int threads(void)
{
	double ns[TIMES];

	round_ns();
	for (int i = 0; i < TIMES; i++)
		ns[i] = round_ns();
	qsort(ns, TIMES, sizeof ns[0], compare);
	printf("malloc_mix %.2f\n", ns[TIMES / 2]);
	return 0;
}

/* The figure that a command prints; 0: none. */
static double figure(const char *command)
{
	FILE *p = popen(command, "r");
	char line[256];
	double ns = 0;

	while (p && fgets(line, sizeof line, p))
		sscanf(line, "malloc_mix %lf", &ns);
	if (p)
		pclose(p);
	return ns;
}

int main(int argc, char **argv)
{
	static const char *const name[] = {"shoal", "glibc", "jemalloc"};
	char command[3][8192], me[2048];
	double ns[3][TIMES], median[3];
	ssize_t n;

	if (argc > 1 && !strcmp(argv[1], "threads"))
		return threads();
	n = readlink("/proc/self/exe", me, sizeof me - 1);
	if (n <= 0)
		return 1;
	me[n] = 0;
	snprintf(command[1], sizeof command[1], "'%s' threads", me);
	snprintf(command[2], sizeof command[2], "LD_PRELOAD=libjemalloc.so.2 '%s' threads", me);
	*strrchr(me, '/') = 0;
	snprintf(command[0], sizeof command[0],
		 "SHOAL_SOCKET=/tmp/shoal-bench-%d.sock SHOAL_PROCS=2 '%s/shoal' run '%s/bench.d/suite.so' malloc_mix",
		 (int)getpid(), me, me);
	for (int i = 0; i < TIMES; i++)
		for (int k = 0; k < 3; k++)
			if ((ns[k][i] = figure(command[k])) <= 0)
				return 1;
	for (int k = 0; k < 3; k++) {
		qsort(ns[k], TIMES, sizeof ns[k][0], compare);
		median[k] = ns[k][TIMES / 2];
	}
	printf("\nmalloc mix, two workers, ns a free and a malloc:");
	for (int k = 0; k < 3; k++)
		printf("  %s %.1f (%.1f-%.1f)", name[k], median[k], ns[k][0], ns[k][TIMES - 1]);
	printf("\nshoal is at %.2f of glibc and %.2f of jemalloc (aims: below 1, below 1.5)\n", median[0] / median[1],
	       median[0] / median[2]);
	return 0;
}
