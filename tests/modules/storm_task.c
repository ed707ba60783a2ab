/*
 * storm_task.c NAME - a short task: some goroutines, some memory, a channel; prints NAME as its last act.
 */
#include <shoal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N 8

static struct shoal_chan *results;
static struct shoal_wg wg;

static void work(void *arg)
{
	long me = *(int *)arg;
	char *text = malloc(100 + (size_t)me * 1000);

	sprintf(text, "%ld", me);
	shoal_yield();
	me = atol(text);
	free(text);
	shoal_send(results, &me);
}

int shoal_main(int argc, char **argv)
{
	long sum = 0, v;

	results = shoal_chan_new(sizeof(long), 2);
	for (int i = 0; i < N; i++)
		shoal_wg_go(&wg, work, &i, sizeof i);
	for (int i = 0; i < N && shoal_recv(results, &v) == 1; i++)
		sum += v;
	shoal_wg_wait(&wg);
	if (sum != N * (N - 1) / 2)
		return 1;
	printf("%s\n", argc > 1 ? argv[1] : "-");
	return 0;
}
