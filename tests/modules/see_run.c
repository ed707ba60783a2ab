/*
 * see_run.c - goroutines in all states, to be looked at: see_run MODE [N] [MS]
 *
 *   spin      N goroutines in loops without a call, for MS milliseconds
 *   deep      one that waits N calls deep
 */
#include <shoal.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct shoal_wg wg;
static atomic_int over;
static volatile unsigned long turns[64];

static void spin_without_call(void *arg)
{
	int i = *(int *)arg;

	while (!over)
		turns[i]++;
}

static int spin(int n, int ms)
{
	for (int i = 0; i < n; i++)
		shoal_wg_go_with(&wg, &(struct shoal_go_opts){.name = "spinner"}, spin_without_call, &i, sizeof i);
	shoal_sleep(ms * 1000000l);
	over = 1;
	shoal_wg_wait(&wg);
	for (int i = 0; i < n; i++)
		if (!turns[i])
			return 1;
	puts("all have run");
	return 0;
}

static struct shoal_chan *never;

static __attribute__((noinline)) int go_down(volatile int n)
{
	int r = n > 0 ? go_down(n - 1) : shoal_recv(never, NULL);

	return r + n;
}

static void deep(void *arg)
{
	go_down(*(int *)arg);
}

int shoal_main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	int n = argc > 2 ? atoi(argv[2]) : 1, ms = argc > 3 ? atoi(argv[3]) : 1000;

	if (strcmp(mode, "spin") == 0)
		return spin(n, ms);
	if (strcmp(mode, "deep") == 0) {
		never = shoal_chan_new(0, 0);
		shoal_go(deep, &n, sizeof n);
		shoal_sleep(ms * 1000000l);
		return 0;
	}
	return 2;
}
