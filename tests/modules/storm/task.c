/*
 * storm/task.c NAME [once] - a short task: some goroutines, some memory, a channel; prints NAME as its last act.
 * Exits with 1 if a value is wrong, or comes twice although no goroutine is run twice (once), 2 without a
 * channel, 3 without a goroutine, 4 without memory, 5 if a receive fails.
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

	if (!text)
		exit(4);
	sprintf(text, "%ld", me);
	shoal_yield();
	me = atol(text);
	free(text);
	shoal_send(results, &me);
}

int shoal_main(int argc, char **argv)
{
	unsigned seen = 0;
	long v;

	results = shoal_chan_new(sizeof(long), 2);
	if (!results)
		return 2;
	for (int i = 0; i < N; i++)
		if (!shoal_wg_go(&wg, work, &i, sizeof i))
			return 3;
	while (seen != (1u << N) - 1) {
		if (shoal_recv(results, &v) != 1)
			return 5;
		if (v < 0 || v >= N || (seen >> v & 1 && argc > 2)) {
			printf("%ld, after %x\n", v, seen);
			return 1;
		}
		seen |= 1u << v;
	}
	shoal_close(results); /* for a goroutine that died after it had sent, and runs again */
	shoal_wg_wait(&wg);
	printf("%s\n", argc > 1 ? argv[1] : "-");
	return 0;
}
