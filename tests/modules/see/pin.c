/*
 * see/pin.c - pinned goroutines: pin.so MODE [N]
 *
 *   stay   N of them wait, sleep, give way and wake each other; none ever runs on another worker
 *   nest   pin, pin, unpin leaves one; another unpin leaves none; one too many does nothing
 *   leave  N end while they are pinned; prints the pids of the processes they ran in
 *   wait   N pinned ones wait for MS milliseconds, then all must be where they were
 */
#include <shoal.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct shoal_wg wg;
static struct shoal_chan *ring[64];
static atomic_int strayed, over;
static int64_t busy_ns = 500000000; /* those beside the pinned ones are, or until over */

static void look(int worker)
{
	if (shoal_worker() != worker)
		atomic_fetch_add(&strayed, 1);
}

struct part {
	int i, n, ms;
};

static void stay(void *arg)
{
	struct part p = *(struct part *)arg;
	int worker, value;

	if (p.i % 2)
		shoal_pin(); /* else it is pinned from the start */
	worker = shoal_worker();
	for (int round = 0; round < 200; round++) {
		if (round % 3 == 0)
			shoal_yield();
		if (round % 50 == 0)
			shoal_sleep(1000000);
		look(worker);
		if (p.i == 0)
			shoal_send(ring[1 % p.n], &round);
		shoal_recv(ring[p.i], &value);
		look(worker);
		if (p.i)
			shoal_send(ring[(p.i + 1) % p.n], &value);
		look(worker);
	}
	shoal_unpin();
}

static void busy(void *arg)
{
	volatile long turns = 0;
	int64_t until = shoal_now() + busy_ns;

	(void)arg;
	while (!over && shoal_now() < until)
		for (int i = 0; i < 100000; i++)
			turns++;
}

static int all_stay(int n)
{
	struct shoal_go_opts pinned = {.flags = SHOAL_PINNED};

	for (int i = 0; i < n; i++)
		ring[i] = shoal_chan_new(sizeof(int), 1);
	for (int i = 0; i < 3; i++)
		shoal_wg_go(&wg, busy, NULL, 0);
	for (int i = 0; i < n; i++) {
		struct part p = {i, n, 0};

		if (!shoal_wg_go_with(&wg, i % 2 ? NULL : &pinned, stay, &p, sizeof p))
			return 3;
	}
	shoal_wg_wait(&wg);
	printf("%d strayed\n", strayed);
	return strayed != 0;
}

/* After unpin it runs on another worker sooner or later, while others keep all workers awake. */
static void nest(void *arg)
{
	int worker;

	(void)arg;
	shoal_pin();
	shoal_pin();
	shoal_unpin();
	worker = shoal_worker();
	for (int i = 0; i < 2000; i++) {
		shoal_yield();
		look(worker);
	}
	shoal_unpin();
	shoal_unpin();
	for (int i = 0; i < 1000 && shoal_worker() == worker; i++)
		shoal_sleep(1000000);
	over = 1;
	printf("%d strayed, then %s\n", strayed, shoal_worker() == worker ? "stayed" : "moved");
}

static void leave(void *arg)
{
	(void)arg;
	shoal_pin();
	printf("%d\n", (int)getpid());
}

static void wait_pinned(void *arg)
{
	struct part p = *(struct part *)arg;
	int worker;

	shoal_pin();
	worker = shoal_worker();
	shoal_sleep(p.ms * 1000000l);
	look(worker);
	shoal_unpin();
}

int shoal_main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	int n = argc > 2 ? atoi(argv[2]) : 1, ms = argc > 3 ? atoi(argv[3]) : 500;

	if (strcmp(mode, "stay") == 0)
		return all_stay(n);
	for (int i = 0; i < n; i++) {
		struct part p = {i, n, ms};

		if (strcmp(mode, "nest") == 0) {
			busy_ns = 15000000000;
			for (int k = 0; k < 3; k++)
				shoal_wg_go(&wg, busy, NULL, 0);
			shoal_wg_go(&wg, nest, NULL, 0);
		} else if (strcmp(mode, "leave") == 0) {
			shoal_wg_go(&wg, leave, NULL, 0);
		} else if (strcmp(mode, "wait") == 0) {
			shoal_wg_go(&wg, wait_pinned, &p, sizeof p);
		} else {
			return 2;
		}
	}
	shoal_wg_wait(&wg);
	return strayed != 0;
}
