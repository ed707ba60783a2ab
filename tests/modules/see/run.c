/*
 * see/run.c - goroutines in all states, to be looked at: run.so MODE [N] [MS]
 *
 *   spin      N goroutines in loops without a call, for MS milliseconds
 *   deep      one that waits N calls deep
 *   dead      all N and the root wait for each other, in way MS: 0 channel, 1 mutex, 2 wait group,
 *             3 join, 4 for ever
 *   dead_at   waits for ever, and says when it begins
 *   procs     the number of Ps is changed N times by four at once; MS not 0: while one endlessly spawns itself
 *   alive     what looks like a deadlock for MS milliseconds and is none: N wait, one sleeps
 */
#include <shoal.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

static struct shoal_mutex mutex;
static struct shoal_wg stuck;
static shoal_gid root;

static void wait_for_ever(void *arg)
{
	switch (*(int *)arg) {
	case 0: shoal_recv(never, NULL); break;
	case 1: shoal_mutex_lock(&mutex); break;
	case 2: shoal_wg_wait(&stuck); break;
	case 3: shoal_join(root, NULL); break;
	default: shoal_sleep(SHOAL_FOREVER); break;
	}
}

static int dead(int n, int way)
{
	shoal_gid last = 0;

	never = shoal_chan_new(4, 0);
	root = shoal_self();
	shoal_mutex_lock(&mutex);
	shoal_wg_add(&stuck, 1);
	for (int i = 0; i < n; i++)
		last = shoal_go(wait_for_ever, &way, sizeof way);
	printf("before the end\n");
	if (way == 3)
		shoal_join(last, NULL);
	else
		wait_for_ever(&way);
	return 0;
}

static void wake_late(void *arg)
{
	shoal_sleep(*(int *)arg * 1000000l);
	shoal_close(never);
}

static int alive(int n, int ms)
{
	int way = 0;

	never = shoal_chan_new(0, 0);
	for (int i = 0; i < n; i++)
		shoal_wg_go(&wg, wait_for_ever, &way, sizeof way);
	shoal_wg_go(&wg, wake_late, &ms, sizeof ms);
	shoal_wg_wait(&wg);
	return 0;
}

static void spawn_on(void *arg)
{
	int left = *(int *)arg - 1;

	if (!over)
		shoal_wg_go(&wg, spawn_on, &left, sizeof left);
}

static void change_procs(void *arg)
{
	int n = *(int *)arg, r;

	for (int i = 0; i < n; i++) {
		r = shoal_procs(1 + i % 3);
		if (r < 1 || r > 3)
			over = 2;
	}
}

static int procs(int n, bool spawning)
{
	int many = n / 4, old = shoal_procs(0);
	static struct shoal_wg changers;

	if (spawning)
		shoal_wg_go(&wg, spawn_on, &n, sizeof n);
	for (int i = 0; i < 4; i++)
		shoal_wg_go(&changers, change_procs, &many, sizeof many);
	shoal_wg_wait(&changers);
	if (shoal_procs(old) < 1 || shoal_procs(0) != old || over)
		return 1;
	over = 1;
	shoal_wg_wait(&wg);
	printf("%d\n", shoal_procs(-1));
	return 0;
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
	if (strcmp(mode, "dead") == 0)
		return dead(n, ms);
	if (strcmp(mode, "dead_at") == 0) {
		struct timespec t;

		never = shoal_chan_new(0, 0);
		clock_gettime(CLOCK_REALTIME, &t);
		printf("asleep at %ld\n", t.tv_sec * 1000 + t.tv_nsec / 1000000);
		return shoal_recv(never, NULL);
	}
	if (strcmp(mode, "procs") == 0)
		return procs(n, ms != 0);
	if (strcmp(mode, "alive") == 0)
		return alive(n, ms);
	return 2;
}
