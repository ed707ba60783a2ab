/*
 * kill/sync.c - rwmutex, cond, semaphore, once, select, cancellation, pins and pipes: for the kill
 * driver, as kill/work.c. Goroutines have attempts left; what they say and do more than once is told
 * by runs. All must come to an end, whoever dies on the way.
 */
#include <shoal.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define N 12
#define ROUNDS 6
#define PIPES 4

static struct shoal_go_opts stubborn = {.name = "sync", .attempts = 100, .flags = SHOAL_ISOLATED};
static struct shoal_go_opts mortal = {.name = "mortal", .attempts = 1, .flags = SHOAL_ISOLATED};
static struct shoal_wg wg, senders, writers, readers;
static struct shoal_rwmutex rw;
static struct shoal_mutex mu;
static struct shoal_cond cond;
static struct shoal_once once;
static struct shoal_sem sem;
static struct shoal_chan *left, *right, *never;
static int rw_done[N], items, closed, sem_done, once_runs, runs[N], seen[N], select_runs;

static void add(int *n, int by)
{
	__atomic_fetch_add(n, by, __ATOMIC_SEQ_CST);
}

static void with_rwmutex(void *arg)
{
	int me = *(int *)arg, r;

	for (int i = 0; i < ROUNDS; i++) {
		r = me % 3 ? shoal_rwmutex_rlock(&rw) : shoal_rwmutex_lock(&rw);
		if (r != 0 && r != -EOWNERDEAD)
			abort();
		shoal_yield();
		r = me % 3 ? shoal_rwmutex_runlock(&rw) : shoal_rwmutex_unlock(&rw);
		if (r != 0)
			abort();
	}
	rw_done[me] = 1;
}

static void consumer(void *arg)
{
	int r;

	(void)arg;
	r = shoal_mutex_lock(&mu);
	while (!closed) {
		if (r != 0 && r != -EOWNERDEAD)
			abort();
		if (items > 0)
			items--;
		r = shoal_cond_wait(&cond, &mu);
	}
	shoal_mutex_unlock(&mu);
}

static void producer(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		shoal_mutex_lock(&mu);
		items++;
		shoal_mutex_unlock(&mu);
		shoal_cond_signal(&cond);
		shoal_yield();
	}
}

static void takes_units(void *arg)
{
	if (shoal_sem_acquire(&sem, 1 + *(int *)arg % 3) != 0)
		abort();
	add(&sem_done, 1);
}

static void first(void)
{
	shoal_yield();
	add(&once_runs, 1);
}

static void does_once(void *arg)
{
	(void)arg;
	if (shoal_once_do(&once, first) != 0 || !once_runs)
		abort();
}

/* Sends its number once, to whichever channel takes it. */
static void select_sender(void *arg)
{
	int me = *(int *)arg, a = me, b = me, i;
	struct shoal_case c[2] = {{SHOAL_SEND, left, &a, 0}, {SHOAL_SEND, right, &b, 0}};

	add(&runs[me], 1);
	while ((i = shoal_select(c, 2, 200000)) == -ETIMEDOUT)
		;
	if (i < 0 || i > 1 || c[i].result != 0)
		abort();
}

static void select_receiver(void *arg)
{
	int a, b, i;
	struct shoal_case c[3] = {{SHOAL_RECV, left, &a, 0}, {SHOAL_RECV, right, &b, 0}, {SHOAL_RECV, never, NULL, 0}};

	(void)arg;
	add(&select_runs, 1);
	for (;;) {
		i = shoal_select(c, 3, 500000);
		if (i == -ETIMEDOUT)
			continue;
		if (i < 0 || i > 1)
			abort();
		if (c[i].result == 0) { /* closed and drained */
			c[i].chan = NULL;
			if (!c[0].chan && !c[1].chan)
				return;
			continue;
		}
		add(&seen[i ? b : a], 1);
		shoal_yield();
	}
}

static void blocks(void *arg)
{
	(void)arg;
	if (shoal_recv(never, NULL) != -ECANCELED)
		abort();
}

