/*
 * many.c - N goroutines (100,000) parked at once on the few windows there are, with stacks checked.
 *
 *   many.so [N [MS | FIFO]]	wakes them after so long (20 ms), or when a byte comes out of the FIFO
 */
#include <fcntl.h>
#include <shoal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct shoal_chan *gate;
static struct shoal_wg wg;
static long sum;

static void waiter(void *arg)
{
	long me = *(long *)arg, twice = me * 2, *pointer = &twice;
	char c;

	shoal_recv(gate, &c);
	if (*pointer != me * 2)
		abort();
	__atomic_fetch_add(&sum, me, __ATOMIC_SEQ_CST);
}

static void wait_for(const char *what)
{
	char c;
	int fd;

	if (!strchr(what, '/')) {
		shoal_sleep(atol(what) * 1000000);
		return;
	}
	fd = open(what, O_RDWR | O_NONBLOCK); /* the read parks: to open it for reading alone would block */
	if (fd < 0)
		abort();
	fcntl(fd, F_SETFL, 0);
	if (read(fd, &c, 1) != 1)
		abort();
	close(fd);
}

int shoal_main(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 100000, want = 0;

	gate = shoal_chan_new(1, 0);
	for (long i = 0; i < n; i++) {
		if (!shoal_wg_go(&wg, waiter, &i, sizeof i))
			return 2;
		want += i;
		if (i % 500 == 499)
			shoal_yield();
	}
	wait_for(argc > 2 ? argv[2] : "20");
	shoal_close(gate);
	shoal_wg_wait(&wg);
	printf("%ld\n", n);
	return sum == want ? 0 : 1;
}
