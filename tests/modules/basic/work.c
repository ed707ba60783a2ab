/*
 * work.c - a little of everything, checked at the end: what the kill driver runs.
 */
#include <shoal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N 200
#define ROUNDS 20

static struct shoal_wg wg;
static struct shoal_mutex mu;
static struct shoal_chan *sync_chan, *buffered;
static long counter, received, done[N];

static int deep(int n, long *sum)
{
	char frame[600];

	memset(frame, n, sizeof frame);
	if (n > 0)
		deep(n - 1, sum);
	else
		shoal_yield();
	for (unsigned i = 0; i < sizeof frame; i++)
		if (frame[i] != (char)n)
			abort();
	*sum += n;
	return frame[5];
}

static void member(void *arg)
{
	int me = *(int *)arg;
	long sum = 0;
	char *text;

	for (int r = 0; r < ROUNDS; r++) {
		text = malloc((size_t)(16 + me * 13 % 5000));
		sprintf(text, "%d.%d", me, r);
		deep((me + r) % 12, &sum);
		shoal_mutex_lock(&mu);
		counter++;
		shoal_mutex_unlock(&mu);
		if (atoi(text) != me)
			abort();
		free(text);
		if (r % 7 == 3)
			shoal_sleep(100000);
	}
	shoal_send(me % 2 ? buffered : sync_chan, &me);
	done[me] = 1;
}

static void collect(void *arg)
{
	struct shoal_chan *c = *(struct shoal_chan **)arg;
	int v;

	while (shoal_recv(c, &v) == 1)
		__atomic_fetch_add(&received, v, __ATOMIC_SEQ_CST);
}

static void nothing(void *arg)
{
	(void)arg;
}

int shoal_main(int argc, char **argv)
{
	shoal_gid c1, c2, g;
	long want = 0;

	(void)argc;
	(void)argv;
	sync_chan = shoal_chan_new(sizeof(int), 0);
	buffered = shoal_chan_new(sizeof(int), 5);
	c1 = shoal_go(collect, &sync_chan, sizeof sync_chan);
	c2 = shoal_go(collect, &buffered, sizeof buffered);
	for (int i = 0; i < N; i++) {
		shoal_wg_go(&wg, member, &i, sizeof i);
		want += i;
	}
	for (int i = 0; i < 300; i++) {
		g = shoal_go(nothing, NULL, 0);
		if (i % 10 == 0)
			shoal_join(g, NULL);
	}
	shoal_wg_wait(&wg);
	shoal_close(sync_chan);
	shoal_close(buffered);
	shoal_join(c1, NULL);
	shoal_join(c2, NULL);
	for (int i = 0; i < N; i++)
		if (!done[i])
			return 3;
	printf("%ld %ld\n", counter, received - want);
	return counter == N * ROUNDS && received == want ? 0 : 1;
}
