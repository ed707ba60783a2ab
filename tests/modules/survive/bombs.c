/*
 * bombs.c N - N isolated goroutines, one after the other, that crash. Prints how many the joiner saw crash.
 */
#include <shoal.h>
#include <stdio.h>
#include <stdlib.h>

static volatile int *volatile nowhere = (volatile int *)8;

static void crashes(void *arg)
{
	(void)arg;
	*nowhere = 1;
}

int shoal_main(int argc, char **argv)
{
	static const struct shoal_go_opts alone = {.name = "bomb", .flags = SHOAL_ISOLATED};
	int n = argc > 1 ? atoi(argv[1]) : 6, seen = 0;

	for (int i = 0; i < n; i++) {
		shoal_gid gid = shoal_go_with(&alone, crashes, NULL, 0);
		struct shoal_end end;

		if (shoal_join(gid, &end) == 0)
			seen += end.how == SHOAL_CRASHED;
	}
	printf("%d crashed\n", seen);
	return seen == n ? 0 : 1;
}
