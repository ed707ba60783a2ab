/* waitgroup.c - adds 3 to a wait group, starts three goroutines, and waits for them. */
#include <shoal.h>

#include <stdio.h>

static struct shoal_wg wg; /* a global, because sync objects must not be on a stack */

static void work(void *arg)
{
	int id = *(int *)arg;
	printf("goroutine %d starts\n", id);
	shoal_sleep(10 * 1000 * 1000);
	printf("goroutine %d is done\n", id);
	shoal_wg_done(&wg);
}

int shoal_main(int argc, char **argv)
{
	(void)argc, (void)argv;
	shoal_wg_add(&wg, 3);
	for (int i = 1; i <= 3; i++)
		shoal_go(work, &i, sizeof(i));
	shoal_wg_wait(&wg);
	printf("all done\n");
	return 0;
}
