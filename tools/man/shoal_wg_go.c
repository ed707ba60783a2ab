#include <shoal.h>
#include <stdlib.h>

static struct shoal_wg wg;
static long *part;

static void sums(void *arg)
{
	int n = *(int *)arg;

	for (long i = n * 1000; i < (n + 1) * 1000; i++)
		part[n] += i;
}

int shoal_main(int argc, char **argv)
{
	long sum = 0;

	part = calloc(10, sizeof *part); /* valid in every worker */
	for (int i = 0; i < 10; i++)
		shoal_wg_go(&wg, sums, &i, sizeof i);
	shoal_wg_wait(&wg);
	for (int i = 0; i < 10; i++)
		sum += part[i];
	return sum != 9999l * 10000 / 2;
}
