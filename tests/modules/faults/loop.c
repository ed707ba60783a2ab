/*
 * faults/loop.c HOW [N] - goroutines that do not give way.
 *   loops N     N times: one loops in the module's code, another waits for the processor: ns until it has it
 *   libc N      one loops in a function of libc for ever; 64 others count by turns for N s: how many ms they were late
 *   count SECONDS  eight count by turns for so long; prints how many ended, how many of them twice
 */
#include <shoal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile int stop;
static int64_t began, ran;
static struct shoal_wg wg;

static void spin(void *arg)
{
	(void)arg;
	while (!stop)
		;
}

static void other(void *arg)
{
	(void)arg;
	ran = shoal_now();
	stop = 1;
}

static void in_libc(void *arg)
{
	static char hay[1 << 20];

	(void)arg;
	/* A comparison that is libc's, by a sort that is libc's: module code is never reached. */
	memset(hay, 'a', sizeof hay - 1);
	for (;;)
		qsort(hay, sizeof hay / 8, 8, (int (*)(const void *, const void *))strcmp);
}

static void counts(void *arg)
{
	int64_t until = *(int64_t *)arg;

	while (shoal_now() < until) {
		for (volatile int i = 0; i < 100000; i++)
			;
		shoal_yield();
	}
}

int shoal_main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	int n = argc > 2 ? atoi(argv[2]) : 1;
	struct shoal_go_opts again = {.attempts = 1000, .flags = SHOAL_ISOLATED};

	if (strcmp(how, "loops") == 0)
		for (int i = 0; i < n; i++) {
			stop = 0;
			shoal_wg_go(&wg, other, NULL, 0);
			shoal_wg_go(&wg, spin, NULL, 0); /* runs first: it is next, the other is kicked out */
			began = shoal_now();
			shoal_wg_wait(&wg);
			printf("%ld\n", (long)(ran - began));
		}
	if (strcmp(how, "libc") == 0) {
		int64_t until;

		shoal_go_with(&again, in_libc, NULL, 0);
		until = shoal_now() + n * 1000000000l;
		for (int i = 0; i < 64; i++)
			shoal_wg_go_with(&wg, &again, counts, &until, sizeof until);
		shoal_wg_wait(&wg);
		printf("%ld\n", (long)((shoal_now() - until) / 1000000));
		return 0;
	}
	if (strcmp(how, "count") == 0) {
		int64_t until = shoal_now() + n * 1000000000l;

		for (int i = 0; i < 8; i++)
			shoal_wg_go_with(&wg, &again, counts, &until, sizeof until);
		shoal_wg_wait(&wg);
	}
	return 0;
}
