/*
 * survive/ticks.c N [MS] - N lines with their numbers, one every MS milliseconds (1), from as many goroutines as lines.
 * With attempts a goroutine that is lost runs again: its line may come twice then, and none is waited for in vain.
 */
#include <shoal.h>
#include <stdio.h>
#include <stdlib.h>

static struct shoal_chan *told;

static void one(void *arg)
{
	int n = *(int *)arg;

	printf("%d\n", n);
	shoal_send(told, &n);
}

int shoal_main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 100, ms = argc > 2 ? atoi(argv[2]) : 1, got;

	told = shoal_chan_new(sizeof(int), 64);
	for (int i = 0; i < n; i++) {
		shoal_gid g = shoal_go(one, &i, sizeof i);

		shoal_sleep(ms * 1000000l);
		if (!g || shoal_join(g, NULL))
			return 1;
		do
			shoal_recv(told, &got);
		while (got < i); /* one before it has told twice */
	}
	return 7;
}
