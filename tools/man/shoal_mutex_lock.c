#include <errno.h>
#include <shoal.h>

static struct shoal_mutex mu;
static struct shoal_wg wg;
static long balance, counted;

static void pays_in(void *arg)
{
	for (int i = 0; i < 1000; i++) {
		if (shoal_mutex_lock(&mu) == -EOWNERDEAD)
			counted = balance; /* the last holder died while it changed the data */
		balance++;
		counted++;
		shoal_mutex_unlock(&mu);
	}
}

int shoal_main(int argc, char **argv)
{
	for (int i = 0; i < 10; i++)
		shoal_wg_go(&wg, pays_in, NULL, 0);
	shoal_wg_wait(&wg);
	return balance != 10000 || counted != balance;
}