static void pinned(void *arg)
{
	int at;

	(void)arg;
	shoal_pin();
	at = shoal_worker();
	shoal_sleep(20000);
	if (shoal_worker() != at)
		abort();
	shoal_unpin();
}

static void writes(void *arg)
{
	int fd = *(int *)arg;
	char block[3000];

	memset(block, 'x', sizeof block);
	for (int i = 0; i < 40; i++) /* more than a pipe holds */
		if (write(fd, block, sizeof block) < 0)
			return;
}

static void reads(void *arg)
{
	char block[5000];

	while (read(*(int *)arg, block, sizeof block) > 0)
		;
}

static void pipes(void)
{
	int fd[PIPES][2];

	for (int i = 0; i < PIPES; i++) {
		if (pipe(fd[i]) < 0)
			abort();
		for (int k = 0; k < 2; k++) {
			shoal_wg_go_with(&readers, &mortal, reads, &fd[i][0], sizeof(int));
			shoal_wg_go_with(&writers, &mortal, writes, &fd[i][1], sizeof(int));
		}
	}
	/* Whoever reads may die: what nobody reads is ended by closing. */
	for (int tries = 0; tries < 50; tries++)
		shoal_yield();
	for (int i = 0; i < PIPES; i++)
		shoal_wg_go_with(&readers, &stubborn, reads, &fd[i][0], sizeof(int));
	shoal_wg_wait(&writers);
	for (int i = 0; i < PIPES; i++)
		close(fd[i][1]);
	shoal_wg_wait(&readers);
	for (int i = 0; i < PIPES; i++)
		close(fd[i][0]);
}

static void cancels(void)
{
	shoal_gid g[3];
	struct shoal_end end;

	for (int i = 0; i < 3; i++)
		g[i] = shoal_go_with(&stubborn, blocks, NULL, 0);
	shoal_yield();
	for (int i = 0; i < 3; i++)
		shoal_cancel(g[i]);
	for (int i = 0; i < 3; i++)
		shoal_join(g[i], &end);
}

static int check(void)
{
	int missing = 0;

	for (int i = 0; i < N; i++) {
		missing += !seen[i];
		if (!rw_done[i])
			return fprintf(stderr, "rwmutex: %d did not end\n", i), 3;
		if (seen[i] > runs[i])
			return fprintf(stderr, "value %d arrived %d times, was sent %d times\n", i, seen[i], runs[i]),
			       4;
	}
	if (missing > select_runs - 2)
		return fprintf(stderr, "%d values are lost, %d runs of receivers\n", missing, select_runs), 5;
	if (once_runs < 1)
		return fprintf(stderr, "once: %d\n", once_runs), 6;
	return 0;
}

int shoal_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	left = shoal_chan_new(sizeof(int), 0);
	right = shoal_chan_new(sizeof(int), 2);
	never = shoal_chan_new(0, 0);
	for (int i = 0; i < 2; i++)
		shoal_wg_go_with(&wg, &stubborn, select_receiver, NULL, 0);
	for (int i = 0; i < N; i++) {
		shoal_wg_go_with(&wg, &stubborn, with_rwmutex, &i, sizeof i);
		shoal_wg_go_with(&senders, &stubborn, select_sender, &i, sizeof i);
		shoal_wg_go_with(&wg, &stubborn, i % 2 ? consumer : producer, NULL, 0);
		shoal_wg_go_with(&wg, &stubborn, takes_units, &i, sizeof i);
		shoal_wg_go_with(&wg, &stubborn, does_once, NULL, 0);
		if (i % 4 == 0)
			shoal_wg_go_with(&wg, &stubborn, pinned, NULL, 0);
	}
	pipes();
	cancels();
	while (__atomic_load_n(&sem_done, __ATOMIC_SEQ_CST) < N) { /* units that a dead one had are lost */
		shoal_sem_release(&sem, 1);
		shoal_yield();
	}
	shoal_wg_wait(&senders);
	shoal_close(left);
	shoal_close(right);
	shoal_mutex_lock(&mu);
	closed = 1;
	shoal_mutex_unlock(&mu);
	shoal_cond_broadcast(&cond);
	shoal_wg_wait(&wg);
	return check();
}
