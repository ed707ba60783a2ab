/* survive/busy.c N SECONDS - N goroutines that work and give way, and begin again when their worker dies. */
#include <shoal.h>
#include <stdlib.h>

static int64_t until;

static void busy(void *arg)
{
	(void)arg;
	while (shoal_now() < until) {
		for (volatile int i = 0; i < 2000; i++)
			;
		shoal_yield();
	}
}

int shoal_main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 8;
	struct shoal_go_opts o = {.attempts = 60000, .flags = SHOAL_ISOLATED};

	until = shoal_now() + (argc > 2 ? atol(argv[2]) : 5) * 1000000000l;
	for (int i = 0; i < n; i++)
		shoal_go_with(&o, busy, NULL, 0);
	return shoal_sleep(until - shoal_now());
}
