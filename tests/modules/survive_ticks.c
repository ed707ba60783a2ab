/* survive_ticks.c N [MS] - N lines with their numbers, one every MS milliseconds (1), from as many goroutines as lines. */
#include <shoal.h>
#include <stdio.h>
#include <stdlib.h>

static struct shoal_chan *turn;

static void one(void *arg)
{
	int n = *(int *)arg, next;

	shoal_recv(turn, &next);
	printf("%d\n", next);
	next++;
	shoal_send(turn, &next);
	(void)n;
}

int shoal_main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 100, ms = argc > 2 ? atoi(argv[2]) : 1, first = 0;

	turn = shoal_chan_new(sizeof(int), 1);
	shoal_send(turn, &first);
	for (int i = 0; i < n; i++) {
		shoal_gid g = shoal_go(one, &i, sizeof i);

		shoal_sleep(ms * 1000000l);
		if (!g || shoal_join(g, NULL))
			return 1;
	}
	return 7;
}
