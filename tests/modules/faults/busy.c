/*
 * faults/busy.c N SECONDS MIB - N goroutines that work, give way, and read all of MIB MiB again and
 * again, so that every worker soon has all of it mapped. They begin again when their worker dies.
 */
#include <shoal.h>
#include <stdlib.h>
#include <string.h>

static int64_t until;
static char *memory;
static size_t pages;

static void busy(void *arg)
{
	size_t at = (size_t) * (int *)arg * 997;
	volatile char seen;

	while (shoal_now() < until) {
		for (int i = 0; i < 64; i++, at++)
			seen = memory[at % pages * 4096];
		for (volatile int i = 0; i < 1000; i++)
			;
		shoal_yield();
	}
	(void)seen;
}

int shoal_main(int argc, char **argv)
{
	struct shoal_go_opts o = {.attempts = 60000, .flags = SHOAL_ISOLATED};
	int n = argc > 1 ? atoi(argv[1]) : 8;
	size_t bytes = (argc > 3 ? (size_t)atoi(argv[3]) : 4) << 20;

	until = shoal_now() + (argc > 2 ? atol(argv[2]) : 5) * 1000000000l;
	memory = malloc(bytes);
	if (!memory)
		return 12;
	memset(memory, 1, bytes);
	pages = bytes / 4096;
	for (int i = 0; i < n; i++)
		if (!shoal_go_with(&o, busy, &i, sizeof i))
			return 12;
	return shoal_sleep(until - shoal_now());
}
