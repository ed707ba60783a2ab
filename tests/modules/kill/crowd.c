/*
 * kill/crowd.c - many goroutines: more than windows, than a run queue and than a free list hold; and
 * much memory. For the kill driver, as kill/work.c.
 */
#include <shoal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CROWD 1100 /* there are 1,024 windows */
#define BURST 400  /* a run queue holds 256 */
#define BLOCKS 40

static struct shoal_go_opts stubborn = {.name = "one of many", .attempts = 100, .flags = SHOAL_ISOLATED};
static struct shoal_wg crowd, burst;
static struct shoal_chan *gate;
static int crowd_done, crowd_runs, burst_done, burst_runs;
static char *block[BLOCKS];

struct large {
	int n;
	char pad[200];
};

/* Parks in a window; many do. */
static void in_crowd(void *arg)
{
	int here = *(int *)arg;

	__atomic_fetch_add(&crowd_runs, 1, __ATOMIC_SEQ_CST);
	if (shoal_recv_timed(gate, NULL, here % 2 ? SHOAL_FOREVER : 600000000000) != 0 || here != *(int *)arg)
		abort();
	__atomic_fetch_add(&crowd_done, 1, __ATOMIC_SEQ_CST);
}

static void in_burst(void *arg)
{
	struct large *l = arg;

	__atomic_fetch_add(&burst_runs, 1, __ATOMIC_SEQ_CST);
	if (l->pad[l->n % 200] != (char)l->n)
		abort();
	__atomic_fetch_add(&burst_done, 1, __ATOMIC_SEQ_CST);
}

static void burster(void *arg)
{
	struct large l;

	(void)arg;
	for (int i = 0; i < BURST; i++) {
		l.n = i;
		memset(l.pad, i, sizeof l.pad);
		shoal_wg_go_with(&burst, &stubborn, in_burst, &l, sizeof l);
	}
}

static void frees(void *arg)
{
	int i = *(int *)arg;

	free(__atomic_exchange_n(&block[i], NULL, __ATOMIC_SEQ_CST));
}

static void memory(void)
{
	char *large = malloc(300000);

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < BLOCKS; i++)
			memset(block[i] = malloc((size_t)(i + 1) * 3000), i, 3000);
		for (int i = 0; i < BLOCKS; i++)
			shoal_wg_go_with(&burst, &stubborn, frees, &i, sizeof i);
		shoal_wg_wait(&burst);
		large = realloc(large, 300000 + (size_t)round * 400000);
		large = realloc(large, 100000);
	}
	free(large);
}

int shoal_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	gate = shoal_chan_new(0, 0);
	for (int i = 0; i < CROWD; i++)
		shoal_wg_go_with(&crowd, &stubborn, in_crowd, &i, sizeof i);
	shoal_join(shoal_go_with(&stubborn, burster, NULL, 0), NULL);
	shoal_wg_wait(&burst);
	memory();
	shoal_close(gate);
	shoal_wg_wait(&crowd);
	if (crowd_done < CROWD || crowd_done > crowd_runs)
		return fprintf(stderr, "crowd: %d of %d, %d runs\n", crowd_done, CROWD, crowd_runs), 7;
	if (burst_done < BURST || burst_done > burst_runs)
		return fprintf(stderr, "burst: %d of %d, %d runs\n", burst_done, BURST, burst_runs), 8;
	return 0;
}
