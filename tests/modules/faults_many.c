/*
 * faults_many.c N HOW SECONDS - N goroutines at once, for so long, and one that looks at the clock.
 *   parked    they wait on a channel
 *   timed     they sleep until a time after the end
 *   runnable  they give way again and again
 * The watchers, one on each P, note by how much at most they were late to be run when they sleep for
 * 200 us, in the file LATE: what holds up whoever has nothing to do with a death.
 */
#include <shoal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct shoal_chan *gate;
static struct shoal_wg wg;
static int64_t until;

static void parked(void *arg)
{
	char c;

	(void)arg;
	shoal_recv(gate, &c);
}

static void timed(void *arg)
{
	(void)arg;
	shoal_sleep(until - shoal_now());
}

static void runnable(void *arg)
{
	(void)arg;
	while (shoal_now() < until)
		shoal_yield();
}

int shoal_main(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 100000;
	const char *how = argc > 2 ? argv[2] : "parked";
	void (*fn)(void *) = strcmp(how, "timed") == 0 ? timed : strcmp(how, "runnable") == 0 ? runnable : parked;
	struct shoal_go_opts again = {.attempts = 10000, .flags = SHOAL_ISOLATED};

	gate = shoal_chan_new(1, 0);
	until = shoal_now() + (argc > 3 ? atol(argv[3]) : 5) * 1000000000l;
	for (long i = 0; i < n; i++)
		if (!shoal_wg_go_with(&wg, &again, fn, NULL, 0))
			return 2;
	puts("ready");
	shoal_sleep(until - shoal_now());
	shoal_close(gate);
	shoal_wg_wait(&wg);
	printf("%ld\n", n);
	return 0;
}
