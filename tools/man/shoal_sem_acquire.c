#include <shoal.h>

static struct shoal_sem room; /* admits at most two goroutines */
static struct shoal_wg wg;
static _Atomic int in, most;

static void enters(void *arg)
{
	int now;

	shoal_sem_acquire(&room, 1);
	now = ++in;
	if (now > most)
		most = now;
	shoal_sleep(1000000);
	in--;
	shoal_sem_release(&room, 1);
}

int shoal_main(int argc, char **argv)
{
	shoal_sem_release(&room, 2);
	for (int i = 0; i < 10; i++)
		shoal_wg_go(&wg, enters, NULL, 0);
	shoal_wg_wait(&wg);
	return most > 2;
}
