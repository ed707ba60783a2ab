/*
 * kill/queue.c - those who wait for a channel give up, the one in the middle first, for the kill driver, as
 * kill/work.c: so that who dies as it leaves a queue has others before and behind it.
 */
#include <shoal.h>
#include <errno.h>
#include <stdlib.h>

#define ROUNDS 4
#define WAITERS 5

static struct shoal_go_opts stubborn = {.name = "queue", .attempts = 100, .flags = SHOAL_ISOLATED};
static struct shoal_wg wg;
static struct shoal_chan *c;

static void waits(void *arg)
{
	int r = shoal_recv_timed(c, NULL, *(int64_t *)arg);

	if (r != 0 && r != -ETIMEDOUT)
		abort();
}

int shoal_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	for (int round = 0; round < ROUNDS; round++) {
		c = shoal_chan_new(sizeof(int), 0);
		if (!c)
			return 1;
		for (int i = 0; i < WAITERS; i++) {
			int64_t timeout = i % 2 ? 2000000 + i * 100000 : SHOAL_FOREVER;

			if (!shoal_wg_go_with(&wg, &stubborn, waits, &timeout, sizeof timeout))
				return 2;
			shoal_sleep(200000); /* one behind the other */
		}
		shoal_sleep(4000000);
		shoal_close(c);
		shoal_wg_wait(&wg);
		shoal_chan_free(c);
	}
	return 0;
}
