/*
 * survive/crash.c HOW [N [MS]] - crashes to be read about afterwards.
 *   deep      in the third of three functions, in a goroutine with a name
 *   jump      by a call of what is no code
 *   timed N [MS]  N isolated goroutines, one after the other and so long apart, each at an address that tells the time
 */
#include <shoal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

__attribute__((noinline)) static int third(volatile int *at)
{
	return *at + 1;
}

__attribute__((noinline)) static int second(volatile int *at)
{
	volatile char frame[300];

	memset((char *)frame, 1, sizeof frame);
	return third(at) + frame[7];
}

__attribute__((noinline)) static int first(int n)
{
	return second((volatile int *)(long)(n + 16)) * 3;
}

static void deep(void *arg)
{
	exit(first(*(int *)arg));
}

static void timed(void *arg)
{
	struct timespec t;

	(void)arg;
	clock_gettime(CLOCK_REALTIME, &t);
	*(volatile char *)(0x100000000000 | ((t.tv_sec * 1000000000l + t.tv_nsec) & 0xffffffffff)) = 1;
}

static void (*volatile nothing)(void) = (void (*)(void))24;

int shoal_main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	int n = argc > 2 ? atoi(argv[2]) : 1;

	if (!strcmp(how, "jump")) {
		nothing();
		return 1;
	}
	for (int i = 0; i < n && !strcmp(how, "timed"); i++, shoal_sleep(argc > 3 ? atoi(argv[3]) * 1000000l : 0))
		shoal_join(shoal_go_with(&(struct shoal_go_opts){.flags = SHOAL_ISOLATED}, timed, NULL, 0), NULL);
	if (!strcmp(how, "deep")) {
		n = 4;
		shoal_join(shoal_go_with(&(struct shoal_go_opts){.name = "digger"}, deep, &n, sizeof n), NULL);
	}
	return 0;
}
