/*
 * kill/hogs.c - more goroutines than Ps, each long in one call of the C library. For the kill driver, as kill/work.c.
 */
#include <shoal.h>
#include <stdlib.h>
#include <string.h>

#define HOGS 4
#define CALLS 40
#define BIG (8ul << 20)

static struct shoal_go_opts stubborn = {.name = "hog", .attempts = 100, .flags = SHOAL_ISOLATED};
static struct shoal_wg wg;
static char *big;
static int done;

static void hog(void *arg)
{
	(void)arg;
	for (int i = 0; i < CALLS; i++)
		if (strlen(big) != BIG - 1)
			abort();
	__atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
}

int shoal_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	big = malloc(BIG);
	if (!big)
		return 2;
	memset(big, 'a', BIG);
	big[BIG - 1] = 0;
	for (int i = 0; i < HOGS; i++)
		shoal_wg_go_with(&wg, &stubborn, hog, NULL, 0);
	shoal_wg_wait(&wg);
	return done == HOGS ? 0 : 1;
}
