/*
 * many.c - N goroutines (100,000) parked at once on the few windows there are, with stacks checked.
 * With a second argument it stays that long (ms) before it wakes them.
 */
#include <shoal.h>
#include <stdio.h>
#include <stdlib.h>

static struct shoal_chan *gate;
static struct shoal_wg wg;
static long sum;

static void waiter(void *arg)
{
	long me = *(long *)arg, twice = me * 2, *pointer = &twice;
	char c;

	shoal_recv(gate, &c);
	if (*pointer != me * 2)
		abort();
	__atomic_fetch_add(&sum, me, __ATOMIC_SEQ_CST);
}

int shoal_main(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 100000, want = 0;

	gate = shoal_chan_new(1, 0);
	for (long i = 0; i < n; i++) {
		if (!shoal_wg_go(&wg, waiter, &i, sizeof i))
			return 2;
		want += i;
		if (i % 500 == 499)
			shoal_yield();
	}
	shoal_sleep((argc > 2 ? atol(argv[2]) : 20) * 1000000);
	shoal_close(gate);
	shoal_wg_wait(&wg);
	printf("%ld\n", n);
	return sum == want ? 0 : 1;
}
