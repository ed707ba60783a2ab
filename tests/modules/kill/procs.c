/*
 * kill/procs.c - the number of Ps changes while goroutines run, sleep, wait in system calls and end; and
 * pins. For the kill driver, as kill/work.c. It ends with as many Ps as there were.
 */
#include <shoal.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define N 8
#define SHORT 120

static struct shoal_go_opts stubborn = {.name = "meanwhile", .attempts = 100, .flags = SHOAL_ISOLATED};
static struct shoal_go_opts stays = {.name = "stays", .attempts = 100, .flags = SHOAL_ISOLATED | SHOAL_PINNED};
static struct shoal_wg wg, askers;
static int over;

static void sleeps(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&over, __ATOMIC_SEQ_CST))
		shoal_sleep(300000);
}

static void yields(void *arg)
{
	(void)arg;
	for (int i = 0; i < 40; i++)
		shoal_yield();
}

static void computes(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&over, __ATOMIC_SEQ_CST)) {
		for (volatile int i = 0; i < 20000; i++)
			;
		shoal_yield();
	}
}

static void pinned(void *arg)
{
	int at = shoal_worker(), deep = *(int *)arg;

	for (int i = 0; i < 3; i++) {
		if (deep)
			shoal_pin();
		if (i % 2)
			shoal_yield();
		else
			shoal_sleep(50000);
		if (shoal_worker() != at)
			abort();
		if (deep)
			shoal_unpin();
	}
}

static void pins(void *arg)
{
	int at;

	(void)arg;
	for (int i = 0; i < 3; i++) {
		shoal_pin();
		at = shoal_worker();
		shoal_yield();
		shoal_sleep(30000);
		if (shoal_worker() != at)
			abort();
		shoal_unpin();
		shoal_yield();
	}
}

static void asks(void *arg)
{
	int n = *(int *)arg, r = shoal_procs(n);

	if (r < 1 && r != -EAGAIN)
		abort();
}

int shoal_main(int argc, char **argv)
{
	static const int to[] = {4, 1, 3};
	int before = shoal_procs(0), r;

	(void)argc;
	(void)argv;
	for (int i = 0; i < N; i++)
		shoal_wg_go_with(&wg, &stubborn, sleeps, NULL, 0);
	for (int i = 0; i < 2; i++) {
		shoal_wg_go_with(&wg, &stubborn, computes, NULL, 0);
		shoal_wg_go_with(&wg, &stays, pinned, &i, sizeof i);
		shoal_wg_go_with(&wg, &stubborn, pins, NULL, 0);
	}
	for (int i = 0; i < SHORT; i++) /* free goroutines on both Ps */
		shoal_wg_go_with(&wg, &stubborn, yields, NULL, 0);
	shoal_yield();
	for (unsigned i = 0; i < sizeof to / sizeof *to; i++)
		shoal_wg_go_with(&askers, &stubborn, asks, &to[i], sizeof to[i]);
	shoal_wg_wait(&askers);
	for (int tries = 0; shoal_procs(0) != before; tries++)
		if ((r = shoal_procs(before)) < 0 && tries == 20)
			return fprintf(stderr, "procs: %d\n", r), 3;
	__atomic_store_n(&over, 1, __ATOMIC_SEQ_CST);
	shoal_wg_wait(&wg);
	return 0;
}
