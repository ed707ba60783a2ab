/*
 * kill/work.c - a little of everything, checked at the end: what the kill driver runs.
 *
 * Written to be killed at any point of the runtime: its goroutines have attempts left and say each
 * time they begin (runs), so it can be told what may have happened twice and what must have happened
 * once. Nothing is lost, nothing is done twice but by who began twice.
 */
#include <shoal.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define N 60
#define ROUNDS 12
#define COLLECTORS 2

static struct shoal_go_opts stubborn = {.name = "member", .attempts = 100, .flags = SHOAL_ISOLATED};

static struct shoal_wg members, helpers;
static struct shoal_mutex mu, kept;
static struct shoal_chan *sync_chan, *buffered, *quiet;
static int runs[N], seen[N], progress[N], collector_runs, total;
static long inside;
static int *volatile nowhere = (int *)8;

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

/* Under the mutex: total is the sum of all progress. Whose predecessor died in it adds up anew. */
static void advance(int me, int round)
{
	int r = shoal_mutex_lock(&mu);

	if (r == -EOWNERDEAD) {
		total = 0;
		for (int i = 0; i < N; i++)
			total += progress[i];
		inside = 0;
	} else if (r != 0) {
		abort();
	}
	if (inside++)
		abort();
	if (progress[me] == round) {
		progress[me]++;
		total++;
	}
	if (round % 5 == 2)
		shoal_yield();
	inside--;
	shoal_mutex_unlock(&mu);
}

static void memory(int me, int round)
{
	static const size_t size[] = {1, 16, 100, 1000, 5000, 40000, 300000};
	char *b = malloc(size[(me + round) % 7]), *c;

	memset(b, me, size[(me + round) % 7]);
	shoal_yield();
	c = realloc(b, size[(me + round + me % 3) % 7]);
	if (c[0] != (char)me)
		abort();
	free(c);
	if (me % 20 == 0 && posix_memalign((void **)&c, 4096, 9000) == 0)
		free(c);
}

static void member(void *arg)
{
	int me = *(int *)arg;
	long sum = 0;
	char **text = malloc(sizeof *text);

	__atomic_fetch_add(&runs[me], 1, __ATOMIC_SEQ_CST);
	*text = malloc(64);
	sprintf(*text, "%d", me);
	for (int r = 0; r < ROUNDS; r++) {
		deep((me + r) % 12, &sum);
		advance(me, r);
		memory(me, r);
		if (r % 7 == 3)
			shoal_sleep(20000);
	}
	if (atoi(*text) != me)
		abort();
	/* The block goes along: who receives it frees it, elsewhere. */
	while (me % 3 == 0 && shoal_send_timed(buffered, text, 100000) == -ETIMEDOUT)
		;
	if (me % 3)
		shoal_send(me % 3 == 1 ? buffered : sync_chan, text);
	free(text);
}

static void collect(void *arg)
{
	struct shoal_chan *c = *(struct shoal_chan **)arg;
	char *text;
	int r;

	__atomic_fetch_add(&collector_runs, 1, __ATOMIC_SEQ_CST);
	while ((r = shoal_recv_timed(c, &text, 1000000)) != 0) {
		if (r == -ETIMEDOUT)
			continue;
		__atomic_fetch_add(&seen[atoi(text)], 1, __ATOMIC_SEQ_CST);
		free(text);
		shoal_yield(); /* meanwhile it fills, and others wait to send */
	}
}

static void waits_in_vain(void *arg)
{
	char value[100];
	int r;

	(void)arg;
	r = shoal_recv(quiet, value);
	if (r != 0)
		abort();
}

/* Files, the environment, lines in pieces. */
static void libc(void *arg)
{
	FILE *f = fopen("/dev/null", "w");

	(void)arg;
	if (!f)
		abort();
	fprintf(f, "%d\n", 17);
	shoal_yield();
	fclose(f);
	setenv("WORK", "1", 1);
	printf("a line ");
	shoal_yield();
	printf("in two pieces\n");
	fflush(stdout);
}

static void crash(void *arg)
{
	(void)arg;
	*nowhere = 1;
}

/* Ends with a mutex in its hands: the next one is told. */
static void keeps_mutex(void *arg)
{
	(void)arg;
	shoal_mutex_lock(&kept);
}

static void joined(void *arg)
{
	(void)arg;
	shoal_sleep(50000);
}

static int check(void)
{
	int missing = 0;

	for (int i = 0; i < N; i++) {
		missing += !seen[i];
		if (progress[i] != ROUNDS || !runs[i])
			return fprintf(stderr, "member %d did not end: %d rounds, %d runs\n", i, progress[i], runs[i]),
			       3;
		if (seen[i] > runs[i])
			return fprintf(stderr, "value %d arrived %d times, was sent %d times\n", i, seen[i], runs[i]),
			       4;
	}
	/* A collector that died may have taken one value along each time. */
	if (missing > collector_runs - COLLECTORS)
		return fprintf(stderr, "%d values are lost, %d runs of collectors\n", missing, collector_runs), 5;
	if (total != N * ROUNDS)
		return fprintf(stderr, "total %d\n", total), 6;
	return 0;
}

int shoal_main(int argc, char **argv)
{
	struct shoal_go_opts once = {.name = "crash", .attempts = 2, .flags = SHOAL_ISOLATED};
	struct shoal_end end;
	shoal_gid c[COLLECTORS], sleeper[8], g;
	struct shoal_chan *chan[COLLECTORS];
	int r;

	(void)argc;
	(void)argv;
	chan[0] = sync_chan = shoal_chan_new(sizeof(char *), 0);
	chan[1] = buffered = shoal_chan_new(sizeof(char *), 5);
	quiet = shoal_chan_new(100, 0);
	for (int i = 0; i < COLLECTORS; i++)
		c[i] = shoal_go_with(&stubborn, collect, &chan[i], sizeof chan[i]);
	for (int i = 0; i < N; i++)
		shoal_wg_go_with(&members, &stubborn, member, &i, sizeof i);
	for (int i = 0; i < 3; i++)
		shoal_wg_go_with(&helpers, &stubborn, waits_in_vain, NULL, 0);
	shoal_wg_go_with(&helpers, &stubborn, libc, NULL, 0);
	g = shoal_go_with(&once, crash, NULL, 0);
	if (shoal_join(g, &end) != 0 || (end.how != SHOAL_CRASHED && end.how != SHOAL_LOST))
		return 9;
	shoal_join(shoal_go_with(&stubborn, keeps_mutex, NULL, 0), NULL);
	if (shoal_mutex_lock(&kept) != -EOWNERDEAD || shoal_mutex_unlock(&kept) != 0)
		return 11;
	for (int i = 0; i < 8; i++)
		sleeper[i] = shoal_go_with(&stubborn, joined, NULL, 0);
	for (int i = 0; i < 8; i++)
		if ((r = shoal_join(sleeper[i], &end)) != 0 || end.how != SHOAL_DONE)
			return fprintf(stderr, "join %d: %d, how %d, attempts %d\n", i, r, end.how, end.attempts), 10;
	shoal_wg_wait(&members);
	shoal_close(sync_chan);
	shoal_close(buffered);
	shoal_close(quiet);
	for (int i = 0; i < COLLECTORS; i++)
		shoal_join(c[i], NULL);
	shoal_wg_wait(&helpers);
	printf("%d\n", total);
	return check();
}
